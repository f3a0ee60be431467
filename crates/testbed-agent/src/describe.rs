//! A packet in one line, in the words of tcpdump(8), for people who look at the last packets of a failed test.

use crate::filter::Link;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Describes a packet of which `length` bytes were on the wire and `packet` were kept.
///
/// Nothing is looked up: addresses and ports are numbers. What was cut off or makes no sense is said so: `[|udp]`.
pub fn describe(link: Link, packet: &[u8], length: u32) -> String {
    let mut line = String::new();
    // Writing to a string never fails; `None` means that the packet ends too soon.
    let protocol = match link {
        Link::Ethernet => ethernet(&mut line, packet, length as usize),
        Link::Ip => ip_of_any_version(&mut line, Bytes(packet)),
    };
    if let Err(Cut(protocol)) = protocol {
        let gap = if line.is_empty() || line.ends_with(' ') { "" } else { " " };
        let _ = write!(line, "{gap}[|{protocol}]");
    }
    line
}

/// The packet ends inside this protocol's header.
struct Cut(&'static str);

type Described = Result<(), Cut>;

#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take<const N: usize>(self, at: usize, protocol: &'static str) -> Result<[u8; N], Cut> {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Cut(protocol))
    }

    fn byte(self, at: usize, protocol: &'static str) -> Result<u8, Cut> {
        self.take::<1>(at, protocol).map(|[byte]| byte)
    }

    fn half(self, at: usize, protocol: &'static str) -> Result<u16, Cut> {
        self.take(at, protocol).map(u16::from_be_bytes)
    }

    fn word(self, at: usize, protocol: &'static str) -> Result<u32, Cut> {
        self.take(at, protocol).map(u32::from_be_bytes)
    }

    fn from(self, at: usize) -> Bytes<'a> {
        Bytes(self.0.get(at..).unwrap_or(&[]))
    }

    fn until(self, length: usize) -> Bytes<'a> {
        Bytes(self.0.get(..length).unwrap_or(self.0))
    }
}

/// Writes words to a line; that cannot fail.
macro_rules! say {
    ($line:expr, $($words:tt)*) => {{ let _ = write!($line, $($words)*); }};
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

fn ethernet(line: &mut String, packet: &[u8], length: usize) -> Described {
    let bytes = Bytes(packet);
    let destination: [u8; 6] = bytes.take(0, "ether")?;
    let source: [u8; 6] = bytes.take(6, "ether")?;
    let mut at = 12;
    let mut kind = bytes.half(at, "ether")?;
    while matches!(kind, 0x8100 | 0x88a8 | 0x9100) {
        let tag = bytes.half(at + 2, "vlan")?;
        say!(line, "vlan {}, ", tag & 0xfff);
        at += 4;
        kind = bytes.half(at, "vlan")?;
    }
    let payload = bytes.from(at + 2);
    match kind {
        0x0800 | 0x86dd => ip_of_any_version(line, payload),
        0x0806 => arp(line, payload),
        0x88cc => lldp(line, payload),
        _ => {
            let (from, to) = (mac(source), mac(destination));
            match kind {
                0..=1500 => say!(line, "{from} > {to}, 802.3, length {kind}"),
                _ => say!(line, "{from} > {to}, ethertype 0x{kind:04x}, length {length}"),
            }
            Ok(())
        }
    }
}

fn arp(line: &mut String, bytes: Bytes<'_>) -> Described {
    say!(line, "ARP, ");
    let operation = bytes.half(6, "arp")?;
    if bytes.word(0, "arp")? != 0x0001_0800 || bytes.half(4, "arp")? != 0x0604 {
        say!(line, "operation {operation} for other than Ethernet and IPv4");
        return Ok(());
    }
    let sender = Ipv4Addr::from(bytes.take::<4>(14, "arp")?);
    let target = Ipv4Addr::from(bytes.take::<4>(24, "arp")?);
    match operation {
        1 => say!(line, "Request who-has {target} tell {sender}"),
        2 => say!(line, "Reply {sender} is-at {}", mac(bytes.take(8, "arp")?)),
        other => say!(line, "operation {other} from {sender} for {target}"),
    }
    say!(line, ", length {}", bytes.0.len());
    Ok(())
}

/// IEEE 802.1AB clause 8.4: what the neighbour calls itself and its port.
fn lldp(line: &mut String, bytes: Bytes<'_>) -> Described {
    say!(line, "LLDP, length {}", bytes.0.len());
    let mut rest = bytes;
    loop {
        let head = rest.half(0, "lldp")?;
        let (kind, length) = (head >> 9, usize::from(head & 0x1ff));
        let value = rest.0.get(2..2 + length).ok_or(Cut("lldp"))?;
        match (kind, value) {
            (0, _) => return Ok(()),
            (1, [4, address @ ..]) if address.len() == 6 => {
                say!(line, ", chassis {}", printable_mac(address))
            }
            (1, [_, id @ ..]) => say!(line, ", chassis {}", printable(id)),
            (2, [3, address @ ..]) if address.len() == 6 => say!(line, ", port {}", printable_mac(address)),
            (2, [_, id @ ..]) => say!(line, ", port {}", printable(id)),
            (5, name) => say!(line, ", name {}", printable(name)),
            _ => {}
        }
        rest = rest.from(2 + length);
    }
}

fn printable_mac(address: &[u8]) -> String {
    address.first_chunk().map(|address| mac(*address)).unwrap_or_default()
}

fn printable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn ip_of_any_version(line: &mut String, bytes: Bytes<'_>) -> Described {
    match bytes.byte(0, "ip")? >> 4 {
        4 => ip4(line, bytes),
        6 => ip6(line, bytes),
        version => {
            say!(line, "IP version {version}, length {}", bytes.0.len());
            Ok(())
        }
    }
}

/// The ends of a packet, as text.
struct Ends {
    from: String,
    to: String,
}

fn ip4(line: &mut String, bytes: Bytes<'_>) -> Described {
    say!(line, "IP ");
    let header = usize::from(bytes.byte(0, "ip")? & 0xf) * 4;
    let total = usize::from(bytes.half(2, "ip")?);
    let fragment = bytes.half(6, "ip")?;
    let protocol = bytes.byte(9, "ip")?;
    let ends = Ends {
        from: Ipv4Addr::from(bytes.take::<4>(12, "ip")?).to_string(),
        to: Ipv4Addr::from(bytes.take::<4>(16, "ip")?).to_string(),
    };
    // A total length of 0 is what offloading leaves in a packet over 64 KiB.
    let total = if total == 0 { bytes.0.len() } else { total };
    if header < 20 || total < header {
        say!(line, "{} > {}: bad header length", ends.from, ends.to);
        return Ok(());
    }
    let body = bytes.until(total).from(header);
    let length = total - header;
    if fragment & 0x1fff != 0 {
        let name = protocol_name(protocol);
        say!(line, "{} > {}: {name}, fragment at {}", ends.from, ends.to, (fragment & 0x1fff) * 8);
        say!(line, ", length {length}");
        return Ok(());
    }
    transport(line, protocol, &ends, body, length)
}

fn ip6(line: &mut String, bytes: Bytes<'_>) -> Described {
    say!(line, "IP6 ");
    let payload = usize::from(bytes.half(4, "ip6")?);
    let mut next = bytes.byte(6, "ip6")?;
    let ends = Ends {
        from: Ipv6Addr::from(bytes.take::<16>(8, "ip6")?).to_string(),
        to: Ipv6Addr::from(bytes.take::<16>(24, "ip6")?).to_string(),
    };
    let payload = if payload == 0 { bytes.0.len().saturating_sub(40) } else { payload };
    let mut body = bytes.until(40 + payload).from(40);
    let mut length = payload;
    // Hop-by-hop, routing, destination options, fragment: RFC 8200 section 4.
    while matches!(next, 0 | 43 | 44 | 60) {
        let extent = if next == 44 { 8 } else { 8 + 8 * usize::from(body.byte(1, "ip6")?) };
        if next == 44 && body.half(2, "ip6")? >> 3 != 0 {
            let name = protocol_name(body.byte(0, "ip6")?);
            let offset = body.half(2, "ip6")? & !7;
            say!(line, "{} > {}: {name}, fragment at {offset}", ends.from, ends.to);
            say!(line, ", length {}", length.saturating_sub(extent));
            return Ok(());
        }
        next = body.byte(0, "ip6")?;
        body = body.from(extent);
        length = length.saturating_sub(extent);
    }
    transport(line, next, &ends, body, length)
}

fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "ICMP".into(),
        2 => "IGMP".into(),
        4 => "IPv4 inside".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        41 => "IPv6 inside".into(),
        47 => "GRE".into(),
        50 => "ESP".into(),
        51 => "AH".into(),
        58 => "ICMP6".into(),
        112 => "VRRP".into(),
        132 => "SCTP".into(),
        other => format!("protocol {other}"),
    }
}

fn transport(line: &mut String, protocol: u8, ends: &Ends, body: Bytes<'_>, length: usize) -> Described {
    let Ends { from, to } = ends;
    match protocol {
        6 | 17 | 132 => {
            let name = match protocol {
                6 => "tcp",
                17 => "udp",
                _ => "sctp",
            };
            let Ok(ports) = body.take::<4>(0, name) else {
                say!(line, "{from} > {to}:");
                return Err(Cut(name));
            };
            let [a, b, c, d] = ports;
            let (source, destination) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            say!(line, "{from}.{source} > {to}.{destination}: ");
            match protocol {
                6 => tcp(line, body, length),
                17 => {
                    let length = usize::from(body.half(4, "udp")?);
                    say!(line, "UDP, length {}", length.saturating_sub(8));
                    Ok(())
                }
                _ => {
                    say!(line, "SCTP, length {length}");
                    Ok(())
                }
            }
        }
        1 => {
            say!(line, "{from} > {to}: ICMP ");
            icmp(line, body)?;
            say!(line, ", length {length}");
            Ok(())
        }
        58 => {
            say!(line, "{from} > {to}: ICMP6, ");
            icmp6(line, body)?;
            say!(line, ", length {length}");
            Ok(())
        }
        4 | 41 => {
            say!(line, "{from} > {to}: ");
            ip_of_any_version(line, body)
        }
        other => {
            say!(line, "{from} > {to}: {}, length {length}", protocol_name(other));
            Ok(())
        }
    }
}

fn tcp(line: &mut String, body: Bytes<'_>, length: usize) -> Described {
    let (sequence, acknowledged) = (body.word(4, "tcp")?, body.word(8, "tcp")?);
    let flags = body.half(12, "tcp")?;
    let window = body.half(14, "tcp")?;
    let header = usize::from(flags >> 12) * 4;
    let letters: String =
        [(1, 'F'), (2, 'S'), (4, 'R'), (8, 'P'), (16, '.'), (32, 'U'), (64, 'E'), (128, 'W')]
            .iter()
            .filter(|(bit, _)| flags & bit != 0)
            .map(|(_, letter)| *letter)
            .collect();
    let letters = if letters.is_empty() { "none" } else { &letters };
    let payload = length.saturating_sub(header);
    say!(line, "Flags [{letters}]");
    if payload > 0 {
        say!(line, ", seq {sequence}:{}", sequence.wrapping_add(payload as u32));
    } else if flags & 7 != 0 {
        say!(line, ", seq {sequence}");
    }
    if flags & 16 != 0 {
        say!(line, ", ack {acknowledged}");
    }
    say!(line, ", win {window}, length {payload}");
    Ok(())
}

fn icmp(line: &mut String, body: Bytes<'_>) -> Described {
    let (kind, code) = (body.byte(0, "icmp")?, body.byte(1, "icmp")?);
    match kind {
        0 | 8 => {
            let what = if kind == 8 { "request" } else { "reply" };
            say!(line, "echo {what}, id {}, seq {}", body.half(4, "icmp")?, body.half(6, "icmp")?);
        }
        3 | 5 | 11 => {
            let inner = Ipv4Addr::from(body.take::<4>(8 + 16, "icmp")?);
            match (kind, code) {
                (3, 0) => say!(line, "net {inner} unreachable"),
                (3, 1) => say!(line, "host {inner} unreachable"),
                (3, 2) => say!(line, "{inner} protocol {} unreachable", body.byte(8 + 9, "icmp")?),
                (3, 3) => {
                    let header = usize::from(body.byte(8, "icmp")? & 0xf) * 4;
                    let name = protocol_name(body.byte(8 + 9, "icmp")?).to_lowercase();
                    say!(line, "{inner} {name} port {} unreachable", body.half(8 + header + 2, "icmp")?);
                }
                (3, 4) => {
                    say!(line, "{inner} unreachable - need to frag (mtu {})", body.half(6, "icmp")?);
                }
                (3, 13) => say!(line, "host {inner} unreachable - admin prohibited filter"),
                (3, 10) => say!(line, "host {inner} unreachable - admin prohibited"),
                (3, 9) => say!(line, "net {inner} unreachable - admin prohibited"),
                (3, _) => say!(line, "{inner} unreachable, code {code}"),
                (5, _) => {
                    say!(line, "redirect {inner} to {}", Ipv4Addr::from(body.take::<4>(4, "icmp")?));
                }
                _ => say!(line, "time exceeded {}", if code == 0 { "in-transit" } else { "in reassembly" }),
            }
        }
        _ => say!(line, "type {kind}, code {code}"),
    }
    Ok(())
}

fn icmp6(line: &mut String, body: Bytes<'_>) -> Described {
    let (kind, code) = (body.byte(0, "icmp6")?, body.byte(1, "icmp6")?);
    let address = |at| body.take::<16>(at, "icmp6").map(Ipv6Addr::from);
    match kind {
        128 | 129 => {
            let what = if kind == 128 { "request" } else { "reply" };
            say!(line, "echo {what}, id {}, seq {}", body.half(4, "icmp6")?, body.half(6, "icmp6")?);
        }
        1 => {
            let inner = address(8 + 24)?;
            match code {
                0 => say!(line, "destination unreachable, unreachable route {inner}"),
                1 => say!(line, "destination unreachable, unreachable prohibited {inner}"),
                3 => say!(line, "destination unreachable, unreachable address {inner}"),
                4 => {
                    let name = protocol_name(body.byte(8 + 6, "icmp6")?).to_lowercase();
                    let port = body.half(8 + 40 + 2, "icmp6")?;
                    say!(line, "destination unreachable, unreachable port, {inner} {name} port {port}");
                }
                _ => say!(line, "destination unreachable, code {code}, {inner}"),
            }
        }
        2 => say!(line, "packet too big, mtu {}", body.word(4, "icmp6")?),
        3 => say!(line, "time exceeded in-transit for {}", address(8 + 24)?),
        133 => say!(line, "router solicitation"),
        134 => say!(line, "router advertisement"),
        135 => say!(line, "neighbor solicitation, who has {}", address(8)?),
        136 => say!(line, "neighbor advertisement, tgt is {}", address(8)?),
        143 => say!(line, "multicast listener report v2, {} group record(s)", body.half(6, "icmp6")?),
        _ => say!(line, "type {kind}, code {code}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
