//! Snapshots of a bed: the files of its machines, the memory of those with kernels of their own, and which of their links
//! were cut, under one name.
//!
//! A machine that has ended gives its upper layer away, and starts again on a new one above it. One that runs stands
//! still (cgroup v2) while its upper layer is copied. Rolling back and forking start machines on empty upper layers
//! above those of the snapshot, so both cost what a start costs, however much was written.
//!
//! Processes are part of it where the kernel is: a machine with a kernel of its own that ran goes on where it was. The
//! programs of others start anew.

use super::capsule::Sleeping;
use super::lifecycle::{Memory, Place};
use super::{Bed, Ending, definition, readiness};
use crate::engine::hands::Hands;
use crate::engine::link::lock;
use crate::machine::{Condition, Machine, Upper};
use rustix::fs::{Mode, OFlags, openat};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};
use testbed_agent::control::SnapshotStatus;
use testbed_agent::layers::Work;
use testbed_agent::{Doing as _, Fault, FaultKind};

/// The longest name of a snapshot, in bytes.
const LONGEST_NAME: usize = 128;

/// All snapshots of a bed.
#[derive(Default)]
pub(super) struct Snapshots {
    by_name: BTreeMap<String, Snapshot>,
    /// The one that the bed's machines stand on: made or rolled back to last.
    current: Option<String>,
}

struct Snapshot {
    parent: Option<String>,
    made: SystemTime,
    /// By the number of the machine.
    machines: BTreeMap<usize, Past>,
    /// The capsule that holds them all.
    capsule: Option<Sleeping>,
}

/// A machine as it was.
#[derive(Clone, Default)]
struct Past {
    /// Its upper layers, top first.
    layers: Vec<Arc<Upper>>,
    cut: BTreeSet<u32>,
    /// It ran, with a kernel of its own.
    memory: Option<Memory>,
}

impl Past {
    /// Where a machine goes on from here.
    fn place(self) -> Place {
        Place { below: self.layers, fresh: true, cut: self.cut, memory: self.memory, ..Place::default() }
    }
}

impl Bed {
    /// Takes a snapshot of these machines, or of all if none is named. Those that run stand still meanwhile.
    ///
    /// # Errors
    /// [`FaultKind::Exists`] if the name is taken; [`FaultKind::Unsupported`] for a machine that runs on a host without
    /// cgroup v2; [`FaultKind::Exhausted`] when memory is short.
    pub fn snapshot(&self, name: &str, machines: &[&str]) -> Result<(), Fault> {
        check_name(name)?;
        let mut snapshots = lock(&self.shared.snapshots);
        if snapshots.by_name.contains_key(name) {
            return Err(Fault::new(FaultKind::Exists, format!("make the snapshot `{name}`: there is one")));
        }
        let numbers = self.numbers(machines)?;
        let (machines, capsule) = match &self.shared.capsule {
            None => (self.take_past(&numbers)?, None),
            Some(capsule) => {
                if !machines.is_empty() {
                    self.in_capsule("take a snapshot of")?;
                }
                let past = numbers.into_iter().map(|number| (number, Past::default())).collect();
                (past, Some(self.keep_capsule(capsule)?))
            }
        };
        let parent = snapshots.current.replace(name.into());
        snapshots
            .by_name
            .insert(name.into(), Snapshot { parent, made: SystemTime::now(), machines, capsule });
        Ok(())
    }

    /// All snapshots, oldest first.
    pub fn snapshots(&self) -> Vec<SnapshotStatus> {
        let snapshots = lock(&self.shared.snapshots);
        let name_of = |number: &usize| self.shared.machines[*number].name().to_owned();
        let mut all: Vec<(&String, &Snapshot)> = snapshots.by_name.iter().collect();
        all.sort_by_key(|(_, snapshot)| snapshot.made);
        let status = |(name, snapshot): (&String, &Snapshot)| SnapshotStatus {
            name: name.clone(),
            parent: snapshot.parent.clone(),
            made: snapshot.made.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            machines: snapshot.machines.keys().map(name_of).collect(),
            current: snapshots.current.as_ref() == Some(name),
        };
        all.into_iter().map(status).collect()
    }

    /// Puts these machines, or all of the snapshot if none is named, back on it: they end at once and start again on its
    /// files, with their services; those whose memory it holds go on where they were. Returns when they are ready.
    ///
    /// # Errors
    /// [`FaultKind::NotFound`] without such a snapshot or for a machine that is not in it, and those of a start.
    pub fn rollback(&self, name: &str, machines: &[&str]) -> Result<(), Fault> {
        let mut snapshots = lock(&self.shared.snapshots);
        let snapshot = snapshots.find(name)?;
        if let (Some(capsule), Some(sleeping)) = (&self.shared.capsule, &snapshot.capsule) {
            if !machines.is_empty() {
                self.in_capsule("roll back")?;
            }
            self.wake_capsule(capsule, sleeping)?;
            snapshots.current = Some(name.into());
            return Ok(());
        }
        let mut numbers = self.numbers(machines)?;
        if machines.is_empty() {
            numbers.retain(|number| snapshot.machines.contains_key(number));
        }
        if let Some(missing) = numbers.iter().find(|number| !snapshot.machines.contains_key(number)) {
            let missing = self.shared.machines[*missing].name();
            return Err(Fault::new(FaultKind::NotFound, format!("not in the snapshot `{name}`")).on(missing));
        }
        let mut places = self.lock_places(&numbers);
        for (number, place) in numbers.iter().zip(&mut places) {
            let machine = &self.shared.machines[*number];
            if machine.condition() != Condition::Stopped {
                self.end(machine, Ending::Hard)?;
            }
            let past = snapshot.machines.get(number).cloned().unwrap_or_default();
            place.end_files(self.shared.spec.deadlines().stop())?;
            **place = past.place();
            self.begin(*number, &self.shared.spec.machines()[*number], place)?;
        }
        drop(places);
        snapshots.current = Some(name.into());
        drop(snapshots);
        self.settle(&numbers)
    }

    /// Forgets a snapshot, and with `children` all that were made above it. Machines and forks that stand on it go on.
    ///
    /// # Errors
    /// [`FaultKind::State`] if there are such and they are not to go.
    pub fn delete_snapshot(&self, name: &str, children: bool) -> Result<(), Fault> {
        let mut snapshots = lock(&self.shared.snapshots);
        let parent = snapshots.find(name)?.parent.clone();
        let family = snapshots.family(name);
        if family.len() > 1 && !children {
            let others: Vec<&str> = family.iter().map(String::as_str).filter(|n| *n != name).collect();
            let what = format!("delete the snapshot `{name}`: {} stand on it", others.join(", "));
            return Err(
                Fault::new(FaultKind::State, what).hint("delete them first, or ask for them to go too")
            );
        }
        for name in &family {
            snapshots.by_name.remove(name);
        }
        if snapshots.current.as_ref().is_some_and(|current| family.contains(current)) {
            snapshots.current = parent;
        }
        Ok(())
    }

    /// A second bed with the same machines, addresses and files, beside this one: as they are now, or as they were in a
    /// snapshot. Its ports are published at free ones of the host. Returns when it is ready.
    ///
    /// # Errors
    /// As for [`Bed::snapshot`] and [`Bed::up`].
    pub fn fork(&self, snapshot: Option<&str>) -> Result<Bed, Fault> {
        let shared = &*self.shared;
        let options = super::Options { free_ports: true, ..shared.options.clone() };
        if let Some(capsule) = &shared.capsule {
            let sleeping = match snapshot {
                None => self.keep_capsule(capsule)?,
                Some(name) => {
                    let missing = || Fault::new(FaultKind::State, "fork what is no snapshot of a capsule");
                    lock(&shared.snapshots).find(name)?.capsule.clone().ok_or_else(missing)?
                }
            };
            let roots = shared.roots.clone();
            let fork = Bed::of_sleeping(capsule.host(), &shared.spec, roots, options, &sleeping)?;
            fork.wait_ready()?;
            return Ok(fork);
        }
        let numbers = self.numbers(&[])?;
        let past = match snapshot {
            None => self.take_past(&numbers)?,
            Some(name) => lock(&self.shared.snapshots).find(name)?.machines.clone(),
        };
        let places = numbers
            .iter()
            .map(|number| Place { fresh: false, ..past.get(number).cloned().unwrap_or_default().place() });
        let (engine, roots) = (self.engine(), shared.roots.clone());
        let fork = Bed::build(&engine, &shared.spec, roots, options, places.collect(), None)?;
        readiness::wait(&fork, readiness::Files::Stay, &|_| true)?;
        Ok(fork)
    }

    /// The numbers of these machines, or of all; each once, in the order of the file.
    fn numbers(&self, machines: &[&str]) -> Result<Vec<usize>, Fault> {
        if machines.is_empty() {
            return Ok((0..self.shared.machines.len()).collect());
        }
        let numbers = machines.iter().map(|name| self.numbered(name).map(|(number, _)| number));
        Ok(numbers.collect::<Result<BTreeSet<_>, _>>()?.into_iter().collect())
    }

    /// In the order of numbers, as everybody does it.
    fn lock_places(&self, numbers: &[usize]) -> Vec<MutexGuard<'_, Place>> {
        numbers.iter().map(|number| lock(&self.shared.places[*number])).collect()
    }

    /// What these machines are now.
    fn take_past(&self, numbers: &[usize]) -> Result<BTreeMap<usize, Past>, Fault> {
        let mut places = self.lock_places(numbers);
        let machines = || numbers.iter().map(|number| &self.shared.machines[*number]);
        for number in numbers {
            let machine = &self.shared.machines[*number];
            if machine.condition() == Condition::Created {
                machine.wait_started(readiness::start_deadline(
                    &self.shared,
                    &self.shared.spec.machines()[*number],
                ))?;
            }
        }
        let mut standing = Standing::default();
        for machine in machines().filter(|machine| machine.condition() == Condition::Running) {
            machine.pause().map_err(|fault| fault.hint("stop the machine first"))?;
            standing.machines.push(machine);
        }
        let engine = self.engine();
        let hands = Hands::of(&engine);
        let mut past = BTreeMap::new();
        for (number, place) in numbers.iter().zip(&mut places) {
            let machine = &self.shared.machines[*number];
            if machine.condition() == Condition::Stopped {
                place.end_files(self.shared.spec.deadlines().stop())?;
                if let Some(own) = place.own(machine) {
                    place.below.insert(0, own);
                    (place.fresh, place.prepared) = (true, None);
                }
                let (layers, cut) = (place.below.clone(), place.cut.clone());
                past.insert(*number, Past { layers, cut, memory: None });
            } else {
                let size = definition::changes(&self.shared.spec.machines()[*number]);
                let copy = Upper::make(&engine, size)?;
                let asleep = machine.save_memory()?;
                let copied = copy_upper(&hands, &machine.upper(), &copy);
                machine.forget_memory()?;
                copied.map_err(|fault| fault.on(machine.name()))?;
                let programs = || self.shared.services.running_in(machine);
                let memory = asleep.map(|asleep| Memory { asleep, programs: programs() });
                let layers = std::iter::once(copy).chain(place.below.iter().cloned()).collect();
                past.insert(*number, Past { layers, cut: place.cut.clone(), memory });
            }
        }
        Ok(past)
    }
}

/// Machines that go on when this is dropped.
#[derive(Default)]
struct Standing<'a> {
    machines: Vec<&'a Machine>,
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        for machine in &self.machines {
            // One that has ended meanwhile need not go on.
            let _ = machine.resume();
        }
    }
}

impl Snapshots {
    fn find(&self, name: &str) -> Result<&Snapshot, Fault> {
        self.by_name.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            let hint = if names.is_empty() {
                "there is none".into()
            } else {
                format!("there are: {}", names.join(", "))
            };
            Fault::new(FaultKind::NotFound, format!("no snapshot `{name}`")).hint(hint)
        })
    }

    /// A snapshot and all that were made above it.
    fn family(&self, name: &str) -> BTreeSet<String> {
        let mut family = BTreeSet::from([name.to_owned()]);
        loop {
            let of_family = |parent: &String| family.contains(parent);
            let children = self.by_name.iter().filter(|(_, s)| s.parent.as_ref().is_some_and(of_family));
            let more: Vec<String> = children.map(|(name, _)| name.clone()).collect();
            let before = family.len();
            family.extend(more);
            if family.len() == before {
                return family;
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), Fault> {
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(legal) {
        return Err(Fault::new(FaultKind::Invalid, format!("name a snapshot `{name}`"))
            .hint("letters, digits, `.`, `_` and `-`"));
    }
    Ok(())
}

pub(super) fn copy_upper(hands: &Hands, from: &Upper, to: &Upper) -> Result<(), Fault> {
    let open = |upper: &Upper| {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(upper.open()?, c"upper", flags, Mode::empty()).doing("open an upper layer")
    };
    hands.work(Work::Copy, vec![open(from)?, open(to)?]).map(drop)
}
