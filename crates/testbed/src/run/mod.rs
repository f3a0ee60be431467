//! Runs of tests: every test on a fresh copy of its testbed, many at once.
//!
//! ```text
//!            batches, in order                     messages
//! selection ─────────────────► dispatcher ◄───────────────────── executors
//!                              (owns all state)                  (one a copy: makes it, runs
//!                                   │  feeds a batch ──────────►  a batch on it, ends it)
//!                                   ▼
//!                                 events
//! ```
//!
//! The dispatcher runs on the caller's thread, and nothing but messages reaches it. A copy is made with no test bound to
//! it: who is ready gets the next batch. All that happens is told as [`Event`]s:
//!
//! | id | events |
//! |---|---|
//! | a test's, runnable | `exists` once for each time it will run; `inprogress`; pieces of `stdout` and `stderr`; what was collected of its failure; its final status with `reason` |
//! | `testbed/COPY/MACHINE` | `inprogress` when it is asked for, again with the tag `ready`, `success` when nothing of it is left; `fail` with `reason` if it failed |
//!
//! A test that ends as `expect = "failure"` asks for is `xfail`, and `uxsuccess` if it passes. The tag
//! [`TESTBED_FAILED`] on a failed id says that the testbed failed, and not the thing under test. A test carries the tag
//! `copy-N` of the copy it ran on, and where tests are repeated, `repeat-N` and the route `N`, so that the
//! repetitions of a test are told apart.

mod clock;
mod dispatcher;
mod evidence;
mod executor;
mod memory;
mod process;
mod schedule;
mod select;
mod teller;

pub use dispatcher::Stopper;
pub use select::{BadFilter, Filter};

use crate::bed::{self, Bed, Images};
use crate::engine::Engine;
use crate::plan::{Plan, decide_kernels};
use crate::spec::Testbed;
use dispatcher::{Dispatcher, Message};
use schedule::Batch;
use std::any::Any;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use testbed_agent::Fault;
use testbed_subunit::Event;

/// The tag of what failed because the testbed did.
pub const TESTBED_FAILED: &str = "testbed-failed";

/// The tag of a machine that is ready.
pub const READY: &str = "ready";

/// Messages that may wait for the dispatcher. Who has more to say waits, and so does the test behind it.
const WAITING_MESSAGES: usize = 256;

/// How tests are run.
#[derive(Clone)]
pub struct Options {
    /// How many tests may run at once.
    pub jobs: NonZeroUsize,
    /// How often each test runs.
    pub repeat: NonZeroUsize,
    /// Begin nothing more after the first failure.
    pub fail_fast: bool,
    /// Run in an order that this number decides.
    pub shuffle: Option<u64>,
    /// How long tests took before, by id. The longest begin first, and before them those that are not known.
    pub history: HashMap<String, Duration>,
    /// Keep the copy of the first test that fails: see [`Outcome::kept`].
    pub keep: bool,
    /// How copies are made.
    pub bed: bed::Options,
    /// What tests on the host find.
    pub host: HostTests,
}

impl Default for Options {
    /// One job, each test once, in the order of the file.
    fn default() -> Options {
        Options {
            jobs: NonZeroUsize::MIN,
            repeat: NonZeroUsize::MIN,
            fail_fast: false,
            shuffle: None,
            history: HashMap::new(),
            keep: false,
            bed: bed::Options::default(),
            host: HostTests::default(),
        }
    }
}

/// What tests on the host find there.
#[derive(Clone, Default)]
pub struct HostTests {
    /// Their environment. `TESTBED_CONTROL` is set by the run.
    pub env: Vec<(String, String)>,
    /// Lets them reach their copy; without it they have no `TESTBED_CONTROL`.
    pub control: Option<Arc<dyn Control>>,
}

/// Lets programs on the host reach a copy.
pub trait Control: Send + Sync {
    /// Opens the control socket of a copy.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn serve(&self, bed: &Bed, copy: u32) -> Result<Served, Fault>;
}

/// A control socket that is open.
pub struct Served {
    /// Where it is.
    pub socket: PathBuf,
    /// Closes it when dropped.
    pub guard: Box<dyn Any + Send>,
}

/// A run that is about to begin.
pub struct Run {
    testbed: Arc<Testbed>,
    batches: Vec<Batch>,
    skipped: Vec<(String, String)>,
    options: Options,
    sender: SyncSender<Message>,
    receiver: Receiver<Message>,
}

/// What is left of a run, beside what its events told.
#[derive(Default)]
pub struct Outcome {
    /// The copy of the first test that failed, if [`Options::keep`] asked for it.
    pub kept: Option<Kept>,
    /// It was stopped before its end.
    pub stopped: bool,
}

/// A copy that outlives its test.
pub struct Kept {
    /// The test that failed on it.
    pub test: String,
    /// Its number in the run.
    pub copy: u32,
    /// The copy.
    pub bed: Bed,
}

impl Run {
    /// Plans a run of those tests that the filter takes, on this host: see [`host_for`](crate::plan::host_for).
    ///
    /// # Errors
    /// When a machine cannot be made on this host.
    pub fn new(
        testbed: Arc<Testbed>,
        filter: &Filter,
        host: &crate::plan::Host,
        options: Options,
    ) -> Result<Run, Fault> {
        let testbed = decide_kernels(&testbed, host)?;
        let plan = Plan::new(&testbed, host);
        let skipped: HashMap<String, String> =
            plan.skipped.into_iter().map(|test| (test.id, test.why)).collect();
        let (mut taken, mut without) = (Vec::new(), Vec::new());
        for (number, test) in testbed.tests().iter().enumerate().filter(|(_, test)| filter.takes(test)) {
            match skipped.get(test.id()) {
                Some(why) => without.push((test.id().to_owned(), why.clone())),
                None => taken.push(number),
            }
        }
        let batches = schedule::batches(&testbed, &taken, &options);
        let (sender, receiver) = sync_channel(WAITING_MESSAGES);
        Ok(Run { testbed, batches, skipped: without, options, sender, receiver })
    }

    /// How many tests it runs or skips; a repeated one counts each time.
    pub fn len(&self) -> usize {
        self.skipped.len() + self.batches.iter().map(|batch| batch.cases.len()).sum::<usize>()
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What stops it from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper::new(self.sender.clone())
    }

    /// Runs the tests and tells all that happens, on this thread, as it happens. When it returns, no process of the
    /// run is left but those of a copy that is kept.
    pub fn execute(self, engine: &Engine, images: &dyn Images, sink: &mut dyn FnMut(Event)) -> Outcome {
        Dispatcher::run(self, engine, images, sink)
    }
}
