//! What the reports have in common: where they go, what becomes of each test, and how they end.

use super::feed::Noise;
use super::output::{Out, Output};
use super::reading::{Files, Passing, Reading};
use crate::exit::Exit;
use crate::failure::Failure;
use std::io;
use testbed_subunit::record::{Limits, Record};
use testbed_subunit::stream::{Sink, Tee, ToRecords};
use testbed_subunit::{Summary, v2};

/// What is read, and where the report goes.
#[derive(Debug, clap::Args)]
pub(super) struct Reporting {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    output: Output,
    /// Pass the stream on to standard output; the report goes to standard error, or to the file of -o.
    #[arg(short, long)]
    forward: bool,
}

impl Reporting {
    /// What the input is called.
    pub(super) fn name(&self) -> String {
        self.files.name().unwrap_or_else(|| "tests".to_owned())
    }

    /// Where the report goes.
    ///
    /// # Errors
    /// When that cannot be opened.
    pub(super) fn report(&self) -> Result<Out, Failure> {
        if self.forward && !self.output.is_file() { Out::stderr() } else { self.output.open() }
    }

    /// Folds the stream into records, calls `each` with them, which writes to `out`, and counts them.
    ///
    /// # Errors
    /// When the stream cannot be read or a report not be written.
    pub(super) fn fold(
        &self,
        out: &Out,
        limits: Limits,
        mut each: impl FnMut(&Record) -> io::Result<()>,
    ) -> Result<Summary, Failure> {
        let mut summary = Summary::default();
        let mut records = ToRecords::new(limits, |record: &Record| {
            summary.add(record);
            each(record)
        });
        self.pass(out, &mut records)?;
        let mut rest = records.rest().clone();
        // They have been counted.
        rest.unfinished.clear();
        summary.add_rest(&rest);
        Ok(summary)
    }

    /// Passes the stream to `sink`, which writes to `out`, and on if it is to be forwarded.
    ///
    /// # Errors
    /// When the stream cannot be read or `sink` does not take it.
    pub(super) fn pass<S: Sink<Error = io::Error>>(&self, out: &Out, sink: &mut S) -> Result<(), Failure> {
        let sources = self.files.open()?;
        if !self.forward {
            return Passing::new(&self.reading, Noise::Talk, out).pass(sources, sink);
        }
        let out = Out::stdout()?;
        let passing = Passing::new(&self.reading, Noise::Events, &out);
        let forward = Box::new(v2::Writer::new(out)) as Box<dyn Sink<Error = io::Error>>;
        passing.pass(sources, Tee(vec![Box::new(sink), forward]))
    }
}

/// How a report on such a stream ends.
pub(super) fn verdict(summary: &Summary) -> Exit {
    if summary.is_success() { Exit::Success } else { Exit::TestsFailed }
}
