use super::super::harness::{self, Net, Streams, start};
use super::*;
use std::net::IpAddr;
use testbed_agent::agent::Tool;

fn ping(target: &str, count: u32, size: u16) -> Tool {
    let target = target.parse::<IpAddr>().unwrap();
    Tool::Ping { target, count, interval_ms: 5, wait_ms: 2000, size, interface: None }
}

fn report(tool: &Tool) -> (u32, u32, Vec<u32>, Option<String>) {
    match harness::run(tool, Streams::default()).report() {
        Report::Ping { sent, received, times_us, refused } => (sent, received, times_us, refused),
        other => panic!("{other:?}"),
    }
}

/// Two namespaces and a link: 10.0.0.1 and fd00::1 here, 10.0.0.2 and fd00::2 there.
fn pair() -> Option<(Net, Net)> {
    let (here, there) = (Net::new()?, Net::new()?);
    here.ip(&format!("link add va type veth peer name vb netns {}", there.file()));
    here.ip("addr add 10.0.0.1/24 dev va; -6 addr add fd00::1/64 dev va nodad; link set va up");
    there.ip("addr add 10.0.0.2/24 dev vb; -6 addr add fd00::2/64 dev vb nodad; link set vb up");
    here.until_up("va");
    there.until_up("vb");
    Some((here, there))
}

#[test]
fn answers_are_counted_and_timed() {
    let Some((here, _there)) = pair() else { return };
    here.enter();
    for target in ["10.0.0.2", "fd00::2", "127.0.0.1", "::1"] {
        for size in [0, 4, 56, 1400, 9000] {
            let (sent, received, times, refused) = report(&ping(target, 3, size));
            assert_eq!((sent, received, refused), (3, 3, None), "{target} {size}");
            assert!(times.len() == 3 && times.iter().all(|us| (1..500_000).contains(us)), "{times:?}");
        }
    }
}

/// Answers the first echo request on a tap device, after the delay.
fn answer_late(tap: OwnedFd, delay: Duration) {
    const ETHERNET: usize = 14;
    let mut frame = [0; 2048];
    while let Ok(length) = rustix::io::read(&tap, &mut frame) {
        let frame = &mut frame[..length];
        let request = frame.get(12..14) == Some(&[8, 0]) && frame[ETHERNET + 9] == 1;
        if !request {
            continue;
        }
        std::thread::sleep(delay);
        let (first, second) = frame.split_at_mut(6);
        first.swap_with_slice(&mut second[..6]);
        let (source, destination) = frame[ETHERNET + 12..].split_at_mut(4);
        source.swap_with_slice(&mut destination[..4]);
        let message = &mut frame[ETHERNET + 20..];
        message[..4].fill(0);
        let sum = checksum(message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        rustix::io::write(&tap, frame).unwrap();
        return;
    }
}

#[test]
fn a_delay_is_measured() {
    let Some(net) = Net::new() else { return };
    net.enter();
    let Ok(tap) = testbed_sys::tap::make("t0") else { return harness::skip("/dev/net/tun") };
    net.ip("addr add 10.6.0.1/24 dev t0; link set t0 up; neigh add 10.6.0.2 lladdr 02:00:00:00:00:02 dev t0");
    // A tap that does not block says so when it is empty; this one is read by a thread that may wait.
    let flags = rustix::fs::fcntl_getfl(&tap).unwrap();
    rustix::fs::fcntl_setfl(&tap, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
    let answering = std::thread::spawn(move || answer_late(tap, Duration::from_millis(30)));
    let (sent, received, times, _) = report(&ping("10.6.0.2", 1, 56));
    assert_eq!((sent, received), (1, 1));
    assert!((30_000..250_000).contains(&times[0]), "{times:?}");
    answering.join().unwrap();
}

#[test]
fn what_the_network_says_instead_is_told() {
    let Some((here, there)) = pair() else { return };
    there.ip(
        "route add unreachable 10.9.0.0/16; route add prohibit 10.8.0.0/16; -6 route add prohibit fd08::/64",
    );
    there.set("ipv4/ip_forward", "1");
    there.set("ipv6/conf/all/forwarding", "1");
    here.ip("route add 10.9.0.0/16 via 10.0.0.2; route add 10.8.0.0/16 via 10.0.0.2; -6 route add fd08::/64 via fd00::2");
    here.enter();
    for (target, what) in [
        ("10.9.0.1", "host unreachable from 10.0.0.2"),
        ("10.8.0.1", "communication prohibited from 10.0.0.2"),
        ("fd08::1", "communication prohibited from fd00::2"),
        ("10.7.0.1", "network unreachable: no route"),
        ("fd07::1", "network unreachable: no route"),
    ] {
        let started = std::time::Instant::now();
        // One each: the kernel limits how often it tells.
        let (sent, received, times, refused) = report(&ping(target, 1, 56));
        assert_eq!((sent, received, times.len()), (1, 0, 0), "{target}");
        assert_eq!(refused.as_deref(), Some(what));
        assert!(started.elapsed().as_millis() < 1500, "a refusal ends the wait");
    }
}

#[test]
fn silence_ends_after_its_time_and_stop_at_once() {
    let Some((here, there)) = pair() else { return };
    there.ip("link set vb down");
    here.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:09 dev va");
    here.enter();
    let mut tool = ping("10.0.0.2", 2, 56);
    if let Tool::Ping { wait_ms, .. } = &mut tool {
        *wait_ms = 50;
    }
    let started = std::time::Instant::now();
    let (sent, received, ..) = report(&tool);
    assert_eq!((sent, received), (2, 0));
    assert!((50..1000).contains(&started.elapsed().as_millis()));

    let endless = start(&ping("127.0.0.1", MAX_PINGS, 0), Streams::default());
    std::thread::sleep(std::time::Duration::from_millis(50));
    let Report::Ping { sent, received, .. } = endless.stop().report() else { panic!() };
    assert!((2..MAX_PINGS).contains(&sent) && received >= sent - 1, "{sent} {received}");
}

#[test]
fn the_interface_can_be_chosen() {
    let Some((here, _there)) = pair() else { return };
    here.enter();
    let via = |interface: &str, target: &str| {
        let mut tool = ping(target, 1, 8);
        if let Tool::Ping { interface: name, wait_ms, .. } = &mut tool {
            (*name, *wait_ms) = (Some(interface.into()), 100);
        }
        tool
    };
    assert_eq!(report(&via("va", "10.0.0.2")).1, 1);
    assert_eq!(report(&via("lo", "10.0.0.2")).1, 0);
    assert_eq!(report(&via("va", "ff02::1")).1, 1, "the scope comes from the interface");
    let fault = harness::run(&via("eth7", "10.0.0.2"), Streams::default()).fault();
    assert_eq!((fault.kind, fault.operation.as_str()), (FaultKind::NotFound, "use interface eth7"));
}

#[test]
fn senseless_calls_are_refused() {
    for tool in [ping("127.0.0.1", 0, 0), ping("127.0.0.1", MAX_PINGS + 1, 0), ping("127.0.0.1", 1, 65508)] {
        assert_eq!(harness::run(&tool, Streams::default()).fault().kind, FaultKind::Invalid);
    }
}
