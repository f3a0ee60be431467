//! Machines of a bed that end and start again.

use super::service::RunningProgram;
use super::wires::Wires;
use super::{Bed, definition, readiness};
use crate::engine::link::lock;
use crate::machine::{Asleep, Birth, Condition, Machine, Upper};
use crate::spec;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use testbed_agent::agent::{self, Tool};
use testbed_agent::launch::LinkMode;
use testbed_agent::{Fault, FaultKind};

/// SIGTERM (signal(7)).
const TERMINATE: i32 = 15;
/// The parent of a kernel's threads.
const KERNEL_THREADS: u32 = 2;

/// How a machine is made to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Its programs are asked to end (SIGTERM) and have the file's `stop` deadline for it; what is left is killed.
    #[default]
    Soft,
    /// It is killed at once, as if its power was cut.
    Hard,
}

/// What of a machine is the bed's, and outlives its restarts.
#[derive(Default)]
pub(super) struct Place {
    /// Upper layers of the past below the machine's own, top first.
    pub(super) below: Vec<Arc<Upper>>,
    /// Its own has become one of them, and it starts on a new one.
    pub(super) fresh: bool,
    /// The new one, if something is on it already.
    pub(super) prepared: Option<Arc<Upper>>,
    /// What stands on its files while it has ended.
    pub(super) files: Option<Machine>,
    /// Its interfaces that are cut.
    pub(super) cut: BTreeSet<u32>,
    /// It starts as a copy of a machine that slept, whose files are below, or has so started.
    pub(super) memory: Option<Memory>,
}

/// What must be known of a machine that sleeps to go on with a copy of it.
#[derive(Clone)]
pub(super) struct Memory {
    pub(super) asleep: Asleep,
    /// What runs there.
    pub(super) programs: Vec<RunningProgram>,
}

impl Place {
    /// The upper layer that is the machine's own now, or will be when it starts.
    pub(super) fn own(&self, machine: &Machine) -> Option<Arc<Upper>> {
        if self.fresh { self.prepared.clone() } else { Some(machine.upper()) }
    }

    /// Has a machine begin here.
    pub(super) fn settle_in(&self, birth: &mut Birth) {
        birth.jail.snapshots = self.below.iter().map(|upper| upper.number()).collect();
        birth.asleep = self.memory.as_ref().map(|memory| memory.asleep.clone());
    }
}

impl Bed {
    /// Ends a machine. Its files stay; [`Bed::start`] starts it again.
    ///
    /// # Errors
    /// [`FaultKind::State`] when it does not run, and a timeout when it cannot be killed.
    pub fn stop(&self, machine: &str, ending: Ending) -> Result<(), Fault> {
        let (number, _) = self.numbered(machine)?;
        let _place = lock(&self.shared.places[number]);
        self.end(self.find(machine)?, ending)
    }

    /// Starts a machine that has ended: on its files as it left them, with its services, and waits until it is ready.
    ///
    /// # Errors
    /// [`FaultKind::State`] when it runs, and those of [`Bed::wait_ready`].
    pub fn start(&self, machine: &str) -> Result<(), Fault> {
        let (number, spec) = self.numbered(machine)?;
        {
            let mut place = lock(&self.shared.places[number]);
            place.memory = None;
            self.begin(number, spec, &mut place)?;
        }
        self.settle(&[number])
    }

    /// Ends a machine, if it runs, and starts it again.
    ///
    /// # Errors
    /// As for [`Bed::stop`] and [`Bed::start`].
    pub fn restart(&self, machine: &str, ending: Ending) -> Result<(), Fault> {
        let (number, spec) = self.numbered(machine)?;
        {
            let mut place = lock(&self.shared.places[number]);
            if self.shared.machines[number].condition() != Condition::Stopped {
                self.end(&self.shared.machines[number], ending)?;
            }
            place.memory = None;
            self.begin(number, spec, &mut place)?;
        }
        self.settle(&[number])
    }

    /// What is done to a machine's layers cannot be done to a machine with a kernel of its own: its files are on its disk.
    pub(super) fn on_layers(machine: &spec::Machine, doing: &str) -> Result<(), Fault> {
        if machine.kernel() != spec::Kernel::Own {
            return Ok(());
        }
        let what = format!("{doing} a machine with a kernel of its own");
        let fault = Fault::new(FaultKind::Unsupported, what).on(machine.name());
        Err(fault.hint("its files are on a disk that only it can read; ask while it runs"))
    }

    /// The number of a machine in the file, and what the file says of it.
    pub(super) fn numbered(&self, machine: &str) -> Result<(usize, &spec::Machine), Fault> {
        self.find(machine)?;
        let missing = || Fault::new(FaultKind::NotFound, format!("no machine `{machine}`"));
        let number = *self.shared.by_name.get(machine).ok_or_else(missing)?;
        Ok((number, &self.shared.spec.machines()[number]))
    }

    pub(super) fn end(&self, machine: &Machine, ending: Ending) -> Result<(), Fault> {
        let stop = self.shared.spec.deadlines().stop();
        let spec = self.shared.spec.machine(machine.name());
        let boots = spec.is_some_and(|spec| spec.init() == spec::Init::Systemd);
        match machine.condition() {
            Condition::Stopped => {
                return Err(
                    Fault::new(FaultKind::State, "stop a machine that does not run").on(machine.name())
                );
            }
            // Nothing in it could do anything about a request.
            Condition::Paused => {}
            Condition::Created | Condition::Running if ending == Ending::Soft && !machine.has_agent() => {
                // One that does not listen to its power button is ended by force.
                let _ = machine.press_power(stop);
                if machine.condition() == Condition::Stopped {
                    return Ok(());
                }
            }
            Condition::Created | Condition::Running if ending == Ending::Soft && boots => {
                // What does not end in time is ended by force.
                let _ = machine.switch_off(stop);
                if machine.condition() == Condition::Stopped {
                    return Ok(());
                }
                let _ = machine.sync(stop);
            }
            Condition::Created | Condition::Running if ending == Ending::Soft => {
                // Whatever keeps it from ending by itself is ended by force.
                let _ = ask_to_end(machine, Instant::now() + stop);
                // A kernel of its own may have much to write.
                let _ = machine.sync(stop);
            }
            Condition::Created | Condition::Running => {}
        }
        machine.kill(stop)
    }

    /// Has a machine made again on what its place says.
    pub(super) fn begin(&self, number: usize, spec: &spec::Machine, place: &mut Place) -> Result<(), Fault> {
        let shared = &*self.shared;
        let machine = &shared.machines[number];
        let root = shared.roots.of(spec)?;
        place.end_files(shared.spec.deadlines().stop())?;
        if spec.kernel() == spec::Kernel::Own {
            let interfaces = 0..spec.interfaces().len() as u32;
            let cuts: Vec<_> =
                interfaces.filter_map(|i| shared.adapters.get(&(number, i)).cloned()).collect();
            cuts.iter().for_each(|cut| cut.store(false, Ordering::Relaxed));
            let wires = Wires::make(spec, &cuts)?;
            let mut birth = definition::birth(&shared.spec, spec, root, &shared.options, wires.links)?;
            place.settle_in(&mut birth);
            machine.make_guest_again(birth, place.own(machine))?;
            let switches = lock(&shared.switches);
            for (network, stream) in wires.streams {
                if let Some(switch) = switches.get(&network) {
                    switch.attach(Box::new(stream))?;
                }
            }
        } else {
            let mut definition =
                definition::machine(&shared.spec, spec, root, Some(shared.fabric), &shared.options)?;
            definition.snapshots = place.below.iter().map(|upper| upper.number()).collect();
            machine.make_again(definition, place.own(machine))?;
        }
        (place.fresh, place.prepared) = (false, None);
        self.serve_programs(machine);
        self.take_up_programs(number, place)?;
        for interface in &place.cut {
            self.set_link(number, *interface, LinkMode::Cut)?;
        }
        Ok(())
    }

    /// Hears again of what runs in a machine that goes on where another one slept.
    pub(super) fn take_up_programs(&self, number: usize, place: &Place) -> Result<(), Fault> {
        let programs = place.memory.iter().flat_map(|memory| &memory.programs);
        for program in programs {
            self.shared.services.take_up(&self.shared.machines[number], program)?;
        }
        Ok(())
    }

    /// Starts the services of machines that were made again, and waits until they are ready.
    pub(super) fn settle(&self, numbers: &[usize]) -> Result<(), Fault> {
        let machines = self.shared.spec.machines();
        let names: BTreeSet<&str> = numbers.iter().map(|number| machines[*number].name()).collect();
        readiness::wait(self, readiness::Files::Stay, &|machine| names.contains(machine.name()))
    }
}

/// Sends all programs the request to end, and waits until they have.
fn ask_to_end(machine: &Machine, end: Instant) -> Result<(), Fault> {
    let processes = machine.processes()?;
    // A kernel of the machine's own has threads, which are all children of one of them.
    let is_thread = |pid| pid == KERNEL_THREADS && machine.console().is_ok();
    let others = || processes.iter().filter(|p| p.pid != 1 && !is_thread(p.pid) && !is_thread(p.parent));
    for process in others() {
        match machine.signal(process.pid as i32, TERMINATE) {
            Err(fault) if fault.kind != FaultKind::NotFound => return Err(fault),
            _ => {}
        }
    }
    for process in others() {
        let left = end.saturating_duration_since(Instant::now());
        machine.tool(Tool::Wait(agent::Condition::Exit { pid: process.pid }), left)?;
    }
    Ok(())
}
