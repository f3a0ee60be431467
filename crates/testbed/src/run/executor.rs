//! The thread of a copy: makes it, runs a batch on it, ends it. It tells the dispatcher all, and owns nothing else.

use super::clock::Clock;
use super::dispatcher::{Message, News};
use super::evidence::{self, Evidence};
use super::process::{End, Process};
use super::schedule::{Batch, Case};
use super::{HostTests, Served};
use crate::bed::{self, Bed, Images};
use crate::engine::Engine;
use crate::spec::{Expect, Kernel, On, Test, Testbed};
use rustix::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};
use testbed_agent::agent::Exit;
use testbed_agent::{Fault, FaultKind};
use testbed_subunit::Status;

/// What all executors of a run share.
#[derive(Clone, Copy)]
pub(super) struct Common<'a> {
    pub(super) testbed: &'a Arc<Testbed>,
    pub(super) engine: &'a Engine,
    pub(super) images: &'a dyn Images,
    pub(super) bed: &'a bed::Options,
    pub(super) origin: &'a bed::Origin,
    pub(super) host: &'a HostTests,
    pub(super) keep: bool,
    pub(super) clock: Clock,
}

/// What became of a test.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) status: Status,
    /// Why, where it did not simply pass.
    pub(super) reason: Option<String>,
    pub(super) evidence: Vec<Evidence>,
    /// The testbed failed, and not the test.
    pub(super) testbed_failed: bool,
}

impl Verdict {
    /// The testbed failed under the test, which says nothing of the test.
    pub(super) fn testbed_failed(fault: &Fault, evidence: Vec<Evidence>) -> Verdict {
        let reason = Some(evidence::reason(fault));
        Verdict { status: Status::Fail, reason, evidence, testbed_failed: true }
    }
}

/// An executor.
pub(super) struct Executor<'a> {
    pub(super) common: Common<'a>,
    pub(super) copy: u32,
    pub(super) sender: SyncSender<Message>,
    /// The batch, when the dispatcher has one for this copy; closed when it has none.
    pub(super) feed: Receiver<Batch>,
    /// Readable once the run is stopped.
    pub(super) cancel: Arc<OwnedFd>,
}

/// Why a batch goes no further on its copy.
enum Break {
    /// The copy is not what the next test may start from.
    Spent,
    /// The copy is to be kept.
    Keep,
}

impl Executor<'_> {
    /// The whole life of the copy.
    pub(super) fn run(self) {
        let Common { engine, testbed, images, bed, origin, .. } = self.common;
        let (bed, first) = match origin.copy(engine, testbed, images, bed) {
            Ok(made) => made,
            Err(fault) => {
                self.tell(News::Broken { fault: Box::new(fault), evidence: Vec::new() });
                return self.tell(News::Gone { result: Ok(()) });
            }
        };
        self.tell(News::Made { bed: bed.clone() });
        match bed.wait_ready().and_then(|()| first.map_or(Ok(()), |first| first.keep(&bed))) {
            Ok(()) => {
                self.tell(News::Ready);
                if let Ok(batch) = self.feed.recv() {
                    let kept = self.run_batch(&bed, batch);
                    if kept {
                        return self.tell(News::Gone { result: Ok(()) });
                    }
                }
            }
            Err(fault) => {
                let evidence = evidence::of(&bed);
                self.tell(News::Broken { fault: Box::new(fault), evidence });
            }
        }
        let result = bed.kill(self.common.testbed.deadlines().stop());
        self.tell(News::Gone { result });
    }

    /// Runs the tests of a batch. True if the copy is to be kept.
    fn run_batch(&self, bed: &Bed, mut batch: Batch) -> bool {
        let mut served = None;
        while let Some(case) = batch.cases.pop_front() {
            let test = &self.common.testbed.tests()[case.test];
            self.tell(News::Began { case: case.clone() });
            let broken = self.run_test(bed, test, &case, &mut served);
            if let Some(Break::Keep) = broken {
                self.tell(News::Finished { rest: batch, kept: Some(bed.clone()) });
                return true;
            }
            if broken.is_some() {
                break;
            }
        }
        self.tell(News::Finished { rest: batch, kept: None });
        false
    }

    fn run_test(&self, bed: &Bed, test: &Test, case: &Case, served: &mut Option<Served>) -> Option<Break> {
        let result = self.serve(bed, test, served).and_then(|()| {
            if let Some(skip) = self.skip(bed, test)? {
                return Ok((None, skip));
            }
            let deadline = Instant::now() + test.timeout();
            let mut process = Process::start(test, bed, &self.common.host.env, served.as_ref())?;
            let end = process.watch(deadline, &self.cancel, &mut |stream, bytes| {
                self.tell(News::Output { case: case.clone(), stream, bytes: bytes.into() });
            })?;
            // The evidence is of a copy on which the test's process is still as it was.
            let verdict = judge(test, end, || evidence::of(bed));
            drop(process);
            Ok((Some(end), verdict))
        });
        let (end, verdict) = match result {
            Ok((Some(End::Cancelled), _)) => return Some(Break::Spent),
            Ok(judged) => judged,
            Err(fault) => {
                let verdict = Verdict::testbed_failed(&fault, evidence::of(bed));
                (Some(End::Cancelled), verdict)
            }
        };
        let failed = verdict.status.is_failure();
        self.tell(News::Ended { case: case.clone(), verdict });
        match end {
            _ if failed && self.common.keep => Some(Break::Keep),
            None | Some(End::Exit(_)) => None,
            Some(End::DeadlinePassed | End::Cancelled) => Some(Break::Spent),
        }
    }

    /// Has a kernel of the machine's own load what the test needs. Where it cannot, the test is skipped: what such a
    /// kernel has is known when it runs.
    fn skip(&self, bed: &Bed, test: &Test) -> Result<Option<Verdict>, Fault> {
        let On::Machine(name) = test.on() else { return Ok(None) };
        let machine = self.common.testbed.machine(name);
        let has_kernel = machine.is_some_and(|machine| machine.kernel() == Kernel::Own);
        if test.needs().is_empty() || !(has_kernel || self.common.testbed.capsule().is_some()) {
            return Ok(None);
        }
        let modules = test.needs().iter().map(|need| need.module().to_owned()).collect();
        match bed.load_modules(name, modules) {
            Ok(()) => Ok(None),
            Err(fault) if fault.kind == FaultKind::Unsupported => Ok(Some(Verdict {
                status: Status::Skip,
                reason: Some(evidence::reason(&fault)),
                evidence: Vec::new(),
                testbed_failed: false,
            })),
            Err(fault) => Err(fault),
        }
    }

    /// Opens the copy's control socket when its first test on the host comes.
    fn serve(&self, bed: &Bed, test: &Test, served: &mut Option<Served>) -> Result<(), Fault> {
        if let (On::Host, None, Some(control)) = (test.on(), &served, &self.common.host.control) {
            *served = Some(control.serve(bed, self.copy)?);
        }
        Ok(())
    }

    /// Tells the dispatcher. It listens until all executors have gone.
    fn tell(&self, news: News) {
        let message = Message::Copy { copy: self.copy, at: self.common.clock.now(), news };
        let _ = self.sender.send(message);
    }
}

fn judge(test: &Test, end: End, evidence: impl FnOnce() -> Vec<Evidence>) -> Verdict {
    let passed = end == End::Exit(Exit::Code(0));
    let status = match (test.expect(), passed) {
        (Expect::Success, true) => Status::Success,
        (Expect::Success, false) => Status::Fail,
        (Expect::Failure, true) => Status::UxSuccess,
        (Expect::Failure, false) => Status::XFail,
    };
    let reason = match end {
        End::Exit(Exit::Code(0)) if status.is_failure() => Some("it passed, and was expected to fail".into()),
        End::Exit(Exit::Code(0)) | End::Cancelled => None,
        End::Exit(Exit::Code(code)) => Some(format!("exit status {code}")),
        End::Exit(Exit::Signal(signal)) => Some(format!("killed by signal {signal}")),
        End::DeadlinePassed => Some(format!("not done within {}", seconds(test.timeout()))),
    };
    let evidence = if status.is_failure() && end != End::Cancelled { evidence() } else { Vec::new() };
    Verdict { status, reason, evidence, testbed_failed: false }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
