//! Beds whose machines and networks are all in one machine with a kernel of its own.
//!
//! They are made as any others, by the launcher and the agents in there. What is kept and copied is the one machine: so
//! snapshots, rollbacks and forks are of all machines at once, as they run, with whatever is under way between them.

use super::links::Attached;
use super::service::{RunningProgram, Services};
use super::snapshot::copy_upper;
use super::{Bed, Place, Prepared, definition};
use crate::engine::Engine;
use crate::engine::hands::Hands;
use crate::engine::inside::Inside;
use crate::engine::link::lock;
use crate::machine::{Asleep, AsleepInside, Console, Machine, RunningTool, Upper};
use crate::net::capture;
use crate::net::stream::Stream;
use crate::spec;
use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;
use testbed_agent::agent::{Sink, Source, Tool, Tooling};
use testbed_agent::launch::Order;
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::fdpass;

/// The name of the capsule among machines, in faults.
const NAME: &str = "capsule";

/// The machine that holds all others.
pub(super) struct Capsule {
    machine: Machine,
    /// What has made it.
    host: Engine,
}

/// A capsule that sleeps, and what must be known of those inside.
#[derive(Clone)]
pub(super) struct Sleeping {
    /// The upper layer with its memory and devices.
    upper: Arc<Upper>,
    asleep: Asleep,
    /// The first number that nothing in it has had.
    next: u32,
    /// The number of its networks.
    fabric: u32,
    machines: Vec<Sleeper>,
    attached: Vec<Attached>,
}

/// A machine in a capsule that sleeps.
#[derive(Clone)]
struct Sleeper {
    state: AsleepInside,
    programs: Vec<RunningProgram>,
    cut: BTreeSet<u32>,
    fresh: bool,
    prepared: Option<u32>,
}

impl Capsule {
    /// Has one made, new or as a copy of one that sleeps; gives what makes machines in it. What is asked of those waits
    /// until it can answer.
    pub(super) fn make(
        host: &Engine,
        spec: &spec::Testbed,
        roots: &Prepared,
        sleeping: Option<&Sleeping>,
    ) -> Result<(Capsule, Engine), Fault> {
        let inside = Arc::new(Inside::default());
        let mut birth = definition::capsule(spec, roots.capsule()?, Arc::clone(&inside))?;
        if let Some(sleeping) = sleeping {
            birth.jail.snapshots = vec![sleeping.upper.number()];
            birth.asleep = Some(sleeping.asleep.clone());
        }
        let machine = Machine::make_guest(host, NAME, birth)?;
        let next = sleeping.map_or(1, |sleeping| sleeping.next);
        let engine = Engine::inside(machine.link()?, machine.console()?, &inside, next);
        Ok((Capsule { machine, host: host.clone() }, engine))
    }

    /// What has made it.
    pub(super) fn host(&self) -> &Engine {
        &self.host
    }

    /// Waits until it answers.
    pub(super) fn wait_started(&self, deadline: Duration) -> Result<(), Fault> {
        self.machine.wait_started(deadline)
    }

    /// What its kernel and its hypervisor have written.
    pub(super) fn console(&self) -> Result<Arc<Console>, Fault> {
        self.machine.console()
    }

    pub(super) fn kill(&self, deadline: Duration) -> Result<(), Fault> {
        self.machine.kill(deadline)
    }
}

impl Sleeping {
    /// The machines of the copy whose capsule this engine makes machines in.
    pub(super) fn take_up(&self, spec: &spec::Testbed, engine: &Engine) -> Result<Vec<Machine>, Fault> {
        let named = spec.machines().iter().zip(&self.machines);
        named.map(|(spec, its)| Machine::taken_up(engine, spec.name(), its.state)).collect()
    }

    /// What the bed has to know of them.
    pub(super) fn places(&self, engine: &Engine) -> Vec<Place> {
        let place = |its: &Sleeper| Place {
            fresh: its.fresh,
            prepared: its.prepared.map(|number| Upper::of_machine(engine, number)),
            cut: its.cut.clone(),
            ..Place::default()
        };
        self.machines.iter().map(place).collect()
    }

    pub(super) fn fabric(&self) -> u32 {
        self.fabric
    }

    pub(super) fn attached(&self) -> Vec<Attached> {
        self.attached.clone()
    }

    /// Hears again of what runs in them.
    pub(super) fn take_up_programs(&self, services: &Services, machines: &[Machine]) -> Result<(), Fault> {
        for (machine, its) in machines.iter().zip(&self.machines) {
            for program in &its.programs {
                services.take_up(machine, program)?;
            }
        }
        Ok(())
    }
}

impl Bed {
    /// Has the kernel that a machine has, alone or with all machines of a capsule, load modules.
    ///
    /// # Errors
    /// As for [`Machine::load`].
    pub(crate) fn load_modules(&self, machine: &str, modules: Vec<String>) -> Result<(), Fault> {
        let machine = self.find(machine)?;
        self.shared.capsule.as_ref().map_or(machine, |capsule| &capsule.machine).load(modules)
    }

    /// The machine that holds all others, if the testbed is a capsule. There is nothing in it to run, but it has a console,
    /// and the host knows its process 1.
    pub fn capsule(&self) -> Option<&Machine> {
        self.shared.capsule.as_ref().map(|capsule| &capsule.machine)
    }

    /// The capsule that it is in, for what can be done with that only as a whole.
    pub(super) fn in_capsule(&self, doing: &str) -> Result<(), Fault> {
        if self.shared.capsule.is_none() {
            return Ok(());
        }
        let fault = Fault::new(FaultKind::Unsupported, format!("{doing} one machine of a capsule"));
        Err(fault.hint("name no machine: a capsule is kept, and goes back, as a whole"))
    }

    /// The capsule as it is now, if the bed is in one.
    pub(super) fn sleeping(&self) -> Result<Option<Sleeping>, Fault> {
        self.shared.capsule.as_ref().map(|capsule| self.keep_capsule(capsule)).transpose()
    }

    /// Keeps the capsule as it is now. All in it stand still meanwhile.
    pub(super) fn keep_capsule(&self, capsule: &Capsule) -> Result<Sleeping, Fault> {
        let shared = &*self.shared;
        let stop = shared.spec.deadlines().stop();
        let mut places: Vec<_> = shared.places.iter().map(lock).collect();
        for place in &mut places {
            place.end_files(stop)?;
        }
        for machine in &shared.machines {
            machine.wait_made()?;
        }
        capsule.machine.pause()?;
        let kept = self.keep_paused(capsule, &places);
        let resumed = capsule.machine.resume();
        kept.and_then(|kept| resumed.map(|()| kept))
    }

    fn keep_paused(&self, capsule: &Capsule, places: &[MutexGuard<'_, Place>]) -> Result<Sleeping, Fault> {
        let shared = &*self.shared;
        let upper = Upper::make(&capsule.host, definition::capsule_changes(&shared.spec))?;
        let nothing = || Fault::new(FaultKind::State, "keep the memory of what has none");
        let asleep = capsule.machine.save_memory()?.ok_or_else(nothing)?;
        let copied = copy_upper(&Hands::of(&capsule.host), &capsule.machine.upper(), &upper);
        capsule.machine.forget_memory()?;
        copied?;
        let sleeper = |(machine, place): (&Machine, &MutexGuard<'_, Place>)| Sleeper {
            state: machine.asleep_inside(),
            programs: shared.services.running_in(machine),
            cut: place.cut.clone(),
            fresh: place.fresh,
            prepared: place.prepared.as_ref().map(|upper| upper.number()),
        };
        Ok(Sleeping {
            upper,
            asleep,
            next: self.engine().next_number(),
            fabric: shared.fabric,
            machines: shared.machines.iter().zip(places).map(sleeper).collect(),
            attached: lock(&shared.attached).clone(),
        })
    }

    /// The trunk of a network of a capsule, which this order opens there; none if the bed is in no capsule.
    ///
    /// # Errors
    /// What the launcher says.
    pub(crate) fn trunk_inside(&self, order: &Order) -> Result<Option<Stream>, Fault> {
        let Some(capsule) = &self.shared.capsule else { return Ok(None) };
        let (ours, theirs) = fdpass::stream_pair().doing("make a socket")?;
        let back = theirs.try_clone().doing("copy a descriptor")?;
        let (input, output) = (Source::Handed, Sink::Handed);
        self.start_on_device(capsule, order, Tool::Trunk, (input, output), vec![theirs, back])?;
        Stream::new(ours, Arc::default()).doing("make a port").map(Some)
    }

    /// Captures a network of a capsule, inside; gives what is to be read as pcapng. None if the bed is in no capsule.
    ///
    /// # Errors
    /// When there is no such network, and what the capture says.
    pub(crate) fn capture_inside(
        &self,
        options: &capture::Options,
    ) -> Result<Option<(RunningTool, OwnedFd)>, Fault> {
        let Some(capsule) = &self.shared.capsule else { return Ok(None) };
        let order = Order::Capture { fabric: self.shared.fabric, network: self.find_network(&options.name)? };
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let capture::Options { name, filter, count, snap, .. } = options;
        let (interface, filter) = (Some(name.clone()), filter.to_string());
        let tool = Tool::Capture { interface, filter, count: *count, snap: *snap };
        let started =
            self.start_on_device(capsule, &order, tool, (Source::Null, Sink::Handed), vec![theirs])?;
        Ok(Some((started, ours)))
    }

    /// Starts a tool in the capsule that works on what an order opens there, and waits until it does.
    fn start_on_device(
        &self,
        capsule: &Capsule,
        order: &Order,
        tool: Tool,
        (input, output): (Source, Sink),
        streams: Vec<OwnedFd>,
    ) -> Result<RunningTool, Fault> {
        let pending = self.engine().send_order(order, Vec::new())?;
        let device = Some(pending.channel());
        pending.wait()?;
        let tooling = Tooling { tool, input, output, deadline_ms: None, device };
        let started = capsule.machine.start_tool(tooling, streams)?;
        started.wait_ready(Duration::ZERO)?;
        Ok(started)
    }

    /// Ends the capsule, and goes on where this one sleeps.
    pub(super) fn wake_capsule(&self, capsule: &Capsule, sleeping: &Sleeping) -> Result<(), Fault> {
        let shared = &*self.shared;
        let mut places: Vec<_> = shared.places.iter().map(lock).collect();
        lock(&shared.switches).clear();
        shared.machines.iter().for_each(Machine::expect_end);
        capsule.kill(shared.spec.deadlines().stop())?;
        let inside = Arc::new(Inside::default());
        let mut birth = definition::capsule(&shared.spec, shared.roots.capsule()?, Arc::clone(&inside))?;
        birth.jail.snapshots = vec![sleeping.upper.number()];
        birth.asleep = Some(sleeping.asleep.clone());
        capsule.machine.make_guest_again(birth, None)?;
        let (link, console) = (capsule.machine.link()?, capsule.machine.console()?);
        let engine = Engine::inside(link, console, &inside, sleeping.next);
        for (machine, its) in shared.machines.iter().zip(&sleeping.machines) {
            machine.take_up_again(&engine, its.state)?;
        }
        for (place, its) in places.iter_mut().zip(sleeping.places(&engine)) {
            **place = its;
        }
        *lock(&shared.attached) = sleeping.attached();
        *lock(&shared.engine) = engine;
        drop(places);
        for machine in &shared.machines {
            self.serve_programs(machine);
        }
        sleeping.take_up_programs(&shared.services, &shared.machines)?;
        *lock(&shared.switches) = self.start_switches(&shared.options.uplink, Vec::new())?;
        capsule.wait_started(shared.spec.deadlines().start())
    }
}
