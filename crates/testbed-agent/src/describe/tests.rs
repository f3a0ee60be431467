use super::describe;
use crate::filter::Link;
use crate::pcapng;
use proptest::prelude::*;
use std::io::Write as _;
use std::process::{Command, Stdio};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn ethernet(kind: &str, payload: &[u8]) -> Vec<u8> {
    [bytes("020000000002 020000000001"), bytes(kind), payload.to_vec()].concat()
}

fn ip4(protocol: u8, fragment: u16, body: &[u8]) -> Vec<u8> {
    let mut packet = bytes("4500 0000 0001 0000 4000 0000 0a000001 0a000002");
    packet[2..4].copy_from_slice(&(20 + body.len() as u16).to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[9] = protocol;
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&folded.to_be_bytes());
    packet.extend_from_slice(body);
    packet
}

fn ip6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet =
        bytes("60000000 0000 00 40 fd000000000000000000000000000001 fd000000000000000000000000000002");
    packet[4..6].copy_from_slice(&(body.len() as u16).to_be_bytes());
    packet[6] = next;
    packet.extend_from_slice(body);
    packet
}

const UDP: &str = "9c40 1f98 000c 0000 61626364";

/// Frames, our line, and whether tcpdump prints exactly the same.
fn table() -> Vec<(Vec<u8>, &'static str, bool)> {
    let v4 = |protocol, body: &str| ethernet("0800", &ip4(protocol, 0, &bytes(body)));
    let v6 = |next, body: &str| ethernet("86dd", &ip6(next, &bytes(body)));
    let quoted = |head: &str| {
        let inner = ip4(17, 0, &bytes(UDP));
        ethernet("0800", &ip4(1, 0, &[bytes(head), inner].concat()))
    };
    vec![
        (
            ethernet("0806", &bytes("0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002")),
            "ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28",
            true,
        ),
        (
            ethernet("0806", &bytes("0001 0800 06 04 0002 020000000002 0a000002 020000000001 0a000001")),
            "ARP, Reply 10.0.0.2 is-at 02:00:00:00:00:02, length 28",
            true,
        ),
        (v4(17, UDP), "IP 10.0.0.1.40000 > 10.0.0.2.8088: UDP, length 4", true),
        (v6(17, UDP), "IP6 fd00::1.40000 > fd00::2.8088: UDP, length 4", true),
        (
            v4(6, "9c40 1f98 00000001 00000000 5002 faf0 0000 0000"),
            "IP 10.0.0.1.40000 > 10.0.0.2.8088: Flags [S], seq 1, win 64240, length 0",
            true,
        ),
        (
            v4(6, "9c40 1f98 00000002 00000007 5018 0100 0000 0000 616263"),
            "IP 10.0.0.1.40000 > 10.0.0.2.8088: Flags [P.], seq 2:5, ack 7, win 256, length 3",
            true,
        ),
        (
            v6(6, "9c40 1f98 00000002 00000007 5014 0000 0000 0000"),
            "IP6 fd00::1.40000 > fd00::2.8088: Flags [R.], seq 2, ack 7, win 0, length 0",
            true,
        ),
        (
            v4(6, "9c40 1f98 00000002 00000007 5010 0001 0000 0000"),
            "IP 10.0.0.1.40000 > 10.0.0.2.8088: Flags [.], ack 7, win 1, length 0",
            true,
        ),
        (
            v4(1, "0800 0000 0005 0001 6162"),
            "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 5, seq 1, length 10",
            true,
        ),
        (
            v4(1, "0000 0000 0005 0001 6162"),
            "IP 10.0.0.1 > 10.0.0.2: ICMP echo reply, id 5, seq 1, length 10",
            true,
        ),
        (
            quoted("0303 0000 00000000"),
            "IP 10.0.0.1 > 10.0.0.2: ICMP 10.0.0.2 udp port 8088 unreachable, length 40",
            true,
        ),
        (
            quoted("0301 0000 00000000"),
            "IP 10.0.0.1 > 10.0.0.2: ICMP host 10.0.0.2 unreachable, length 40",
            true,
        ),
        (
            quoted("0300 0000 00000000"),
            "IP 10.0.0.1 > 10.0.0.2: ICMP net 10.0.0.2 unreachable, length 40",
            true,
        ),
        (
            quoted("0304 0000 00000514"),
            "IP 10.0.0.1 > 10.0.0.2: ICMP 10.0.0.2 unreachable - need to frag (mtu 1300), length 40",
            true,
        ),
        (
            quoted("030d 0000 00000000"),
            "IP 10.0.0.1 > 10.0.0.2: ICMP host 10.0.0.2 unreachable - admin prohibited filter, length 40",
            true,
        ),
        (
            quoted("0b00 0000 00000000"),
            "IP 10.0.0.1 > 10.0.0.2: ICMP time exceeded in-transit, length 40",
            true,
        ),
        (
            v6(58, "8000 0000 0005 0001 6162"),
            "IP6 fd00::1 > fd00::2: ICMP6, echo request, id 5, seq 1, length 10",
            true,
        ),
        (
            v6(58, "8700 0000 00000000 fd000000000000000000000000000002"),
            "IP6 fd00::1 > fd00::2: ICMP6, neighbor solicitation, who has fd00::2, length 24",
            true,
        ),
        (
            v6(58, "8800 0000 60000000 fd000000000000000000000000000002"),
            "IP6 fd00::1 > fd00::2: ICMP6, neighbor advertisement, tgt is fd00::2, length 24",
            true,
        ),
        (v4(50, "0000000100000001"), "IP 10.0.0.1 > 10.0.0.2: ESP, length 8", false),
        (
            ethernet("0800", &ip4(17, 0x00b9, &[0; 100])),
            "IP 10.0.0.1 > 10.0.0.2: UDP, fragment at 1480, length 100",
            false,
        ),
        (
            [ethernet("8100", &bytes("0064 0800")), ip4(17, 0, &bytes(UDP))].concat(),
            "vlan 100, IP 10.0.0.1.40000 > 10.0.0.2.8088: UDP, length 4",
            false,
        ),
        (
            ethernet("88cc", &bytes("0207 04 020000000001 0405 05 65746830 0602 0078 0a03 677731 0000")),
            "LLDP, length 27, chassis 02:00:00:00:00:01, port eth0, name gw1",
            false,
        ),
        (
            ethernet("1234", &[0; 46]),
            "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype 0x1234, length 60",
            false,
        ),
        (v4(17, "9c40"), "IP 10.0.0.1 > 10.0.0.2: [|udp]", false),
        (bytes("0200"), "[|ether]", false),
    ]
}

#[test]
fn lines_are_as_expected() {
    for (frame, line, _) in table() {
        assert_eq!(describe(Link::Ethernet, &frame, frame.len() as u32), line);
    }
    assert_eq!(
        describe(Link::Ip, &ip4(17, 0, &bytes(UDP)), 32),
        "IP 10.0.0.1.40000 > 10.0.0.2.8088: UDP, length 4"
    );
}

#[test]
fn tcpdump_reads_our_captures_and_says_the_same() {
    let found = Command::new("tcpdump").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("TESTBED_STRICT").is_none(), "tcpdump is missing");
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: tcpdump is not installed, so lines are not compared with it"
        );
        return;
    }
    let mut capture = Vec::new();
    pcapng::section(&mut capture, "testbed", "");
    let eth0 = pcapng::Interface { link: pcapng::LinkType::ETHERNET, snap: 0, name: "eth0".into() };
    pcapng::interface(&mut capture, &eth0);
    let rows: Vec<_> = table().into_iter().filter(|(.., same)| *same).collect();
    for (frame, ..) in &rows {
        let length = frame.len() as u32;
        let packet =
            pcapng::Packet { interface: 0, time_ns: 1, length, data: frame, direction: None, comment: "" };
        pcapng::packet(&mut capture, &packet);
    }
    let mut child = Command::new("tcpdump")
        .args(["-n", "-S", "-t", "-K", "-r", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&capture).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let theirs = String::from_utf8(output.stdout).unwrap();
    let ours: Vec<_> = rows.iter().map(|(_, line, _)| *line).collect();
    assert_eq!(theirs.lines().collect::<Vec<_>>(), ours);
}

proptest! {
    #[test]
    fn no_packet_makes_it_panic(row in 0usize..26, cut in 0usize..80, at in 0usize..80, byte in any::<u8>()) {
        let mut frame = table().swap_remove(row).0;
        if let Some(place) = frame.get_mut(at) { *place = byte; }
        frame.truncate(cut);
        for link in [Link::Ethernet, Link::Ip] {
            prop_assert!(!describe(link, &frame, 100).contains('\n'));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = (describe(Link::Ethernet, &bytes, 120), describe(Link::Ip, &bytes, 120));
    }
}
