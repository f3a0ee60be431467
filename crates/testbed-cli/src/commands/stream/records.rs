//! What the reports have in common: where they go, what becomes of each test, and how they end.

use super::feed::Noise;
use super::output::Out;
use super::reading::{Passing, Through};
use crate::exit::Exit;
use crate::failure::Failure;
use std::io;
use testbed_subunit::record::{Limits, Record};
use testbed_subunit::stream::{Sink, Tee, ToRecords};
use testbed_subunit::{Summary, v2};

/// What is read, and where the report goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Reporting {
    #[command(flatten)]
    through: Through,
    /// Pass the stream on to standard output; the report goes to standard error, or to the file of -o.
    #[arg(short, long)]
    forward: bool,
}

impl Reporting {
    /// What the input is called.
    pub(super) fn name(&self) -> String {
        self.through.files.name().unwrap_or_else(|| "tests".to_owned())
    }

    /// Where the report goes.
    ///
    /// # Errors
    /// When that cannot be opened.
    pub(super) fn report(&self) -> Result<Out, Failure> {
        if self.forward && !self.through.output.is_file() {
            Out::stderr()
        } else {
            self.through.output.open()
        }
    }

    /// Writes the report that `begin` begins, `add` adds each test to, and `finish` ends.
    ///
    /// # Errors
    /// When the stream cannot be read or the report not be written.
    pub(super) fn write<R>(
        &self,
        begin: impl FnOnce(Out) -> io::Result<R>,
        add: impl Fn(&mut R, &Record) -> io::Result<()>,
        finish: impl FnOnce(R) -> io::Result<Out>,
    ) -> Result<Exit, Failure> {
        let out = self.report()?;
        let mut report = begin(out.clone()).map_err(|e| out.failed(e))?;
        let came = self.records(&out, Limits::default(), |record| add(&mut report, record))?;
        finish(report).map_err(|e| out.failed(e))?;
        Ok(verdict(&came))
    }

    /// Folds the stream into records without their files, calls `each` with them, which writes to `out`, and counts them.
    ///
    /// # Errors
    /// When the stream cannot be read or a report not be written.
    pub(super) fn fold(
        &self,
        out: &Out,
        each: impl FnMut(&Record) -> io::Result<()>,
    ) -> Result<Summary, Failure> {
        self.records(out, Limits { bytes: 0, attachments: 0 }, each)
    }

    fn records(
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
        let mut rest = records.into_rest();
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
        let sources = self.through.files.open()?;
        if !self.forward {
            return Passing::new(&self.through.reading, Noise::Talk, out).pass(sources, sink);
        }
        let out = Out::stdout()?;
        let passing = Passing::new(&self.through.reading, Noise::Events, &out);
        let forward = Box::new(v2::Writer::new(out)) as Box<dyn Sink<Error = io::Error>>;
        passing.pass(sources, Tee(vec![Box::new(sink), forward]))
    }
}

/// How a report on such a stream ends.
pub(super) fn verdict(summary: &Summary) -> Exit {
    if summary.is_success() { Exit::Success } else { Exit::TestsFailed }
}
