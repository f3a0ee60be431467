//! A client's channel to a machine's agent.

use super::session::Session;
use crate::engine::link::{Event, Link, Receive, lock};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use testbed_agent::agent::{Note, Reply, Steer};
use testbed_agent::frame::{Frame, FrameError, Kind, WINDOW};
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
    flow: Mutex<Flow>,
    /// The client has its reply, or has gone.
    ended: AtomicBool,
}

/// Payload bytes that may still be sent.
struct Flow {
    to_agent: u32,
    to_client: u32,
}

impl Flow {
    fn spend(left: &mut u32, bytes: usize) -> Result<(), FrameError> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        *left = left.checked_sub(bytes).ok_or(FrameError::Body("credit"))?;
        Ok(())
    }

    fn grant(left: &mut u32, more: u32) {
        *left = left.saturating_add(more).min(WINDOW);
    }
}

impl Relay {
    pub(super) fn new(
        session: Weak<Session>,
        client: Arc<Link>,
        number: u32,
        machine: &str,
        agent: Arc<Link>,
    ) -> Relay {
        let flow = Mutex::new(Flow { to_agent: WINDOW, to_client: WINDOW });
        let ended = AtomicBool::new(false);
        Relay { session, client, number, machine: machine.into(), agent, there: OnceLock::new(), flow, ended }
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
        match frame.kind {
            Kind::Data => {
                let (_, payload) = frame.data()?;
                Flow::spend(&mut lock(&self.flow).to_agent, payload.len())?;
            }
            Kind::End => frame.end().map(|_| ())?,
            Kind::Credit => {
                let flow = &mut *lock(&self.flow);
                let before = flow.to_client;
                Flow::grant(&mut flow.to_client, frame.credit()?);
                if flow.to_client == before {
                    return Ok(());
                }
            }
            Kind::Steer => frame.message::<Steer>("steering").map(|_| ())?,
            Kind::Abort => {}
            _ => return Err(FrameError::Body("direction")),
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
        match frame.kind {
            Kind::Data => {
                let (_, payload) = frame.data()?;
                Flow::spend(&mut lock(&self.flow).to_client, payload.len())?;
            }
            Kind::End => frame.end().map(|_| ())?,
            Kind::Credit => Flow::grant(&mut lock(&self.flow).to_agent, frame.credit()?),
            Kind::Note => frame.message::<Note>("note").map(|_| ())?,
            Kind::Reply => {
                match frame.message("reply")? {
                    Reply::Failed(fault) => self.fail(fault),
                    _ => self.to_client(Kind::Reply, &frame.body),
                }
                return Ok(());
            }
            _ => return Err(FrameError::Body("direction")),
        }
        self.to_client(frame.kind, &frame.body);
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
