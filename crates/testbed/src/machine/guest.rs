//! Machines with kernels of their own.
//!
//! Such a machine is two: a *jail*, which is a machine like any other, and in it a hypervisor, which runs a kernel with
//! the same agent as its process 1. What is asked of the machine is carried to the agent of the guest by a tool of the
//! jail's; what is done to it as a whole (limits, a pause, its end) is done to the jail.

mod initramfs;
mod monitor;
mod qemu;

use super::{Core, Life, Log, LogReader, Machine, Running, ServedPrograms};
use crate::engine::link::{Event, Handler, Link, lock};
use crate::engine::{AGENT, Engine};
use monitor::Monitor;
use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};
use testbed_agent::agent::{Open, Request, Sink, Source, Tool, Tooling};
use testbed_agent::frame::{Frame, FrameError, Hello, Kind};
use testbed_agent::launch;
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::fdpass;

/// How long after its end what a hypervisor has written may still come.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How much of its console a fault carries, in bytes.
const CONSOLE_TAIL: usize = 4096;
/// Where the jail keeps what the hypervisor starts the guest from.
const AGENT_ARCHIVE: &str = "/tmp/agent.cpio";

/// What a machine with a kernel of its own is made of, beside its files.
#[derive(Debug)]
pub(crate) struct Hardware {
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// How many processors.
    pub(crate) processors: u32,
    /// Its network adapters.
    pub(crate) adapters: Vec<Adapter>,
}

/// A network adapter.
#[derive(Debug)]
pub(crate) struct Adapter {
    /// Its address on the link.
    pub(crate) mac: [u8; 6],
    /// Where its frames go: a stream of them, each behind its length.
    pub(crate) link: OwnedFd,
}

/// What is there of a machine beside the link to its agent.
pub(super) struct Guest {
    jail: Machine,
    /// What the guest's kernel writes, and its hypervisor.
    console: Arc<Log>,
    /// Set once it has been started. Both end with the jail.
    programs: Arc<OnceLock<Programs>>,
}

/// What ends if nobody holds it.
struct Programs {
    _hypervisor: Mutex<Running>,
    _reader: Arc<LogReader>,
}

impl Guest {
    /// Process 1 of its jail, as the host counts.
    pub(super) fn pid(&self) -> Option<u32> {
        self.jail.pid().ok()
    }

    pub(super) fn console(&self) -> Arc<Log> {
        Arc::clone(&self.console)
    }

    pub(super) fn jail(&self) -> Arc<Core> {
        self.jail.core()
    }

    /// Why it has ended, with the last that its console says.
    pub(super) fn with_console(&self, fault: Fault) -> Fault {
        self.console.wait_closed(Instant::now() + LAST_WORDS);
        let tail = self.console.tail(CONSOLE_TAIL);
        if tail.is_empty() || fault.log.is_some() { fault } else { fault.log(tail) }
    }
}

/// Has one made. It is usable at once: what is asked of it waits until it can answer.
pub(super) fn make(
    engine: &Engine,
    name: &str,
    jail: launch::Machine,
    machine: launch::Machine,
    hardware: Hardware,
) -> Result<Arc<Core>, Fault> {
    let jail = Machine::make(engine, name, jail)?;
    let (ours, theirs) = fdpass::stream_pair().doing("make a socket")?;
    let (life, control) = (Arc::new(Life::default()), ServedPrograms::default());
    let greeted = super::AgentHandler { life: Arc::clone(&life), control: Arc::clone(&control) };
    let handler = GuestHandler { agent: greeted, jail: Arc::downgrade(&jail.shared) };
    let link = Arc::new(Link::new(name, ours, 1, Box::new(handler)).doing("reach the machine")?);
    link.send(0, Kind::Hello, &Hello::ours(), Vec::new())?;
    // Before anything else that is asked of it.
    let open = Open { machine: String::new(), request: Request::Become(Box::new(machine)) };
    let (_, become_reply) = link.open(Kind::Open, &open, Vec::new())?;
    let guest = Guest { jail: jail.clone(), console: Arc::default(), programs: Arc::default() };
    let (console, programs) = (Arc::clone(&guest.console), Arc::clone(&guest.programs));
    let core = Arc::new(Core {
        number: jail.number(),
        upper: jail.upper(),
        engine: engine.clone(),
        link: Arc::clone(&link),
        life: Arc::clone(&life),
        guest: Some(guest),
        control,
        name: name.into(),
    });
    engine.watch(core.number, &core)?;
    std::thread::Builder::new()
        .name("testbed-boot".into())
        .spawn(move || {
            let started = start(&jail, theirs, hardware, &console).and_then(|started| {
                // This is the only place that sets it.
                let _ = programs.set(started);
                became(&become_reply)
            });
            if let Err(fault) = started {
                lock(&life.state).broken.get_or_insert(fault);
                life.changed.notify_all();
                let _ = jail.start_kill();
            }
        })
        .doing("start a thread")?;
    Ok(core)
}

/// Starts the hypervisor in the jail, and what carries frames to the guest.
fn start(jail: &Machine, link: OwnedFd, hardware: Hardware, console: &Arc<Log>) -> Result<Programs, Fault> {
    jail.wait_started(super::ANSWER)?;
    jail.write_file(AGENT_ARCHIVE, 0o600, &initramfs::archive(&[("init", 0o755, AGENT)]))?;
    let (port, guests_port) = fdpass::stream_pair().doing("make a socket")?;
    let tooling =
        Tooling { tool: Tool::Carry, input: Source::Handed, output: Sink::Handed, deadline_ms: None };
    jail.core().open(Request::Tool(tooling), vec![port, link])?;
    let (reader, (ours, theirs)) = (LogReader::start()?, pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?);
    reader.add(ours, console)?;
    let (monitor, its_monitor) = fdpass::stream_pair().doing("make a socket")?;
    let command = jail.command(qemu::command(&hardware, AGENT_ARCHIVE));
    let hypervisor = command.spawn_with(Some(guests_port), theirs, Some(its_monitor))?;
    let mut monitor = Monitor::open(monitor)?;
    for (number, adapter) in hardware.adapters.into_iter().enumerate() {
        qemu::connect(&mut monitor, number, adapter.link)?;
    }
    monitor.execute("cont", json!({}), None)?;
    Ok(Programs { _hypervisor: Mutex::new(hypervisor), _reader: reader })
}

/// Waits until the guest's agent has said whether it could become what it is to be.
fn became(reply: &Receiver<Event>) -> Result<(), Fault> {
    use testbed_agent::agent::Reply;
    match reply.recv() {
        Ok(Event::Frame(frame, _)) => match frame.message("reply") {
            Ok(Reply::Failed(fault)) => Err(fault),
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::new(FaultKind::Protocol, format!("understand the agent: {error}"))),
        },
        // Why it has gone is known where that was noticed.
        Ok(Event::Gone(_)) | Err(_) => Ok(()),
    }
}

struct GuestHandler {
    agent: super::AgentHandler,
    jail: Weak<super::Shared>,
}

impl Handler for GuestHandler {
    fn take(&self, link: &Link, frame: Frame, fds: Vec<OwnedFd>) -> Result<(), FrameError> {
        self.agent.take(link, frame, fds)
    }

    /// The kernel has ended, or its hypervisor: nothing is left that could be reached, so the jail goes as well.
    fn closed(&self, fault: &Fault) {
        self.agent.life.kernel_ended();
        if let Some(shared) = self.jail.upgrade() {
            let _ = Machine { shared }.start_kill();
        }
        self.agent.closed(fault);
    }
}
