//! A machine and what can be done with it.

mod command;
mod connect;
mod console;
mod copy;
mod files;
mod guest;
mod life;
mod log;
mod screen;
mod tool;
mod upper;
mod variables;
mod wait;

pub(crate) use guest::{Asleep, Birth, System, image_root, make_template, recipe, with_console};
pub(crate) use life::{AsleepInside, Core};
pub(crate) use log::LogReader;
pub(crate) use screen::no_key;
pub(crate) use tool::RunningTool;
pub(crate) use upper::Upper;

pub use command::{Command, OUTPUT_KEPT, Output, Pipes, Running};
pub use console::Console;
pub use guest::{Accelerator, Hardware};
pub use log::Log;
pub use testbed_agent::control::Condition;
pub use testbed_agent::keys::Chord;
pub use variables::{MAX_KEY, MAX_VALUE, MAX_VARIABLES, Variables};

use crate::control::session::Session;
use crate::engine::Engine;
use crate::engine::link::{Event, Link, lock};
use life::State;
use rustix::fd::OwnedFd;
use std::fmt;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use testbed_agent::agent::{Exit, Reply, Report, Request, Sink, Source, Tool, Tooling};
use testbed_agent::frame::{Frame, Kind};
use testbed_agent::launch::{self, Order};
use testbed_agent::{Fault, FaultKind};

/// How long an agent may take to answer a small request.
const ANSWER: Duration = Duration::from_secs(10);

/// One throwaway computer, through all its starts. Cheap to clone; it is killed when the last clone goes.
#[derive(Clone)]
pub struct Machine {
    shared: Arc<Shared>,
}

/// What all clones of a [`Machine`] share.
struct Shared {
    name: String,
    core: RwLock<Arc<Core>>,
    variables: Arc<Variables>,
}

impl Machine {
    fn new(name: &str, core: Arc<Core>) -> Machine {
        let (name, core) = (name.to_owned(), RwLock::new(core));
        Machine { shared: Arc::new(Shared { name, core, variables: Arc::default() }) }
    }

    /// Has a machine made, by its name in its testbed.
    pub(crate) fn make(engine: &Engine, name: &str, spec: launch::Machine) -> Result<Machine, Fault> {
        Ok(Machine::new(name, Core::make(engine, name, spec, None)?))
    }

    /// Has a machine made on an upper layer that is there.
    pub(crate) fn make_on(
        engine: &Engine,
        name: &str,
        spec: launch::Machine,
        upper: Arc<Upper>,
    ) -> Result<Machine, Fault> {
        Ok(Machine::new(name, Core::make(engine, name, spec, Some(upper))?))
    }

    /// One that is there in a capsule which goes on where another slept.
    pub(crate) fn taken_up(engine: &Engine, name: &str, asleep: AsleepInside) -> Result<Machine, Fault> {
        Ok(Machine::new(name, Core::taken_up(engine, name, asleep)?))
    }

    /// It goes on in a capsule where another slept.
    pub(crate) fn take_up_again(&self, engine: &Engine, asleep: AsleepInside) -> Result<(), Fault> {
        self.replace(Core::taken_up(engine, self.name(), asleep)?);
        Ok(())
    }

    /// What is there of it in a capsule that sleeps.
    pub(crate) fn asleep_inside(&self) -> AsleepInside {
        self.core().asleep_inside()
    }

    /// Has a machine with a kernel of its own made.
    pub(crate) fn make_guest(engine: &Engine, name: &str, birth: Birth) -> Result<Machine, Fault> {
        Ok(Machine::new(name, guest::make(engine, name, birth, None, Arc::default())?))
    }

    /// Has it made again after its end: on an upper layer that is there, or on a new one. What is asked of it from now
    /// on is asked of the new one.
    ///
    /// # Errors
    /// When it has not ended, or the launcher is gone.
    pub(crate) fn make_again(
        &self,
        mut spec: launch::Machine,
        upper: Option<Arc<Upper>>,
    ) -> Result<(), Fault> {
        self.must_be_stopped()?;
        spec.replaces = Some(self.number());
        self.replace(Core::make(&self.engine(), self.name(), spec, upper)?);
        Ok(())
    }

    /// As [`Machine::make_again`], for a machine with a kernel of its own.
    ///
    /// # Errors
    /// As for that.
    pub(crate) fn make_guest_again(&self, birth: Birth, upper: Option<Arc<Upper>>) -> Result<(), Fault> {
        self.must_be_stopped()?;
        let console = self.console()?;
        self.replace(guest::make(&self.engine(), self.name(), birth, upper, console)?);
        Ok(())
    }

    fn must_be_stopped(&self) -> Result<(), Fault> {
        match self.condition() {
            Condition::Stopped => Ok(()),
            _ => Err(self.fault(FaultKind::State, "start a machine that runs")),
        }
    }

    fn replace(&self, core: Arc<Core>) {
        *self.shared.core.write().unwrap_or_else(PoisonError::into_inner) = core;
    }

    /// Lets the machine's programs reach what the session does, until its end.
    pub(crate) fn serve(&self, session: Arc<Session>) {
        let core = self.core();
        // A machine is served once, before its first program.
        let _ = core.control.set((session, Arc::downgrade(&core.link)));
    }

    /// What it and those who test it leave for each other.
    pub fn variables(&self) -> Arc<Variables> {
        Arc::clone(&self.shared.variables)
    }

    pub(crate) fn core(&self) -> Arc<Core> {
        Arc::clone(&self.shared.core.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What it changes, or has changed.
    pub(crate) fn upper(&self) -> Arc<Upper> {
        Arc::clone(&self.core().upper)
    }

    /// Its name in its testbed.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its number at its launcher.
    pub(crate) fn number(&self) -> u32 {
        self.core().number
    }

    /// The engine that keeps it.
    pub fn engine(&self) -> Engine {
        self.core().engine.clone()
    }

    /// Waits until the launcher has made it.
    ///
    /// # Errors
    /// Why it could not be made.
    pub(crate) fn wait_made(&self) -> Result<(), Fault> {
        self.core().settle()
    }

    /// Process 1, as the host counts. Waits until the launcher has made it.
    ///
    /// # Errors
    /// Why it could not be made; [`FaultKind::Unsupported`] for a machine in a capsule, of which the host sees nothing.
    pub fn pid(&self) -> Result<u32, Fault> {
        let core = self.core();
        core.settle()?;
        if core.engine.is_inside() {
            return Err(self.fault(FaultKind::Unsupported, "find a process in a capsule"));
        }
        let of_jail = core.guest.as_ref().map(guest::Guest::pid);
        of_jail
            .unwrap_or_else(|| lock(&core.life.state).pid)
            .ok_or_else(|| self.fault(FaultKind::State, "find a machine that has ended"))
    }

    /// Waits until the agent answers.
    ///
    /// # Errors
    /// Why the machine could not be made, or a timeout.
    pub fn wait_started(&self, deadline: Duration) -> Result<(), Fault> {
        let end = Instant::now() + deadline;
        let core = self.core();
        let mut state = lock(&core.life.state);
        while !state.greeted || state.ended.is_some() {
            if state.broken.is_some() || state.ended.is_some() || core.link.gone().is_some() {
                drop(state);
                let gone = || self.fault(FaultKind::Protocol, "start: process 1 has gone");
                return Err(core.explain(core.link.gone().unwrap_or_else(gone)));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(
                    self.fault(FaultKind::Timeout, format!("start within {} s", deadline.as_secs_f32()))
                );
            }
            state = core.life.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// How it is.
    pub fn condition(&self) -> Condition {
        let core = self.core();
        let state = lock(&core.life.state);
        match &*state {
            State { ended: Some(_), .. } | State { broken: Some(_), .. } => Condition::Stopped,
            State { paused: true, .. } => Condition::Paused,
            State { greeted: true, .. } => Condition::Running,
            _ => Condition::Created,
        }
    }

    /// Kills all its processes, at once, and waits until none is left.
    ///
    /// # Errors
    /// When the launcher is gone, or it takes longer than `deadline`.
    pub fn kill(&self, deadline: Duration) -> Result<(), Fault> {
        self.order_kill(true)?;
        match self.wait_ended(deadline) {
            // There is nothing to kill.
            Err(_) if lock(&self.core().life.state).unmade => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Kills all its processes without waiting for their end.
    ///
    /// # Errors
    /// When the launcher is gone.
    pub fn start_kill(&self) -> Result<(), Fault> {
        self.order_kill(false)
    }

    /// That its kernel ends is what is wanted.
    pub(crate) fn expect_end(&self) {
        lock(&self.core().life.state).killed = true;
    }

    /// With `off` it is off its networks at once, too.
    fn order_kill(&self, off: bool) -> Result<(), Fault> {
        let core = self.core();
        let mut state = lock(&core.life.state);
        state.killed = true;
        if state.ended.is_none() {
            drop(state);
            core.engine.send_order(&Order::Kill { machine: core.number, off }, Vec::new())?;
        }
        Ok(())
    }

    /// Waits until no process of it is left.
    ///
    /// # Errors
    /// A timeout, or why the machine could not be made.
    pub fn wait_ended(&self, deadline: Duration) -> Result<Exit, Fault> {
        let end = Instant::now() + deadline;
        let core = self.core();
        let made = core.settle();
        let mut state = lock(&core.life.state);
        if state.unmade {
            made?;
        }
        loop {
            if let Some(how) = state.ended {
                return Ok(how);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(
                    self.fault(FaultKind::Timeout, format!("stop within {} s", deadline.as_secs_f32()))
                );
            }
            state = core.life.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Stops all its processes where they are.
    ///
    /// # Errors
    /// When it does not run, or the host has no cgroup v2.
    pub fn pause(&self) -> Result<(), Fault> {
        self.freeze(true)
    }

    /// Lets its processes go on.
    ///
    /// # Errors
    /// When it is not paused.
    pub fn resume(&self) -> Result<(), Fault> {
        self.freeze(false)
    }

    fn freeze(&self, frozen: bool) -> Result<(), Fault> {
        let core = self.core();
        core.settle()?;
        {
            let state = lock(&core.life.state);
            if state.ended.is_some() || state.paused == frozen {
                let what = if frozen {
                    "pause a machine that does not run"
                } else {
                    "resume a machine that is not paused"
                };
                return Err(self.fault(FaultKind::State, what));
            }
        }
        if frozen {
            // Before it answers it might be stopped where its launcher's end would not reach it.
            self.wait_started(ANSWER)?;
        }
        let done = match (&core.guest, frozen) {
            (Some(guest), true) => guest.pause(&core.link),
            (Some(guest), false) => guest.resume(&core.link),
            (None, _) => core.engine.order(&Order::Freeze { machine: core.number, frozen }),
        };
        done.map_err(|f| f.on(self.name()))?;
        lock(&core.life.state).paused = frozen;
        Ok(())
    }

    /// Puts the memory of a machine with a kernel of its own that is paused beside its files: none for others, whose
    /// processes are no part of what can be copied.
    pub(crate) fn save_memory(&self) -> Result<Option<Asleep>, Fault> {
        let core = self.core();
        let saved = core.guest.as_ref().map(|guest| guest.save(&core.link));
        saved.transpose().map_err(|f| f.on(self.name()))
    }

    /// Undoes [`Machine::save_memory`].
    pub(crate) fn forget_memory(&self) -> Result<(), Fault> {
        self.core().guest.as_ref().map_or(Ok(()), guest::Guest::forget)
    }

    /// Has a kernel of its own write to its disk whatever it has not written yet; others have no disk.
    pub(crate) fn sync(&self, deadline: Duration) -> Result<(), Fault> {
        match self.core().guest {
            Some(_) => self.ask_within(Request::Sync, Vec::new(), Some(deadline)).map(drop),
            None => Ok(()),
        }
    }

    /// Asks the agent something small.
    pub(crate) fn ask(&self, request: Request) -> Result<Reply, Fault> {
        self.ask_within(request, Vec::new(), Some(ANSWER))
    }

    /// Asks the agent and waits for the end of what was asked, or until `deadline` has passed.
    pub(crate) fn ask_within(
        &self,
        request: Request,
        fds: Vec<OwnedFd>,
        deadline: Option<Duration>,
    ) -> Result<Reply, Fault> {
        let core = self.core();
        let (channel, events) = core.open(request, fds)?;
        let end = deadline.map(|d| Instant::now() + d);
        loop {
            let event = match end {
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(end) => events.recv_timeout(end.saturating_duration_since(Instant::now())),
            };
            match event {
                Ok(Event::Frame(frame, _)) if frame.kind == Kind::Reply => return self.reply(&frame),
                Ok(Event::Frame(..)) => {}
                Ok(Event::Gone(fault)) => return Err(core.explain(fault)),
                Err(RecvTimeoutError::Timeout) => {
                    let _ = core.link.send_raw(channel, Kind::Abort, &[]);
                    return Err(self.fault(FaultKind::Timeout, "get an answer from the agent").hint(
                        "the machine may be paused, out of memory, or its process 1 no longer itself",
                    ));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.fault(FaultKind::State, "ask a machine that is gone"));
                }
            }
        }
    }

    /// The link to its agent.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) fn link(&self) -> Result<Arc<Link>, Fault> {
        self.core().agent().cloned()
    }

    /// Whether our agent runs in it.
    pub(crate) fn has_agent(&self) -> bool {
        self.core().agent().is_ok()
    }

    /// Presses the power button of a machine without an agent, and waits for its end.
    ///
    /// # Errors
    /// When it goes on past the deadline.
    pub(crate) fn press_power(&self, deadline: Duration) -> Result<(), Fault> {
        let core = self.core();
        let Some(guest) = &core.guest else { return Ok(()) };
        // That its kernel ends is what is wanted.
        lock(&core.life.state).killed = true;
        guest.press_power()?;
        self.wait_ended(deadline).map(drop)
    }

    pub(crate) fn reply(&self, frame: &Frame) -> Result<Reply, Fault> {
        match frame.message("reply") {
            Ok(Reply::Failed(mut fault)) => {
                // A machine speaks for itself only, whatever it says.
                fault.machine = Some(self.name().to_owned());
                Err(fault)
            }
            Ok(reply) => Ok(reply),
            Err(e) => Err(self.fault(FaultKind::Protocol, format!("understand the agent: {e}"))),
        }
    }

    /// Runs one of the agent's tools that neither reads nor writes a stream.
    ///
    /// # Errors
    /// What the tool could not do, or a timeout.
    pub fn tool(&self, tool: Tool, deadline: Duration) -> Result<Report, Fault> {
        let tooling = Tooling {
            tool,
            input: Source::Null,
            output: Sink::Null,
            deadline_ms: Some(deadline.as_millis() as u64),
            device: None,
        };
        // The agent keeps the deadline; this one is for an agent that does not.
        let reply = self.ask_within(Request::Tool(tooling), Vec::new(), Some(deadline + ANSWER))?;
        self.report(reply)
    }

    pub(crate) fn report(&self, reply: Reply) -> Result<Report, Fault> {
        match reply {
            Reply::Ended { report: Some(report), .. } => Ok(report),
            Reply::Ended { timed_out: true, .. } => Err(self.fault(FaultKind::Timeout, "finish in time")),
            other => Err(self.fault(FaultKind::Protocol, format!("get a report; the answer was {other:?}"))),
        }
    }

    pub(crate) fn fault(&self, kind: FaultKind, operation: impl Into<String>) -> Fault {
        Fault::new(kind, operation).on(self.name())
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Machine({}, {:?})", self.name(), self.condition())
    }
}
