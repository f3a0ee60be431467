//! What a legal file means.

use super::{testbed, testbed_with_warnings};
use insta::assert_snapshot;
use std::path::Path;
use std::time::Duration;
use testbed::spec::{
    Base, Control, Expect, FileContent, FixedFiles, Fresh, Kernel, Machine, On, Program, ReadyCondition,
    RightAction, Step, Testbed, check,
};

const TALK: &str = r#"
name = "talk"

[images.vpn]
base = "debian:bookworm"
packages = ["openvpn"]

[networks]
net1    = { subnet = "10.1.0.0/24" }
transit = { subnet = "192.0.2.0/24" }
wire    = { raw = true }

[machines.gw1]
image = "vpn"
interfaces = { net1 = "10.1.0.1", transit = "192.0.2.11" }
router = true
files = { "/etc/openvpn/site.conf" = "gw1.conf" }
mounts = { "/code" = { source = ".", writable = false } }
services = { openvpn = "openvpn --config /etc/openvpn/site.conf" }
ready = { log = "Initialization Sequence Completed" }

[machines.client1]
interfaces = { net1 = "10.1.0.10" }
gateway = "10.1.0.1"

[[tests]]
name = "client1 reaches client2 through the tunnel"
on = "client1"
run = "ping -c 1 -W 2 10.2.0.10"
timeout = "10s"
"#;

fn machine<'a>(testbed: &'a Testbed, name: &str) -> &'a Machine {
    testbed.machine(name).unwrap_or_else(|| panic!("no machine {name}"))
}

/// `eth0 10.0.0.1/24, …` of each interface.
fn interfaces(machine: &Machine) -> String {
    let one = |interface: &testbed::spec::Interface| {
        let addresses: Vec<String> = interface.addresses().iter().map(ToString::to_string).collect();
        format!("{} {}: {}", interface.name(), interface.network(), addresses.join(" "))
    };
    machine.interfaces().iter().map(one).collect::<Vec<_>>().join("; ")
}

#[test]
fn the_file_of_the_talk_means_what_it_says() {
    let bed = testbed(TALK);
    assert_eq!((bed.name(), bed.folder()), ("talk", Path::new("/bed")));
    let gw1 = machine(&bed, "gw1");
    assert_eq!(interfaces(gw1), "eth0 net1: 10.1.0.1/24; eth1 transit: 192.0.2.11/24");
    assert_eq!(gw1.kernel(), Kernel::Any);
    assert_eq!(gw1.files()[0].content(), &FileContent::Source("/bed/gw1.conf".into()));
    assert_eq!((gw1.mounts()[0].source(), gw1.mounts()[0].writable()), (Path::new("/bed"), false));
    assert_eq!(gw1.services()[0].run(), "openvpn --config /etc/openvpn/site.conf");
    assert_eq!(gw1.ready()[0].condition(), &ReadyCondition::Log("Initialization Sequence Completed".into()));
    assert_eq!(gw1.ready()[0].timeout(), Duration::from_secs(30));
    assert!(gw1.sysctls().contains(&("net.ipv4.ip_forward".into(), "1".into())));
    assert!(gw1.sysctls().contains(&("net.ipv6.conf.all.forwarding".into(), "1".into())));
    let vpn = bed.image("vpn").unwrap();
    assert_eq!(vpn.base(), &Base::Debian("bookworm".into()));
    assert_eq!(vpn.steps(), [Step::Packages(vec!["openvpn".into()])]);
    let client1 = machine(&bed, "client1");
    assert_eq!(client1.gateways(), ["10.1.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(bed.image(client1.image()).unwrap().base(), &Base::Host);
    let test = &bed.tests()[0];
    assert_eq!(test.on(), &On::Machine("client1".into()));
    assert_eq!(test.program(), &Program::Shell("ping -c 1 -W 2 10.2.0.10".into()));
    assert_eq!(
        (test.timeout(), test.fresh(), test.expect()),
        (Duration::from_secs(10), &Fresh::Testbed, Expect::Success)
    );
}

#[test]
fn names_resolve_to_first_addresses_and_by_network() {
    let bed = testbed(
        r#"
        networks.lan.subnet = ["10.0.0.0/24", "fd00::/64"]
        networks.wan.subnet = "10.1.0.0/24"
        [machines.gw]
        hostname = "gate.example"
        interfaces = { lan = {}, wan = {} }
        "#,
    );
    assert_snapshot!(bed.hosts_file(), @"
    127.0.0.1 localhost
    ::1 localhost ip6-localhost ip6-loopback
    ff02::1 ip6-allnodes
    ff02::2 ip6-allrouters
    10.0.0.1 gw gate.example gw.lan
    fd00::1 gw gate.example gw.lan
    10.1.0.1 gw.wan
    ");
}

#[test]
fn free_addresses_are_given_in_file_order_around_the_taken_ones() {
    let bed = testbed(
        r#"
        [networks]
        lan = { subnet = ["10.0.0.0/29", "fd00::/64"], uplink = true }
        [machines]
        z = { interfaces = { lan = {} } }
        a = { interfaces = { lan = "10.0.0.3" } }
        m = { interfaces = { lan = {} }, count = 2 }
        none = { interfaces = { lan = { address = [] } } }
        "#,
    );
    // 10.0.0.1 and fd00::1 are the uplink's.
    assert_eq!(interfaces(machine(&bed, "z")), "eth0 lan: 10.0.0.2/29 fd00::2/64");
    assert_eq!(interfaces(machine(&bed, "a")), "eth0 lan: 10.0.0.3/29");
    assert_eq!(interfaces(machine(&bed, "m-1")), "eth0 lan: 10.0.0.4/29 fd00::3/64");
    assert_eq!(interfaces(machine(&bed, "m-2")), "eth0 lan: 10.0.0.5/29 fd00::4/64");
    assert_eq!(interfaces(machine(&bed, "none")), "eth0 lan: ");
    let gateways = |name| machine(&bed, name).gateways().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(gateways("z"), ["10.0.0.1", "fd00::1"]);
    assert_eq!(gateways("a"), ["10.0.0.1"], "of the family that it has an address of");
    assert_eq!(gateways("none"), Vec::<String>::new());
}

#[test]
fn a_gateway_that_nobody_has_is_kept_free() {
    let (bed, problems) = testbed_with_warnings(
        r#"
        networks.lan.subnet = "10.0.0.0/24"
        machines.a = { interfaces = { lan = {} }, gateway = "10.0.0.1" }
        "#,
    );
    assert_eq!(problems.len(), 1);
    assert_eq!(interfaces(machine(&bed, "a")), "eth0 lan: 10.0.0.2/24");
}

#[test]
fn count_makes_machines_that_count_up() {
    let bed = testbed(
        r#"
        networks.lan.subnet = "10.1.0.0/24"
        networks.wire.raw = true
        [machines.tester]
        count = 3
        interfaces = { lan = "10.1.0.10+", wire = {} }
        [machines.server]
        depends = ["tester"]
        [machines.last]
        depends = ["tester-2", "tester"]
        "#,
    );
    let names: Vec<_> = bed.machines().iter().map(Machine::name).collect();
    assert_eq!(names, ["tester-1", "tester-2", "tester-3", "server", "last"]);
    assert_eq!(interfaces(machine(&bed, "tester-3")), "eth0 lan: 10.1.0.12/24; eth1 wire: ");
    assert_eq!(machine(&bed, "tester-2").declared(), "tester");
    assert_eq!(machine(&bed, "server").depends(), ["tester-1", "tester-2", "tester-3"]);
    assert_eq!(machine(&bed, "last").depends(), ["tester-2", "tester-1", "tester-3"]);
}

#[test]
fn link_addresses_are_stable_and_different() {
    let text = r#"
        name = "bed"
        networks.lan.subnet = "10.1.0.0/16"
        machines.m = { count = 500, interfaces = { lan = {} } }
    "#;
    let macs = |bed: &Testbed| {
        bed.machines().iter().map(|machine| machine.interfaces()[0].mac()).collect::<Vec<_>>()
    };
    let (one, two) = (macs(&testbed(text)), macs(&testbed(text)));
    assert_eq!(one, two);
    assert_ne!(one, macs(&testbed(&text.replace("\"bed\"", "\"bad\""))));
    let mut unique = one.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), one.len());
}

#[test]
fn defaults_are_under_what_a_machine_says() {
    let bed = testbed(
        r#"
        networks.mgmt.subnet = "10.0.0.0/24"
        networks.lan.subnet = "10.1.0.0/24"
        [defaults]
        image = "debian:bookworm"
        env = { A = "default", B = "default" }
        limits = { memory = "512M", pids = 100 }
        depends = ["db"]
        interfaces = { mgmt = {} }
        deadlines = { start = "20s", test = "2m" }
        [machines.db]
        image = "host"
        [machines.a]
        env = { B = "own" }
        limits = { pids = 7, cpus = 1.5 }
        interfaces = { lan = {} }
        [[tests]]
        name = "x"
        on = "a"
        run = "true"
        "#,
    );
    let a = machine(&bed, "a");
    assert_eq!((a.image(), machine(&bed, "db").image()), ("debian:bookworm", "host"));
    assert_eq!(a.env(), [("B".into(), "own".into()), ("A".into(), "default".into())]);
    assert_eq!(
        (a.limits().memory(), a.limits().pids(), a.limits().cpu_milli()),
        (Some(512 << 20), Some(7), Some(1500))
    );
    assert_eq!(a.depends(), ["db"]);
    assert_eq!(machine(&bed, "db").depends(), Vec::<String>::new(), "nobody waits for itself");
    assert_eq!(interfaces(a), "eth0 lan: 10.1.0.1/24; eth1 mgmt: 10.0.0.2/24");
    assert_eq!(bed.deadlines().start(), Duration::from_secs(20));
    assert_eq!(bed.deadlines().stop(), Duration::from_secs(5));
    assert_eq!(bed.tests()[0].timeout(), Duration::from_secs(120));
}

#[test]
fn images_come_after_their_bases_and_inherit_variables() {
    let bed = testbed(
        r#"
        [images.top]
        base = "middle"
        env = { A = "top" }
        run = "make"
        [images.middle]
        base = "./root.tar"
        env = { A = "middle", B = "middle" }
        files = { "/etc/x" = { content = "text", mode = "0600", owner = "daemon" } }
        packages = ["nftables"]
        run = ["one", "two"]
        [images.folder]
        base = "rootfs/"
        [images.oci]
        base = "./layout"
        [machines.a]
        image = "top"
        env = { B = "machine" }
        "#,
    );
    let names: Vec<_> = bed.images().iter().map(|image| image.name()).collect();
    assert_eq!(names, ["middle", "top", "folder", "oci"]);
    assert_eq!(machine(&bed, "a").env(), [("A".into(), "top".into()), ("B".into(), "machine".into())]);
    let middle = bed.image("middle").unwrap();
    assert_eq!(middle.base(), &Base::Tar("/bed/root.tar".into()));
    let [Step::Packages(_), Step::Files(files), Step::Run(one), Step::Run(two)] = middle.steps() else {
        panic!("{:?}", middle.steps());
    };
    assert_eq!((one.as_str(), two.as_str()), ("one", "two"));
    assert_eq!((files[0].mode(), files[0].owner()), (Some(0o600), Some("daemon")));
    assert_eq!(bed.image("folder").unwrap().base(), &Base::Folder("/bed/rootfs/".into()));
    assert_eq!(bed.image("oci").unwrap().base(), &Base::Oci("/bed/layout".into()));
}

#[test]
fn imported_images_stand_for_themselves_unless_the_file_has_the_name() {
    let files = FixedFiles::new("/bed").image("app").image("appliance");
    let load = |text: &str| check(text, "testbed.toml", &files);
    let (bed, problems) = load(
        r#"
        [images]
        app = { run = ["mine"] }
        on-it = { base = "appliance", packages = ["curl"] }
        [machines]
        a.image = "appliance"
        b.image = "app"
        c.image = "on-it"
        "#,
    );
    let bed = bed.unwrap_or_else(|| panic!("{problems:?}"));
    let imported = Base::Imported("appliance".into());
    assert_eq!(bed.image("appliance").unwrap().base(), &imported);
    assert_eq!(bed.image("on-it").unwrap().base(), &imported);
    assert_eq!(bed.image("app").unwrap().base(), &Base::Host);
    let (_, problems) = load("[images.own]\n[machines.a]\nimage = \"aplliance\"\n");
    let text = problems.to_string();
    assert!(text.contains("did you mean `appliance`?"), "{text}");
    assert!(text.contains("declared: `own`; imported: `app` and `appliance`"), "{text}");
}

#[test]
fn every_executable_that_matches_is_a_test() {
    let bed = testbed(
        r#"
        machines.a = {}
        [[tests]]
        files = "tests/*"
        fresh = "run"
        expect = "failure"
        [[tests]]
        name = "again"
        files = ["tests/*.sh"]
        group = "g"
        tags = ["slow", "slow", "net"]
        "#,
    );
    let ids: Vec<_> = bed.tests().iter().map(|test| test.id()).collect();
    assert_eq!(ids, ["tests/ping.sh", "tests/tunnel.py", "again/ping.sh"]);
    assert_eq!(bed.tests()[0].program(), &Program::File("/bed/tests/ping.sh".into()));
    assert_eq!((bed.tests()[0].fresh(), bed.tests()[0].expect()), (&Fresh::Run, Expect::Failure));
    assert_eq!(
        (bed.tests()[2].fresh(), bed.tests()[2].tags()),
        (&Fresh::Group("g".into()), &["slow".into(), "net".into()][..])
    );
}

#[test]
fn services_conditions_and_ports_read_in_every_form() {
    let bed = testbed(
        r#"
        [machines.a]
        services = ["nginx -g 'daemon off;'", "LANG=C exec /usr/sbin/sshd -D"]
        ready = [{ port = 80, log = "up" }, { command = "true", timeout = "5s" }]
        ports = { "8080" = 80, "[::1]:8081" = 81 }
        pass-env = ["HTTP_PROXY"]
        [machines.b]
        services.web = { run = "python3 -m http.server", user = "www-data:www-data", env = { A = "1" }, cwd = "/srv" }
        ready = { file = "/run/x" }
        control = ["exec:a*", "capture"]
        sysctls = { "net.ipv4.tcp_syncookies" = false, "net/core/somaxconn" = 128 }
        "#,
    );
    let (a, b) = (machine(&bed, "a"), machine(&bed, "b"));
    let names: Vec<_> = a.services().iter().map(|service| service.name()).collect();
    assert_eq!(names, ["nginx", "sshd"]);
    let conditions: Vec<_> =
        a.ready().iter().map(|ready| (ready.condition().clone(), ready.timeout().as_secs())).collect();
    assert_eq!(
        conditions,
        [
            (ReadyCondition::Log("up".into()), 30),
            (ReadyCondition::Port(80), 30),
            (ReadyCondition::Command("true".into()), 5)
        ]
    );
    let ports: Vec<_> = a.ports().iter().map(|port| (port.host().to_string(), port.machine())).collect();
    assert_eq!(ports, [("127.0.0.1:8080".into(), 80), ("[::1]:8081".into(), 81)]);
    assert_eq!((b.services()[0].user(), b.services()[0].cwd()), (Some("www-data:www-data"), Some("/srv")));
    assert!(b.control().allows(RightAction::Exec, "a") && !b.control().allows(RightAction::Exec, "b"));
    assert!(
        b.control().allows(RightAction::Capture, "anything") && !b.control().allows(RightAction::Cut, "a")
    );
    assert_eq!(a.control(), &Control::None);
    assert_eq!(
        b.sysctls(),
        [("net.ipv4.tcp_syncookies".into(), "0".into()), ("net.core.somaxconn".into(), "128".into())]
    );
}

#[test]
fn the_name_is_the_folders_unless_the_file_has_one() {
    let name = |folder: &str| {
        let files = testbed::spec::FixedFiles::new(folder);
        testbed::spec::check("machines.a = {}", "testbed.toml", &files).0.unwrap().name().to_owned()
    };
    assert_eq!((name("/home/My Project"), name("/")), ("my-project".to_owned(), "testbed".to_owned()));
}

#[test]
fn a_file_on_disk_loads_with_its_folder() {
    let folder = std::env::temp_dir().join(format!("testbed-spec-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("testbed.toml"), "[machines.a]\nmounts = { \"/x\" = \".\" }\n").unwrap();
    let bed = Testbed::load(&folder).unwrap();
    assert_eq!(bed.machines()[0].mounts()[0].source(), folder.canonicalize().unwrap());
    std::fs::write(folder.join("testbed.toml"), [0x61, 0xff]).unwrap();
    assert!(Testbed::load(&folder).unwrap_err().to_string().ends_with("is not UTF-8 text from byte 1 on"));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(Testbed::load(&folder).unwrap_err().to_string().starts_with("cannot read "));
}
