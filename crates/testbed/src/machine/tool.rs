//! Tools of an agent that go on for a while.

use super::{ANSWER, Core, Machine};
use crate::engine::link::Event;
use rustix::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use testbed_agent::agent::{Note, Report, Request, Steer, Tooling};
use testbed_agent::frame::Kind;
use testbed_agent::{Fault, FaultKind};

/// SIGINT (signal(7)).
const INTERRUPT: i32 = 2;

/// A tool that runs. Dropping it changes nothing.
pub(crate) struct RunningTool {
    machine: Machine,
    core: Arc<Core>,
    channel: u32,
    events: Receiver<Event>,
}

impl Machine {
    /// Starts a tool with these as its streams, as far as they are to be handed over.
    pub(crate) fn start_tool(&self, tooling: Tooling, streams: Vec<OwnedFd>) -> Result<RunningTool, Fault> {
        let core = self.core();
        let (channel, events) = core.open(Request::Tool(tooling), streams)?;
        Ok(RunningTool { machine: self.clone(), core, channel, events })
    }
}

impl RunningTool {
    /// Waits until it does what it is for.
    ///
    /// # Errors
    /// Why it does not, and [`FaultKind::Timeout`] if the agent does not say so within `wait`.
    pub(crate) fn wait_ready(&self, wait: Duration) -> Result<(), Fault> {
        // The agent keeps the time; this is for one that does not.
        let end = Instant::now() + wait + ANSWER;
        loop {
            let frame = self.next(end)?;
            if frame.kind == Kind::Reply {
                let reply = self.machine.reply(&frame)?;
                let what = format!("get ready; the answer was {reply:?}");
                return Err(self.machine.fault(FaultKind::Protocol, what));
            }
            if matches!(frame.message("note"), Ok(Note::Ready)) {
                return Ok(());
            }
        }
    }

    /// Tells it to end with a report of what it has.
    pub(crate) fn stop(&self) -> Result<(), Fault> {
        let steer = Steer::Signal(INTERRUPT);
        self.core.link().send(self.channel, Kind::Steer, &steer, Vec::new())
    }

    /// Waits for its report.
    ///
    /// # Errors
    /// What it could not do, and [`FaultKind::Timeout`] if it does not end within `wait`.
    pub(crate) fn report(&self, wait: Duration) -> Result<Report, Fault> {
        let end = Instant::now() + wait;
        loop {
            let frame = self.next(end)?;
            if frame.kind == Kind::Reply {
                return self.machine.reply(&frame).and_then(|reply| self.machine.report(reply));
            }
        }
    }

    fn next(&self, end: Instant) -> Result<testbed_agent::frame::Frame, Fault> {
        match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Event::Frame(frame, _)) => Ok(frame),
            Ok(Event::Gone(fault)) => Err(self.core.explain(fault)),
            Err(RecvTimeoutError::Timeout) => {
                let _ = self.core.link().send_raw(self.channel, Kind::Abort, &[]);
                Err(self.machine.fault(FaultKind::Timeout, "get an answer from a tool"))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(self.machine.fault(FaultKind::State, "use a machine that is gone"))
            }
        }
    }
}
