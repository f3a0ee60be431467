//! subunit v2: the wire format, its writer and its reader.
//!
//! A packet is, in this order: signature `0xB3`; 16 bits of flags, the version 2 in the top four; length of the whole
//! packet; then what the flags say is there: time, test id, tags, MIME type, file name and bytes, route code; then
//! the CRC-32 of everything before it. All integers are big-endian.

mod checksum;
mod decode;
mod encode;
mod fields;
mod forward;
mod header;
mod kept;
mod live;
mod number;
mod scan;
mod writer;

pub use self::decode::{Corrupt, Damaged, Decoder, Item, Items, NOISE_MAX, PARSER_ID, Packet};
pub use self::encode::encode;
pub(crate) use self::encode::packet_length;
pub use self::fields::FieldError;
pub(crate) use self::fields::take_str;
pub use self::forward::{Forwarder, Pieces};
pub(crate) use self::kept::KeptEvents;
pub use self::live::{Live, Patience};
pub use self::writer::Writer;

/// The most bytes a packet can have: its length is written in at most three octets.
pub const MAX_PACKET: usize = 4_194_303;

/// The fewest bytes a packet can have: signature, flags, length and CRC.
pub const MIN_PACKET: usize = 8;

/// The first byte of every packet. No character of UTF-8 begins with it.
pub const SIGNATURE: u8 = 0xb3;

const VERSION: u16 = 0x2000;
const CRC_LENGTH: usize = 4;

/// The flags of a packet (README of subunit, "Version 2", "Flags").
mod flag {
    pub(super) const ID: u16 = 0x0800;
    pub(super) const ROUTE: u16 = 0x0400;
    pub(super) const TIMESTAMP: u16 = 0x0200;
    pub(super) const RUNNABLE: u16 = 0x0100;
    pub(super) const TAGS: u16 = 0x0080;
    pub(super) const FILE: u16 = 0x0040;
    pub(super) const MIME: u16 = 0x0020;
    pub(super) const EOF: u16 = 0x0010;
    pub(super) const RESERVED: u16 = 0x0008;
    pub(super) const STATUS: u16 = 0x0007;
}
