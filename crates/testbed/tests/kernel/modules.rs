//! What a kernel of their own brings to machines that need it.

use crate::{SOON, up};
use std::time::Duration;
use testbed::bed::Ending;
use testbed::net::recent::{Depth, Watcher};
use testbed::{Bed, FaultKind, Machine, spec};
use testbed_agent::agent::{Report, Tool};

/// The shortest of the times that some echo requests take.
fn round_trip(vm: &Machine, target: &str) -> Duration {
    let target = target.parse().unwrap();
    let ping = Tool::Ping { target, count: 5, interval_ms: 1, wait_ms: 5000, size: 8, interface: None };
    match vm.tool(ping, SOON) {
        Ok(Report::Ping { received: 5, times_us, .. }) => {
            Duration::from_micros(times_us.into_iter().min().unwrap().into())
        }
        other => panic!("{target}: {other:?}"),
    }
}

#[test]
fn what_machines_need_is_loaded() {
    let bed = up("modules");
    let vm = &bed["vm"];
    are_loaded(vm, &["8021q", "garp", "sch_netem", "wireguard", "udp_tunnel"]);
    delays(vm);
    virtual_networks(&bed, vm);
    encrypts(vm);
    // Nothing in the image has loaded what the kernel asked for.
    assert!(!vm.shell("command -v modprobe").output().unwrap().success());
    are_loaded(vm, &["veth"]);

    bed.restart("vm", Ending::Hard).unwrap();
    are_loaded(vm, &["8021q", "sch_netem", "wireguard"]);
}

#[test]
fn what_no_kernel_has_is_told() {
    let text = r#"
        images.debian.base = "debian:bookworm"
        [machines.vm]
        image = "debian"
        kernel = "own"
        needs = ["module:no_such_module"]
    "#;
    let (testbed, problems) = spec::check(text, "testbed.toml", &spec::FixedFiles::new("/"));
    let fault = testbed.unwrap_or_else(|| panic!("{problems}")).up().err().unwrap();
    assert_eq!((fault.kind, fault.machine.as_deref()), (FaultKind::Unsupported, Some("vm")), "{fault}");
    assert!(fault.operation.starts_with("load the module `no_such_module`: the kernel 6."), "{fault}");
}

fn are_loaded(vm: &Machine, modules: &[&str]) {
    let loaded = vm.succeed("cut -d' ' -f1 /proc/modules").unwrap();
    for module in modules {
        assert!(loaded.lines().any(|line| line == *module), "{module} of {loaded}");
    }
}

fn delays(vm: &Machine) {
    let before = round_trip(vm, "127.0.0.1");
    vm.succeed("tc qdisc add dev lo root netem delay 150ms").unwrap();
    let behind = round_trip(vm, "127.0.0.1");
    vm.succeed("tc qdisc delete dev lo root").unwrap();
    // Once each way.
    assert!(behind >= Duration::from_millis(300), "{before:?}, then {behind:?}");
    assert!(before < Duration::from_millis(150), "{before:?}, then {behind:?}");
}

/// Between two network namespaces of the machine, and out into a network of the testbed. Links of kind veth are what the
/// kernel itself asks for.
fn virtual_networks(bed: &Bed, vm: &Machine) {
    vm.succeed(
        "set -e
         ip netns add peer
         ip link add near type veth peer name far netns peer
         ip link set near up
         ip address add 10.0.1.1/24 dev near
         ip -n peer link set far up
         ip -n peer address add 10.0.1.2/24 dev far
         ip link add link near name near.93 type vlan id 93
         ip link set near.93 up
         ip address add 10.0.93.1/24 dev near.93
         ip -n peer link add link far name far.93 type vlan id 93
         ip -n peer link set far.93 up
         ip -n peer address add 10.0.93.2/24 dev far.93
         ip -n peer link add link far name far.94 type vlan id 94
         ip -n peer link set far.94 up
         ip -n peer address add 10.0.94.2/24 dev far.94",
    )
    .unwrap();
    round_trip(vm, "10.0.93.2");
    let watched = bed.watch(&Watcher::new(), "wire", Depth::default()).unwrap();
    vm.succeed(
        "ip link add link wire name wire.93 type vlan id 93
         ip link set wire.93 up
         ip address add 10.3.93.1/24 dev wire.93",
    )
    .unwrap();
    let target = "10.3.93.2".parse().unwrap();
    let nobody = Tool::Ping { target, count: 1, interval_ms: 1, wait_ms: 100, size: 8, interface: None };
    assert!(matches!(vm.tool(nobody, SOON), Ok(Report::Ping { received: 0, .. })));
    let tagged = |text: &str| text.contains("vlan 93") && text.contains("10.3.93.2");
    assert!(watched.last().iter().any(|seen| tagged(&seen.text)), "{:?}", watched.last());
}

/// Through WireGuard, over the same two namespaces.
fn encrypts(vm: &Machine) {
    vm.succeed(
        "set -e
         umask 077
         for side in near far; do wg genkey > /root/$side; done
         ip link add wg0 type wireguard
         ip address add 10.9.0.1/24 dev wg0
         wg set wg0 listen-port 5001 private-key /root/near \
             peer $(wg pubkey < /root/far) allowed-ips 10.9.0.2/32 endpoint 10.0.1.2:5002
         ip link set wg0 up
         ip -n peer link add wg0 type wireguard
         ip -n peer address add 10.9.0.2/24 dev wg0
         ip netns exec peer wg set wg0 listen-port 5002 private-key /root/far \
             peer $(wg pubkey < /root/near) allowed-ips 10.9.0.1/32
         ip -n peer link set wg0 up",
    )
    .unwrap();
    round_trip(vm, "10.9.0.2");
    let received = vm.succeed("wg show wg0 transfer | cut -f2").unwrap();
    assert!(received.trim().parse::<u64>().unwrap() > 5 * 8, "{received}");
}
