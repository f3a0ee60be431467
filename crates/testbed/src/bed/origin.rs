//! What many copies of one testbed are made from.

use super::capsule::Sleeping;
use super::{Bed, Images, Options, Prepared};
use crate::engine::Engine;
use crate::engine::link::lock;
use crate::spec::Testbed;
use std::sync::{Arc, Mutex, MutexGuard};
use testbed_agent::Fault;

/// Makes copies of a testbed, each as fresh as the first. Those of a capsule go on from where the first was ready.
#[derive(Default)]
pub struct Origin {
    ready: Mutex<Option<Sleeping>>,
}

/// The first copy of a capsule, until it is ready: others wait for it.
pub struct First<'a> {
    ready: MutexGuard<'a, Option<Sleeping>>,
}

impl Origin {
    /// Has a copy made. With the first of a capsule comes what [keeps](First::keep) it once it is ready.
    ///
    /// # Errors
    /// As for [`Bed::make`].
    pub fn copy(
        &self,
        engine: &Engine,
        testbed: &Arc<Testbed>,
        images: &dyn Images,
        options: &Options,
    ) -> Result<(Bed, Option<First<'_>>), Fault> {
        if testbed.capsule().is_none() {
            return Ok((Bed::make(engine, testbed, images, options)?, None));
        }
        let ready = lock(&self.ready);
        let Some(sleeping) = ready.clone() else {
            return Ok((Bed::make(engine, testbed, images, options)?, Some(First { ready })));
        };
        drop(ready);
        let roots = Prepared::new(testbed, images)?;
        let testbed = Arc::clone(roots.testbed());
        Ok((Bed::of_sleeping(engine, &testbed, roots, options.clone(), &sleeping)?, None))
    }
}

impl First<'_> {
    /// Keeps it as it is now for all further copies.
    ///
    /// # Errors
    /// What keeps it from being copied.
    pub fn keep(mut self, bed: &Bed) -> Result<(), Fault> {
        *self.ready = bed.sleeping()?;
        Ok(())
    }
}
