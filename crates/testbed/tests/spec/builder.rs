//! A testbed built in Rust is held to the same rules, and is the same.

use super::{files, testbed};
use insta::assert_snapshot;
use std::time::Duration;
use testbed::spec::Testbed;

#[test]
fn what_is_built_is_what_the_file_says() {
    let built = Testbed::builder("pair")
        .image("vpn", |image| {
            image.base("debian:bookworm").packages(["openvpn"]).file("/etc/x", "gw1.conf").run("true")
        })
        .network("lan", |lan| lan.subnet("10.0.0.0/24").subnet("fd00::/64").uplink())
        .network("wire", |wire| wire.raw().mtu(9000))
        .defaults(|all| all.machine(|machine| machine.env("A", "1")).test_deadline(Duration::from_secs(90)))
        .machine("a", |a| {
            a.image("vpn")
                .interface("lan", "10.0.0.10")
                .interface_with("wire", |wire| wire.name("wire").mac("02:00:00:00:00:01"))
                .router()
                .route("10.9.0.0/16", "10.0.0.11")
                .service_with("web", "python3 -m http.server", |web| web.user("daemon").cwd("/srv"))
                .ready_port(8000)
                .mount_writable("/code", ".")
                .file_text("/etc/motd", "hello", 0o600)
                .memory("512M")
                .cpus(1.5)
                .right("exec:b-*")
        })
        .machine("b", |b| b.interface("lan", "10.0.0.11+").count(2).depends("a"))
        .test("a reaches b", |test| test.on("a").run("ping -c 1 b-1").tag("net"))
        .tests("tests/*", |test| test.on("host").shared().timeout(Duration::from_millis(1500)))
        .build_with(&files())
        .unwrap();
    let text = r#"
        name = "pair"
        [images.vpn]
        base = "debian:bookworm"
        packages = ["openvpn"]
        files = { "/etc/x" = "gw1.conf" }
        run = "true"
        [networks]
        lan = { subnet = ["10.0.0.0/24", "fd00::/64"], uplink = true }
        wire = { raw = true, mtu = 9000 }
        [defaults]
        env = { A = "1" }
        deadlines.test = "90s"
        [machines.a]
        image = "vpn"
        interfaces = { lan = "10.0.0.10", wire = { name = "wire", mac = "02:00:00:00:00:01" } }
        router = true
        routes = { "10.9.0.0/16" = "10.0.0.11" }
        services.web = { run = "python3 -m http.server", user = "daemon", cwd = "/srv" }
        ready = { port = 8000 }
        mounts = { "/code" = { source = ".", writable = true } }
        files = { "/etc/motd" = { content = "hello", mode = "0600" } }
        limits = { memory = "512M", cpus = 1.5 }
        control = ["exec:b-*"]
        [machines.b]
        interfaces = { lan = "10.0.0.11+" }
        count = 2
        depends = ["a"]
        [[tests]]
        name = "a reaches b"
        on = "a"
        run = "ping -c 1 b-1"
        tags = ["net"]
        [[tests]]
        files = "tests/*"
        on = "host"
        fresh = "run"
        timeout = "1500ms"
    "#;
    assert_eq!(built.0, testbed(text));
}

#[test]
fn problems_without_a_file_tell_the_keys_that_lead_there() {
    let problems = Testbed::builder("Pair")
        .network("lan", |lan| lan.subnet("10.0.0.1/24"))
        .network("lan", |lan| lan.raw())
        .machine("a", |a| a.attach("lna").file("/etc/x", "nowhere"))
        .machine("a", |a| a)
        .test("x", |test| test.run("true"))
        .build_with(&files())
        .unwrap_err();
    assert_snapshot!(problems, @r#"
    error[duplicate]: `lan` is there twice
     |
     = note: at networks.lan

    error[duplicate]: `a` is there twice
     |
     = note: at machines.a

    error[bad-name]: `Pair` cannot be the name of a testbed
     |
     = note: at name
     = help: `pair` would do

    error[bad-value]: `10.0.0.1/24` is not a subnet
     |
     = note: at networks.lan.subnet[0]
     = help: the subnet is `10.0.0.0/24`

    error[missing-file]: there is no file or folder `nowhere`
     |
     = note: at machines.a.files."/etc/x"
     = help: paths start from the folder of the file

    error[unknown-name]: there is no network `lna`
     |
     = note: at machines.a.interfaces.lna
     = help: did you mean `lan`? declared: `lan`
    "#);
    let json = serde_json::to_value(&problems).unwrap();
    assert_eq!(json["problems"][0]["path"], "networks.lan");
    assert!(json["problems"][0].get("line").is_none());
}

#[test]
fn a_folder_that_is_not_there_is_a_problem() {
    let problems =
        Testbed::builder("a").folder("/nonexistent/folder").machine("a", |a| a).build().unwrap_err();
    assert!(problems.to_string().contains("cannot use the folder /nonexistent/folder"), "{problems}");
}
