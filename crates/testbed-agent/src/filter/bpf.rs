//! A filter as classic BPF, for packets that begin with an Ethernet header.
//!
//! First the tree becomes tests of single fields ([`Code`]). Then instructions are written from the last to the first:
//! all jumps go forwards, so the place a jump leads to is always known.

use super::{Carrier, FRAGMENT_OFFSET, Filter, Node, Side, Test, VLAN_NUMBER, Version, at, ether, number};
use std::fmt;

/// An instruction of classic BPF: code, jump if true, jump if false, operand (`struct sock_filter`).
pub type Instruction = (u16, u8, u8, u32);

/// The filter has more instructions than the kernel takes (4,096, `BPF_MAXINSNS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the filter is too long for the kernel")
    }
}

impl std::error::Error for TooLong {}

const MOST_INSTRUCTIONS: usize = 4096;
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_FROM_X: u16 = 0x48;
const LOAD_X_HEADER_LENGTH: u16 = 0xb1;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
/// `SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT`: whether a tag was taken off the packet.
const TAG_TAKEN_OFF: u32 = 0xffff_f000 + 48;

impl Filter {
    /// The program for frames as they are on the wire or in a file; it returns `keep` for those that match.
    ///
    /// # Errors
    /// If the kernel would not take it.
    pub fn compile(&self, keep: u32) -> Result<Vec<Instruction>, TooLong> {
        self.assemble(keep, false)
    }

    /// The program for a packet socket. The kernel may have taken a VLAN tag off the frame before the program sees it;
    /// such frames all pass, and who receives them puts the tag back and asks [`Filter::matches`].
    ///
    /// # Errors
    /// If the kernel would not take it.
    pub fn compile_live(&self, keep: u32) -> Result<Vec<Instruction>, TooLong> {
        self.assemble(keep, true)
    }

    fn assemble(&self, keep: u32, pass_tagged: bool) -> Result<Vec<Instruction>, TooLong> {
        let mut writer = Writer { reversed: vec![(RETURN, 0, 0, 0), (RETURN, 0, 0, keep)] };
        let (refuse, accept) = (Label(0), Label(1));
        let code = lower(&self.root);
        let mut entry = writer.code(&code, accept, refuse)?;
        if pass_tagged && code != Code::Always(true) {
            writer.branch((JUMP_EQUAL, 0, 0, 0), entry, accept)?;
            entry = writer.push((LOAD_WORD, 0, 0, TAG_TAKEN_OFF))?;
        }
        // A filter without tests is its return alone; otherwise the entry was written last.
        writer.reversed.truncate(entry.0 + 1);
        if entry == accept {
            writer.reversed.remove(refuse.0);
        }
        writer.reversed.reverse();
        Ok(writer.reversed)
    }
}

/// Tests of single fields, put together.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Code {
    Always(bool),
    Field(Field),
    And(Box<Code>, Box<Code>),
    Or(Box<Code>, Box<Code>),
    Not(Box<Code>),
}

/// One field of the packet, and whether some of its bits equal a value or are at least it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    load: Load,
    mask: u32,
    at_least: bool,
    value: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Byte(u32),
    Half(u32),
    Word(u32),
    /// Two bytes behind the IPv4 header that begins at `header`.
    BehindIp4 {
        header: u32,
        offset: u32,
    },
}

impl Load {
    fn equals(self, value: impl Into<u32>) -> Code {
        self.masked(u32::MAX, value)
    }

    fn masked(self, mask: u32, value: impl Into<u32>) -> Code {
        if mask == 0 {
            return Code::Always(true);
        }
        Code::Field(Field { load: self, mask, at_least: false, value: value.into() })
    }

    fn between(self, low: u16, high: u16) -> Code {
        let at_least = |value| Code::Field(Field { load: self, mask: u32::MAX, at_least: true, value });
        match (low, high) {
            _ if low == high => self.equals(low),
            (_, u16::MAX) => at_least(low.into()),
            _ => and(at_least(low.into()), not(at_least(u32::from(high) + 1))),
        }
    }
}

fn and(a: Code, b: Code) -> Code {
    match (a, b) {
        (Code::Always(true), other) | (other, Code::Always(true)) => other,
        (a, b) => Code::And(Box::new(a), Box::new(b)),
    }
}

fn or(a: Code, b: Code) -> Code {
    Code::Or(Box::new(a), Box::new(b))
}

fn not(a: Code) -> Code {
    Code::Not(Box::new(a))
}

fn any(codes: impl IntoIterator<Item = Code>) -> Code {
    codes.into_iter().reduce(or).unwrap_or(Code::Always(false))
}

fn side(side: Side, source: impl Fn() -> Code, destination: impl Fn() -> Code) -> Code {
    match side {
        Side::Source => source(),
        Side::Destination => destination(),
        Side::Either => or(source(), destination()),
        Side::Both => and(source(), destination()),
    }
}

fn lower(node: &Node) -> Code {
    match node {
        Node::All => Code::Always(true),
        Node::And(a, b) => and(lower(a), lower(b)),
        Node::Or(a, b) => or(lower(a), lower(b)),
        Node::Not(a) => not(lower(a)),
        Node::Test { test, tags } => lower_test(test, u32::from(*tags) * at::TAG_LENGTH),
    }
}

fn lower_test(test: &Test, shift: u32) -> Code {
    let kind = Load::Half(at::ETHERTYPE + shift);
    let payload = at::ETHERNET_LENGTH + shift;
    match *test {
        Test::EtherType(value) => kind.equals(value),
        Test::EtherAddress(which, mac) => {
            let [a, b, c, d, e, f] = mac;
            let address = |start: u32| {
                and(
                    Load::Word(start + 2).equals(u32::from_be_bytes([c, d, e, f])),
                    Load::Half(start).equals(u16::from_be_bytes([a, b])),
                )
            };
            side(which, || address(6), || address(0))
        }
        Test::EtherMulticast => Load::Byte(0).masked(1, 1u8),
        Test::Vlan(wanted) => {
            let tagged = any(ether::VLAN.map(|value| kind.equals(value)));
            match wanted {
                Some(vlan) => and(tagged, Load::Half(payload).masked(VLAN_NUMBER, vlan)),
                None => tagged,
            }
        }
        Test::Protocol(version, protocol) => {
            let v4 = || and(kind.equals(ether::IP), Load::Byte(payload + at::IP4_PROTOCOL).equals(protocol));
            let v6 = || {
                let next = Load::Byte(payload + at::IP6_NEXT);
                let behind_fragment = Load::Byte(payload + at::IP6_LENGTH).equals(protocol);
                let fragment = and(next.equals(number::FRAGMENT), behind_fragment);
                and(kind.equals(ether::IP6), or(next.equals(protocol), fragment))
            };
            match version {
                Version::V4 => v4(),
                Version::V6 => v6(),
                Version::Any => or(v4(), v6()),
            }
        }
        Test::Net4(carrier, which, net) => {
            let address = |start: u32| Load::Word(payload + start).masked(net.mask, net.address);
            let inside = |value: u16, source: u32, destination: u32| {
                and(kind.equals(value), side(which, || address(source), || address(destination)))
            };
            let ip = || inside(ether::IP, at::IP4_SOURCE, at::IP4_DESTINATION);
            let arp = || inside(ether::ARP, at::ARP_SENDER, at::ARP_TARGET);
            let rarp = || inside(ether::RARP, at::ARP_SENDER, at::ARP_TARGET);
            match carrier {
                Carrier::Ip => ip(),
                Carrier::Arp => arp(),
                Carrier::Rarp => rarp(),
                Carrier::Any => or(or(ip(), arp()), rarp()),
            }
        }
        Test::Net6(which, net) => {
            let address = |start: u32| {
                let words = (0..4).map(|i| {
                    let word = |bits: u128| (bits >> (96 - 32 * i)) as u32;
                    Load::Word(payload + start + 4 * i).masked(word(net.mask), word(net.address))
                });
                words.reduce(and).unwrap_or(Code::Always(true))
            };
            let ends = side(which, || address(at::IP6_SOURCE), || address(at::IP6_DESTINATION));
            and(kind.equals(ether::IP6), ends)
        }
        Test::Port { transports, side: which, low, high } => {
            let ports = |source: Load, destination: Load| {
                side(which, || source.between(low, high), || destination.between(low, high))
            };
            let transport = |load: Load| any(transports.numbers().iter().map(|&n| load.equals(n)));
            let behind = |offset| Load::BehindIp4 { header: payload, offset };
            let first = Load::Half(payload + at::IP4_FRAGMENT).masked(FRAGMENT_OFFSET, 0u32);
            let v4 = and(
                and(kind.equals(ether::IP), transport(Load::Byte(payload + at::IP4_PROTOCOL))),
                and(first, ports(behind(0), behind(2))),
            );
            let ports6 = payload + at::IP6_LENGTH;
            let v6 = and(
                and(kind.equals(ether::IP6), transport(Load::Byte(payload + at::IP6_NEXT))),
                ports(Load::Half(ports6), Load::Half(ports6 + 2)),
            );
            or(v4, v6)
        }
    }
}

/// A place in the program, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Label(usize);

struct Writer {
    reversed: Vec<Instruction>,
}

impl Writer {
    /// Writes an instruction in front of all others.
    fn push(&mut self, instruction: Instruction) -> Result<Label, TooLong> {
        if self.reversed.len() == MOST_INSTRUCTIONS {
            return Err(TooLong);
        }
        self.reversed.push(instruction);
        Ok(Label(self.reversed.len() - 1))
    }

    /// How many instructions lie between the next one written and the label.
    fn distance(&self, to: Label) -> usize {
        self.reversed.len() - 1 - to.0
    }

    /// The label, or a jump to it that is near enough for a conditional jump to reach.
    fn near(&mut self, to: Label, room: usize) -> Result<Label, TooLong> {
        match self.distance(to) + room {
            0..=255 => Ok(to),
            _ => self.push((JUMP, 0, 0, self.distance(to) as u32)),
        }
    }

    /// Writes a conditional jump.
    fn branch(&mut self, jump: Instruction, yes: Label, no: Label) -> Result<Label, TooLong> {
        // The second stepping stone may push the first one further away.
        let yes = self.near(yes, 1)?;
        let no = self.near(no, 0)?;
        let (yes, no) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push((jump.0, yes, no, jump.3))
    }

    /// Writes the tests so that they lead to `yes` or `no`; returns where they begin.
    fn code(&mut self, code: &Code, yes: Label, no: Label) -> Result<Label, TooLong> {
        match code {
            Code::Always(true) => Ok(yes),
            Code::Always(false) => Ok(no),
            Code::Not(a) => self.code(a, no, yes),
            Code::And(a, b) => {
                let then = self.code(b, yes, no)?;
                self.code(a, then, no)
            }
            Code::Or(a, b) => {
                let then = self.code(b, yes, no)?;
                self.code(a, yes, then)
            }
            Code::Field(field) => self.field(field, yes, no),
        }
    }

    fn field(&mut self, field: &Field, yes: Label, no: Label) -> Result<Label, TooLong> {
        let jump = if field.at_least { JUMP_AT_LEAST } else { JUMP_EQUAL };
        self.branch((jump, 0, 0, field.value), yes, no)?;
        if field.mask != u32::MAX {
            self.push((AND, 0, 0, field.mask))?;
        }
        match field.load {
            Load::Byte(k) => self.push((LOAD_BYTE, 0, 0, k)),
            Load::Half(k) => self.push((LOAD_HALF, 0, 0, k)),
            Load::Word(k) => self.push((LOAD_WORD, 0, 0, k)),
            Load::BehindIp4 { header, offset } => {
                self.push((LOAD_HALF_FROM_X, 0, 0, header + offset))?;
                self.push((LOAD_X_HEADER_LENGTH, 0, 0, header))
            }
        }
    }
}
