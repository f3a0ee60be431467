//! The files of machines that have ended.

use super::lifecycle::Place;
use super::{Bed, definition};
use crate::engine::link::lock;
use crate::machine::{Condition, Machine, Upper};
use std::sync::TryLockError;
use std::time::Duration;
use testbed_agent::Fault;

impl Bed {
    /// A machine to copy files to and from: this one, or if it has ended one that stands on its files, without networks
    /// and services. That ends when the machine starts again, which finds what was copied.
    ///
    /// # Errors
    /// When there is no such machine, or its files cannot be had.
    pub fn files(&self, machine: &str) -> Result<Machine, Fault> {
        let (number, spec) = self.numbered(machine)?;
        let shared = &*self.shared;
        let mut place = lock(&shared.places[number]);
        let machine = &shared.machines[number];
        if machine.condition() != Condition::Stopped {
            return Ok(machine.clone());
        }
        if let Some(files) = place.files.as_ref().filter(|files| files.condition() != Condition::Stopped) {
            return Ok(files.clone());
        }
        Self::on_layers(spec, "reach the files of")?;
        let root = shared.roots.of(spec)?;
        let mut definition =
            definition::machine(&shared.spec, spec, root, Some(shared.fabric), &shared.options)?;
        definition.snapshots = place.below.iter().map(|upper| upper.number()).collect();
        (definition.interfaces, definition.routes, definition.sysctls) = Default::default();
        definition.control = false;
        let upper = match place.own(machine) {
            Some(upper) => upper,
            None => {
                let upper = Upper::make(&self.engine(), definition::changes(spec))?;
                place.prepared.insert(upper).clone()
            }
        };
        let files = Machine::make_on(&self.engine(), machine.name(), definition, upper)?;
        files.wait_started(shared.spec.deadlines().start())?;
        place.files = Some(files.clone());
        Ok(files)
    }

    /// What [`Bed::files`] has made, without waiting for anything.
    pub(crate) fn files_at_hand(&self, machine: &str) -> Option<Machine> {
        let (number, _) = self.numbered(machine).ok()?;
        let place = match self.shared.places[number].try_lock() {
            Ok(place) => place,
            Err(TryLockError::Poisoned(place)) => place.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        place.files.clone().filter(|files| files.condition() != Condition::Stopped)
    }
}

impl Place {
    /// Ends what stands on the machine's files, so that they can be used otherwise.
    pub(super) fn end_files(&mut self, deadline: Duration) -> Result<(), Fault> {
        match self.files.take() {
            Some(files) => files.kill(deadline),
            None => Ok(()),
        }
    }
}
