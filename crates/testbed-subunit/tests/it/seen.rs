//! Items that own their parts, so that those of different readers can be compared.

use testbed_subunit::Event;
use testbed_subunit::v2::{Corrupt, Decoder, Item, Items};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Packet(Event, Vec<u8>),
    Noise(Vec<u8>),
    Damaged { cause: Corrupt, offset: u64, bytes: Vec<u8>, begins: bool },
}

impl From<Item<'_>> for Seen {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Packet(packet) => Self::Packet(packet.event.to_owned(), packet.bytes.to_vec()),
            Item::Noise(bytes) => Self::Noise(bytes.to_vec()),
            Item::Damaged(damaged) => Self::Damaged {
                cause: damaged.cause,
                offset: damaged.offset,
                bytes: damaged.bytes.to_vec(),
                begins: damaged.begins,
            },
        }
    }
}

impl Seen {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Packet(_, bytes) | Self::Noise(bytes) | Self::Damaged { bytes, .. } => bytes,
        }
    }
}

pub(crate) fn whole(stream: &[u8]) -> Vec<Seen> {
    Items::new(stream).map(Seen::from).collect()
}

pub(crate) fn in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut decoder = Decoder::new();
    let mut seen = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        drain(&mut decoder, &mut seen);
    }
    decoder.end();
    drain(&mut decoder, &mut seen);
    assert_eq!(decoder.held_back(), 0);
    seen
}

pub(crate) fn drain(decoder: &mut Decoder, seen: &mut Vec<Seen>) {
    while let Some(item) = decoder.next_item() {
        seen.push(item.into());
    }
}

/// A stream of up to so many bytes is cut at every two places.
const CUT_TWICE: usize = 64;

/// Reads `stream` whole, cut at every place, at every two places if it is short, and byte by byte. All must agree, and
/// add up to the stream.
pub(crate) fn however_cut(stream: &[u8]) -> Vec<Seen> {
    let seen = whole(stream);
    assert_eq!(seen.iter().flat_map(|item| item.bytes().to_vec()).collect::<Vec<_>>(), stream);
    for cut in 0..=stream.len() {
        let (front, back) = stream.split_at(cut);
        assert_eq!(in_pieces([front, back]), seen, "cut at {cut}");
        let last = if stream.len() > CUT_TWICE { 0 } else { back.len() };
        for second in 1..last {
            let (middle, back) = back.split_at(second);
            assert_eq!(in_pieces([front, middle, back]), seen, "cut at {cut} and {}", cut + second);
        }
    }
    assert_eq!(in_pieces(stream.chunks(1)), seen, "byte by byte");
    seen
}

/// The stream, cut into pieces of these sizes, over and over.
pub(crate) fn cut<'a>(mut rest: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    sizes.iter().cycle().map_while(move |&size| {
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The bytes of a string of hexadecimal digits.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "odd number of digits");
    let octets = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16));
    octets.collect::<Result<_, _>>().unwrap()
}
