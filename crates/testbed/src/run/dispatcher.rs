//! Who owns the state of a run. What happens outside reaches it as a message, one after another.

use super::clock::Clock;
use super::evidence::Evidence;
use super::executor::{Common, Executor, Verdict};
use super::process::{Stream, ring, wake};
use super::schedule::{Batch, Case};
use super::teller::Teller;
use super::{Kept, Outcome, Run, memory};
use crate::bed::{self, Bed, Images};
use crate::engine::Engine;
use crate::net::recent::Watcher;
use rustix::fd::OwnedFd;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::thread::Scope;
use testbed_agent::Fault;
use testbed_subunit::{Event, Timestamp};

/// So many copies in a row may fail to become ready before the run gives up. Before one has been ready at all, the
/// first failure says it all.
const FAILURES_IN_A_ROW: u32 = 3;

/// What reaches the dispatcher.
pub(super) enum Message {
    /// Something happened to a copy.
    Copy { copy: u32, at: Option<Timestamp>, news: News },
    /// The run is to stop.
    Stop,
}

/// What an executor has to tell.
pub(super) enum News {
    /// The machines are asked for.
    Made { bed: Bed },
    /// They are ready.
    Ready,
    /// They will not be.
    Broken { fault: Box<Fault>, evidence: Vec<Evidence> },
    /// A test begins.
    Began { case: Case },
    /// It writes something.
    Output { case: Case, stream: Stream, bytes: Box<[u8]> },
    /// It has ended.
    Ended { case: Case, verdict: Verdict },
    /// The batch is done, but for what needs another copy.
    Finished { rest: Batch, kept: Option<Bed> },
    /// Nothing of the copy is left, or why something may be. The last news of a copy.
    Gone { result: Result<(), Fault> },
}

/// Stops a run from another thread.
#[derive(Clone)]
pub struct Stopper {
    sender: SyncSender<Message>,
}

impl Stopper {
    pub(super) fn new(sender: SyncSender<Message>) -> Stopper {
        Stopper { sender }
    }

    /// Has the run end now: what runs is killed, nothing more begins.
    pub fn stop(&self) {
        // A run that has ended needs no stopping.
        let _ = self.sender.send(Message::Stop);
    }
}

/// A copy that is alive.
struct Copy {
    stage: Stage,
    bed: Option<Bed>,
    cancel: Arc<OwnedFd>,
    /// Takes the copy's batch; closed, it ends the copy.
    feed: Option<Sender<Batch>>,
    /// The test that failed on it last.
    failed: Option<usize>,
    broken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Making,
    Ready,
    Running,
    Ending,
}

pub(super) struct Dispatcher<'s, 'e> {
    common: Common<'e>,
    teller: Teller<'s>,
    sender: SyncSender<Message>,
    queue: VecDeque<Batch>,
    copies: BTreeMap<u32, Copy>,
    last_copy: u32,
    /// How many may run, and as many may wait.
    jobs: usize,
    /// How many may be alive.
    most: usize,
    fail_fast: bool,
    /// New tests may begin.
    going: bool,
    /// What runs is being killed.
    stopped: bool,
    any_ready: bool,
    failures_in_a_row: u32,
    kept: Option<Kept>,
}

impl Dispatcher<'_, '_> {
    /// A whole run, on the caller's thread.
    pub(super) fn run(
        run: Run,
        engine: &Engine,
        images: &dyn Images,
        sink: &mut dyn FnMut(Event),
    ) -> Outcome {
        let Run { testbed, batches, skipped, options, sender, receiver } = run;
        let clock = Clock::start();
        let mut teller = Teller::new(Arc::clone(&testbed), sink);
        let at = clock.now();
        batches.iter().flat_map(|batch| &batch.cases).for_each(|case| teller.planned(case, at));
        skipped.iter().for_each(|(id, why)| teller.skipped(id, why, at));
        let watcher = Some(Arc::new(Watcher::new()));
        let bed = bed::Options { watcher, ..options.bed.clone() };
        let origin = bed::Origin::default();
        let common = Common {
            testbed: &testbed,
            engine,
            images,
            bed: &bed,
            origin: &origin,
            host: &options.host,
            keep: options.keep,
            clock,
        };
        let dispatcher = Dispatcher {
            common,
            teller,
            sender,
            queue: batches.into(),
            copies: BTreeMap::new(),
            last_copy: 0,
            jobs: options.jobs.get(),
            most: memory::copies(&testbed),
            fail_fast: options.fail_fast,
            going: true,
            stopped: false,
            any_ready: false,
            failures_in_a_row: 0,
            kept: None,
        };
        std::thread::scope(|scope| dispatcher.dispatch(scope, &receiver))
    }
}

impl<'e> Dispatcher<'_, 'e> {
    fn dispatch<'scope>(mut self, scope: &'scope Scope<'scope, 'e>, messages: &Receiver<Message>) -> Outcome {
        loop {
            self.make_copies(scope);
            if self.copies.is_empty() && (self.queue.is_empty() || !self.going) {
                return Outcome { kept: self.kept, stopped: self.stopped };
            }
            // This run holds a sender itself, so the channel is never closed.
            match messages.recv() {
                Ok(Message::Copy { copy, at, news }) => self.take(copy, at, news),
                Ok(Message::Stop) => self.stop(),
                Err(_) => return Outcome { kept: self.kept, stopped: self.stopped },
            }
        }
    }

    /// Has copies made while there are tests for them: at most `jobs` run, and as many wait.
    fn make_copies<'scope>(&mut self, scope: &'scope Scope<'scope, 'e>) {
        while self.going {
            let waiting = self.count(Stage::Making) + self.count(Stage::Ready);
            if waiting >= self.jobs.min(self.queue.len()) || self.copies.len() >= self.most {
                return;
            }
            self.last_copy += 1;
            let copy = self.last_copy;
            let (sender, feed) = channel();
            let at = self.common.clock.now();
            self.teller.starts(copy, at);
            let started = wake().and_then(|cancel| {
                let executor = Executor {
                    common: self.common,
                    copy,
                    sender: self.sender.clone(),
                    feed,
                    cancel: Arc::clone(&cancel),
                };
                let thread = std::thread::Builder::new().name(format!("testbed-copy-{copy}"));
                let spawned = thread.spawn_scoped(scope, move || executor.run());
                spawned.map_err(|e| Fault::system("start a thread", &e)).map(|_| cancel)
            });
            match started {
                Ok(cancel) => {
                    let new = Copy {
                        stage: Stage::Making,
                        bed: None,
                        cancel,
                        feed: Some(sender),
                        failed: None,
                        broken: false,
                    };
                    self.copies.insert(copy, new);
                }
                Err(fault) => self.broken(copy, at, &fault, &[]),
            }
        }
    }

    fn count(&self, stage: Stage) -> usize {
        self.copies.values().filter(|copy| copy.stage == stage).count()
    }

    fn take(&mut self, number: u32, at: Option<Timestamp>, news: News) {
        match news {
            News::Made { bed } => {
                if let Some(copy) = self.copies.get_mut(&number) {
                    copy.bed = Some(bed);
                    if copy.feed.is_none() || self.stopped {
                        copy.end();
                    }
                }
            }
            News::Ready => {
                self.any_ready = true;
                self.failures_in_a_row = 0;
                self.teller.ready(number, at);
                if let Some(copy) = self.copies.get_mut(&number)
                    && copy.stage == Stage::Making
                {
                    copy.stage = Stage::Ready;
                }
                self.feed();
            }
            News::Broken { fault, evidence } => {
                let ended = self.copies.get_mut(&number).is_some_and(|copy| {
                    let ended = copy.stage == Stage::Ending;
                    copy.stage = Stage::Ending;
                    copy.broken = !ended;
                    ended
                });
                // One that was being ended has every right to fail.
                if !ended {
                    self.broken(number, at, &fault, &evidence);
                }
            }
            News::Began { case } => self.teller.began(&case, number, at),
            News::Output { case, stream, bytes } => self.teller.output(&case, stream, &bytes, at),
            News::Ended { case, verdict } => self.ended(number, &case, &verdict, at),
            News::Finished { rest, kept } => {
                if let Some(copy) = self.copies.get_mut(&number) {
                    copy.stage = Stage::Ending;
                    copy.feed = None;
                    if let (Some(bed), Some(test)) = (kept, copy.failed) {
                        let test = self.common.testbed.tests()[test].id().to_owned();
                        // Of copies that fail at the same time the first is kept.
                        self.kept.get_or_insert(Kept { test, copy: number, bed });
                    }
                }
                if !rest.cases.is_empty() {
                    self.queue.push_front(rest);
                }
                self.feed();
            }
            News::Gone { result } => self.gone(number, at, result),
        }
    }

    /// Gives batches to copies that are ready. A copy for which none is left ends.
    fn feed(&mut self) {
        let mut running = self.count(Stage::Running);
        for copy in self.copies.values_mut().filter(|copy| copy.stage == Stage::Ready) {
            if !self.going || self.queue.is_empty() {
                copy.stage = Stage::Ending;
                copy.feed = None;
            } else if running < self.jobs
                && let Some(batch) = self.queue.pop_front()
            {
                running += 1;
                copy.stage = Stage::Running;
                if let Some(feed) = &copy.feed {
                    // Its executor waits for this and for nothing else.
                    let _ = feed.send(batch);
                }
            }
        }
    }

    fn ended(&mut self, number: u32, case: &Case, verdict: &Verdict, at: Option<Timestamp>) {
        if self.stopped {
            // How a test ends whose copy is being killed says nothing of it.
            return;
        }
        self.teller.ended(case, verdict, at);
        if verdict.status.is_failure() {
            if let Some(copy) = self.copies.get_mut(&number) {
                copy.failed = Some(case.test);
            }
            if self.fail_fast {
                self.begin_nothing_more();
            }
        }
    }

    /// A copy did not become ready: the next batch would have been its, and fails for it.
    fn broken(&mut self, number: u32, at: Option<Timestamp>, fault: &Fault, evidence: &[Evidence]) {
        self.teller.broken(number, fault, evidence, at);
        self.failures_in_a_row += 1;
        let batch = self.queue.pop_front();
        for case in batch.iter().flat_map(|batch| &batch.cases) {
            self.teller.began(case, number, at);
            self.teller.ended(case, &Verdict::testbed_failed(fault, Vec::new()), at);
        }
        if self.fail_fast || !self.any_ready || self.failures_in_a_row >= FAILURES_IN_A_ROW {
            self.begin_nothing_more();
        }
    }

    fn gone(&mut self, number: u32, at: Option<Timestamp>, result: Result<(), Fault>) {
        let Some(copy) = self.copies.remove(&number) else { return };
        let is_kept = self.kept.as_ref().is_some_and(|kept| kept.copy == number);
        match result {
            Ok(()) if copy.broken || is_kept => {}
            Ok(()) => self.teller.gone(number, at),
            Err(fault) => self.teller.broken(number, &fault, &[], at),
        }
    }

    /// Lets what runs go on to its end, and ends all that waits.
    fn begin_nothing_more(&mut self) {
        self.going = false;
        for copy in self.copies.values_mut().filter(|copy| copy.stage != Stage::Running) {
            copy.end();
        }
    }

    fn stop(&mut self) {
        self.begin_nothing_more();
        self.stopped = true;
        self.copies.values_mut().for_each(Copy::end);
    }
}

impl Copy {
    /// Ends it wherever it is: whoever waits for its machines finds them gone.
    fn end(&mut self) {
        self.stage = Stage::Ending;
        self.feed = None;
        ring(&self.cancel);
        for machine in self.bed.iter().flat_map(Bed::machines) {
            // Without a launcher there is nothing to kill.
            let _ = machine.start_kill();
        }
    }
}
