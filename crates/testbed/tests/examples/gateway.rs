//! `examples/gateway`: a gateway under test, and three testers around it.

use std::io::sink;
use std::net::IpAddr;
use std::time::Duration;
use testbed::control::agent::{Report, Tool};
use testbed::net::capture::Options;
use testbed::spec::Program;
use testbed::{Bed, FaultKind, Testbed};

const SOON: Duration = Duration::from_secs(10);

const CONFIGURATION: &str = r#"{
    "interfaces": {"outside": "198.51.100.1/24", "inside": "10.0.91.1/24", "servers": "10.0.93.1/24"},
    "allow": [["inside", "servers"]],
    "blocked": [{"protocol": "udp", "port": 5001}],
    "redirects": [{"protocol": "tcp", "address": "10.0.91.1", "port": 44444,
                   "server": "10.0.93.10", "server_port": 88}]
}"#;

fn folder() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/gateway")
}

fn answers(bed: &Bed, machine: &str, target: &str) -> bool {
    let target: IpAddr = target.parse().unwrap();
    let ping = Tool::Ping { target, count: 1, interval_ms: 0, wait_ms: 500, size: 56, interface: None };
    match bed[machine].tool(ping, SOON).unwrap() {
        Report::Ping { received, .. } => received == 1,
        other => panic!("{other:?}"),
    }
}

/// Connects from tester-2; the reason if that fails.
fn connect(bed: &Bed, to: &str) -> Result<(), FaultKind> {
    let to = to.parse().unwrap();
    let tool = Tool::TcpConnect { to, from: None, wait_ms: 500, read: Some(0) };
    bed["tester-2"].tool(tool, SOON).map(|_| ()).map_err(|fault| fault.kind)
}

/// How many of two datagrams from tester-2, one to each port, come into the servers' network.
fn datagrams(bed: &Bed, ports: [u16; 2]) -> u64 {
    let filter = format!("udp port {} or udp port {}", ports[0], ports[1]).parse().unwrap();
    let capture = bed.capture(Options { filter, ..Options::all("servers") }, sink()).unwrap();
    for port in ports {
        let to = (IpAddr::from([10, 0, 93, 10]), port).into();
        bed["tester-2"].tool(Tool::UdpSend { to, payload: b"x".to_vec(), wait_ms: 0 }, SOON).unwrap();
    }
    // What comes after them on the same way has come: so have they, or never will.
    assert!(answers(bed, "tester-2", "10.0.93.10"));
    capture.stop().unwrap().packets
}

#[test]
fn a_gateway_is_configured_and_its_neighbours_see_it() {
    let bed = Testbed::load(folder()).unwrap().up().unwrap_or_else(|fault| {
        panic!(
            "{fault}\n{}\n{}",
            fault.hint.clone().unwrap_or_default(),
            fault.log.clone().unwrap_or_default()
        )
    });
    for (tester, address, gateway) in [
        ("tester-1", "198.51.100.10", "198.51.100.1"),
        ("tester-2", "10.0.91.10", "10.0.91.1"),
        ("tester-3", "10.0.93.10", "10.0.93.1"),
    ] {
        let join = format!("ip address add {address}/24 dev wire && ip route replace default via {gateway}");
        bed[tester].succeed(&join).unwrap();
    }
    let configured = bed["gateway"].shell("python3 /code/gateway.py").input(CONFIGURATION).output().unwrap();
    assert!(configured.success(), "{configured:?}");

    assert!(answers(&bed, "tester-2", "10.0.91.1"));
    assert!(answers(&bed, "tester-2", "10.0.93.10"));
    assert!(!answers(&bed, "tester-1", "10.0.93.10"));

    std::thread::scope(|scope| {
        let listen =
            Tool::TcpListen { at: ([0, 0, 0, 0], 88).into(), accept: 1, greeting: Vec::new(), echo: false };
        let serving = scope.spawn(|| bed["tester-3"].tool(listen, SOON));
        bed["tester-3"].wait_for_port(88, SOON).unwrap();
        connect(&bed, "10.0.91.1:44444").unwrap();
        let Report::Connections { first, all } = serving.join().unwrap().unwrap() else { panic!() };
        assert_eq!((all, first[0].0.ip()), (1, IpAddr::from([10, 0, 91, 10])));
    });
    assert_eq!(connect(&bed, "10.0.91.1:80"), Err(FaultKind::Timeout));

    assert_eq!(datagrams(&bed, [5000, 5002]), 2);
    assert_eq!(datagrams(&bed, [5000, 5001]), 1);
}

#[test]
fn every_method_of_the_tests_is_a_test_of_the_file() {
    for (folder, class) in [("", "test_gateway.TestGateway"), ("vlans", "test_vlans.TestVlans")] {
        let folder = format!("{}/{folder}", self::folder());
        let testbed = Testbed::load(&folder).unwrap();
        let file = class.split('.').next().unwrap();
        let source = std::fs::read_to_string(format!("{folder}/{file}.py")).unwrap();
        let written =
            source.lines().filter_map(|line| line.trim().strip_prefix("def test_")?.split('(').next());
        let written: Vec<String> =
            written.map(|name| format!("python3 -m unittest {class}.test_{name}")).collect();
        let declared = testbed.tests().iter().map(|test| match test.program() {
            Program::Shell(text) => text.clone(),
            Program::File(file) => file.display().to_string(),
        });
        assert_eq!(declared.collect::<Vec<_>>(), written);
    }
}
