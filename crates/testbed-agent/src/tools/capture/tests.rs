use super::super::harness::{self, Net, Outcome, Started, Streams, start};
use super::*;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use testbed_agent::agent::Tool;
use testbed_agent::describe::describe;
use testbed_agent::pcapng::{self, Block, Decoder, LinkType, OwnedPacket};

fn capture(interface: Option<&str>, filter: &str, count: u64) -> Tool {
    Tool::Capture { interface: interface.map(str::to_owned), filter: filter.into(), count, snap: 0 }
}

fn begin(tool: &Tool) -> Started {
    start(tool, Streams::default()).ready()
}

fn blocks(outcome: &Outcome) -> Vec<Block> {
    let mut decoder = Decoder::new();
    decoder.feed(&outcome.output);
    let mut blocks = Vec::new();
    while let Some(block) = decoder.next_block().unwrap() {
        blocks.push(block);
    }
    assert!(decoder.is_empty());
    blocks
}

fn packets(outcome: &Outcome) -> Vec<OwnedPacket> {
    let of = |block| if let Block::Packet(packet) = block { Some(packet) } else { None };
    blocks(outcome).into_iter().filter_map(of).collect()
}

fn lines(outcome: &Outcome) -> Vec<String> {
    let line = |packet: &OwnedPacket| describe(packet.link.link().unwrap(), &packet.data, packet.length);
    packets(outcome).iter().map(line).collect()
}

fn counts(outcome: Outcome) -> (u64, u64) {
    match outcome.report() {
        Report::Capture { packets, dropped } => (packets, dropped),
        other => panic!("{other:?}"),
    }
}

/// A UDP socket at a fixed port, so that lines are known.
fn sender(at: &str) -> UdpSocket {
    UdpSocket::bind(at).unwrap()
}

/// Two namespaces and a link between `va` (10.0.0.1) and `vb` (10.0.0.2).
const MAC: &str = "02:00:00:00:00:02";

fn pair() -> Option<(Net, Net)> {
    let (here, there) = (Net::new()?, Net::new()?);
    here.ip(&format!("link add va type veth peer name vb address {MAC} netns {}", there.file()));
    for (net, name, last) in [(&here, "va", 1), (&there, "vb", 2)] {
        net.ip(&format!("addr add 10.0.0.{last}/24 dev {name}; link set {name} up"));
    }
    here.until_up("va");
    there.until_up("vb");
    // Who is at which address is known before anything is sent: what waits for an answer would come late.
    here.ip(&format!("neigh replace 10.0.0.2 lladdr {MAC} dev va nud permanent"));
    Some((here, there))
}

#[test]
fn packets_that_match_are_written_in_order() {
    let Some((here, _there)) = pair() else { return };
    here.enter();
    let running = begin(&capture(Some("va"), "udp port 7000 or 7001", 3));
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let socket = sender("10.0.0.1:7000");
    for (port, text) in [(7001, "one"), (7002, "two"), (7003, "three")] {
        socket.send_to(text.as_bytes(), ("10.0.0.2", port)).unwrap();
        sender("10.0.0.1:6000").send_to(b"other", ("10.0.0.2", 6001)).unwrap();
    }
    let outcome = running.end();
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    assert_eq!(
        lines(&outcome),
        [
            "IP 10.0.0.1.7000 > 10.0.0.2.7001: UDP, length 3",
            "IP 10.0.0.1.7000 > 10.0.0.2.7002: UDP, length 3",
            "IP 10.0.0.1.7000 > 10.0.0.2.7003: UDP, length 5",
        ]
    );
    let found = packets(&outcome);
    assert!(
        found.iter().all(|p| p.direction == Some(pcapng::Direction::Out) && p.data.len() as u32 == p.length)
    );
    assert!(
        found.iter().all(|p| (before..after).contains(&p.time_ns)) && found.is_sorted_by_key(|p| p.time_ns)
    );
    assert!(found[0].data.ends_with(b"one"));
    let all = blocks(&outcome);
    assert!(matches!(&all[0], Block::Section { application, .. } if application.starts_with("testbed ")));
    assert!(matches!(&all[1], Block::Interface(i) if i.name == "va" && i.link == LinkType::ETHERNET));
    assert!(matches!(all.last(), Some(Block::Statistics { interface: 0, received: 3.., dropped: 0 })));
    assert_eq!(counts(outcome), (3, 0));
}

#[test]
fn tags_are_put_back_and_filters_see_them() {
    let Some((here, there)) = pair() else { return };
    let filters = ["vlan 5 and udp port 7000", "vlan and host 10.5.0.1 and udp", "udp", "vlan 6 or udp"];
    // On both sides: where the tag is put in, and where the kernel has taken it off.
    let running: Vec<_> = [(&here, "va"), (&there, "vb")]
        .into_iter()
        .flat_map(|(net, name)| filters.map(|filter| net.run(|| begin(&capture(Some(name), filter, 0)))))
        .collect();
    here.run(|| {
        let socket = PacketSocket::open().unwrap();
        socket.select(index_of("va").unwrap()).unwrap();
        rustix::io::write(&socket, &tagged_frame()).unwrap();
    });
    here.run(|| sender("10.0.0.1:7000").send_to(b"plain", "10.0.0.2:7000").unwrap());
    let tagged = "vlan 5, IP 10.5.0.1.7000 > 10.5.0.2.7000: UDP, length 6";
    let plain = "IP 10.0.0.1.7000 > 10.0.0.2.7000: UDP, length 5";
    // `vlan 6` moves what is to its right behind a tag, so the last filter sees UDP in any VLAN.
    let wanted = [tagged, tagged, plain, tagged];
    for (number, started) in running.into_iter().enumerate() {
        let outcome = started.stop();
        let found: Vec<_> = lines(&outcome).into_iter().filter(|line| line.contains("UDP")).collect();
        assert_eq!(found, [wanted[number % 4]], "{number}");
    }
}

/// UDP from 10.5.0.1 to 10.5.0.2, port 7000 both, six bytes, in VLAN 5 with priority 3.
fn tagged_frame() -> Vec<u8> {
    let mut frame = [[0xff; 6], [2, 0, 0, 0, 0, 1]].concat();
    frame.extend([0x81, 0, 0x60, 5, 8, 0]);
    frame.extend([0x45, 0, 0, 34, 0, 1, 0, 0, 64, 17, 0, 0, 10, 5, 0, 1, 10, 5, 0, 2]);
    frame.extend([0x1b, 0x58, 0x1b, 0x58, 0, 14, 0, 0]);
    frame.extend(b"tagged");
    frame
}

#[test]
fn the_loopback_shows_every_packet_once() {
    let Some(net) = Net::new() else { return };
    net.enter();
    let running = begin(&capture(Some("lo"), "udp", 0));
    let to = sender("127.0.0.1:7001");
    for number in 0..50u8 {
        sender("127.0.0.1:7000").send_to(&[number], to.local_addr().unwrap()).unwrap();
    }
    let outcome = running.stop();
    let found: Vec<_> = packets(&outcome).iter().map(|packet| *packet.data.last().unwrap()).collect();
    assert_eq!(found, (0..50).collect::<Vec<_>>());
    assert_eq!(counts(outcome), (50, 0));
}

#[test]
fn all_interfaces_are_told_apart() {
    let Some((here, _there)) = pair() else { return };
    here.enter();
    let running = begin(&capture(None, "udp or (vlan and udp)", 0));
    sender("127.0.0.1:7000").send_to(b"x", "127.0.0.1:7001").unwrap();
    sender("10.0.0.1:7000").send_to(b"xx", "10.0.0.2:7001").unwrap();
    let outcome = running.stop();
    let mut names = Vec::new();
    let mut seen = Vec::new();
    for block in blocks(&outcome) {
        match block {
            Block::Interface(interface) => names.push(interface.name),
            Block::Packet(packet) => seen.push((names[packet.interface as usize].clone(), packet.length)),
            _ => {}
        }
    }
    assert_eq!(seen, [("lo".to_owned(), 43), ("va".to_owned(), 44)]);
}

/// Holds the tunnel device `t0` open, so that it carries packets.
const HOLD_TUNNEL: &str = "
import fcntl, os, struct, sys
device = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(device, 0x400454ca, struct.pack('16sH', b't0', 0x1001))
print('made', flush=True)
sys.stdin.read()
";

#[test]
fn links_without_ethernet_begin_with_ip() {
    let Some(net) = Net::new() else { return };
    net.enter();
    let holder = Command::new("python3")
        .args(["-c", HOLD_TUNNEL])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let made = holder.ok().and_then(|mut holder| {
        let mut line = String::new();
        BufReader::new(holder.stdout.take()?).read_line(&mut line).ok()?;
        (line == "made\n").then_some(holder)
    });
    let Some(mut holder) = made else {
        return harness::skip("python3 and /dev/net/tun");
    };
    net.ip("addr add 10.7.0.1/24 dev t0; -6 addr add fd07::1/64 dev t0; link set t0 up");
    let on = begin(&capture(Some("t0"), "udp port 7001", 2));
    let off = begin(&capture(Some("t0"), "tcp or (vlan and udp)", 0));
    let all = begin(&capture(None, "udp port 7001", 2));
    sender("10.7.0.1:7000").send_to(b"inside", "10.7.0.2:7001").unwrap();
    sender("[fd07::1]:7000").send_to(b"inside", "[fd07::2]:7001").unwrap();
    for outcome in [on.end(), all.end()] {
        assert!(packets(&outcome).iter().all(|packet| packet.link == LinkType::IP && packet.interface == 0));
        let wanted = [
            "IP 10.7.0.1.7000 > 10.7.0.2.7001: UDP, length 6",
            "IP6 fd07::1.7000 > fd07::2.7001: UDP, length 6",
        ];
        assert_eq!(lines(&outcome), wanted);
    }
    assert_eq!(counts(off.stop()), (0, 0));
    drop(holder.stdin.take());
    holder.wait().unwrap();
}

#[test]
fn only_the_beginning_may_be_kept() {
    let Some(net) = Net::new() else { return };
    net.enter();
    let tool = Tool::Capture { interface: Some("lo".into()), filter: "udp".into(), count: 1, snap: 60 };
    let running = begin(&tool);
    sender("127.0.0.1:7000").send_to(&[9; 5000], "127.0.0.1:7001").unwrap();
    let outcome = running.end();
    let packet = packets(&outcome).remove(0);
    assert_eq!((packet.data.len(), packet.length), (60, 5042));
}

#[test]
fn what_is_lost_is_counted() {
    const SENT: u64 = 3000;
    let Some(net) = Net::new() else { return };
    net.enter();
    let (streams, release) = Streams::held();
    let running = start(&capture(Some("lo"), "udp port 7001", 0), streams).ready();
    let socket = sender("127.0.0.1:7000");
    for _ in 0..SENT {
        socket.send_to(&[0; 8000], "127.0.0.1:7001").unwrap();
    }
    drop(release);
    let outcome = running.stop();
    let written = packets(&outcome).len() as u64;
    let (found, dropped) = counts(outcome);
    assert_eq!(found, written);
    // On the loopback the kernel counts a packet going out and coming in; refusals by ICMP do not match.
    assert!(found > 100 && dropped > 100, "{found} {dropped}");
    assert!((SENT..=2 * SENT).contains(&(found + dropped)), "{found} {dropped}");
}

#[test]
fn a_reader_that_goes_ends_the_capture() {
    let Some(net) = Net::new() else { return };
    net.enter();
    let (reader, output) = std::io::pipe().unwrap();
    let (_stop, stopped) = std::io::pipe().unwrap();
    let mut io = ToolIo {
        device: None,
        input: stopped.as_fd(),
        output: output.as_fd(),
        stop: None,
        env: &[],
        ready: &mut || Ok(()),
    };
    let closing = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(reader);
    });
    let report = run(Some("lo"), "", 0, 0, &mut io).unwrap();
    assert_eq!(report, Report::Capture { packets: 0, dropped: 0 });
    closing.join().unwrap();
}

#[test]
fn mistakes_are_explained() {
    let Some(net) = Net::new() else { return };
    net.enter();
    let fault = harness::run(&capture(Some("eth7"), "", 1), Streams::default()).fault();
    assert_eq!(fault.kind, FaultKind::NotFound);
    assert!(fault.hint.unwrap().contains("lo"));
    let fault = harness::run(&capture(Some("lo"), "port http", 1), Streams::default()).fault();
    assert_eq!(fault.kind, FaultKind::Invalid);
    assert_eq!(fault.operation, "filter, column 6: `http` is not a port");
    assert!(fault.hint.is_some());
}

#[test]
fn wiresharks_tools_read_it() {
    let Some(net) = Net::new() else { return };
    net.enter();
    let running = begin(&capture(None, "udp", 2));
    let socket: SocketAddr = "127.0.0.1:7001".parse().unwrap();
    for _ in 0..2 {
        sender("127.0.0.1:7000").send_to(b"x", socket).unwrap();
    }
    let outcome = running.end();
    for program in ["tcpdump", "tshark"] {
        let child = Command::new(program)
            .args(["-n", "-r", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else {
            harness::skip(program);
            continue;
        };
        child.stdin.take().unwrap().write_all(&outcome.output).unwrap();
        let read = child.wait_with_output().unwrap();
        assert!(read.status.success(), "{program}");
        assert_eq!(String::from_utf8(read.stdout).unwrap().lines().count(), 2, "{program}");
    }
}
