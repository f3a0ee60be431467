//! Addresses, published ports, and what is on which network.

use crate::{HELLO, SOON, TWO, reaches, up};
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;
use testbed::FaultKind;
use testbed::bed::{Ending, NewInterface};
use testbed_agent::agent::Family;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_address_of_a_machine_is_told_and_waited_for() {
    let bed = up("[networks]\nwire = { raw = true }\nlan = { subnet = ['10.1.0.0/24', 'fd01::/64'] }
        [machines.a]\ninterfaces = { wire = {}, lan = ['10.1.0.1', 'fd01::1'] }\n");
    let lan = |address: &str| ("eth1".to_owned(), ip(address));
    assert_eq!(bed["a"].addresses().unwrap(), [lan("10.1.0.1"), lan("fd01::1")]);
    let wait = |family, deadline| {
        let found = bed["a"].wait_for_any_address(Some("eth0"), family, deadline);
        found.map_err(|unmet| unmet.to_string())
    };
    let late = Err("a: it must have an address within 0.1 s".to_owned());
    assert_eq!(wait(Family::Any, Duration::from_millis(100)), late);
    // As a client of DHCP would.
    let later = bed["a"].shell("sleep 0.1; ip link set eth0 up; ip address add 192.0.2.7/24 dev eth0");
    let (_running, _pipes) = later.spawn().unwrap();
    assert_eq!(wait(Family::Any, SOON).unwrap(), ip("192.0.2.7"));
    assert_eq!(wait(Family::Ipv6, Duration::from_millis(100)), late);
    assert_eq!(bed["a"].addresses().unwrap()[0], ("eth0".to_owned(), ip("192.0.2.7")));
}

/// What a connection to the host's address is sent.
fn greeting(at: SocketAddr) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut text = String::new();
    // A connection that is reset has said nothing.
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn port_forwardings_are_set_listed_and_deleted() {
    let bed = up(HELLO);
    let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let published = bed.open_port("a", 7, free).unwrap();
    assert_eq!((published.machine.as_str(), published.port), ("a", 7));
    assert_eq!(bed.ports(), std::slice::from_ref(&published));
    assert_eq!(greeting(published.host), "hello");
    bed.restart("a", Ending::Hard).unwrap();
    assert_eq!(greeting(published.host), "hello", "it outlives a start of the machine");
    let taken = bed.open_port("a", 7, published.host).unwrap_err();
    assert!(taken.kind == FaultKind::Exists && taken.hint.is_some(), "{taken:?}");
    assert_eq!(bed.open_port("b", 7, free).unwrap_err().kind, FaultKind::NotFound);
    bed.close_port(published.host).unwrap();
    assert!(TcpStream::connect(published.host).is_err());
    assert_eq!(bed.ports(), []);
    assert_eq!(bed.close_port(published.host).unwrap_err().kind, FaultKind::NotFound);
    let again = bed.open_port("a", 7, published.host).unwrap();
    bed.kill(SOON).unwrap();
    assert!(TcpStream::connect(again.host).is_err(), "it ends with the testbed");
}

#[test]
fn adapters_are_listed_and_disconnected() {
    let bed = up(TWO);
    let interfaces = bed.spec().machine("a").unwrap().interfaces();
    let listed: Vec<_> = interfaces.iter().map(|its| (its.name(), its.network())).collect();
    assert_eq!(listed, [("eth0", "lan")]);
    assert!(reaches(&bed, "a", "10.1.0.2"));
    bed.cut("a", Some("lan")).unwrap();
    assert!(!reaches(&bed, "a", "10.1.0.2"));
    bed.heal("a", Some("lan")).unwrap();
    assert!((0..20).any(|_| reaches(&bed, "a", "10.1.0.2")));
    assert_eq!(bed.cut("a", Some("wan")).unwrap_err().kind, FaultKind::NotFound);
}

/// `a` and `b` are on `lan`, `b` is on `far` and `wire` too.
const THREE: &str =
    "[networks]\nlan = { subnet = '10.1.0.0/24' }\nfar = { subnet = '10.2.0.0/24' }\nwire = { raw = true }
[machines.a]\ninterfaces = { lan = '10.1.0.1' }
[machines.b]\ninterfaces = { lan = '10.1.0.2', far = '10.2.0.2', wire = {} }\n";

fn on(network: &str, addresses: &[&str]) -> NewInterface {
    let address = |text: &&str| match text.split_once('/') {
        Some((ip, prefix)) => (self::ip(ip), Some(prefix.parse().unwrap())),
        None => (self::ip(text), None),
    };
    NewInterface { network: network.into(), name: None, addresses: addresses.iter().map(address).collect() }
}

#[test]
fn adapters_are_added_and_deleted_while_it_runs() {
    let bed = up(THREE);
    assert!(!reaches(&bed, "a", "10.2.0.2"));
    let added = bed.attach("a", &on("far", &["10.2.0.1"])).unwrap();
    assert_eq!((added.name.as_str(), &added.addresses[..]), ("eth1", &[(ip("10.2.0.1"), 24)][..]));
    assert!(reaches(&bed, "a", "10.2.0.2") && reaches(&bed, "b", "10.2.0.1"));
    assert_eq!(bed["a"].addresses().unwrap()[1], ("eth1".to_owned(), ip("10.2.0.1")));
    let mac = bed["a"].succeed("cat /sys/class/net/eth1/address").unwrap();
    assert_eq!(mac.trim(), added.mac.to_string());
    // Cut like any other, and whole again.
    bed.cut("a", Some("far")).unwrap();
    assert!(!reaches(&bed, "a", "10.2.0.2") && reaches(&bed, "a", "10.1.0.2"));
    bed.heal("a", None).unwrap();
    assert!((0..20).any(|_| reaches(&bed, "a", "10.2.0.2")));
    // A raw network gives no address; a name may be given.
    let wire = NewInterface { name: Some("wan0".into()), ..on("wire", &["192.0.2.1/30"]) };
    bed.attach("a", &wire).unwrap();
    bed["b"].succeed("ip link set eth2 up; ip address add 192.0.2.2/30 dev eth2").unwrap();
    assert!(reaches(&bed, "a", "192.0.2.2"));
    assert_eq!(bed.attached("a").unwrap().len(), 2);
    bed.detach("a", "far").unwrap();
    assert_eq!(bed["a"].succeed("ls /sys/class/net").unwrap(), "eth0\nlo\nwan0\n");
    assert!(!reaches(&bed, "a", "10.2.0.2") && reaches(&bed, "a", "192.0.2.2"));
    let again = bed.attach("a", &on("far", &["10.2.0.1"])).unwrap();
    assert_eq!(again.mac, added.mac);
    assert!((0..20).any(|_| reaches(&bed, "a", "10.2.0.2")));
    bed.cut("a", Some("far")).unwrap();
    // A start makes what the file says.
    bed.restart("a", Ending::Hard).unwrap();
    assert_eq!(bed["a"].succeed("ls /sys/class/net").unwrap(), "eth0\nlo\n");
    assert_eq!(bed.attached("a").unwrap(), []);
    bed.attach("a", &on("far", &["10.2.0.1"])).unwrap();
    assert!((0..20).any(|_| reaches(&bed, "a", "10.2.0.2")));
}

#[test]
fn adapters_that_cannot_be_are_refused() {
    let bed = up(THREE);
    let kind = |wanted: &NewInterface| bed.attach("a", wanted).unwrap_err().kind;
    assert_eq!(bed.attach("c", &on("far", &[])).unwrap_err().kind, FaultKind::NotFound);
    let nowhere = bed.attach("a", &on("wan", &[])).unwrap_err();
    assert_eq!(
        (nowhere.kind, nowhere.hint.as_deref()),
        (FaultKind::NotFound, Some("there are: lan, far, wire"))
    );
    assert_eq!(kind(&on("lan", &[])), FaultKind::Exists, "it is on it");
    assert_eq!(kind(&on("far", &["10.2.0.2"])), FaultKind::Exists, "the address is taken");
    assert_eq!(kind(&on("far", &["10.2.0.3", "10.2.0.3"])), FaultKind::Exists, "twice");
    assert_eq!(kind(&on("far", &["10.9.0.1"])), FaultKind::Invalid, "of no subnet");
    assert_eq!(kind(&on("far", &["10.9.0.1/33"])), FaultKind::Invalid, "no prefix");
    for (name, expected) in
        [("eth0", FaultKind::Exists), ("a/b", FaultKind::Invalid), ("", FaultKind::Invalid)]
    {
        assert_eq!(kind(&NewInterface { name: Some(name.into()), ..on("far", &[]) }), expected, "{name}");
    }
    // One that programs inside have made, which nobody else knows of.
    bed["a"].succeed("ip link add eth1 type dummy || ip tuntap add eth1 mode tap").unwrap();
    let taken = bed.attach("a", &on("far", &["10.2.0.1"])).unwrap_err();
    assert!(taken.kind == FaultKind::Exists && taken.operation.contains("eth1"), "{taken}");
    assert_eq!(bed.attached("a").unwrap(), []);
    assert_eq!(bed.detach("a", "far").unwrap_err().kind, FaultKind::NotFound);
    assert_eq!(bed.detach("a", "lan").unwrap_err().kind, FaultKind::State, "it is the file's");
    bed.stop("a", Ending::Hard).unwrap();
    assert_eq!(kind(&on("far", &[])), FaultKind::State);
}

#[test]
fn host_networks_are_listed() {
    let bed = up(TWO);
    let names: Vec<_> = bed.spec().networks().iter().map(|network| network.name().to_owned()).collect();
    assert_eq!(names, ["lan"]);
}
