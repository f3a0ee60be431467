//! The events themselves, on standard output.

use std::io::{self, BufWriter, Stdout, Write};
use testbed_subunit::{EventRef, json, v2};

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamFormat {
    /// subunit v2.
    Subunit,
    /// A line of JSON each.
    Json,
}

/// Writes events as they come. The first failure to write is the last attempt.
pub(crate) struct Stream {
    format: StreamFormat,
    out: BufWriter<Stdout>,
    bytes: Vec<u8>,
    failed: Option<io::Error>,
}

impl Stream {
    pub(crate) fn new(format: StreamFormat) -> Stream {
        Stream { format, out: BufWriter::new(io::stdout()), bytes: Vec::new(), failed: None }
    }

    /// Writes an event at once, so that a reader sees it when it happens.
    pub(crate) fn write(&mut self, event: EventRef<'_>) {
        if self.failed.is_some() {
            return;
        }
        self.bytes.clear();
        match self.format {
            StreamFormat::Subunit => v2::encode(&event, &mut self.bytes),
            StreamFormat::Json => json::line(&event, &mut self.bytes),
        }
        self.failed = self.out.write_all(&self.bytes).and_then(|()| self.out.flush()).err();
    }

    /// Whether all was written.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}
