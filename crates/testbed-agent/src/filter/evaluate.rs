//! A filter evaluated over a packet's bytes.
//!
//! As in BPF, a field beyond the packet's end decides the whole: the packet does not match, not even a negation.
//! `None` stands for that here. Fields are therefore looked at in the same order as the program does.

use super::{
    Carrier, FRAGMENT_OFFSET, Filter, Link, Net4, Net6, Node, Side, Test, VLAN_NUMBER, Version, at, ether,
    number,
};

impl Filter {
    /// Whether the packet matches. VLAN tags must be in their place in the bytes.
    pub fn matches(&self, link: Link, packet: &[u8]) -> bool {
        holds(&self.root, Bytes { packet, link }).unwrap_or(false)
    }
}

fn holds(node: &Node, bytes: Bytes<'_>) -> Option<bool> {
    match node {
        Node::All => Some(true),
        Node::And(a, b) => Some(holds(a, bytes)? && holds(b, bytes)?),
        Node::Or(a, b) => Some(holds(a, bytes)? || holds(b, bytes)?),
        Node::Not(a) => Some(!holds(a, bytes)?),
        Node::Test { test, tags } => Packet { bytes, tags: u32::from(*tags) }.passes(test),
    }
}

#[derive(Clone, Copy)]
struct Bytes<'a> {
    packet: &'a [u8],
    link: Link,
}

impl Bytes<'_> {
    fn take<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.packet.get(at as usize..)?.first_chunk().copied()
    }

    fn byte(&self, at: u32) -> Option<u8> {
        self.take::<1>(at).map(|[byte]| byte)
    }

    fn half(&self, at: u32) -> Option<u16> {
        self.take(at).map(u16::from_be_bytes)
    }

    fn word(&self, at: u32) -> Option<u32> {
        self.take(at).map(u32::from_be_bytes)
    }
}

/// A packet that is taken to have some VLAN tags.
struct Packet<'a> {
    bytes: Bytes<'a>,
    tags: u32,
}

impl Packet<'_> {
    fn passes(&self, test: &Test) -> Option<bool> {
        match test {
            Test::EtherType(value) => self.is(*value),
            Test::EtherAddress(which, mac) => {
                side(*which, || self.ether_address(6, mac), || self.ether_address(0, mac))
            }
            Test::EtherMulticast => match self.bytes.link {
                Link::Ethernet => Some(self.bytes.byte(0)? & 1 == 1),
                Link::Ip => Some(false),
            },
            Test::Vlan(wanted) => self.vlan(*wanted),
            Test::Protocol(version, protocol) => {
                let wants = |this| *version == this || *version == Version::Any;
                Some(
                    (wants(Version::V4) && self.protocol4(*protocol)?)
                        || (wants(Version::V6) && self.protocol6(*protocol)?),
                )
            }
            Test::Net4(carrier, which, net) => {
                let wants = |this| *carrier == this || *carrier == Carrier::Any;
                let ip = (Carrier::Ip, ether::IP, at::IP4_SOURCE, at::IP4_DESTINATION);
                let arp = (Carrier::Arp, ether::ARP, at::ARP_SENDER, at::ARP_TARGET);
                let rarp = (Carrier::Rarp, ether::RARP, at::ARP_SENDER, at::ARP_TARGET);
                for (this, kind, source, destination) in [ip, arp, rarp] {
                    if wants(this) && self.is(kind)? {
                        return side(*which, || self.in_net4(source, net), || self.in_net4(destination, net));
                    }
                }
                Some(false)
            }
            Test::Net6(which, net) => Some(
                self.is(ether::IP6)?
                    && side(
                        *which,
                        || self.in_net6(at::IP6_SOURCE, net),
                        || self.in_net6(at::IP6_DESTINATION, net),
                    )?,
            ),
            Test::Port { transports, side: which, low, high } => {
                let range = *low..=*high;
                let transports = transports.numbers();
                let at = if self.is(ether::IP)? {
                    if !transports.contains(&self.bytes.byte(self.payload() + at::IP4_PROTOCOL)?)
                        || self.bytes.half(self.payload() + at::IP4_FRAGMENT)? & FRAGMENT_OFFSET as u16 != 0
                    {
                        return Some(false);
                    }
                    // Also decides about the rest of a cut-off packet before any port is read.
                    self.payload() + 4 * u32::from(self.bytes.byte(self.payload())? & 0x0f)
                } else if self.is(ether::IP6)? {
                    if !transports.contains(&self.bytes.byte(self.payload() + at::IP6_NEXT)?) {
                        return Some(false);
                    }
                    self.payload() + at::IP6_LENGTH
                } else {
                    return Some(false);
                };
                let port = |at| Some(range.contains(&self.bytes.half(at)?));
                side(*which, || port(at), || port(at + 2))
            }
        }
    }

    /// Where the header behind the link header begins.
    fn payload(&self) -> u32 {
        match self.bytes.link {
            Link::Ethernet => at::ETHERNET_LENGTH + self.tags * at::TAG_LENGTH,
            Link::Ip => 0,
        }
    }

    /// Whether the payload is of this EtherType.
    fn is(&self, kind: u16) -> Option<bool> {
        match self.bytes.link {
            Link::Ethernet => Some(self.bytes.half(at::ETHERTYPE + self.tags * at::TAG_LENGTH)? == kind),
            Link::Ip => {
                let version = self.bytes.byte(0)? >> 4;
                Some((version == 4 && kind == ether::IP) || (version == 6 && kind == ether::IP6))
            }
        }
    }

    fn ether_address(&self, at: u32, mac: &[u8; 6]) -> Option<bool> {
        if self.bytes.link != Link::Ethernet {
            return Some(false);
        }
        Some(self.bytes.take::<4>(at + 2)? == mac[2..] && self.bytes.take::<2>(at)? == mac[..2])
    }

    fn vlan(&self, wanted: Option<u16>) -> Option<bool> {
        if self.bytes.link != Link::Ethernet {
            return Some(false);
        }
        let kind = self.bytes.half(at::ETHERTYPE + self.tags * at::TAG_LENGTH)?;
        Some(
            ether::VLAN.contains(&kind)
                && match wanted {
                    Some(vlan) => self.bytes.half(self.payload())? & VLAN_NUMBER as u16 == vlan,
                    None => true,
                },
        )
    }

    fn protocol4(&self, protocol: u8) -> Option<bool> {
        Some(self.is(ether::IP)? && self.bytes.byte(self.payload() + at::IP4_PROTOCOL)? == protocol)
    }

    fn protocol6(&self, protocol: u8) -> Option<bool> {
        if !self.is(ether::IP6)? {
            return Some(false);
        }
        let next = self.bytes.byte(self.payload() + at::IP6_NEXT)?;
        Some(
            next == protocol
                || (next == number::FRAGMENT
                    && self.bytes.byte(self.payload() + at::IP6_LENGTH)? == protocol),
        )
    }

    fn in_net4(&self, at: u32, net: &Net4) -> Option<bool> {
        Some(net.mask == 0 || self.bytes.word(self.payload() + at)? & net.mask == net.address)
    }

    fn in_net6(&self, at: u32, net: &Net6) -> Option<bool> {
        for i in 0..4 {
            let word = |bits: u128| (bits >> (96 - 32 * i)) as u32;
            let mask = word(net.mask);
            if mask != 0 && self.bytes.word(self.payload() + at + 4 * i)? & mask != word(net.address) {
                return Some(false);
            }
        }
        Some(true)
    }
}

fn side(
    side: Side,
    source: impl Fn() -> Option<bool>,
    destination: impl Fn() -> Option<bool>,
) -> Option<bool> {
    match side {
        Side::Source => source(),
        Side::Destination => destination(),
        Side::Either => Some(source()? || destination()?),
        Side::Both => Some(source()? && destination()?),
    }
}
