//! The first bytes of a packet, and whether they can be that at all.

use super::{CRC_LENGTH, Corrupt, MIN_PACKET, VERSION, flag, number};

/// Flags and length of a packet that may be one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) flags: u16,
    /// Bytes of the whole packet, within the limits of the format.
    pub(super) packet: usize,
    /// Bytes of the header itself.
    pub(super) header: usize,
}

/// What the bytes behind a signature say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Probe {
    Header(Header),
    /// Right so far, and not all there.
    Short,
    /// No packet has such a header.
    Not(Corrupt),
}

/// Bytes of signature, flags and the first octet of the length: what the longest refusal has looked at.
pub(super) const FIXED: usize = 4;

/// Reads the header of the packet that begins at `bytes[0]`, which is the signature.
#[inline]
pub(super) fn probe(bytes: &[u8]) -> Probe {
    let Some(&high) = bytes.get(1) else { return Probe::Short };
    if u16::from(high) << 8 & 0xf000 != VERSION {
        return Probe::Not(Corrupt::Version(high >> 4));
    }
    let Some(&low) = bytes.get(2) else { return Probe::Short };
    let flags = u16::from_be_bytes([high, low]);
    if flags & flag::RESERVED != 0 {
        return Probe::Not(Corrupt::Reserved);
    }
    let Some(&first) = bytes.get(3) else { return Probe::Short };
    if first >= 0xc0 {
        return Probe::Not(Corrupt::Length);
    }
    let mut rest = &bytes[3..];
    let Some(packet) = number::take(&mut rest) else { return Probe::Short };
    let header = bytes.len() - rest.len();
    if packet < MIN_PACKET.max(header + CRC_LENGTH) {
        return Probe::Not(Corrupt::Length);
    }
    Probe::Header(Header { flags, packet, header })
}
