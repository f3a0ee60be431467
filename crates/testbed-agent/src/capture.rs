//! From a packet socket's packets to a pcapng capture, without any I/O: the agent captures in its machine with this,
//! and the host on its networks.

use crate::filter::{Filter, Link};
use crate::pcapng::{self, LinkType};
use std::borrow::Cow;
use std::collections::HashMap;
use testbed_sys::packet::{
    Direction, HARDWARE_ETHERNET, HARDWARE_LOOPBACK, Instruction, Packet, Statistics, Tag,
};

/// No packet is kept beyond this, as libpcap has it.
const MOST_BYTES: u32 = 256 * 1024;
/// The kernel keeps at least this much, for the filter to look at: all headers that it knows.
const LEAST_BYTES: u32 = 256;

/// What the packets of an interface begin with, by its hardware type (`ARPHRD_*`).
pub fn link_of(hardware: u16) -> Link {
    match hardware {
        HARDWARE_ETHERNET | HARDWARE_LOOPBACK => Link::Ethernet,
        _ => Link::Ip,
    }
}

/// Writes the packets that match, until there are enough.
#[derive(Debug)]
pub struct Recorder {
    filter: Filter,
    keep: u32,
    left: u64,
    packets: u64,
    counts: (u64, u64),
    /// The capture's own number of an interface, by the kernel's.
    interfaces: HashMap<u32, u32>,
    output: Vec<u8>,
}

impl Recorder {
    /// A recorder of `count` packets (0 for all that come) and `snap` bytes of each (0 for all, up to 256 KiB).
    pub fn new(filter: Filter, count: u64, snap: u32) -> Recorder {
        let mut output = Vec::new();
        pcapng::section(&mut output, concat!("testbed ", env!("CARGO_PKG_VERSION")), "");
        Recorder {
            filter,
            keep: if snap == 0 { MOST_BYTES } else { snap.min(MOST_BYTES) },
            left: if count == 0 { u64::MAX } else { count },
            packets: 0,
            counts: (0, 0),
            interfaces: HashMap::new(),
            output,
        }
    }

    /// The program for the packet socket. Only if all packets begin alike, with Ethernet, can the kernel judge; in any
    /// case [`Recorder::take`] judges again, with the tags back in their place.
    ///
    /// # Errors
    /// If the filter is too long for the kernel.
    pub fn program(&self, link: Option<Link>) -> Result<Vec<Instruction>, crate::filter::TooLong> {
        let all = Filter::all();
        let filter = if link == Some(Link::Ethernet) { &self.filter } else { &all };
        filter.compile_live(self.keep.max(LEAST_BYTES))
    }

    /// Names an interface by its kernel number, ahead of its first packet; returns the capture's number.
    pub fn describe(&mut self, index: u32, link: Link, name: impl FnOnce() -> String) -> u32 {
        let next = self.interfaces.len() as u32;
        *self.interfaces.entry(index).or_insert_with(|| {
            let (link, snap, name) = (LinkType::from(link), self.keep, name());
            pcapng::interface(&mut self.output, &pcapng::Interface { link, snap, name });
            next
        })
    }

    /// Writes a packet if it matches. `name` is asked for the name of an interface that is seen first.
    pub fn take(&mut self, packet: &Packet<'_>, name: impl FnOnce() -> String) {
        // Everything on the loopback is seen twice: going out and coming in.
        let twice = packet.hardware == HARDWARE_LOOPBACK && packet.direction == Direction::Outgoing;
        if twice || self.is_full() {
            return;
        }
        let link = link_of(packet.hardware);
        let Some(data) = whole(packet, link) else { return };
        if !self.filter.matches(link, &data) {
            return;
        }
        let interface = self.describe(packet.interface, link, name);
        let missing = packet.length.saturating_sub(packet.data.len() as u32);
        let direction = match packet.direction {
            Direction::Outgoing => pcapng::Direction::Out,
            _ => pcapng::Direction::In,
        };
        let record = pcapng::Packet {
            interface,
            time_ns: packet.time_ns,
            length: data.len() as u32 + missing,
            data: &data[..data.len().min(self.keep as usize)],
            direction: Some(direction),
            comment: "",
        };
        pcapng::packet(&mut self.output, &record);
        self.packets += 1;
        self.left -= 1;
    }

    /// Adds what the kernel counted since the last time.
    pub fn count(&mut self, counts: Statistics) {
        self.counts.0 += u64::from(counts.received);
        self.counts.1 += u64::from(counts.dropped);
    }

    /// Writes the counts at the end of the capture.
    pub fn finish(&mut self, now_ns: u64) {
        // The kernel counts per socket: with several interfaces it cannot be said whose packets were lost.
        if self.interfaces.len() == 1 {
            pcapng::statistics(&mut self.output, 0, now_ns, self.counts.0, self.counts.1);
        }
    }

    /// There are enough packets.
    pub fn is_full(&self) -> bool {
        self.left == 0
    }

    /// How many packets were written.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// How many packets the kernel had no room for.
    pub fn dropped(&self) -> u64 {
        self.counts.1
    }

    /// What is to be written to the capture's file next. Whoever has done so clears it.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }
}

/// The packet's bytes with its tag back in place, or without what is in front of IP where the link is not Ethernet; none
/// for what is neither.
fn whole<'a>(packet: &Packet<'a>, link: Link) -> Option<Cow<'a, [u8]>> {
    const ADDRESSES: usize = 12;
    match (link, packet.tag) {
        (Link::Ethernet, None) => Some(Cow::Borrowed(packet.data)),
        (Link::Ethernet, Some(Tag { protocol, control })) => {
            let (addresses, rest) = packet.data.split_at_checked(ADDRESSES)?;
            let tag = [protocol.to_be_bytes(), control.to_be_bytes()].concat();
            Some(Cow::Owned([addresses, &tag, rest].concat()))
        }
        (Link::Ip, _) => {
            let ip = matches!(packet.protocol, 0x0800 | 0x86dd);
            ip.then(|| packet.data.get(packet.network..)).flatten().map(Cow::Borrowed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcapng::{Block, Decoder};

    /// `ARPHRD_NONE`: tunnels.
    const TUNNEL: u16 = 0xfffe;

    fn packet(data: &[u8]) -> Packet<'_> {
        Packet {
            time_ns: 5,
            length: data.len() as u32,
            interface: 7,
            hardware: HARDWARE_ETHERNET,
            protocol: 0x0800,
            direction: Direction::Host,
            tag: None,
            network: 14,
            data,
        }
    }

    fn blocks(recorder: &mut Recorder) -> Vec<Block> {
        let mut decoder = Decoder::new();
        decoder.feed(recorder.output());
        std::iter::from_fn(|| decoder.next_block().unwrap()).collect()
    }

    #[test]
    fn interfaces_are_numbered_as_they_are_seen() {
        let frame = [&[2; 12], &[8, 0][..], &[0x45; 40]].concat();
        let mut recorder = Recorder::new(Filter::all(), 0, 0);
        recorder.take(&packet(&frame), || "eth0".into());
        recorder.take(&Packet { hardware: TUNNEL, interface: 3, ..packet(&frame) }, || "tun0".into());
        recorder.take(&packet(&frame), || panic!("eth0 is known"));
        // Neither Ethernet nor IP.
        recorder.take(&Packet { hardware: TUNNEL, protocol: 1, ..packet(&frame) }, || panic!("not seen"));
        assert_eq!(recorder.packets(), 3);
        let blocks = blocks(&mut recorder);
        let shown: Vec<_> = blocks[1..]
            .iter()
            .map(|block| match block {
                Block::Interface(interface) => interface.name.clone(),
                Block::Packet(packet) => format!("{}: {} bytes", packet.interface, packet.data.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(shown, ["eth0", "0: 54 bytes", "tun0", "1: 40 bytes", "0: 54 bytes"]);
    }

    #[test]
    fn tags_cost_four_bytes_and_enough_is_enough() {
        let frame = [&[2; 12], &[8, 0][..], &[0x45; 40]].concat();
        let tag = Some(Tag { protocol: 0x88a8, control: 0x2005 });
        let mut recorder = Recorder::new("vlan 5".parse().unwrap(), 1, 18);
        recorder.take(&packet(&frame), || "eth0".into());
        assert!(!recorder.is_full());
        for _ in 0..2 {
            recorder.take(&Packet { tag, length: 1000, ..packet(&frame) }, || "eth0".into());
        }
        assert!(recorder.is_full());
        recorder.count(Statistics { received: 9, dropped: 2 });
        recorder.finish(1);
        let blocks = blocks(&mut recorder);
        let Block::Packet(packet) = &blocks[2] else { panic!() };
        assert_eq!(packet.data, [&[2; 12], &[0x88, 0xa8, 0x20, 5, 8, 0][..]].concat());
        assert_eq!(packet.length, 1004);
        assert_eq!(blocks[3], Block::Statistics { interface: 0, received: 9, dropped: 2 });
        assert_eq!(blocks.len(), 4);
    }
}
