use super::header::{self, Probe};
use super::{CRC_LENGTH, encode, fields};
use crate::event::EventRef;

/// Events that are kept for a while, one behind the other in one piece of memory: packets without their CRC.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptEvents(Vec<u8>);

impl KeptEvents {
    pub(crate) fn push(&mut self, event: EventRef<'_>) {
        encode::put_content(&event, &mut self.0);
    }

    /// Bytes that they take.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> KeptIter<'_> {
        KeptIter(&self.0)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct KeptIter<'a>(&'a [u8]);

impl<'a> Iterator for KeptIter<'a> {
    type Item = EventRef<'a>;

    fn next(&mut self) -> Option<EventRef<'a>> {
        // What was written here is right, so only the end ends this.
        let Probe::Header(header) = header::probe(self.0) else { return None };
        let (content, rest) = self.0.split_at_checked(header.packet - CRC_LENGTH)?;
        self.0 = rest;
        fields::parse(header.flags, content.get(header.header..)?).ok()
    }
}
