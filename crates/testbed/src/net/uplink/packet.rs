//! Packets as an uplink reads and writes them.

use crate::net::switch::{Frames, Mac};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Packet,
    Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet, UdpPacket,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const ICMP: usize = 8;
const UDP: usize = 8;
const HOPS: u8 = 64;
/// Neighbour discovery packets have not been routed (RFC 4861 section 7.1).
const HOPS_OF_NEIGHBOURS: u8 = 255;

/// Between whom a frame travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) from: Mac,
    pub(super) to: Mac,
}

/// An IP packet that is whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct IpPacket<'a> {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) protocol: IpProtocol,
    pub(super) payload: &'a [u8],
    /// All of it.
    pub(super) bytes: &'a [u8],
}

impl<'a> IpPacket<'a> {
    /// Reads a packet; none for what is malformed or a fragment.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<IpPacket<'a>> {
        match bytes.first()? >> 4 {
            4 => {
                let packet = Ipv4Packet::new_checked(bytes).ok()?;
                let whole = !packet.more_frags() && packet.frag_offset() == 0;
                let bytes = bytes.get(..usize::from(packet.total_len()))?;
                let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
                let (protocol, payload) = (packet.next_header(), packet.payload());
                whole.then_some(IpPacket { from, to, protocol, payload, bytes })
            }
            6 => {
                let packet = Ipv6Packet::new_checked(bytes).ok()?;
                let bytes = bytes.get(..packet.total_len())?;
                let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
                let (protocol, payload) = (packet.next_header(), packet.payload());
                Some(IpPacket { from, to, protocol, payload, bytes })
            }
            _ => None,
        }
    }
}

/// Ports and payload of a UDP packet.
pub(super) fn udp_of<'a>(packet: &IpPacket<'a>) -> Option<(u16, u16, &'a [u8])> {
    let udp = UdpPacket::new_checked(packet.payload).ok()?;
    Some((udp.src_port(), udp.dst_port(), udp.payload()))
}

/// Adds a frame with room for an IP packet; `fill` writes the packet.
pub(super) fn put_ip<R>(out: &mut Frames, ends: Ends, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
    out.push_with(ETHERNET + length, |bytes| {
        let (head, packet) = bytes.split_at_mut(ETHERNET);
        let result = fill(packet);
        let ipv6 = packet.first().is_some_and(|b| b >> 4 == 6);
        let mut head = EthernetFrame::new_unchecked(head);
        head.set_dst_addr(EthernetAddress(ends.to));
        head.set_src_addr(EthernetAddress(ends.from));
        head.set_ethertype(if ipv6 { EthernetProtocol::Ipv6 } else { EthernetProtocol::Ipv4 });
        result
    })
}

/// Adds an IP packet whose payload `fill` writes.
fn put_packet(
    out: &mut Frames,
    ends: Ends,
    (from, to): (IpAddr, IpAddr),
    protocol: IpProtocol,
    hops: u8,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => put_ip(out, ends, IPV4 + length, |bytes| {
            let mut packet = Ipv4Packet::new_unchecked(bytes);
            packet.set_version(4);
            packet.set_header_len(IPV4 as u8);
            packet.set_total_len((IPV4 + length) as u16);
            packet.set_hop_limit(hops);
            packet.set_next_header(protocol);
            packet.set_src_addr(from);
            packet.set_dst_addr(to);
            packet.fill_checksum();
            fill(packet.payload_mut());
        }),
        (IpAddr::V6(from), IpAddr::V6(to)) => put_ip(out, ends, IPV6 + length, |bytes| {
            let mut packet = Ipv6Packet::new_unchecked(bytes);
            packet.set_version(6);
            packet.set_payload_len(length as u16);
            packet.set_hop_limit(hops);
            packet.set_next_header(protocol);
            packet.set_src_addr(from);
            packet.set_dst_addr(to);
            fill(packet.payload_mut());
        }),
        // No packet has ends of two kinds.
        _ => {}
    }
}

/// The most payload of a UDP datagram, RFC 768 over IPv4.
pub(super) const MOST_DATAGRAM: usize = 65_507;

/// Adds a UDP datagram, in one piece: a machine's interface takes larger packets than it sends.
pub(super) fn put_udp(
    out: &mut Frames,
    ends: Ends,
    from: std::net::SocketAddr,
    to: std::net::SocketAddr,
    payload: &[u8],
) {
    let length = UDP + payload.len();
    put_packet(out, ends, (from.ip(), to.ip()), IpProtocol::Udp, HOPS, length, |bytes| {
        let mut udp = UdpPacket::new_unchecked(bytes);
        udp.set_src_port(from.port());
        udp.set_dst_port(to.port());
        udp.set_len(length as u16);
        udp.payload_mut().copy_from_slice(payload);
        udp.fill_checksum(&from.ip().into(), &to.ip().into());
    });
}

/// Why a packet is sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreachable {
    /// Nobody is at the port.
    Port,
    /// There is no way to the host.
    Host,
    /// It may not be reached.
    Prohibited,
}

/// Adds the ICMP message that says why `packet` went nowhere: RFC 792, RFC 1812 section 5.2.7.1, RFC 4443 section 3.1.
/// Nothing is said about ICMP errors, nor to those who are not one machine.
pub(super) fn put_unreachable(
    out: &mut Frames,
    ends: Ends,
    from: IpAddr,
    packet: &IpPacket<'_>,
    why: Unreachable,
) {
    /// What a message may quote so that it fits into any link's packets.
    const MOST_QUOTED: usize = 548;
    let to = packet.from;
    if to.is_unspecified() || to.is_multicast() || packet.to.is_multicast() || is_icmp_error(packet) {
        return;
    }
    let quoted = &packet.bytes[..packet.bytes.len().min(MOST_QUOTED)];
    let (protocol, kind, code) = match (to, why) {
        (IpAddr::V4(_), Unreachable::Port) => (IpProtocol::Icmp, 3, 3),
        (IpAddr::V4(_), Unreachable::Host) => (IpProtocol::Icmp, 3, 1),
        (IpAddr::V4(_), Unreachable::Prohibited) => (IpProtocol::Icmp, 3, 13),
        (IpAddr::V6(_), Unreachable::Port) => (IpProtocol::Icmpv6, 1, 4),
        (IpAddr::V6(_), Unreachable::Host) => (IpProtocol::Icmpv6, 1, 3),
        (IpAddr::V6(_), Unreachable::Prohibited) => (IpProtocol::Icmpv6, 1, 1),
    };
    put_packet(out, ends, (from, to), protocol, HOPS, ICMP + quoted.len(), |bytes| {
        bytes[0] = kind;
        bytes[1] = code;
        bytes[ICMP..].copy_from_slice(quoted);
        fill_icmp_checksum(bytes, from, to);
    });
}

fn is_icmp_error(packet: &IpPacket<'_>) -> bool {
    match (packet.protocol, packet.payload.first()) {
        // Echo and its answer are the only common ones that are no errors.
        (IpProtocol::Icmp, kind) => !matches!(kind, Some(0 | 8)),
        (IpProtocol::Icmpv6, kind) => kind.is_none_or(|k| *k < 128),
        _ => false,
    }
}

fn fill_icmp_checksum(bytes: &mut [u8], from: IpAddr, to: IpAddr) {
    match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => Icmpv6Packet::new_unchecked(bytes).fill_checksum(&from, &to),
        _ => Icmpv4Packet::new_unchecked(bytes).fill_checksum(),
    }
}

/// Answers an echo request. Returns whether `packet` was one.
pub(super) fn answer_echo(out: &mut Frames, ends: Ends, packet: &IpPacket<'_>) -> bool {
    const ECHO: u8 = 8;
    const ECHO_V6: u8 = 128;
    let answer = match (packet.protocol, packet.payload) {
        (IpProtocol::Icmp, [ECHO, 0, ..]) => 0,
        (IpProtocol::Icmpv6, [ECHO_V6, 0, ..]) => 129,
        _ => return false,
    };
    if packet.payload.len() < ICMP {
        return false;
    }
    let (from, to) = (packet.to, packet.from);
    put_packet(out, ends, (from, to), packet.protocol, HOPS, packet.payload.len(), |bytes| {
        bytes.copy_from_slice(packet.payload);
        bytes[0] = answer;
        fill_icmp_checksum(bytes, from, to);
    });
    true
}

/// Answers an ARP request for an address of which `ours` is true (RFC 826).
pub(super) fn answer_arp(out: &mut Frames, mac: Mac, packet: &[u8], ours: impl Fn(Ipv4Addr) -> bool) {
    let request = ArpPacket::new_checked(packet).and_then(|packet| ArpRepr::parse(&packet));
    let Ok(ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    }) = request
    else {
        return;
    };
    // Who announces an address of the gateway does not ask for it.
    if !ours(target_protocol_addr) || source_protocol_addr == target_protocol_addr {
        return;
    }
    let answer = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(mac),
        source_protocol_addr: target_protocol_addr,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    out.push_with(ETHERNET + answer.buffer_len(), |bytes| {
        let mut frame = EthernetFrame::new_unchecked(bytes);
        frame.set_dst_addr(source_hardware_addr);
        frame.set_src_addr(EthernetAddress(mac));
        frame.set_ethertype(EthernetProtocol::Arp);
        answer.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    });
}

/// Answers a neighbour solicitation for an address of which `ours` is true (RFC 4861 section 7.2). Returns whether
/// `packet` was of neighbour discovery at all.
pub(super) fn answer_neighbour(
    out: &mut Frames,
    ends: Ends,
    packet: &IpPacket<'_>,
    ours: impl Fn(Ipv6Addr) -> bool,
) -> bool {
    const SOLICITATION: u8 = 135;
    const ADVERTISEMENT: u8 = 136;
    /// Solicited, and may replace what the cache has.
    const FLAGS: u8 = 0x60;
    let (IpProtocol::Icmpv6, IpAddr::V6(asker)) = (packet.protocol, packet.from) else { return false };
    let Some(kind @ 133..=137) = packet.payload.first() else { return false };
    let target = packet.payload.get(8..24).and_then(|b| b.first_chunk::<16>()).map(|b| Ipv6Addr::from(*b));
    let Some(target) = target.filter(|t| *kind == SOLICITATION && ours(*t) && !asker.is_unspecified()) else {
        return true;
    };
    let (from, to) = (IpAddr::V6(target), packet.from);
    put_packet(out, ends, (from, to), IpProtocol::Icmpv6, HOPS_OF_NEIGHBOURS, 32, |bytes| {
        bytes[0] = ADVERTISEMENT;
        bytes[4] = FLAGS;
        bytes[8..24].copy_from_slice(&target.octets());
        // Target link-layer address, in units of eight bytes.
        bytes[24..26].copy_from_slice(&[2, 1]);
        bytes[26..32].copy_from_slice(&ends.from);
        fill_icmp_checksum(bytes, from, to);
    });
    true
}
