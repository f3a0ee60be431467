//! Connections to what listens in a machine, by way of its agent.

use super::Machine;
use rustix::fd::OwnedFd;
use std::net::SocketAddr;
use std::time::Duration;
use testbed_agent::agent::{Sink, Source, Tool, Tooling};
use testbed_agent::{Doing as _, Fault};
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
        let tooling =
            Tooling { tool, input: Source::Handed, output: Sink::Handed, deadline_ms: None, device: None };
        self.start_tool(tooling, vec![theirs, back])?.wait_ready(wait)?;
        Ok(ours)
    }
}
