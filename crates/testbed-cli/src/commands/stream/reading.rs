//! The arguments that say what is read and how, and the reading itself.

use super::feed::{Noise, Packets};
use super::input::{Input, Source, read};
use super::output::{Out, Output};
use crate::exit::Exit;
use crate::failure::Failure;
use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testbed::spec::parse_duration;
use testbed_subunit::stream::Sink;
use testbed_subunit::v2::Patience;

/// What is read.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Files {
    /// Read these, one after the other, instead of standard input, which is `-`.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// How packets are read.
#[derive(Debug, clap::Args)]
pub(super) struct Reading {
    /// Leave out what is no packet: what programs printed in between.
    #[arg(long)]
    no_passthrough: bool,
    /// Of a pipe or socket, wait so long for the rest of what may be a packet, after the last that came.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    stall: Duration,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text)
}

impl Reading {
    /// How patient the reading of live inputs is.
    pub(super) fn patience(&self) -> Patience {
        let patience = Patience::default();
        Patience { stall: self.stall, pause: patience.pause.min(self.stall), ..patience }
    }

    /// What becomes of noise, if it may pass.
    pub(super) fn noise(&self, noise: Noise) -> Noise {
        if self.no_passthrough { Noise::Drop } else { noise }
    }
}

impl Files {
    /// The inputs, opened: standard input if none is named.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(super) fn open(&self) -> Result<Vec<Source>, Failure> {
        match &self.files[..] {
            [] => Ok(vec![Source::open(Path::new("-"))?]),
            files => files.iter().map(|path| Source::open(path)).collect(),
        }
    }

    /// What the input is called, if it is one file.
    pub(super) fn name(&self) -> Option<String> {
        match &self.files[..] {
            [file] if file != Path::new("-") => Some(file.file_stem()?.to_string_lossy().into_owned()),
            _ => None,
        }
    }
}

/// What is read, how, and where it goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Through {
    #[command(flatten)]
    pub(super) files: Files,
    #[command(flatten)]
    pub(super) reading: Reading,
    #[command(flatten)]
    pub(super) output: Output,
}

impl Through {
    /// Passes the stream to what `sink` makes of where it goes.
    ///
    /// # Errors
    /// When a source cannot be read, or the sink does not take an event.
    pub(super) fn pass<S: Sink<Error = io::Error>>(
        &self,
        noise: Noise,
        sink: impl FnOnce(Out) -> S,
    ) -> Result<Exit, Failure> {
        let sources = self.files.open()?;
        let out = self.output.open()?;
        Passing::new(&self.reading, noise, &out).pass(sources, sink(out))?;
        Ok(Exit::Success)
    }
}

/// How a stream is passed on.
pub(super) struct Passing {
    pub(super) patience: Patience,
    pub(super) noise: Noise,
    /// What is written to last.
    pub(super) out: Out,
    /// Regular files have no end.
    pub(super) follow: bool,
}

impl Passing {
    /// As the arguments say, to `out`.
    pub(super) fn new(reading: &Reading, noise: Noise, out: &Out) -> Passing {
        let (patience, noise) = (reading.patience(), reading.noise(noise));
        Passing { patience, noise, out: out.clone(), follow: false }
    }

    /// Of text that is no packets.
    pub(super) fn of_text(out: &Out) -> Passing {
        Passing { patience: Patience::default(), noise: Noise::Events, out: out.clone(), follow: false }
    }

    /// Gives the events of all sources, one after the other, to `sink`, and ends it. What is written goes out whenever
    /// nothing more is there to be read.
    ///
    /// # Errors
    /// When a source cannot be read, or the sink does not take an event.
    pub(super) fn pass<S: Sink<Error = io::Error>>(
        &self,
        sources: Vec<Source>,
        sink: S,
    ) -> Result<(), Failure> {
        self.pass_while(sources, sink, &mut |_| Ok(None))
    }

    /// The same; `idle` is called when nothing is there to be read, and says how long to wait at most. Its error ends all.
    ///
    /// # Errors
    /// As [`Passing::pass`].
    pub(super) fn pass_while<S: Sink<Error = io::Error>>(
        &self,
        sources: Vec<Source>,
        sink: S,
        idle: &mut dyn FnMut(&mut S) -> io::Result<Option<Duration>>,
    ) -> Result<(), Failure> {
        let shared = RefCell::new(sink);
        for source in sources {
            let is_live = self.follow || source.is_live();
            let feed = Packets::new(is_live, self.patience, self.noise, &shared, self.out.clone());
            self.read_all(vec![Input { source, feed }], &shared, idle)?;
        }
        self.finish(&shared)
    }

    /// Reads all inputs at once.
    pub(super) fn read_all<S: Sink<Error = io::Error>, F: super::input::Feed>(
        &self,
        inputs: Vec<Input<F>>,
        shared: &RefCell<S>,
        idle: &mut dyn FnMut(&mut S) -> io::Result<Option<Duration>>,
    ) -> Result<(), Failure> {
        let mut out = self.out.clone();
        read(inputs, self.follow, &mut || {
            out.flush_out()?;
            idle(&mut *shared.borrow_mut()).map_err(|e| self.out.failed(e))
        })
    }

    /// Ends the sink, and writes out what is held back.
    pub(super) fn finish<S: Sink<Error = io::Error>>(&self, shared: &RefCell<S>) -> Result<(), Failure> {
        shared.borrow_mut().finish().map_err(|e| self.out.failed(e))?;
        self.out.clone().flush_out()
    }
}
