//! What other tools write, as events.

use super::input::{Feed, Input, PIECE};
use super::now;
use super::output::{Out, Output};
use super::reading::{Files, Passing};
use super::records::verdict;
use crate::exit::Exit;
use crate::failure::Failure;
use std::cell::RefCell;
use std::io;
use std::time::{Duration, SystemTime};
use testbed_subunit::Timestamp;
use testbed_subunit::read::{self, Format, Reader};
use testbed_subunit::stream::{Sink, Summarize, Timestamper};
use testbed_subunit::v2::{self, Patience};

/// What all of these take.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// Give events that have no time the time at which they are read.
    #[arg(long)]
    timestamps: bool,
}

impl Arguments {
    /// Reads `format`. Ends with 1 where it tells of failures, as the tool that wrote it did.
    pub(crate) fn run(self, format: Format) -> Result<Exit, Failure> {
        let (sources, out) = (self.files.open()?, self.output.open()?);
        let packets = v2::Writer::new(out.clone());
        let begun = now()?;
        let clock = move || Timestamp::try_from(SystemTime::now()).unwrap_or(begun);
        let stream: Box<dyn Sink<Error = io::Error>> =
            if self.timestamps { Box::new(Timestamper::new(clock, packets)) } else { Box::new(packets) };
        let stream = RefCell::new(Summarize::new(stream));
        let passing = Passing::of_text(&out);
        for source in sources {
            let (reader, patience, out) = (format.reader(), passing.patience, out.clone());
            let feed = Text { reader, patience, pause: None, room: vec![0; PIECE], sink: &stream, out };
            passing.read_all(vec![Input { source, feed }], &stream, &mut |_| Ok(None))?;
        }
        passing.finish(&stream)?;
        Ok(verdict(stream.borrow().summary()))
    }
}

/// The bytes of another format.
struct Text<'a, S> {
    reader: Box<dyn Reader + Send>,
    patience: Patience,
    /// When the reader is to be told that nothing comes, unless something does.
    pause: Option<Duration>,
    room: Vec<u8>,
    sink: &'a RefCell<S>,
    out: Out,
}

impl<S: Sink<Error = io::Error>> Feed for Text<'_, S> {
    fn room(&mut self) -> &mut [u8] {
        &mut self.room
    }

    fn came(&mut self, now: Duration, length: usize) -> Result<(), Failure> {
        self.pause = Some(now + self.patience.pause);
        let bytes = self.room.get(..length).unwrap_or_default();
        let fed = read::into(&mut *self.sink.borrow_mut(), |each| self.reader.feed(bytes, each));
        fed.map_err(|e| self.out.failed(e))
    }

    fn tick(&mut self, _: Duration) -> Result<(), Failure> {
        self.pause = None;
        let told = read::into(&mut *self.sink.borrow_mut(), |each| self.reader.pause(each));
        told.map_err(|e| self.out.failed(e))
    }

    fn wait(&self, now: Duration) -> Option<Duration> {
        self.pause.map(|pause| pause.saturating_sub(now))
    }

    fn end(&mut self) -> Result<(), Failure> {
        let ended = read::into(&mut *self.sink.borrow_mut(), |each| self.reader.finish(each));
        ended.map_err(|e| self.out.failed(e))
    }
}
