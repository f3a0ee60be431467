//! Machines with kernels of their own.
//!
//! Such a machine is two: a *jail*, which is a machine like any other, and in it a hypervisor, which runs a kernel with
//! the same agent as its process 1. What is asked of the machine is carried to the agent of the guest by a tool of the
//! jail's. Limits and its end are the jail's; to stand still, to be copied and to go on are matters of the hypervisor.

mod accelerator;
mod hardware;
mod hypervisor;
mod identity;
mod initramfs;
mod monitor;
mod qcow2;
mod qemu;
mod screen;
mod system;
mod template;

pub use accelerator::Accelerator;
pub use hardware::Hardware;
pub(crate) use qemu::image_root;
pub(crate) use system::System;
pub(crate) use template::{make_template, recipe};

use super::life::{AgentHandler, Life, ServedPrograms};
use super::{Console, Core, Machine, Upper};
use crate::engine::Engine;
use crate::engine::inside::Inside;
use crate::engine::link::{Event, Handler, Link, lock};
pub(super) use hypervisor::Hypervisor;
use hypervisor::State;
use rustix::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testbed_agent::agent::{Reply, Request, Sink, Source, Tool, Tooling, Wake};
use testbed_agent::frame::{Frame, FrameError, Kind};
use testbed_agent::launch;
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::fdpass;

/// How long after its end what a hypervisor has written may still come.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How much of its console a fault carries, in bytes.
const CONSOLE_TAIL: usize = 4096;
/// How long an agent may take to come to rest.
const REST: Duration = Duration::from_secs(10);

/// What a machine with a kernel of its own begins with.
pub(crate) struct Birth {
    /// Where its hypervisor runs.
    pub(crate) jail: launch::Machine,
    /// The machine, as its agent is to know it.
    pub(crate) machine: launch::Machine,
    /// What it is made of.
    pub(crate) hardware: Hardware,
    /// What its processors run on.
    pub(crate) accelerator: Accelerator,
    /// It boots by itself, and has no agent.
    pub(crate) system: Option<System>,
    /// Where frames of its adapters go: a stream of them each, with the length before each frame.
    pub(crate) links: Vec<OwnedFd>,
    /// The jail has the files of a machine that slept, and this is a copy of it.
    pub(crate) asleep: Option<Asleep>,
    /// It is a capsule, and this hears of those inside.
    pub(crate) inside: Option<Arc<Inside>>,
}

/// What must be known of a machine that sleeps to go on with a copy of it, beside its files.
#[derive(Clone, Debug)]
pub(crate) struct Asleep {
    /// The first channel to its agent that nothing has run on.
    next_channel: u32,
    /// Of a capsule: which copy of a copy it would be.
    generation: Option<u32>,
}

/// What is there of a machine beside the link to its agent.
pub(super) struct Guest {
    jail: Machine,
    console: Arc<Console>,
    has_screen: bool,
    /// Set once it has been started.
    hypervisor: Arc<OnceLock<Mutex<Hypervisor>>>,
    /// Its agent has come to rest.
    rests: AtomicBool,
    has_agent: bool,
    /// Of a capsule: how often it has been copied since its template.
    generation: Option<u32>,
}

impl Machine {
    /// Has the machine's own kernel load modules, each with those that it needs.
    ///
    /// # Errors
    /// [`FaultKind::Unsupported`] when the kernel has none of such a name, [`FaultKind::State`] when it is the host's.
    pub(crate) fn load(&self, modules: Vec<String>) -> Result<(), Fault> {
        self.ask(Request::Load { modules }).map(drop)
    }
}

impl Guest {
    /// Process 1 of its jail, as the host counts.
    pub(super) fn pid(&self) -> Option<u32> {
        self.jail.pid().ok()
    }

    pub(super) fn console(&self) -> Arc<Console> {
        Arc::clone(&self.console)
    }

    pub(super) fn jail(&self) -> Arc<Core> {
        self.jail.core()
    }

    /// Why it has ended, with the last that its console says.
    pub(super) fn with_console(&self, fault: Fault) -> Fault {
        with_console(fault, &self.console)
    }

    /// Has the guest stand still, between two frames if its agent answers.
    pub(super) fn pause(&self, link: &Arc<Link>) -> Result<(), Fault> {
        let mut hypervisor = self.hypervisor()?;
        if self.has_agent {
            let (_, events) = link.ask(Request::Rest, Vec::new())?;
            let rests = matches!(events.recv_timeout(REST), Ok(Event::Frame(..)));
            self.rests.store(rests, Ordering::Relaxed);
        }
        hypervisor.stop()
    }

    /// Lets it go on.
    pub(super) fn resume(&self, link: &Link) -> Result<(), Fault> {
        self.hypervisor()?.run()?;
        if self.has_agent { wake(link, false) } else { Ok(()) }
    }

    /// Puts what a copy needs beside the disk into the jail. The guest must have been paused.
    pub(super) fn save(&self, link: &Link) -> Result<Asleep, Fault> {
        if self.has_agent && !self.rests.load(Ordering::Relaxed) {
            let what = "take a snapshot of a machine whose agent does not answer";
            return Err(Fault::new(FaultKind::State, what));
        }
        let generation = self.generation.map(|generation| generation + 1);
        let saved = match generation {
            Some(generation) => self.hypervisor()?.save_copy(&self.jail, generation),
            None => self.hypervisor()?.save(&self.jail),
        };
        if saved.is_err() {
            // What there is of it would only take room.
            let _ = self.forget();
        }
        saved?;
        Ok(Asleep { next_channel: link.next_channel(), generation })
    }

    /// Removes what [`Guest::save`] has put there.
    pub(super) fn forget(&self) -> Result<(), Fault> {
        match self.generation {
            Some(generation) => Hypervisor::forget_copy(&self.jail, generation + 1),
            None => Hypervisor::forget(&self.jail),
        }
    }

    /// Our agent runs in it.
    pub(super) fn has_agent(&self) -> bool {
        self.has_agent
    }

    /// Presses its power button.
    pub(super) fn press_power(&self) -> Result<(), Fault> {
        self.hypervisor()?.press_power()
    }

    pub(super) fn has_screen(&self) -> bool {
        self.has_screen
    }

    pub(super) fn hypervisor(&self) -> Result<MutexGuard<'_, Hypervisor>, Fault> {
        let missing = || Fault::new(FaultKind::State, "reach a hypervisor that has not started");
        self.hypervisor.get().map(lock).ok_or_else(missing)
    }
}

/// A fault with the last that a console says.
pub(crate) fn with_console(fault: Fault, console: &Console) -> Fault {
    let log = console.log();
    log.wait_closed(Instant::now() + LAST_WORDS);
    let tail = log.tail(CONSOLE_TAIL);
    if tail.is_empty() || fault.log.is_some() { fault } else { fault.log(tail) }
}

/// Has one made, on an upper layer that is there or on a new one, with the console that it had before, if any. It is usable
/// at once: what is asked of it waits until it can answer.
pub(super) fn make(
    engine: &Engine,
    name: &str,
    birth: Birth,
    upper: Option<Arc<Upper>>,
    console: Arc<Console>,
) -> Result<Arc<Core>, Fault> {
    let Birth { jail, machine, hardware, accelerator, system, links, asleep, inside } = birth;
    let has_changes = upper.is_some() || !jail.snapshots.is_empty();
    let state = match (&asleep, has_changes) {
        (Some(Asleep { generation: Some(generation), .. }), _) => State::Copy(*generation),
        (Some(_), _) => State::Snapshot,
        (None, true) => State::Restart,
        (None, false) => State::Template,
    };
    let jail = match upper {
        Some(upper) => Machine::make_on(engine, name, jail, upper)?,
        None => Machine::make(engine, name, jail)?,
    };
    let (ours, theirs) = fdpass::stream_pair().doing("make a socket")?;
    let (life, control) = (Arc::new(Life::default()), ServedPrograms::default());
    let greeted = AgentHandler { life: Arc::clone(&life), control: Arc::clone(&control) };
    let handler = GuestHandler { agent: greeted, jail: Arc::downgrade(&jail.shared), inside };
    let first = asleep.as_ref().map_or(1, |asleep| asleep.next_channel);
    let link = Arc::new(Link::new(name, ours, first, Box::new(handler)).doing("reach the machine")?);
    // Before anything else that is asked of it.
    let ask = |request| link.ask(request, Vec::new()).map(|(_, reply)| reply);
    let mut replies = Vec::new();
    let has_agent = system.is_none();
    if has_agent && state == State::Restart {
        replies.push(ask(Request::EnterRoot)?);
        if let Some(program) = hardware.init.program() {
            replies.push(ask(Request::HandOver { program: program.to_owned() })?);
        }
        if !hardware.modules.is_empty() {
            replies.push(ask(Request::Load { modules: hardware.modules.clone() })?);
        }
    }
    // A capsule is nobody: those inside are who they are.
    if has_agent && asleep.is_none() && !hardware.is_capsule() {
        let identity = (state == State::Template).then(identity::fresh).transpose()?;
        replies.push(ask(Request::Become { machine: Box::new(machine), identity })?);
    }
    let guest = Guest {
        jail: jail.clone(),
        console,
        has_screen: hardware.screen,
        hypervisor: Arc::default(),
        rests: AtomicBool::default(),
        has_agent,
        generation: hardware
            .is_capsule()
            .then(|| asleep.as_ref().and_then(|asleep| asleep.generation).unwrap_or_default()),
    };
    let (console, hypervisor) = (Arc::clone(&guest.console), Arc::clone(&guest.hypervisor));
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
            let made_of = (&hardware, &accelerator, system);
            let started = start(&jail, theirs, made_of, links, state, &console).and_then(|started| {
                // This is the only place that sets it.
                let _ = hypervisor.set(Mutex::new(started));
                if has_agent {
                    wake(&link, true)?;
                    return replies.iter().try_for_each(became);
                }
                // There is nothing else to wait for.
                lock(&life.state).greeted = true;
                life.changed.notify_all();
                Ok(())
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
fn start(
    jail: &Machine,
    link: OwnedFd,
    (hardware, accelerator, system): (&Hardware, &Accelerator, Option<System>),
    links: Vec<OwnedFd>,
    state: State,
    console: &Console,
) -> Result<Hypervisor, Fault> {
    jail.wait_started(super::ANSWER)?;
    // A system without an agent starts from its disk.
    let is_restored = system.is_none() || state == State::Snapshot;
    let memory = state.memory();
    let mut held: Vec<OwnedFd> = accelerator.open()?.into_iter().collect();
    let mut hypervisor = if let Some(system) = system {
        if state == State::Template {
            system.prepare(jail, hardware)?;
        }
        let command = qemu::system(hardware, accelerator, &system, state == State::Snapshot);
        held.extend(system.into_files());
        // Nothing is said on the link, but it ends with the hypervisor.
        Hypervisor::start(jail, command, &memory, hardware.screen, link, held, console)?
    } else {
        let (port, guests_port) = fdpass::stream_pair().doing("make a socket")?;
        let (input, output) = (Source::Handed, Sink::Handed);
        let tooling = Tooling { tool: Tool::Carry, input, output, deadline_ms: None, device: None };
        jail.core().open(Request::Tool(tooling), vec![port, link])?;
        let command = qemu::copy(hardware, accelerator, &memory);
        Hypervisor::start(jail, command, &memory, hardware.screen, guests_port, held, console)?
    };
    for (number, link) in links.into_iter().enumerate() {
        hypervisor.connect(number, link)?;
    }
    if is_restored {
        hypervisor.load(jail, state)?;
    }
    hypervisor.run()?;
    Ok(hypervisor)
}

/// Tells an agent that rests what time it is.
fn wake(link: &Link, is_copy: bool) -> Result<(), Fault> {
    let seed = identity::random()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    link.send(0, Kind::Wake, &Wake { now_ns: now.as_nanos() as i64, seed, is_copy }, Vec::new())
}

/// Waits until the guest's agent has said whether it could become what it is to be.
fn became(reply: &Receiver<Event>) -> Result<(), Fault> {
    match reply.recv() {
        Ok(Event::Frame(frame, _)) => done(&frame),
        // Why it has gone is known where that was noticed.
        Ok(Event::Gone(_)) | Err(_) => Ok(()),
    }
}

/// What an agent's reply says of something that it was to do.
fn done(frame: &Frame) -> Result<(), Fault> {
    match frame.message("reply") {
        Ok(Reply::Failed(fault)) => Err(fault),
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::new(FaultKind::Protocol, format!("understand the agent: {error}"))),
    }
}

struct GuestHandler {
    agent: AgentHandler,
    jail: Weak<super::Shared>,
    inside: Option<Arc<Inside>>,
}

impl Handler for GuestHandler {
    fn take(&self, link: &Link, frame: Frame, fds: Vec<OwnedFd>) -> Result<(), FrameError> {
        match &self.inside {
            None => self.agent.take(link, frame, fds),
            Some(inside) => match inside.take(frame, fds)? {
                Some(frame) => self.agent.take(link, frame, Vec::new()),
                None => Ok(()),
            },
        }
    }

    /// The kernel has ended, or its hypervisor: nothing is left that could be reached, so the jail goes as well.
    fn closed(&self, fault: &Fault) {
        self.agent.life.kernel_ended();
        if let Some(shared) = self.jail.upgrade() {
            let _ = Machine { shared }.start_kill();
        }
        self.agent.closed(fault);
        if let Some(inside) = &self.inside {
            inside.closed();
        }
    }
}
