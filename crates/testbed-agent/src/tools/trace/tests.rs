use super::super::harness::{self, Net, Streams};
use super::*;
use testbed_agent::agent::Tool;

/// Four namespaces in a row; the two in the middle forward. The far end is 10.0.3.2 and fd03::2.
fn chain() -> Option<Vec<Net>> {
    let nets = (0..4).map(|_| Net::new()).collect::<Option<Vec<_>>>()?;
    for (i, pair) in nets.windows(2).enumerate() {
        let n = i + 1;
        pair[0].ip(&format!(
            "link add r{n} type veth peer name l{n} netns {file}; addr add 10.0.{n}.1/24 dev r{n};
             -6 addr add fd0{n}::1/64 dev r{n} nodad; link set r{n} up",
            file = pair[1].file()
        ));
        pair[1].ip(&format!(
            "addr add 10.0.{n}.2/24 dev l{n}; -6 addr add fd0{n}::2/64 dev l{n} nodad; link set l{n} up"
        ));
    }
    for n in 1..4 {
        nets[n - 1].until_up(&format!("r{n}"));
        nets[n].until_up(&format!("l{n}"));
    }
    for net in &nets[1..3] {
        net.set("ipv4/ip_forward", "1");
        net.set("ipv6/conf/all/forwarding", "1");
    }
    nets[0].ip("route add default via 10.0.1.2; -6 route add default via fd01::2");
    nets[1].ip("route add 10.0.3.0/24 via 10.0.2.2; -6 route add fd03::/64 via fd02::2");
    nets[2].ip("route add 10.0.1.0/24 via 10.0.2.1; -6 route add fd01::/64 via fd02::1");
    nets[3].ip("route add default via 10.0.3.1; -6 route add default via fd03::1");
    Some(nets)
}

fn trace(target: &str, max_hops: u8) -> (Vec<Option<String>>, bool, Option<String>) {
    let tool = Tool::Trace { target: target.parse().unwrap(), max_hops, wait_ms: 300 };
    match harness::run(&tool, Streams::default()).report() {
        Report::Trace { hops, reached, refused } => {
            assert!(hops.iter().flatten().all(|hop| (1..300_000).contains(&hop.time_us)));
            (hops.into_iter().map(|hop| hop.map(|hop| hop.address.to_string())).collect(), reached, refused)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_router_on_the_way_is_named() {
    let Some(nets) = chain() else { return };
    let some = |names: &[&str]| names.iter().map(|name| Some((*name).to_owned())).collect::<Vec<_>>();
    nets[0].run(|| {
        assert_eq!(trace("10.0.3.2", 30), (some(&["10.0.1.2", "10.0.2.2", "10.0.3.2"]), true, None));
        assert_eq!(trace("fd03::2", 30), (some(&["fd01::2", "fd02::2", "fd03::2"]), true, None));
        assert_eq!(trace("10.0.1.2", 30), (some(&["10.0.1.2"]), true, None));
        assert_eq!(trace("127.0.0.1", 30), (some(&["127.0.0.1"]), true, None));
        assert_eq!(trace("10.0.3.2", 1), (some(&["10.0.1.2"]), false, None));
    });
    nets[2].ip("route add prohibit 10.9.0.0/16");
    nets[1].ip("route add 10.9.0.0/16 via 10.0.2.2");
    nets[0].run(|| {
        let refused = Some("communication prohibited from 10.0.2.2".to_owned());
        assert_eq!(trace("10.9.1.1", 30), (some(&["10.0.1.2", "10.0.2.2"]), false, refused));
    });
}

#[test]
fn a_silent_router_leaves_a_gap() {
    let Some(nets) = chain() else { return };
    // The middle router has no way back to tell by.
    nets[2].ip("route del 10.0.1.0/24");
    nets[0].run(|| {
        let (hops, reached, _) = trace("10.0.3.2", 3);
        assert_eq!(hops, [Some("10.0.1.2".to_owned()), None, None]);
        assert!(!reached);
    });
}

#[test]
fn without_a_route_there_is_no_trace() {
    let Some(net) = Net::new() else { return };
    net.enter();
    let tool = Tool::Trace { target: "10.0.0.1".parse().unwrap(), max_hops: 3, wait_ms: 100 };
    let fault = harness::run(&tool, Streams::default()).fault();
    assert_eq!(fault.errno, Some(libc::ENETUNREACH));
}
