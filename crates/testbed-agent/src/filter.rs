//! Which packets a capture keeps: a part of the language of pcap-filter(7), with the same meaning.
//!
//! A [`Filter`] is parsed once. The kernel gets it as classic BPF ([`Filter::compile_live`]); whoever holds packets
//! evaluates it over their bytes ([`Filter::matches`]). `docs/reference/filters.md` describes the language.

mod bpf;
mod evaluate;
mod parse;

pub use bpf::{Instruction, TooLong};
use std::fmt;

/// A parsed filter.
#[derive(Clone, Debug)]
pub struct Filter {
    text: String,
    root: Node,
}

impl PartialEq for Filter {
    /// They mean the same, however they are written.
    fn eq(&self, other: &Filter) -> bool {
        self.root == other.root
    }
}

impl Eq for Filter {}

impl fmt::Display for Filter {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a packet's bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// An Ethernet header.
    Ethernet,
    /// An IPv4 or IPv6 header: tunnels.
    Ip,
}

impl Filter {
    /// The filter that every packet matches.
    pub fn all() -> Filter {
        Filter { text: String::new(), root: Node::All }
    }

    /// Every packet matches.
    pub fn is_all(&self) -> bool {
        self.root == Node::All
    }
}

/// Why a text is not a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Where in the text, in bytes from 0.
    pub position: usize,
    /// How many bytes are meant; 0 at the end of the text.
    pub length: usize,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl fmt::Display for FilterError {
    /// One line without the hint; places count from 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filter, column {}: {}", self.position + 1, self.problem)
    }
}

impl std::error::Error for FilterError {}

/// A condition, or several put together.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    All,
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Test {
        test: Test,
        /// How many VLAN tags the packet has in front of what is tested.
        tags: u8,
    },
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    EtherType(u16),
    EtherAddress(Side, [u8; 6]),
    EtherMulticast,
    Vlan(Option<u16>),
    Protocol(Version, u8),
    Net4(Carrier, Side, Net4),
    Net6(Side, Net6),
    Port { transports: Transports, side: Side, low: u16, high: u16 },
}

/// Which of the two ends must fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
    Either,
    Both,
}

/// In which version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V4,
    V6,
    Any,
}

/// Which header an IPv4 address stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Ip,
    Arp,
    Rarp,
    Any,
}

/// Bits of an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Net4 {
    address: u32,
    mask: u32,
}

/// Bits of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Net6 {
    address: u128,
    mask: u128,
}

/// Which transport protocols have the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transports {
    One(u8),
    /// TCP, UDP or SCTP.
    Any,
}

impl Transports {
    fn numbers(&self) -> &[u8] {
        match self {
            Transports::One(number) => std::slice::from_ref(number),
            Transports::Any => &[number::SCTP, number::TCP, number::UDP],
        }
    }
}

/// EtherTypes (IEEE 802 numbers).
mod ether {
    pub(super) const IP: u16 = 0x0800;
    pub(super) const ARP: u16 = 0x0806;
    pub(super) const RARP: u16 = 0x8035;
    pub(super) const IP6: u16 = 0x86dd;
    /// 802.1Q, 802.1ad, and the number that came before the latter.
    pub(super) const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
}

/// IP protocol numbers (RFC 790 and its successors).
mod number {
    pub(super) const TCP: u8 = 6;
    pub(super) const UDP: u8 = 17;
    pub(super) const SCTP: u8 = 132;
    pub(super) const ICMP6: u8 = 58;
    /// The IPv6 fragment header, RFC 8200 section 4.5.
    pub(super) const FRAGMENT: u8 = 44;
}

/// Where fields stand, from the beginning of their header.
mod at {
    pub(super) const ETHERTYPE: u32 = 12;
    pub(super) const ETHERNET_LENGTH: u32 = 14;
    pub(super) const TAG_LENGTH: u32 = 4;
    pub(super) const IP4_FRAGMENT: u32 = 6;
    pub(super) const IP4_PROTOCOL: u32 = 9;
    pub(super) const IP4_SOURCE: u32 = 12;
    pub(super) const IP4_DESTINATION: u32 = 16;
    pub(super) const ARP_SENDER: u32 = 14;
    pub(super) const ARP_TARGET: u32 = 24;
    pub(super) const IP6_NEXT: u32 = 6;
    pub(super) const IP6_SOURCE: u32 = 8;
    pub(super) const IP6_DESTINATION: u32 = 24;
    pub(super) const IP6_LENGTH: u32 = 40;
}

/// The bits of the IPv4 fragment field that are not 0 in all fragments but the first.
const FRAGMENT_OFFSET: u32 = 0x1fff;
/// The bits of a tag that are the VLAN's number.
const VLAN_NUMBER: u32 = 0x0fff;

#[cfg(test)]
mod tests;
