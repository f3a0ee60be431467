//! Copies of whole testbeds: networks that carry, and what the file asks for before they are ready.

use crate::basics::engine;
use crate::common::checked;
use crate::host::{SOON, settle};
use std::net::IpAddr;
use std::time::Duration;
use testbed::bed::{Bed, HostOnly, Options};
use testbed_agent::FaultKind;
use testbed_agent::agent::{Report, Tool};

pub(crate) fn up(text: &str) -> Bed {
    Bed::up(&engine(), &checked(text), &HostOnly, &Options::default()).unwrap()
}

fn ping(bed: &Bed, from: &str, to: &str) -> u32 {
    let target: IpAddr = to.parse().unwrap();
    let tool = Tool::Ping { target, count: 1, interval_ms: 0, wait_ms: 300, size: 8, interface: None };
    match bed[from].tool(tool, SOON).unwrap() {
        Report::Ping { received, .. } => received,
        other => panic!("{other:?}"),
    }
}

/// The story of the OpenVPN talk: two sites behind gateways, and who manages the network between.
pub(crate) const FIVE: &str = r#"
    [networks]
    net1 = { subnet = "10.1.0.0/24" }
    middle = { subnet = ["192.0.2.0/24", "2001:db8::/64"] }
    net2 = { subnet = "10.2.0.0/24" }
    [machines.client1]
    interfaces = { net1 = "10.1.0.10" }
    gateway = "10.1.0.1"
    [machines.gw1]
    interfaces = { net1 = "10.1.0.1", middle = ["192.0.2.11", "2001:db8::11"] }
    routes = { "10.2.0.0/24" = "192.0.2.12" }
    router = true
    [machines.gw2]
    interfaces = { net2 = "10.2.0.1", middle = ["192.0.2.12", "2001:db8::12"] }
    routes = { "10.1.0.0/24" = "192.0.2.11" }
    router = true
    [machines.client2]
    interfaces = { net2 = "10.2.0.10" }
    gateway = "10.2.0.1"
    [machines.cm]
    interfaces = { middle = ["192.0.2.100", "2001:db8::100"] }
"#;

#[test]
fn five_machines_route_for_each_other_and_can_be_cut() {
    let bed = up(FIVE);
    assert_eq!(ping(&bed, "client1", "10.2.0.10"), 1);
    assert_eq!(ping(&bed, "cm", "2001:db8::12"), 1);
    assert_eq!(
        bed["client1"].succeed("getent hosts gw2 | head -1").unwrap().split(' ').next(),
        Some("2001:db8::12")
    );
    bed.cut("gw2", Some("middle")).unwrap();
    assert_eq!(ping(&bed, "client1", "10.2.0.10"), 0);
    assert_eq!(ping(&bed, "gw2", "192.0.2.11"), 0);
    assert_eq!(ping(&bed, "gw1", "192.0.2.100"), 1, "others are untouched");
    assert_eq!(ping(&bed, "client2", "10.2.0.1"), 1, "its other link is untouched");
    bed.heal("gw2", Some("middle")).unwrap();
    assert_eq!(ping(&bed, "client1", "10.2.0.10"), 1);
    assert_eq!(bed.cut("gw2", Some("net1")).unwrap_err().kind, FaultKind::NotFound);
    bed.kill(SOON).unwrap();
}

#[test]
fn two_copies_have_the_same_addresses_and_do_not_meet() {
    let engine = engine();
    let testbed = checked(FIVE);
    let make = || Bed::up(&engine, &testbed, &HostOnly, &Options::default()).unwrap();
    let (one, two) = (make(), make());
    assert_eq!(ping(&one, "client1", "10.2.0.10"), 1);
    two["client2"].succeed("ip addr flush dev eth0 || true").unwrap();
    two.cut("client2", None).unwrap();
    assert_eq!(ping(&one, "client1", "10.2.0.10"), 1);
    assert_eq!(ping(&two, "client1", "10.2.0.10"), 0);
}

#[test]
fn ready_means_what_the_file_says() {
    let bed = up(r#"
        [networks]
        lan = { subnet = "10.0.0.0/24" }
        [machines.server]
        interfaces = { lan = "10.0.0.1" }
        files = { "/etc/motto" = { content = "carpe noctem", mode = "600" } }
        services = { web = { run = "sleep 0.2; echo serving from $WHERE; exec python3 -m http.server 80 2>&1", env = { WHERE = "here" } } }
        ready = [{ log = "serving from here" }, { port = 80 }]
        [machines.client]
        interfaces = { lan = "10.0.0.2" }
        depends = ["server"]
        services = { probe = "cat /etc/hosts; exec sleep 1000" }
    "#);
    assert_eq!(bed["server"].succeed("stat -c %a /etc/motto; cat /etc/motto").unwrap(), "600\ncarpe noctem");
    let report = bed["client"]
        .tool(Tool::HttpGet { url: "http://10.0.0.1/".into(), host: None, wait_ms: 3000 }, SOON)
        .unwrap();
    assert!(matches!(report, Report::Http { status: 200, .. }), "{report:?}");
    let log = bed.service_log("server", "web").unwrap();
    // The server tells of a page after it has sent it.
    let end = std::time::Instant::now() + SOON;
    while !log.tail(4096).contains("GET / HTTP") {
        assert!(std::time::Instant::now() < end, "{}", log.tail(4096));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(bed.services().iter().all(|s| s.ended.is_none() && s.fault.is_none()));
    let all = bed["server"].processes().unwrap();
    let web = all.iter().find(|process| process.command.contains("http.server")).unwrap();
    bed["server"].signal(web.pid as i32, 9).unwrap();
    settle("its end is told", || {
        let service = bed.services().into_iter().find(|service| service.name == "web").unwrap();
        (service.ended != Some(128 + 9)).then_some(service)
    });
}

#[test]
fn what_never_becomes_ready_says_why() {
    let testbed = checked(
        r#"
        [machines.m]
        services = { broken = "echo cannot find my config; exit 7" }
        ready = { log = "up", timeout = "5s" }
    "#,
    );
    let fault = Bed::up(&engine(), &testbed, &HostOnly, &Options::default()).err().unwrap();
    assert_eq!(fault.machine.as_deref(), Some("m"));
    assert!(fault.operation.contains("`broken` ended with status 7"), "{fault}");
    assert!(fault.log.unwrap().contains("cannot find my config"));
}

#[test]
fn a_service_that_cannot_be_started_says_why() {
    let testbed = checked("[machines.m.services]\nweb = { run = 'sleep 1000', user = 'nobody-here' }");
    for _ in 0..5 {
        let fault = Bed::up(&engine(), &testbed, &HostOnly, &Options::default()).err().unwrap();
        assert_eq!(fault.machine.as_deref(), Some("m"));
        let text = fault.to_string();
        assert!(text.contains("start the service `web`") && text.contains("nobody-here"), "{text}");
    }
}
