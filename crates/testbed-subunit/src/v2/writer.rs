use std::io::{self, Write};

use super::encode;
use crate::event::{EventError, EventRef};
use crate::stream::Sink;

/// Writes packets to `W`, one call of `write_all` for each event.
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
}

impl<W> Writer<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, packet: Vec::new() }
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
