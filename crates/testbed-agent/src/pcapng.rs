//! Captures as files: the pcapng format, draft-ietf-opsawg-pcapng.
//!
//! Functions append blocks to a buffer; a [`Decoder`] reads the same blocks back from any chunks. Times are
//! nanoseconds since 1970, byte order is little-endian.

use crate::filter::Link;
use std::fmt;

/// What the packets of an interface begin with, by the number that pcapng and libpcap give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// An Ethernet header: `LINKTYPE_ETHERNET`.
    pub const ETHERNET: LinkType = LinkType(1);
    /// An IPv4 or IPv6 header: `LINKTYPE_RAW`.
    pub const IP: LinkType = LinkType(101);

    /// The same as a filter knows it.
    pub fn link(self) -> Option<Link> {
        match self {
            LinkType::ETHERNET => Some(Link::Ethernet),
            LinkType::IP => Some(Link::Ip),
            _ => None,
        }
    }
}

impl From<Link> for LinkType {
    fn from(link: Link) -> LinkType {
        match link {
            Link::Ethernet => LinkType::ETHERNET,
            Link::Ip => LinkType::IP,
        }
    }
}

/// Which way a packet went through its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// In.
    In,
    /// Out.
    Out,
}

/// An interface that packets were seen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// What its packets begin with.
    pub link: LinkType,
    /// Bytes kept of each packet; 0 for all.
    pub snap: u32,
    /// Its name.
    pub name: String,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The number of its interface: they count from 0 in each section.
    pub interface: u32,
    /// When it was seen.
    pub time_ns: u64,
    /// How many bytes it had.
    pub length: u32,
    /// The bytes that were kept.
    pub data: &'a [u8],
    /// Which way it went, if known.
    pub direction: Option<Direction>,
    /// Something to say about it; empty for nothing.
    pub comment: &'a str,
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const SECTION_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;
const STATISTICS_RECEIVED: u16 = 4;
const STATISTICS_DROPPED: u16 = 5;
/// Time stamps count 10^-9 seconds.
const NANOSECONDS: u8 = 9;
/// Without [`INTERFACE_RESOLUTION`] they count 10^-6.
const MICROSECONDS: u8 = 6;
/// The largest block taken; a packet of 256 KiB (libpcap's limit) fits well.
const MOST_BLOCK: usize = 1 << 20;

/// Appends the block that begins a file; interfaces count from 0 again behind it.
pub fn section(out: &mut Vec<u8>, application: &str, comment: &str) {
    block(out, SECTION, |body| {
        body.extend_from_slice(&BYTE_ORDER.to_le_bytes());
        body.extend_from_slice(&[1, 0, 0, 0]);
        body.extend_from_slice(&u64::MAX.to_le_bytes());
        options(body, &[(SECTION_APPLICATION, application.as_bytes()), (OPTION_COMMENT, comment.as_bytes())]);
    });
}

/// Appends the block of the next interface. It must stand before that interface's packets.
pub fn interface(out: &mut Vec<u8>, interface: &Interface) {
    block(out, INTERFACE, |body| {
        body.extend_from_slice(&interface.link.0.to_le_bytes());
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&interface.snap.to_le_bytes());
        options(body, &[(INTERFACE_NAME, interface.name.as_bytes()), (INTERFACE_RESOLUTION, &[NANOSECONDS])]);
    });
}

/// Appends a packet.
pub fn packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    block(out, PACKET, |body| {
        body.extend_from_slice(&packet.interface.to_le_bytes());
        time(body, packet.time_ns);
        body.extend_from_slice(&(packet.data.len() as u32).to_le_bytes());
        body.extend_from_slice(&packet.length.to_le_bytes());
        padded(body, packet.data);
        let flags = match packet.direction {
            None => [].as_slice(),
            Some(Direction::In) => &[1, 0, 0, 0],
            Some(Direction::Out) => &[2, 0, 0, 0],
        };
        options(body, &[(PACKET_FLAGS, flags), (OPTION_COMMENT, packet.comment.as_bytes())]);
    });
}

/// Appends how many packets an interface had and how many of them were lost.
pub fn statistics(out: &mut Vec<u8>, interface: u32, time_ns: u64, received: u64, dropped: u64) {
    block(out, STATISTICS, |body| {
        body.extend_from_slice(&interface.to_le_bytes());
        time(body, time_ns);
        let (received, dropped) = (received.to_le_bytes(), dropped.to_le_bytes());
        options(body, &[(STATISTICS_RECEIVED, &received), (STATISTICS_DROPPED, &dropped)]);
    });
}

fn time(body: &mut Vec<u8>, time_ns: u64) {
    body.extend_from_slice(&((time_ns >> 32) as u32).to_le_bytes());
    body.extend_from_slice(&(time_ns as u32).to_le_bytes());
}

fn block(out: &mut Vec<u8>, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let length = ((out.len() - start) as u32 + 4).to_le_bytes();
    out[start + 4..start + 8].copy_from_slice(&length);
    out.extend_from_slice(&length);
}

/// Appends bytes, and zeros up to a whole word.
fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend_from_slice(bytes);
    body.resize(body.len() + bytes.len().next_multiple_of(4) - bytes.len(), 0);
}

/// Appends those options that are not empty. Longer ones than the format takes are cut.
fn options(body: &mut Vec<u8>, options: &[(u16, &[u8])]) {
    let before = body.len();
    for (code, value) in options {
        let value = &value[..value.len().min(usize::from(u16::MAX - 3))];
        if !value.is_empty() {
            body.extend_from_slice(&code.to_le_bytes());
            body.extend_from_slice(&(value.len() as u16).to_le_bytes());
            padded(body, value);
        }
    }
    if body.len() > before {
        body.extend_from_slice(&[OPTION_END as u8, 0, 0, 0]);
    }
}

/// A block of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// The file, or a further one behind it, begins.
    Section {
        /// What wrote it.
        application: String,
        /// What it says of itself.
        comment: String,
    },
    /// The next interface.
    Interface(Interface),
    /// A packet.
    Packet(OwnedPacket),
    /// Counts of an interface.
    Statistics {
        /// The interface's number.
        interface: u32,
        /// Packets it had.
        received: u64,
        /// Packets lost of them.
        dropped: u64,
    },
    /// A block of another type, passed over.
    Other(u32),
}

/// A packet that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedPacket {
    /// The number of its interface in the section.
    pub interface: u32,
    /// What it begins with.
    pub link: LinkType,
    /// When it was seen.
    pub time_ns: u64,
    /// How many bytes it had.
    pub length: u32,
    /// The bytes that were kept.
    pub data: Vec<u8>,
    /// Which way it went, if known.
    pub direction: Option<Direction>,
    /// What is said about it.
    pub comment: String,
}

/// Why bytes are not a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PcapngError {
    /// They do not begin with a section of the little-endian kind.
    NotPcapng,
    /// A block's two lengths are out of range, not whole words, or differ.
    Length(u32),
    /// A block is not what its type promises.
    Block(&'static str),
    /// A packet's interface was never described.
    Interface(u32),
}

impl fmt::Display for PcapngError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PcapngError::NotPcapng => f.write_str("not a little-endian pcapng capture"),
            PcapngError::Length(length) => write!(f, "bad block length {length}"),
            PcapngError::Block(what) => write!(f, "malformed {what}"),
            PcapngError::Interface(number) => write!(f, "packet of unknown interface {number}"),
        }
    }
}

impl std::error::Error for PcapngError {}

/// Reads a capture from chunks of bytes. Holds at most one block beside what was fed last.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    begun: bool,
    interfaces: Vec<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    link: LinkType,
    /// Nanoseconds of a tick.
    tick: u64,
}

impl Decoder {
    /// A decoder at the start of a capture.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// All that was fed has been read.
    pub fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// The next whole block, if there is one.
    ///
    /// # Errors
    /// When the bytes are no capture; it cannot be read further then.
    pub fn next_block(&mut self) -> Result<Option<Block>, PcapngError> {
        let rest = &self.buffer[self.start..];
        let (Some(kind), Some(length)) = (u32_at(rest, 0), u32_at(rest, 4)) else { return Ok(None) };
        if !self.begun && kind != SECTION {
            return Err(PcapngError::NotPcapng);
        }
        let total = length as usize;
        if !(12..=MOST_BLOCK).contains(&total) || !total.is_multiple_of(4) {
            // A section of the other byte order has its length swapped, too.
            let error = if kind == SECTION { PcapngError::NotPcapng } else { PcapngError::Length(length) };
            return Err(error);
        }
        let Some(whole) = rest.get(..total) else { return Ok(None) };
        if u32_at(whole, total - 4) != Some(length) {
            return Err(PcapngError::Length(length));
        }
        let body = &whole[8..total - 4];
        let block = match kind {
            SECTION => {
                let block = read_section(body)?;
                self.begun = true;
                self.interfaces.clear();
                block
            }
            INTERFACE => {
                let (interface, tick) = read_interface(body)?;
                self.interfaces.push(Known { link: interface.link, tick });
                Block::Interface(interface)
            }
            PACKET => Block::Packet(read_packet(body, &self.interfaces)?),
            STATISTICS => read_statistics(body)?,
            other => Block::Other(other),
        };
        self.start += total;
        Ok(Some(block))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

/// Calls `take` with each option.
fn read_options(bytes: &[u8], mut take: impl FnMut(u16, &[u8])) -> Option<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (code, length) = (u16_at(rest, 0)?, usize::from(u16_at(rest, 2)?));
        if code == OPTION_END {
            return (length == 0 && rest.len() == 4).then_some(());
        }
        take(code, rest.get(4..4 + length)?);
        rest = rest.get(4 + length.next_multiple_of(4)..)?;
    }
    Some(())
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn read_section(body: &[u8]) -> Result<Block, PcapngError> {
    if u32_at(body, 0) != Some(BYTE_ORDER) || u16_at(body, 4) != Some(1) {
        return Err(PcapngError::NotPcapng);
    }
    let (mut application, mut comment) = (String::new(), String::new());
    let read = body.get(16..).and_then(|rest| {
        read_options(rest, |code, value| match code {
            SECTION_APPLICATION => application = text(value),
            OPTION_COMMENT => comment = text(value),
            _ => {}
        })
    });
    read.map(|()| Block::Section { application, comment }).ok_or(PcapngError::Block("section"))
}

fn read_interface(body: &[u8]) -> Result<(Interface, u64), PcapngError> {
    let malformed = PcapngError::Block("interface");
    let (Some(link), Some(snap)) = (u16_at(body, 0), u32_at(body, 4)) else { return Err(malformed) };
    let (mut name, mut resolution) = (String::new(), MICROSECONDS);
    read_options(&body[8..], |code, value| match (code, value) {
        (INTERFACE_NAME, _) => name = text(value),
        (INTERFACE_RESOLUTION, [exponent]) => resolution = *exponent,
        _ => {}
    })
    .ok_or(malformed)?;
    let fewer = NANOSECONDS.checked_sub(resolution).ok_or(PcapngError::Block("time resolution"))?;
    Ok((Interface { link: LinkType(link), snap, name }, 10u64.pow(fewer.into())))
}

fn read_packet(body: &[u8], interfaces: &[Known]) -> Result<OwnedPacket, PcapngError> {
    let malformed = PcapngError::Block("packet");
    let number = |at| u32_at(body, at).ok_or(malformed);
    let interface = number(0)?;
    let known = interfaces.get(interface as usize).ok_or(PcapngError::Interface(interface))?;
    let ticks = u64::from(number(4)?) << 32 | u64::from(number(8)?);
    let kept = number(12)? as usize;
    let length = number(16)?;
    let data = body.get(20..).and_then(|rest| rest.get(..kept)).ok_or(malformed)?;
    let rest = body.get(20 + kept.next_multiple_of(4)..).ok_or(malformed)?;
    let (mut direction, mut comment) = (None, String::new());
    read_options(rest, |code, value| match (code, value) {
        (PACKET_FLAGS, [flags, _, _, _]) => {
            direction = match flags & 3 {
                1 => Some(Direction::In),
                2 => Some(Direction::Out),
                _ => None,
            }
        }
        (OPTION_COMMENT, _) => comment = text(value),
        _ => {}
    })
    .ok_or(malformed)?;
    let time_ns = ticks.checked_mul(known.tick).ok_or(malformed)?;
    Ok(OwnedPacket { interface, link: known.link, time_ns, length, data: data.to_vec(), direction, comment })
}

fn read_statistics(body: &[u8]) -> Result<Block, PcapngError> {
    let malformed = PcapngError::Block("statistics");
    let interface = u32_at(body, 0).ok_or(malformed)?;
    let (mut received, mut dropped) = (0, 0);
    let count = |value: &[u8]| value.try_into().map_or(0, u64::from_le_bytes);
    let read = body.get(12..).and_then(|rest| {
        read_options(rest, |code, value| match code {
            STATISTICS_RECEIVED => received = count(value),
            STATISTICS_DROPPED => dropped = count(value),
            _ => {}
        })
    });
    read.map(|()| Block::Statistics { interface, received, dropped }).ok_or(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8], cut: usize) -> Result<Vec<Block>, PcapngError> {
        let mut decoder = Decoder::new();
        let mut blocks = Vec::new();
        for chunk in bytes.chunks(cut) {
            decoder.feed(chunk);
            while let Some(block) = decoder.next_block()? {
                blocks.push(block);
            }
        }
        assert!(decoder.is_empty());
        Ok(blocks)
    }

    fn owned() -> impl Strategy<Value = OwnedPacket> {
        let direction = prop::sample::select(vec![None, Some(Direction::In), Some(Direction::Out)]);
        let data = prop::collection::vec(any::<u8>(), 0..200);
        (0u32..2, any::<u64>(), 0u32..100, data, direction, "\\PC{0,20}").prop_map(
            |(interface, time_ns, more, data, direction, comment)| OwnedPacket {
                interface,
                link: [LinkType::ETHERNET, LinkType::IP][interface as usize],
                time_ns,
                length: data.len() as u32 + more,
                data,
                direction,
                comment,
            },
        )
    }

    fn write(packets: &[OwnedPacket]) -> (Vec<u8>, Vec<Block>) {
        let mut bytes = Vec::new();
        section(&mut bytes, "testbed", "a copy");
        let mut blocks = vec![Block::Section { application: "testbed".into(), comment: "a copy".into() }];
        for (link, name) in [(LinkType::ETHERNET, "eth0"), (LinkType::IP, "tun0")] {
            let described = Interface { link, snap: 256, name: name.into() };
            interface(&mut bytes, &described);
            blocks.push(Block::Interface(described));
        }
        for p in packets {
            let OwnedPacket { interface, time_ns, length, direction, .. } = *p;
            let (data, comment) = (&p.data[..], &p.comment[..]);
            packet(&mut bytes, &Packet { interface, time_ns, length, data, direction, comment });
            blocks.push(Block::Packet(p.clone()));
        }
        statistics(&mut bytes, 1, 7, packets.len() as u64, 3);
        blocks.push(Block::Statistics { interface: 1, received: packets.len() as u64, dropped: 3 });
        (bytes, blocks)
    }

    proptest! {
        #[test]
        fn captures_survive_any_cutting(packets in prop::collection::vec(owned(), 0..6), cut in 1usize..100) {
            let (bytes, blocks) = write(&packets);
            prop_assert_eq!(read(&bytes, cut), Ok(blocks));
        }

        #[test]
        fn damage_never_panics(packets in prop::collection::vec(owned(), 0..3), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let (mut bytes, _) = write(&packets);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let mut decoder = Decoder::new();
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.next_block() {}
        }
    }

    #[test]
    fn strangers_are_refused() {
        let (bytes, _) = write(&[]);
        assert_eq!(read(b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00", 8), Err(PcapngError::NotPcapng));
        let swapped: Vec<u8> = bytes.chunks(4).flat_map(|word| word.iter().rev().copied()).collect();
        assert_eq!(read(&swapped, 4096), Err(PcapngError::NotPcapng));
        let mut lonely = Vec::new();
        section(&mut lonely, "", "");
        statistics(&mut lonely, 0, 0, 0, 0);
        let nothing = Packet { interface: 0, time_ns: 0, length: 0, data: &[], direction: None, comment: "" };
        packet(&mut lonely, &nothing);
        assert_eq!(read(&lonely, 4096), Err(PcapngError::Interface(0)));
        let mut torn = bytes;
        let last = torn.len() - 1;
        torn[last] ^= 1;
        assert!(matches!(read(&torn, 4096), Err(PcapngError::Length(_))));
    }

    #[test]
    fn microseconds_become_nanoseconds() {
        let mut bytes = Vec::new();
        section(&mut bytes, "", "");
        block(&mut bytes, INTERFACE, |body| body.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]));
        let late = Packet { interface: 0, time_ns: 5, length: 0, data: &[], direction: None, comment: "" };
        packet(&mut bytes, &late);
        let blocks = read(&bytes, 4096).unwrap();
        assert!(matches!(&blocks[2], Block::Packet(p) if p.time_ns == 5000));
    }
}
