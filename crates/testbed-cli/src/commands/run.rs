use crate::exit::Exit;
use crate::failure::Failure;
use crate::images;
use crate::interrupt::Interrupts;
use crate::keepers::{Sockets, sweep};
use crate::kept;
use crate::launched::Launched;
use crate::place::Place;
use crate::report::{self, Report, StreamFormat};
use crate::terminal::{self, ENDING};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use testbed::bed::{self, Prepared};
use testbed::plan::host_for;
use testbed::run::{Filter, HostTests, Options, Outcome, Run};
use testbed::spec::{FILE_NAME, Testbed};
use testbed::{Engine, host};

/// The live view moves at least so often.
const TICK: Duration = Duration::from_millis(100);

/// Run the tests, each on a fresh copy of the testbed.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Run tests whose name contains one of these; `=NAME` is the whole name. A first one that is a folder with a
    /// `testbed.toml`, or such a file, stands for -C.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Run tests with this tag; `!TAG` is without it. May be repeated.
    #[arg(short = 't', long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Run so many tests at once; as many as there are cores if not given.
    #[arg(short = 'j', long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Run each test so many times.
    #[arg(long, value_name = "N", default_value = "1")]
    repeat: NonZeroUsize,
    /// Begin nothing more after the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Run in an order that depends on this number alone.
    #[arg(long, value_name = "SEED")]
    shuffle: Option<u64>,
    /// Keep the copy of the first test that fails, until Ctrl-C.
    #[arg(short = 'k', long)]
    keep: bool,
    /// Write the events to standard output as subunit v2.
    #[arg(long, conflicts_with = "format")]
    subunit: bool,
    /// Write a JUnit report to this file.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// How to write to standard output what happens: `json` is one event a line.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: super::Format,
}

impl Arguments {
    pub(crate) fn run(mut self, place: &Place) -> Result<Exit, Failure> {
        let interrupts = Interrupts::catch().map_err(|e| Failure::io("catch signals", e))?;
        let place = self.place(place);
        let filter = Filter::new(&self.filters, &self.tags).map_err(|e| Failure::call(e.to_string()))?;
        let testbed = Arc::new(place.load_telling()?);
        sweep();
        let sockets = Arc::new(Sockets::new()?);
        let options = self.options(Arc::clone(&sockets));
        let run = Run::new(Arc::clone(&testbed), &filter, &host_for(&testbed), options)?;
        if run.is_empty() {
            return Err(self.nothing(&testbed));
        }
        let (live, ending) = (terminal::is_live(io::stderr()), Arc::new(AtomicBool::new(false)));
        let report = self.report(&testbed, live, Arc::clone(&ending))?;
        let stopper = run.stopper();
        interrupts.on_request(move || {
            ending.store(true, Ordering::Relaxed);
            if !live {
                terminal::talk(&format!("\n{ENDING}\n"));
            }
            stopper.stop();
        });
        host::raise_open_files()?;
        let engine = Launched::start()?;
        let images = images::prepare(&testbed, &engine)?;
        let outcome = execute(run, &engine, &images, &report);
        let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
        let exit = report.finish(outcome.stopped)?;
        if let Some(kept) = outcome.kept.filter(|_| !outcome.stopped) {
            kept::keep(&kept, &place.file()?, &sockets, &interrupts)?;
        }
        Ok(exit)
    }

    /// The testbed's place: a first filter that is one goes before -C.
    fn place(&mut self, place: &Place) -> Place {
        let folder = place.directory.as_deref().unwrap_or(Path::new("."));
        let first = self.filters.first().map(|first| folder.join(first));
        let is_testbed = |path: &PathBuf| {
            path.join(FILE_NAME).is_file() || (path.is_file() && path.file_name() == Some(FILE_NAME.as_ref()))
        };
        match first.filter(is_testbed) {
            Some(directory) => {
                self.filters.remove(0);
                Place { directory: Some(directory), testbed: None }
            }
            None => place.clone(),
        }
    }

    fn options(&self, control: Arc<Sockets>) -> Options {
        let env: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Options {
            jobs: self.jobs.unwrap_or(cores),
            repeat: self.repeat,
            fail_fast: self.fail_fast,
            shuffle: self.shuffle,
            keep: self.keep,
            bed: bed::Options { env: env.clone(), free_ports: true, ..bed::Options::default() },
            host: HostTests { env: with_testbed_in_path(env), control: Some(control) },
            ..Options::default()
        }
    }

    fn nothing(&self, testbed: &Testbed) -> Failure {
        if testbed.tests().is_empty() {
            return Failure::Nothing("the file has no tests".into());
        }
        let what: Vec<&str> = self.filters.iter().chain(&self.tags).map(String::as_str).collect();
        Failure::Nothing(format!("none of the {} tests fits {}", testbed.tests().len(), what.join(" ")))
    }

    fn report<'a>(
        &'a self,
        testbed: &'a Testbed,
        live: bool,
        ending: Arc<AtomicBool>,
    ) -> Result<Mutex<Report<'a>>, Failure> {
        let stream = match self.format {
            super::Format::Json => Some(StreamFormat::Json),
            super::Format::Text if self.subunit => Some(StreamFormat::Subunit),
            super::Format::Text => None,
        };
        let style = if stream.is_some() { terminal::style_of_stderr() } else { terminal::style_of_stdout() };
        let options = report::Options {
            name: testbed.name(),
            stream,
            junit: self.junit.as_deref(),
            live,
            ending,
            ..report::Options::lines(style)
        };
        Report::new(&options).map(Mutex::new)
    }
}

/// Runs, and keeps the live view moving while nothing happens.
fn execute(run: Run, engine: &Engine, images: &Prepared, report: &Mutex<Report<'_>>) -> Outcome {
    std::thread::scope(|scope| {
        let (done, ticks) = channel::<()>();
        scope.spawn(move || {
            while ticks.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                locked(report).draw();
            }
        });
        let outcome = run.execute(engine, images, &mut |event| locked(report).event(event.as_ref()));
        drop(done);
        outcome
    })
}

fn locked<'a, 'b>(report: &'a Mutex<Report<'b>>) -> MutexGuard<'a, Report<'b>> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The environment of tests on the host: this command is the first `testbed` that they find.
fn with_testbed_in_path(mut env: Vec<(String, String)>) -> Vec<(String, String)> {
    let program = std::env::current_exe().ok();
    let folder = program.as_deref().and_then(Path::parent).and_then(Path::to_str);
    if let Some(folder) = folder {
        let before = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
        let path = before.map_or(folder.to_owned(), |before| format!("{folder}:{before}"));
        env.retain(|(name, _)| name != "PATH");
        env.push(("PATH".to_owned(), path));
    }
    env
}
