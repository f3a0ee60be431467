use std::io::{self, Write};

use super::{Forwarder, Item, encode};
use crate::event::{EventError, EventRef};
use crate::stream::{Code, Prefix, Sink};

/// Up to so many bytes a forwarded packet is copied together, to be written at once.
const GATHERED: usize = 64 * 1024;

/// Writes packets to `W`, one call of `write_all` for each event. A large one that is forwarded takes three.
///
/// ```
/// use testbed_subunit::stream::Sink;
/// use testbed_subunit::{Draft, Status, v2};
///
/// let mut packets = v2::Writer::new(Vec::new());
/// Draft::test("foo", Status::Exists).send(&mut packets)?;
/// packets.finish()?;
/// assert_eq!(packets.into_inner(), b"\xb3\x29\x01\x0c\x03foo\x08\x55\x5f\x1b");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Writer<W> {
    out: W,
    packet: Vec<u8>,
    forwarder: Forwarder,
}

impl<W> Writer<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, packet: Vec::new(), forwarder: Forwarder::new() }
    }

    /// What is written to.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// What was written to.
    pub fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Write> Writer<W> {
    /// Writes an item of a stream that is multiplexed into this one as `code`.
    ///
    /// A packet is forwarded as it is, but for its route: see [`Forwarder`]. Noise is output, pieces of the file
    /// `noise`, and left out where there is no name for it. Damage is told: see [`Item::events`].
    ///
    /// ```
    /// use testbed_subunit::stream::Code;
    /// use testbed_subunit::v2::{Item, Items, Writer};
    ///
    /// let worker = b"starting\n\xb3\x29\x01\x0c\x03foo\x08\x55\x5f\x1b";
    /// let mut host = Writer::new(Vec::new());
    /// for item in Items::new(worker) {
    ///     host.forward(&item, &Code::new("0")?, Some("stdout"))?;
    /// }
    /// let mut all = Writer::new(Vec::new());
    /// for item in Items::new(&host.into_inner()) {
    ///     all.forward(&item, &Code::new("1")?, Some("stdout"))?;
    /// }
    /// for item in Items::new(&all.into_inner()) {
    ///     assert!(matches!(item, Item::Packet(packet) if packet.event.route() == Some("1/0")));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of `W`, and where `noise` cannot be the name of a file.
    pub fn forward(&mut self, item: &Item<'_>, code: &Code, noise: Option<&str>) -> io::Result<()> {
        if let Item::Packet(packet) = item
            && let Ok(pieces) = self.forwarder.prefix(packet, code)
        {
            let slices = pieces.slices();
            if packet.bytes.len() > GATHERED {
                return slices.into_iter().try_for_each(|slice| self.out.write_all(slice));
            }
            self.packet.clear();
            pieces.append_to(&mut self.packet);
            return self.out.write_all(&self.packet);
        }
        item.send(noise, &mut Prefix::new(code.clone(), self))
    }
}

impl<W: Write> Sink for Writer<W> {
    type Error = io::Error;

    fn event(&mut self, event: EventRef<'_>) -> io::Result<()> {
        self.packet.clear();
        encode(&event, &mut self.packet);
        self.out.write_all(&self.packet)
    }

    /// Flushes what is written to.
    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl From<EventError> for io::Error {
    fn from(error: EventError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}
