//! A client's channel to a machine's agent.

use super::session::Session;
use crate::engine::link::{Event, Link, Receive, lock};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use testbed_agent::agent::Reply;
use testbed_agent::frame::{Frame, FrameError, Kind};
use testbed_agent::relay::{Passage, Verdict};
use testbed_agent::{Fault, FaultKind};

/// Both ends of a relay. What comes from either is checked before it goes to the other.
pub(super) struct Relay {
    session: Weak<Session>,
    client: Arc<Link>,
    number: u32,
    machine: String,
    agent: Arc<Link>,
    /// The channel's number on the agent's link.
    there: OnceLock<u32>,
    passage: Mutex<Passage>,
    /// The client has its reply, or has gone.
    ended: AtomicBool,
}

impl Relay {
    pub(super) fn new(
        session: Weak<Session>,
        client: Arc<Link>,
        number: u32,
        machine: &str,
        agent: Arc<Link>,
    ) -> Relay {
        let (passage, ended) = (Mutex::default(), AtomicBool::new(false));
        Relay {
            session,
            client,
            number,
            machine: machine.into(),
            agent,
            there: OnceLock::new(),
            passage,
            ended,
        }
    }

    pub(super) fn opened(&self, there: u32) {
        // It is opened once.
        let _ = self.there.set(there);
    }

    /// A frame of the client's.
    ///
    /// # Errors
    /// When it is none that may come now.
    pub(super) fn take_from_client(&self, frame: &Frame) -> Result<(), FrameError> {
        if lock(&self.passage).from_client(frame)? == Verdict::Drop {
            return Ok(());
        }
        if self.agent.is_stuck() && frame.kind != Kind::Abort {
            let fault = Fault::new(FaultKind::Exhausted, "send more to a machine that does not read");
            self.give_up(&fault.hint("it may be paused; `testbed status` tells"));
            return Ok(());
        }
        self.to_agent(frame.kind, &frame.body);
        Ok(())
    }

    /// Nobody waits for it any more.
    pub(super) fn abort(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.kill();
    }

    fn kill(&self) {
        self.to_agent(Kind::Abort, &[]);
    }

    fn to_agent(&self, kind: Kind, body: &[u8]) {
        if let Some(there) = self.there.get() {
            // That the agent has gone is told by its link.
            let _ = self.agent.send_raw(*there, kind, body);
        }
    }

    fn to_client(&self, kind: Kind, body: &[u8]) {
        // A client that has gone needs nothing.
        let _ = self.client.send_raw(self.number, kind, body);
    }

    /// A frame of the agent's.
    fn take_from_agent(&self, frame: &Frame) -> Result<(), FrameError> {
        let verdict = lock(&self.passage).from_agent(frame)?;
        match verdict {
            Verdict::Pass => self.to_client(frame.kind, &frame.body),
            Verdict::Drop => {}
            Verdict::Failed(fault) => self.fail(fault),
        }
        Ok(())
    }

    /// Ends it from the client's side. A machine speaks for itself only, whatever it says.
    fn fail(&self, mut fault: Fault) {
        fault.machine = Some(self.machine.clone());
        let _ = self.client.send(self.number, Kind::Reply, &Reply::Failed(fault), Vec::new());
    }

    /// Ends it on both sides.
    pub(super) fn give_up(&self, fault: &Fault) {
        self.kill();
        if self.forget() {
            self.fail(fault.clone());
        }
    }

    /// Whether the client still had it open.
    fn forget(&self) -> bool {
        let had = self.session.upgrade().is_some_and(|session| session.forget(self.number));
        had && !self.ended.swap(true, Ordering::Relaxed)
    }
}

impl Receive for Relay {
    fn take(&self, event: Event) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        let frame = match event {
            Event::Frame(frame, _) => frame,
            Event::Gone(fault) => {
                if self.forget() {
                    self.fail(fault);
                }
                return;
            }
        };
        if frame.kind == Kind::Reply && !self.forget() {
            return;
        }
        if let Err(error) = self.take_from_agent(&frame) {
            let fault = Fault::new(FaultKind::Protocol, format!("understand the agent: {error}"));
            if frame.kind == Kind::Reply {
                self.fail(fault);
            } else {
                self.give_up(&fault);
            }
        }
    }
}
