use super::checksum::appended;
use super::header::{self, Probe};
use super::{CRC_LENGTH, MAX_PACKET, Packet, SIGNATURE, fields, flag, number};
use crate::event::EventError;
use crate::stream::Code;

/// Below so many bytes it is faster to sum them again than to work out what their sum must be.
const SUMMED: usize = 16 * 1024;

/// Forwards packets by other routes, without decoding and encoding them again.
///
/// Of a packet, its header, its route and its CRC change. What lies between is neither looked at nor copied, and the
/// new CRC follows from the old one.
///
/// ```
/// use testbed_subunit::stream::Code;
/// use testbed_subunit::v2::{Forwarder, Item, Items};
///
/// let stream = b"\xb3\x29\x01\x0c\x03foo\x08\x55\x5f\x1b";
/// let (mut forwarder, mut out) = (Forwarder::new(), Vec::new());
/// for item in Items::new(stream) {
///     if let Item::Packet(packet) = item {
///         forwarder.prefix(&packet, &Code::new("0")?)?.append_to(&mut out);
///     }
/// }
/// assert_eq!(out, b"\xb3\x2d\x01\x0e\x03foo\x010\xe6\x8a\xdc\x9d");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Forwarder {
    /// Signature, flags and length of the packet at hand.
    head: Vec<u8>,
    /// Its route and CRC.
    tail: Vec<u8>,
}

/// A packet in three pieces, of which the middle one is the original's.
#[derive(Clone, Copy, Debug)]
pub struct Pieces<'a> {
    head: &'a [u8],
    middle: &'a [u8],
    tail: &'a [u8],
}

impl<'a> Pieces<'a> {
    /// The pieces, in their order.
    pub fn slices(&self) -> [&'a [u8]; 3] {
        [self.head, self.middle, self.tail]
    }

    /// Appends the packet to `out`.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        let slices = self.slices();
        out.reserve(slices.iter().map(|slice| slice.len()).sum());
        slices.iter().for_each(|slice| out.extend_from_slice(slice));
    }
}

impl Forwarder {
    /// A forwarder.
    pub fn new() -> Self {
        Self::default()
    }

    /// The packet with `code` in front of its route, or as its route.
    ///
    /// # Errors
    /// [`EventError::TooLong`] where the packet has no room left for it. Its event can be split:
    /// [`crate::stream::Prefix`].
    pub fn prefix<'a>(&'a mut self, packet: &Packet<'a>, code: &Code) -> Result<Pieces<'a>, EventError> {
        match packet.event.route() {
            None => self.reroute(packet, Some([code.as_str(), "", ""])),
            Some(route) => self.reroute(packet, Some([code.as_str(), "/", route])),
        }
    }

    /// The packet without `code` at the front of its route. `None` where its route leads elsewhere.
    ///
    /// # Errors
    /// As [`Forwarder::prefix`], where the packet was longer than need be before.
    pub fn strip<'a>(
        &'a mut self,
        packet: &Packet<'a>,
        code: &Code,
    ) -> Option<Result<Pieces<'a>, EventError>> {
        let rest = code.strip(packet.event.route()?)?;
        Some(self.reroute(packet, rest.map(|rest| [rest, "", ""])))
    }

    /// The packet by the route that is `route` joined.
    fn reroute<'a>(
        &'a mut self,
        packet: &Packet<'a>,
        route: Option<[&str; 3]>,
    ) -> Result<Pieces<'a>, EventError> {
        // A packet comes from a reader, which has checked all of it.
        let Probe::Header(old) = header::probe(packet.bytes) else {
            return Err(EventError::TooLong { length: packet.bytes.len() });
        };
        let (content, stored) = packet.bytes.split_at(packet.bytes.len() - CRC_LENGTH);
        let (old_head, body) = content.split_at(old.header);
        let (middle, old_route) = body.split_at(fields::before_route(old.flags, body));

        self.tail.clear();
        let mut flags = old.flags & !flag::ROUTE;
        if let Some(parts) = route {
            flags |= flag::ROUTE;
            number::put(&mut self.tail, parts.iter().map(|part| part.len()).sum());
            parts.iter().for_each(|part| self.tail.extend_from_slice(part.as_bytes()));
        }
        let length = number::with_itself(1 + 2 + middle.len() + self.tail.len() + CRC_LENGTH);
        if length > MAX_PACKET {
            return Err(EventError::TooLong { length });
        }
        self.head.clear();
        self.head.push(SIGNATURE);
        self.head.extend_from_slice(&flags.to_be_bytes());
        number::put(&mut self.head, length);
        let mut hasher = if middle.len() < SUMMED || old_route.len() > SUMMED {
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&self.head);
            hasher.update(middle);
            hasher
        } else {
            let stored = stored.iter().fold(0, |sum: u32, &octet| sum << 8 | u32::from(octet));
            let before_route = without_end(stored, old_route);
            // The sum of two pieces is linear in that of the first, so the difference of two heads goes through.
            let heads_differ = crc32fast::hash(old_head) ^ crc32fast::hash(&self.head);
            let sum = before_route ^ appended(heads_differ, 0, middle.len());
            crc32fast::Hasher::new_with_initial(sum)
        };
        hasher.update(&self.tail);
        self.tail.extend_from_slice(&hasher.finalize().to_be_bytes());
        Ok(Pieces { head: &self.head, middle, tail: &self.tail })
    }
}

/// The CRC-32 of some bytes, by that of the same bytes with `end` behind them: its register runs backwards.
fn without_end(sum: u32, end: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let register = end.iter().rev().fold(!sum, |mut register, &byte| {
        for _ in 0..8 {
            // The polynomial has its highest bit set, so that tells whether it was added.
            let added = register >> 31;
            register = (register ^ (POLYNOMIAL * added)) << 1 | added;
        }
        register ^ u32::from(byte)
    });
    !register
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sums_without_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..60), cut in 0..60usize) {
            let (front, end) = bytes.split_at(bytes.len().min(cut));
            prop_assert_eq!(without_end(crc32fast::hash(&bytes), end), crc32fast::hash(front));
        }
    }
}
