use thiserror::Error;

use super::fields::FieldError;
use super::scan::{Behind, Scan};
use crate::event::{Draft, EventError, EventRef, Status};
use crate::stream::{Each, Sink};

/// The most bytes of noise in one [`Item::Noise`].
pub const NOISE_MAX: usize = 64 * 1024;

/// The test id under which damage is reported, as python-subunit names it.
pub const PARSER_ID: &str = "subunit.parser";

/// What stands in a stream. The items' bytes, joined, are the stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Item<'a> {
    /// A packet, right in every part.
    Packet(Packet<'a>),
    /// Bytes that are no packet: what a program printed between them. At most [`NOISE_MAX`].
    Noise(&'a [u8]),
    /// Bytes that were meant as a packet.
    Damaged(Damaged<'a>),
}

/// A packet and its bytes, which forwarding needs no more than to copy: see [`super::Forwarder`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Packet<'a> {
    /// What it says.
    pub event: EventRef<'a>,
    /// All of it, signature to CRC.
    pub bytes: &'a [u8],
}

/// A damaged packet, or a piece of one.
///
/// It reaches as far as its header says, or to the next good packet if that comes first. Of a header that no packet
/// can have, only its first four bytes are taken: its length means nothing. Damage comes in several pieces where it
/// is longer than what may be held in memory together with a candidate found inside it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Damaged<'a> {
    /// What is wrong with it.
    pub cause: Corrupt,
    /// Bytes of the stream before it.
    pub offset: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Whether this is its first piece.
    pub begins: bool,
}

/// Why bytes that were meant as a packet are none.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Corrupt {
    /// The version is not 2.
    #[error("packet has version {0} and not 2")]
    Version(u8),
    /// The reserved flag is set.
    #[error("packet has the reserved flag set")]
    Reserved,
    /// The length is shorter than any packet, or written in four octets.
    #[error("packet has an impossible length")]
    Length,
    /// The CRC differs.
    #[error("packet has checksum {stored:08x} but its bytes give {computed:08x}")]
    Checksum {
        /// What the packet says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// The CRC is right, but the fields are not.
    #[error("packet has a bad field: {0}")]
    Field(FieldError),
    /// The stream ends within it.
    #[error("stream ends within the packet, {missing} bytes short")]
    Truncated {
        /// Bytes that are missing, as far as can be told.
        missing: usize,
    },
    /// The rest of it does not come: see [`Decoder::stalled`] and [`Decoder::give_up`].
    #[error("the rest of the packet does not come")]
    Stalled,
}

impl Corrupt {
    /// Whether the header alone shows it.
    pub(super) fn is_of_header(self) -> bool {
        matches!(self, Self::Version(_) | Self::Reserved | Self::Length)
    }
}

impl<'a> Item<'a> {
    /// The item as it stood in the stream.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        match *self {
            Self::Packet(packet) => packet.bytes,
            Self::Noise(bytes) => bytes,
            Self::Damaged(damaged) => damaged.bytes,
        }
    }

    /// Calls `each` with the events that the item stands for, as python-subunit makes them.
    ///
    /// A packet is its event. Noise is output: a piece of the file `noise`, of no test. Damage is two events of the
    /// test [`PARSER_ID`]: a file `Packet data`, and a failure with the file `Parser Error`.
    ///
    /// # Errors
    /// Where `noise` cannot be the name of a file.
    pub fn events(&self, noise: &str, mut each: impl FnMut(EventRef<'_>)) -> Result<(), EventError> {
        self.send(
            Some(noise),
            &mut Each(|event: EventRef<'_>| {
                each(event);
                Ok::<(), EventError>(())
            }),
        )
    }

    /// Gives `sink` the events that the item stands for: see [`Item::events`]. Without a name for it, noise is left
    /// out.
    ///
    /// # Errors
    /// Where `noise` cannot be the name of a file, and those of `sink`.
    pub fn send<S: Sink + ?Sized>(&self, noise: Option<&str>, sink: &mut S) -> Result<(), S::Error> {
        match *self {
            Self::Packet(packet) => sink.event(packet.event),
            Self::Noise(bytes) => noise.map_or(Ok(()), |name| Draft::output(name, bytes).send(sink)),
            Self::Damaged(Damaged { cause, offset, bytes, begins }) => {
                let data = Draft::new()
                    .id(PARSER_ID)
                    .file("Packet data", bytes)
                    .mime("application/octet-stream")
                    .eof(true);
                data.split(NOISE_MAX)?.try_for_each(|event| sink.event(event))?;
                if !begins {
                    return Ok(());
                }
                let error = format!("{cause} (at byte {offset} of the stream)");
                let failure = Draft::new()
                    .id(PARSER_ID)
                    .status(Status::Fail)
                    .file("Parser Error", error.as_bytes())
                    .mime("text/plain;charset=utf8")
                    .eof(true);
                failure.send(sink)
            }
        }
    }
}

/// The items of a stream that is in memory as a whole.
///
/// ```
/// use testbed_subunit::v2::{Item, Items};
///
/// let stream = b"starting\n\xb3\x29\x01\x0c\x03foo\x08\x55\x5f\x1b";
/// let items: Vec<_> = Items::new(stream).collect();
/// assert_eq!(items[0], Item::Noise(b"starting\n"));
/// assert!(matches!(items[1], Item::Packet(packet) if packet.event.id() == Some("foo")));
/// ```
#[derive(Clone, Debug)]
pub struct Items<'a> {
    scan: Scan,
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    /// The items of `stream`.
    pub fn new(stream: &'a [u8]) -> Self {
        Self { scan: Scan::default(), rest: stream }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Item<'a>> {
        let item = self.scan.step(self.rest, Behind::Nothing)?;
        self.rest = &self.rest[item.bytes().len()..];
        Some(item)
    }
}

/// Reads a stream that comes in pieces.
///
/// It does no I/O. Bytes go in by [`Decoder::push`], or without a copy by [`Decoder::space`] and
/// [`Decoder::filled`]; items come out of [`Decoder::next_item`], which is to be called until it gives `None`. The
/// items do not depend on how the bytes were cut. A decoder holds at most the packet that it is reading.
///
/// ```
/// use testbed_subunit::v2::{Decoder, Item};
///
/// let mut decoder = Decoder::new();
/// let mut ids = Vec::new();
/// for piece in [&b"\xb3\x29\x01\x0c\x03f"[..], b"oo\x08\x55\x5f\x1b"] {
///     decoder.push(piece);
///     while let Some(item) = decoder.next_item() {
///         if let Item::Packet(packet) = item {
///             ids.extend(packet.event.id().map(str::to_owned));
///         }
///     }
/// }
/// assert_eq!(ids, ["foo"]);
/// ```
///
/// A false start in a program's output may claim up to 4 MiB. Who reads a live stream therefore says when nothing
/// comes: [`super::Live`] does so by a clock. A reader of files never needs it.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// `buffer[start..end]` has not been handed out. The rest is room.
    start: usize,
    end: usize,
    scan: Scan,
    behind: Behind,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream, by a copy.
    pub fn push(&mut self, bytes: &[u8]) {
        self.space(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.filled(bytes.len());
    }

    /// Room for at least `least` further bytes of the stream, to read them into. Then call [`Decoder::filled`].
    pub fn space(&mut self, least: usize) -> &mut [u8] {
        // The little that is left moves to the front, where the memory is still in the processor's cache. It is
        // never more than what has been read since it last moved, so that no byte moves often.
        if self.end - self.start <= self.start {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() - self.end < least {
            let length = (self.end + least).max(self.buffer.len() * 2);
            self.buffer.resize(length, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// The first `length` bytes of what [`Decoder::space`] gave are now the next ones of the stream.
    pub fn filled(&mut self, length: usize) {
        self.end = self.buffer.len().min(self.end + length);
        self.behind = Behind::More;
    }

    /// The next item, or `None` where it takes more bytes to tell.
    #[inline]
    pub fn next_item(&mut self) -> Option<Item<'_>> {
        let item = self.scan.step(&self.buffer[self.start..self.end], self.behind)?;
        self.start += item.bytes().len();
        Some(item)
    }

    /// Nothing has come for a moment: the noise that is held back comes out of [`Decoder::next_item`].
    pub fn pause(&mut self) {
        if self.behind == Behind::More {
            self.behind = Behind::Later;
        }
    }

    /// Nothing has come for long: no packet of which only a part is there is waited for any longer.
    ///
    /// The oldest one's bytes are noise, or damage, and what came after its first byte is looked at again. Nothing is
    /// held back after that.
    pub fn stalled(&mut self) {
        self.give_up(self.received());
    }

    /// Something comes, but not enough: of the packets that begin before byte `before` of the stream (see
    /// [`Decoder::received`]), none of which only a part is there is waited for any longer.
    pub fn give_up(&mut self, before: u64) {
        self.pause();
        self.scan.give_up(before);
    }

    /// Bytes of the stream that have come in.
    pub fn received(&self) -> u64 {
        self.handed_out() + self.held_back() as u64
    }

    /// Bytes of the stream that have come out in items.
    pub fn handed_out(&self) -> u64 {
        self.scan.offset()
    }

    /// Nothing more comes: whatever is held back comes out of [`Decoder::next_item`].
    pub fn end(&mut self) {
        self.behind = Behind::Nothing;
    }

    /// Bytes that are held back until more come.
    pub fn held_back(&self) -> usize {
        self.end - self.start
    }
}
