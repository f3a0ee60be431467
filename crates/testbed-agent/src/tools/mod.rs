//! The agent's own tools: what a machine can be asked without any program in it.
//!
//! Each tool runs in a forked child of the agent, blocks as it likes, and ends with a report or a fault. The deadline
//! of the whole is the agent's business: it kills the child. A tool that waits does so on events, and stops early when
//! [`ToolIo::stop`] becomes readable.

mod archive;
mod capture;
mod carry;
mod file;
mod http;
mod memory;
mod netlink;
mod ping;
mod tcp;
mod trace;
mod trunk;
mod udp;
mod wait;
mod wake;

#[cfg(test)]
pub(crate) mod harness;

use rustix::fd::BorrowedFd;
use std::fs::File;
use std::io;
use testbed_agent::agent::{Report, Tool};
use testbed_agent::{Doing, Fault, FaultKind};

/// What connects a tool with the outside.
pub(crate) struct ToolIo<'a> {
    /// The input stream; most tools do not read it.
    pub(crate) input: BorrowedFd<'a>,
    /// The output stream; most tools do not write it.
    pub(crate) output: BorrowedFd<'a>,
    /// What it works on, if that is no stream.
    pub(crate) device: Option<BorrowedFd<'a>>,
    /// Readable once the tool shall end now, with a report of what it has.
    pub(crate) stop: Option<BorrowedFd<'a>>,
    /// The environment of programs that the tool starts.
    pub(crate) env: &'a [(String, String)],
    /// Called once, when the tool does what was asked (`Note::Ready`).
    pub(crate) ready: &'a mut dyn FnMut() -> io::Result<()>,
}

impl ToolIo<'_> {
    /// The input stream as a file.
    fn input_file(&self) -> Result<File, Fault> {
        Ok(self.input.try_clone_to_owned().doing("read the input")?.into())
    }

    /// The output stream as a file.
    fn output_file(&self) -> Result<File, Fault> {
        Ok(self.output.try_clone_to_owned().doing("write the output")?.into())
    }

    fn say_ready(&mut self) -> Result<(), Fault> {
        (self.ready)().doing("say that the tool is ready")
    }
}

/// Runs a tool to its end.
///
/// # Errors
/// The testbed's failures, and what makes the tool's work impossible: a file that is not there, a connection refused.
/// An answer that did not come is no fault where the report can say so.
pub(crate) fn run(tool: &Tool, io: &mut ToolIo<'_>) -> Result<Report, Fault> {
    // A reader that went away is an error of a write, not the end of the process.
    testbed_sys::process::ignore_signal(SIGPIPE);
    match tool {
        Tool::Read { path } => file::read(path, io),
        Tool::Write { path, mode, append } => file::write(path, *mode, *append, io),
        Tool::Pack { path } => archive::pack(path, io),
        Tool::Unpack { path, owners } => archive::unpack(path, *owners, io),
        Tool::Ping { target, count, interval_ms, wait_ms, size, interface } => {
            let plan = ping::Plan {
                target: *target,
                count: *count,
                interval_ms: *interval_ms,
                wait_ms: *wait_ms,
                size: *size,
                interface: interface.as_deref(),
            };
            ping::run(&plan, io)
        }
        Tool::Trace { target, max_hops, wait_ms } => trace::run(*target, *max_hops, *wait_ms, io),
        Tool::TcpConnect { to, from, wait_ms, read } => tcp::connect(*to, *from, *wait_ms, *read, io),
        Tool::TcpListen { at, accept, greeting, echo } => tcp::listen(*at, *accept, greeting, *echo, io),
        Tool::UdpSend { to, payload, wait_ms } => udp::send(*to, payload, *wait_ms, io),
        Tool::UdpListen { at, count, echo } => udp::listen(*at, *count, *echo, io),
        Tool::HttpGet { url, host, wait_ms } => http::get(url, host.as_deref(), *wait_ms, io),
        Tool::HttpServe { at, folder, text, count } => http::serve(*at, folder.as_deref(), text, *count, io),
        Tool::Capture { interface, filter, count, snap } => {
            capture::run(interface.as_deref(), filter, *count, *snap, io)
        }
        Tool::Trunk => trunk::run(io),
        Tool::Wait(condition) => wait::run(condition, io),
        Tool::Addresses { interface, wait } => wait::until_addresses(interface.as_deref(), *wait, io),
        Tool::Carry => carry::run(io),
        Tool::SaveMemory { pid, part, to, whole } => memory::save(*pid, part, to, *whole),
        Tool::LoadMemory { pid, part, from } => memory::load(*pid, part, from),
        Tool::CompareMemory { memory, mapped, to } => memory::compare(memory, mapped, to),
    }
}

const SIGPIPE: i32 = 13;

/// A call that makes no sense.
fn invalid(operation: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Invalid, operation)
}

/// The tool was told to stop before it could report anything.
fn interrupted(operation: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Interrupted, operation)
}
