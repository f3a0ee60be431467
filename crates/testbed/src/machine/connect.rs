//! Connections to what listens in a machine, by way of its agent.

use super::Machine;
use crate::engine::link::Event;
use rustix::fd::OwnedFd;
use std::net::SocketAddr;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use testbed_agent::agent::{Note, Request, Sink, Source, Tool, Tooling};
use testbed_agent::frame::Kind;
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::fdpass;

impl Machine {
    /// Has the agent connect to a TCP port: what is written to the socket goes there, and what comes back is read from it,
    /// each until its end.
    ///
    /// # Errors
    /// What is answered there, and [`FaultKind::Timeout`] if nothing is within `wait`.
    pub(crate) fn reach(&self, to: SocketAddr, wait: Duration) -> Result<OwnedFd, Fault> {
        let (ours, theirs) = fdpass::stream_pair().doing("make a socket")?;
        let back = theirs.try_clone().doing("copy a descriptor")?;
        let tool = Tool::TcpConnect { to, from: None, wait_ms: wait.as_millis() as u32, read: None };
        let tooling = Tooling { tool, input: Source::Handed, output: Sink::Handed, deadline_ms: None, device: None };
        let core = self.core();
        let (channel, events) = core.open(Request::Tool(tooling), vec![theirs, back])?;
        // The agent keeps the time; this is for one that does not.
        let end = Instant::now() + wait + super::ANSWER;
        loop {
            match events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Event::Frame(frame, _)) if frame.kind == Kind::Reply => {
                    let reply = self.reply(&frame)?;
                    return Err(self.fault(FaultKind::Protocol, format!("connect; the answer was {reply:?}")));
                }
                Ok(Event::Frame(frame, _)) => {
                    if matches!(frame.message("note"), Ok(Note::Ready)) {
                        return Ok(ours);
                    }
                }
                Ok(Event::Gone(fault)) => return Err(core.explain(fault)),
                Err(RecvTimeoutError::Timeout) => {
                    let _ = core.link().send_raw(channel, Kind::Abort, &[]);
                    return Err(self.fault(FaultKind::Timeout, "connect"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.fault(FaultKind::State, "connect to a machine that is gone"));
                }
            }
        }
    }
}
