//! A machine from one start to its end, and what its agent says of it.

use super::{Upper, guest};
use crate::control::session::Session;
use crate::engine::link::{self, Event, Handler, Link, lock};
use crate::engine::{Engine, Pending};
use rustix::fd::OwnedFd;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use testbed_agent::agent::{Exit, Reply, Request};
use testbed_agent::frame::{Frame, FrameError, Hello, Kind};
use testbed_agent::launch::{self, Order};
use testbed_agent::{Fault, FaultKind};

/// A machine from one start to its end.
pub(crate) struct Core {
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) engine: Engine,
    pub(super) link: Arc<Link>,
    pub(super) life: Arc<Life>,
    pub(super) control: ServedPrograms,
    /// What it changes.
    pub(super) upper: Arc<Upper>,
    /// Set if it has a kernel of its own.
    pub(super) guest: Option<guest::Guest>,
}

/// What must be known of a machine in a capsule that sleeps, beside the capsule's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AsleepInside {
    number: u32,
    /// The number of what it changes.
    upper: u32,
    paused: bool,
    ended: Option<Exit>,
}

/// What the machine's own programs may reach of its testbed, if anything, and the link that they come by.
pub(super) type ServedPrograms = Arc<OnceLock<(Arc<Session>, Weak<Link>)>>;

/// What is known of a machine's beginning and end.
#[derive(Default)]
pub(super) struct Life {
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// The launcher's answer is still to come.
    pub(super) expected: Option<Pending>,
    pub(super) pid: Option<u32>,
    pub(super) greeted: bool,
    /// Why it could not be made.
    pub(super) broken: Option<Fault>,
    /// There never was a process 1.
    pub(super) unmade: bool,
    pub(super) ended: Option<Exit>,
    pub(super) paused: bool,
    /// Its end is wanted.
    pub(super) killed: bool,
}

impl Life {
    /// A kernel of its own has ended, or what it runs on: the reason, unless its end was wanted.
    pub(super) fn kernel_ended(&self) {
        let mut state = lock(&self.state);
        if state.ended.is_none() && !state.killed {
            state.broken.get_or_insert(Fault::new(FaultKind::State, "go on: its kernel has ended"));
        }
    }
}

impl Core {
    /// Has a machine made. It is usable at once: what is asked of it waits until it can answer.
    pub(super) fn make(
        engine: &Engine,
        name: &str,
        mut spec: launch::Machine,
        upper: Option<Arc<Upper>>,
    ) -> Result<Arc<Core>, Fault> {
        if spec.root.host {
            engine.show_host()?;
        }
        let number = engine.number();
        if let Some(upper) = &upper {
            spec.upper = launch::Upper::Of(upper.number());
        }
        let upper = upper.unwrap_or_else(|| Upper::of_machine(engine, number));
        let life = Arc::new(Life::default());
        let control = ServedPrograms::default();
        let handler = Box::new(AgentHandler { life: Arc::clone(&life), control: Arc::clone(&control) });
        let (link, handed) = engine.agent_link(name, number, handler)?;
        let core = Arc::new(Core {
            name: name.into(),
            number,
            engine: engine.clone(),
            link,
            life,
            control,
            upper,
            guest: None,
        });
        engine.watch(number, &core)?;
        let order = Order::MakeMachine { machine: number, machine_spec: Box::new(spec) };
        let pending = engine.send_order(&order, handed)?;
        lock(&core.life.state).expected = Some(pending);
        Ok(core)
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// One that is there in a capsule which goes on where another slept.
    pub(super) fn taken_up(engine: &Engine, name: &str, asleep: AsleepInside) -> Result<Arc<Core>, Fault> {
        let AsleepInside { number, upper, paused, ended } = asleep;
        let state = State { greeted: true, paused, ended, ..State::default() };
        let life = Arc::new(Life { state: Mutex::new(state), changed: Condvar::new() });
        let control = ServedPrograms::default();
        let handler = Box::new(AgentHandler { life: Arc::clone(&life), control: Arc::clone(&control) });
        let (link, _) = engine.agent_link(name, number, handler)?;
        let upper = Upper::of_machine(engine, upper);
        let core = Core {
            name: name.into(),
            number,
            engine: engine.clone(),
            link,
            life,
            control,
            upper,
            guest: None,
        };
        let core = Arc::new(core);
        if ended.is_none() {
            engine.watch(number, &core)?;
        }
        Ok(core)
    }

    /// What is there of it in a capsule that sleeps.
    pub(super) fn asleep_inside(&self) -> AsleepInside {
        let state = lock(&self.life.state);
        let upper = self.upper.number();
        AsleepInside { number: self.number, upper, paused: state.paused, ended: state.ended }
    }

    /// The capsule that it is in has ended, and it with that.
    pub(crate) fn capsule_ended(&self) {
        self.life.kernel_ended();
        self.ended(Exit::Signal(9));
    }

    /// Its agent answers.
    pub(crate) fn greeted(&self) {
        lock(&self.life.state).greeted = true;
        self.life.changed.notify_all();
    }

    /// What its process 1 says of itself before it ends.
    pub(crate) fn broke(&self, fault: Fault) {
        lock(&self.life.state).broken.get_or_insert(Fault { machine: None, ..fault });
    }

    /// Its agent cannot be reached any more; `broke` is what was wrong with what it said.
    pub(crate) fn lost(&self, broke: Option<&str>) {
        let operation = match broke {
            None => link::GONE.to_owned(),
            Some(why) => format!("the other side broke the protocol: {why}"),
        };
        self.link.close(Fault::new(FaultKind::Protocol, operation).on(&self.name));
    }

    /// Opens a channel to the agent.
    pub(super) fn open(
        &self,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<(u32, std::sync::mpsc::Receiver<Event>), Fault> {
        self.agent()?.ask(request, fds).map_err(|f| self.explain(f))
    }

    /// The link to its agent, if it has one.
    pub(super) fn agent(&self) -> Result<&Arc<Link>, Fault> {
        if self.guest.as_ref().is_some_and(|guest| !guest.has_agent()) {
            let fault = Fault::new(FaultKind::Unsupported, "ask its agent: it has none").on(&self.name);
            return Err(
                fault.hint("with `agent = false` there is its console, its power, its disk and its networks")
            );
        }
        Ok(&self.link)
    }

    pub(crate) fn ended(&self, how: Exit) {
        if let Some(guest) = &self.guest {
            guest.jail().ended(how);
        }
        lock(&self.life.state).ended = Some(how);
        self.life.changed.notify_all();
        self.link.close(Fault::new(FaultKind::State, "the machine has ended").on(&self.name));
    }

    /// Takes the launcher's answer, if it is still to come.
    pub(super) fn settle(&self) -> Result<(), Fault> {
        if let Some(guest) = &self.guest {
            guest.jail().settle()?;
        }
        let expected = lock(&self.life.state).expected.take();
        if let Some(pending) = expected {
            let outcome = pending.wait();
            let mut state = lock(&self.life.state);
            match outcome {
                Ok((testbed_agent::launch::Outcome::Made { pid }, _)) => state.pid = Some(pid),
                Ok(_) => {}
                Err(fault) => {
                    state.unmade = true;
                    state.broken.get_or_insert(fault.on(&self.name));
                    // The launcher leaves nothing of what it could not make, and will tell of no end.
                    state.ended.get_or_insert(Exit::Signal(9));
                }
            }
        }
        match (lock(&self.life.state).broken.clone(), &self.guest) {
            (Some(fault), Some(guest)) => Err(guest.with_console(fault).on(&self.name)),
            (Some(fault), None) => Err(self.engine.explained(fault)),
            (None, _) => Ok(()),
        }
    }

    /// The reason behind a connection that is gone, if there is a better one.
    pub(super) fn explain(&self, fault: Fault) -> Fault {
        if fault.operation == link::GONE && self.guest.is_some() {
            // Before anybody hears of it otherwise.
            self.life.kernel_ended();
        }
        let broken = self.settle().err();
        // That process 1 broke the rules says why it has ended.
        let is_reason = fault.kind == FaultKind::Protocol && fault.operation != link::GONE;
        let ended = || {
            let ended = lock(&self.life.state).ended.is_some() && !is_reason;
            ended.then(|| Fault::new(FaultKind::State, "reach a machine that has ended"))
        };
        broken.or_else(ended).unwrap_or(fault).on(&self.name)
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Core({}, {})", self.name, self.number)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // A jail does so itself.
        if lock(&self.life.state).ended.is_none() && self.guest.is_none() {
            let _ = self.engine.send_order(&Order::Kill { machine: self.number, off: false }, Vec::new());
        }
        self.link.close(Fault::new(FaultKind::State, "the machine was let go").on(&self.name));
    }
}

pub(super) struct AgentHandler {
    pub(super) life: Arc<Life>,
    pub(super) control: ServedPrograms,
}

impl Handler for AgentHandler {
    fn take(&self, _: &Link, frame: Frame, fds: Vec<OwnedFd>) -> Result<(), FrameError> {
        if frame.channel != 0 && frame.channel.is_multiple_of(2) {
            let served = self.control.get().and_then(|(session, link)| Some((session, link.upgrade()?)));
            let (session, link) = served.ok_or(FrameError::Body("direction"))?;
            return session.take(&link, &frame, &fds);
        }
        match (frame.channel, frame.kind) {
            (0, Kind::Hello) => {
                frame.message::<Hello>("hello")?.agree()?;
                lock(&self.life.state).greeted = true;
                self.life.changed.notify_all();
                Ok(())
            }
            (0, Kind::Reply) => {
                if let Reply::Failed(mut fault) = frame.message("reply")? {
                    fault.machine = None;
                    lock(&self.life.state).broken.get_or_insert(fault);
                }
                Ok(())
            }
            // The end of something that nobody waits for any more.
            (_, Kind::Reply | Kind::Note | Kind::Data | Kind::End | Kind::Credit) => Ok(()),
            _ => Err(FrameError::Body("direction")),
        }
    }

    fn closed(&self, _: &Fault) {
        self.life.changed.notify_all();
        if let Some((session, _)) = self.control.get() {
            session.closed();
        }
    }
}
