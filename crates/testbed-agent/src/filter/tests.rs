use super::bpf::Instruction;
use super::{Filter, FilterError, Link};
use proptest::prelude::*;
use std::io::Write as _;
use std::process::{Command, Stdio};

fn parse(text: &str) -> Filter {
    text.parse().unwrap_or_else(|error: FilterError| panic!("{text}: {error} ({:?})", error.hint))
}

/// Classic BPF, as `net/core/filter.c` runs it: what the program returns for the packet.
fn interpret(program: &[Instruction], packet: &[u8], tag_taken_off: bool) -> u32 {
    let load = |at: usize, length: usize| {
        let bytes = packet.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte)))
    };
    let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
    loop {
        let (code, yes, no, k) = program[at];
        at += 1;
        let place = k as usize;
        let loaded = match code {
            0x20 if k == 0xffff_f030 => Some(u32::from(tag_taken_off)),
            0x20 => load(place, 4),
            0x28 => load(place, 2),
            0x30 => load(place, 1),
            0x48 => load(x as usize + place, 2),
            0xb1 => load(place, 1).map(|byte| (byte & 0xf) * 4),
            0x54 => Some(a & k),
            0x45 => {
                at += usize::from(if a & k != 0 { yes } else { no });
                continue;
            }
            0x05 => {
                at += place;
                continue;
            }
            0x15 => {
                at += usize::from(if a == k { yes } else { no });
                continue;
            }
            0x25 => {
                at += usize::from(if a > k { yes } else { no });
                continue;
            }
            0x35 => {
                at += usize::from(if a >= k { yes } else { no });
                continue;
            }
            0x06 => return k,
            other => panic!("instruction {other:#x}"),
        };
        match loaded {
            None => return 0,
            Some(value) if code == 0xb1 => x = value,
            Some(value) => a = value,
        }
    }
}

/// Addresses, ports and numbers from small sets, so that packets and filters meet.
const HOSTS4: [[u8; 4]; 3] = [[10, 0, 0, 1], [10, 0, 0, 2], [192, 168, 7, 9]];
const MACS: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [0xff; 6]];
const PORTS: [u16; 4] = [53, 80, 443, 65535];

fn host6(last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    (address[0], address[1], address[15]) = (0xfd, 0x00, last);
    address
}

fn pick<T: Copy + std::fmt::Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = T> + Clone {
    prop::sample::select(values)
}

fn transport() -> impl Strategy<Value = Vec<u8>> {
    (pick(&PORTS), pick(&PORTS), prop::collection::vec(any::<u8>(), 20..40)).prop_map(
        |(from, to, mut rest)| {
            rest[0..2].copy_from_slice(&from.to_be_bytes());
            rest[2..4].copy_from_slice(&to.to_be_bytes());
            rest
        },
    )
}

fn ip4() -> impl Strategy<Value = Vec<u8>> {
    let protocol = pick(&[1u8, 2, 6, 17, 50, 132]);
    let fragment = pick(&[0u16, 0x4000, 0x2000, 0x2003, 0x0010]);
    (pick(&HOSTS4), pick(&HOSTS4), protocol, fragment, 5u8..8, transport()).prop_map(
        |(source, destination, protocol, fragment, words, body)| {
            let mut packet = vec![0u8; usize::from(words) * 4];
            packet[0] = 0x40 | words;
            packet[6..8].copy_from_slice(&fragment.to_be_bytes());
            packet[9] = protocol;
            packet[12..16].copy_from_slice(&source);
            packet[16..20].copy_from_slice(&destination);
            packet.extend(body);
            packet
        },
    )
}

fn ip6() -> impl Strategy<Value = Vec<u8>> {
    let next = pick(&[6u8, 17, 44, 58, 0, 132]);
    let inner = pick(&[6u8, 17, 58]);
    (1u8..4, 1u8..4, next, inner, transport()).prop_map(|(source, destination, next, inner, body)| {
        let mut packet = vec![0u8; 40];
        packet[0] = 0x60;
        packet[6] = next;
        packet[8..24].copy_from_slice(&host6(source));
        packet[24..40].copy_from_slice(&host6(destination));
        if next == 44 {
            packet.extend([inner, 0, 0, 0, 0, 0, 0, 1]);
        }
        packet.extend(body);
        packet
    })
}

fn arp() -> impl Strategy<Value = Vec<u8>> {
    (pick(&HOSTS4), pick(&HOSTS4)).prop_map(|(sender, target)| {
        let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
        packet.extend(MACS[0]);
        packet.extend(sender);
        packet.extend(MACS[1]);
        packet.extend(target);
        packet.resize(60, 0);
        packet
    })
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        3 => ip4().prop_map(|p| (0x0800u16, p)),
        3 => ip6().prop_map(|p| (0x86ddu16, p)),
        1 => arp().prop_map(|p| (0x0806u16, p)),
        1 => arp().prop_map(|p| (0x8035u16, p)),
        1 => (pick(&[0x88ccu16, 0x0800, 0x86dd]), prop::collection::vec(any::<u8>(), 46..80)),
    ];
    let tag = (pick(&[0x8100u16, 0x88a8, 0x9100]), pick(&[0x0005u16, 0xe005, 300]));
    (pick(&MACS), pick(&MACS), prop::collection::vec(tag, 0..3), payload).prop_map(
        |(destination, source, tags, (kind, payload))| {
            let mut frame = [destination, source].concat();
            for (kind, control) in tags {
                frame.extend(kind.to_be_bytes());
                frame.extend(control.to_be_bytes());
            }
            frame.extend(kind.to_be_bytes());
            frame.extend(payload);
            frame.resize(frame.len().max(120), 0);
            frame
        },
    )
}

/// A condition that tcpdump takes as well.
fn condition() -> impl Strategy<Value = String> {
    let side = pick(&["", "src ", "dst ", "src or dst ", "src and dst "]);
    let address = pick(&["10.0.0.1", "10.0.0.2", "192.168.7.9", "fd00::1", "fd00::2"]);
    let network = pick(&[
        "10.0.0.0/8",
        "10.0.0.0/31",
        "192.168",
        "10",
        "0.0.0.0/0",
        "fd00::/16",
        "fd00::2/127",
        "::/0",
        "fd00::1/128",
    ]);
    let mac = pick(&["02:00:00:00:00:01", "2:0:0:0:0:2", "ff-ff-ff-ff-ff-ff"]);
    let carrier = pick(&["arp ", "rarp ", "ip "]);
    let word = pick(&[
        "ip",
        "ip6",
        "arp",
        "rarp",
        "tcp",
        "udp",
        "sctp",
        "icmp",
        "icmp6",
        "igmp",
        "esp",
        "ah",
        "pim",
        "vrrp",
        "vlan",
        "vlan 5",
        "vlan 300",
        "vlan 0x5",
        "broadcast",
        "multicast",
        "ether broadcast",
        "ether proto 0x88cc",
        "ether proto \\ip6",
        "ip proto 17",
        "ip6 proto 58",
        "proto 6",
        "proto \\udp",
        "ip proto \\sctp",
        "tcp port (80 or 53)",
        "host (10.0.0.1 and 10.0.0.2)",
        "port 80 or 53",
        "not port 80 and 53",
    ]);
    let port = (
        pick(&["", "tcp ", "udp ", "sctp "]),
        side.clone(),
        pick(&[
            "port 53",
            "port 0x50",
            "port 65535",
            "portrange 53-80",
            "portrange 443-80",
            "portrange 80",
            "portrange 0-65535",
            "portrange 443-65535",
        ]),
    );
    prop_oneof![
        word.prop_map(str::to_owned),
        (side.clone(), address).prop_map(|(side, address)| format!("{side}host {address}")),
        (side.clone(), network).prop_map(|(side, network)| format!("{side}net {network}")),
        (side.clone(), mac).prop_map(|(side, mac)| format!("ether {side}host {mac}")),
        (carrier, side.clone()).prop_map(|(carrier, side)| format!("{carrier}{side}host 10.0.0.1")),
        port.prop_map(|(protocol, side, port)| format!("{protocol}{side}{port}")),
    ]
}

fn filter_text() -> impl Strategy<Value = String> {
    condition().prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} and {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} || {b}")),
            inner.clone().prop_map(|a| format!("not {a}")),
            inner.prop_map(|a| format!("({a})")),
        ]
    })
}

proptest! {
    #[test]
    fn program_and_evaluation_agree(text in filter_text(), frames in prop::collection::vec(frame(), 20), cut in 0usize..140) {
        let filter = parse(&text);
        let program = filter.compile(77).unwrap();
        let live = filter.compile_live(77).unwrap();
        for frame in frames {
            for packet in [&frame[..], &frame[..cut.min(frame.len())]] {
                let wanted = if filter.matches(Link::Ethernet, packet) { 77 } else { 0 };
                prop_assert_eq!(interpret(&program, packet, false), wanted, "{}", text);
                prop_assert_eq!(interpret(&live, packet, false), wanted, "{}", text);
                prop_assert_eq!(interpret(&live, packet, true), 77, "{}", text);
            }
        }
    }

    #[test]
    fn tunnels_are_judged_as_ethernet_is(text in filter_text(), packet in prop_oneof![ip4(), ip6()]) {
        // Conditions on the link itself have no meaning without one.
        prop_assume!(["ether", "vlan", "broadcast", "multicast"].iter().all(|word| !text.contains(word)));
        let filter = parse(&text);
        let kind: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
        let frame = [&[2; 12], &kind[..], &packet].concat();
        prop_assert_eq!(filter.matches(Link::Ip, &packet), filter.matches(Link::Ethernet, &frame), "{}", text);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a-z0-9 ()!&|.:/\\\\-]{0,60}|\\PC{0,40}") {
        match text.parse::<Filter>() {
            Ok(filter) => { let _ = filter.compile(1); }
            Err(error) => prop_assert!(error.position <= text.len()),
        }
    }
}

#[test]
fn long_filters_reach_over_the_short_jumps() {
    // Each port costs some ten instructions, a conditional jump reaches over 255.
    let ports = (1..100).map(|n| format!("port {n}")).collect::<Vec<_>>().join(" or ");
    let filter = parse(&ports);
    let program = filter.compile(1).unwrap();
    assert!(program.len() > 1000);
    for port in [1u16, 50, 99, 100] {
        let mut frame = vec![0u8; 60];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[23] = 17;
        frame[36..38].copy_from_slice(&port.to_be_bytes());
        assert_eq!(filter.matches(Link::Ethernet, &frame), port < 100);
        assert_eq!(interpret(&program, &frame, false), u32::from(port < 100));
    }
    let more = (1..350).map(|n| format!("port {n}")).collect::<Vec<_>>().join(" or ");
    assert!(parse(&more).compile(1).is_err());
}

#[test]
fn all_is_one_instruction() {
    let filter = parse("  ");
    assert!(filter.is_all() && filter.matches(Link::Ip, &[]));
    assert_eq!(filter.compile(9).unwrap(), [(6, 0, 0, 9)]);
    assert_eq!(filter.compile_live(9).unwrap(), [(6, 0, 0, 9)]);
}

#[test]
fn errors_name_the_place_and_the_way_out() {
    let table = [
        ("host example.com", 6, "`example.com` is not an address", "names are not looked up"),
        ("tcp prot 80", 5, "expected `and` or `or`, found `prot`", "and prot"),
        ("prot 80", 1, "`prot` is not known", "did you mean `proto`"),
        ("port http", 6, "`http` is not a port", "not looked up"),
        ("10.0.0.1", 1, "does not say what it is", "write `host 10.0.0.1`"),
        ("tcp 80", 5, "does not say what it is", "write `port 80`"),
        ("net 10.0.0.1/8", 5, "bits set behind its prefix", "write `10.0.0.0/8`"),
        ("net fd00::1/8", 5, "bits set behind its prefix", "write `fd00::/8`"),
        ("net 10.0.0.0/33", 5, "over 32", ""),
        ("host 10.0.0.0/8", 6, "is not an address", "net 10.0.0.0/8"),
        ("host 02:00:00:00:00:01", 6, "is not an address", "ether host"),
        ("ether host 10.0.0.1", 12, "is not a MAC address", "six bytes"),
        ("(tcp or udp", 1, "never closed", ""),
        ("(tcp udp)", 6, "expected `)`", ""),
        ("tcp)", 4, "no parenthesis is open", ""),
        ("tcp and", 8, "expected a condition", ""),
        ("tcp and or udp", 9, "expected a condition, found `or`", ""),
        ("vlan 5000", 6, "is not the number of a VLAN", "0 to 4095"),
        ("vlan 5 or 6", 11, "does not say", "port 6"),
        ("ip port 53", 9, "a port cannot be asked for with `ip`", "ip6 and port 53"),
        ("ip6 host 10.0.0.1", 10, "not found in `ip6`", ""),
        ("icmp host 10.0.0.1", 11, "no such address", "icmp and host"),
        ("ether proto 5", 13, "not an EtherType", "0x600"),
        ("udp portrange 5-x", 15, "is not a port", "6000-6008"),
        ("tcp[13] & 2 != 0", 1, "is not known", "not offered"),
        ("greater 100", 1, "is not known", "not offered"),
        ("src", 4, "expected an address", ""),
    ];
    for (text, column, problem, hint) in table {
        let error = text.parse::<Filter>().expect_err(text);
        assert_eq!(error.position + 1, column, "{text}: {error}");
        assert!(error.problem.contains(problem), "{text}: {error}");
        assert!(error.hint.clone().unwrap_or_default().contains(hint), "{text}: {:?}", error.hint);
    }
    assert_eq!(
        "host a.b".parse::<Filter>().unwrap_err().to_string(),
        "filter, column 6: `a.b` is not an address"
    );
    assert!("not ".repeat(60).parse::<Filter>().unwrap_err().problem.contains("nested"));
    assert!("x".repeat(5000).parse::<Filter>().is_err());
}

/// The program that tcpdump itself makes, or none if it refuses the filter.
fn tcpdump_program(text: &str) -> Option<Vec<Instruction>> {
    let output = Command::new("tcpdump").args(["-y", "EN10MB", "-s", "77", "-ddd", text]).output().unwrap();
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let number = |word: Option<&str>| word.unwrap().parse::<u32>().unwrap();
    let lines = text.lines().skip(1).map(|line| {
        let mut words = line.split(' ');
        let (code, yes, no) = (number(words.next()), number(words.next()), number(words.next()));
        (code as u16, yes as u8, no as u8, number(words.next()))
    });
    Some(lines.collect())
}

/// Whether tcpdump is here to compare with. `TESTBED_STRICT` turns its absence into a failure.
fn has_tcpdump() -> bool {
    let found = Command::new("tcpdump").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return true;
    }
    assert!(std::env::var_os("TESTBED_STRICT").is_none(), "tcpdump is missing");
    let _ =
        writeln!(std::io::stderr(), "SKIPPED: tcpdump is not installed, so filters are not compared with it");
    false
}

#[test]
fn tcpdump_means_the_same() {
    if !has_tcpdump() {
        return;
    }
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    let frames = prop::collection::vec(frame(), 60);
    proptest!(config, |(text in filter_text(), frames in frames)| {
        let filter = parse(&text);
        // libpcap refuses what it finds can never be true.
        let Some(theirs) = tcpdump_program(&text) else { return Ok(()) };
        for frame in frames {
            let wanted = interpret(&theirs, &frame, false) != 0;
            prop_assert_eq!(filter.matches(Link::Ethernet, &frame), wanted, "{} over {:02x?}", text, frame);
        }
    });
}
