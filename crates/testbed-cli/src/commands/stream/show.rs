use super::feed::Noise;
use super::output::Out;
use super::reading::{Files, Passing, Reading};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::report::{Options, Report};
use crate::terminal;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use testbed_subunit::EventRef;
use testbed_subunit::stream::Sink;

/// The view of running tests moves at least so often.
const TICK: Duration = Duration::from_millis(100);

/// Show a stream as a run shows itself: a line for each test as it ends, and at the end what failed.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    reading: Reading,
    /// Show which tests are running and for how long: in place on a terminal, elsewhere as lines that come less and less
    /// often. A file is read on as it grows, until Ctrl-C; what came of it until then is told.
    #[arg(long, visible_alias = "progress")]
    follow: bool,
    /// Write a JUnit report to this file as well.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let sources = self.files.open()?;
        let grows = sources.iter().any(|source| !source.is_live());
        let is_live = self.follow && terminal::is_live(io::stderr());
        let mut options = Options::lines(terminal::style_of_stdout());
        options.junit = self.junit.as_deref();
        options.live = is_live;
        options.stored = grows;
        options.still = self.follow && !is_live;
        let stopped = Arc::clone(&options.ending);
        if self.follow {
            let interrupts = Interrupts::catch().map_err(|e| Failure::io("catch signals", e))?;
            let stop = Arc::clone(&stopped);
            interrupts.on_request(move || stop.store(true, Ordering::Relaxed));
        }
        let mut shown = Shown(Report::new(&options)?);
        let passing = Passing::new(&self.reading, Noise::Talk, &Out::stdout()?);
        let passing = Passing { follow: self.follow, ..passing };
        let passed = passing.pass_while(sources, &mut shown, &mut |shown| {
            shown.0.draw();
            let is_stopped = stopped.load(Ordering::Relaxed);
            if is_stopped { Err(io::ErrorKind::Interrupted.into()) } else { Ok(self.follow.then_some(TICK)) }
        });
        let stopped = stopped.load(Ordering::Relaxed);
        if !stopped {
            passed?;
        }
        match shown.0.finish(stopped)? {
            // It was somebody else's run, and there may have been nothing to it.
            Exit::NothingToRun => Ok(Exit::Success),
            exit => Ok(exit),
        }
    }
}

struct Shown<'a>(Report<'a>);

impl Sink for Shown<'_> {
    type Error = io::Error;

    fn event(&mut self, event: EventRef<'_>) -> io::Result<()> {
        self.0.event(event);
        if self.0.has_reader() { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
}
