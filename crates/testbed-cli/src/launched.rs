//! The launcher that a command starts.

use std::ops::Deref;
use testbed::{Engine, Fault, host};

/// A launcher of which nothing is left once this is dropped, whatever thread still has a hold of it: one that hears of a
/// machine's end has, for that moment.
pub(crate) struct Launched(Engine);

impl Launched {
    /// Starts one.
    ///
    /// # Errors
    /// Those of [`host::engine`].
    pub(crate) fn start() -> Result<Launched, Fault> {
        host::engine().map(Launched)
    }
}

impl Deref for Launched {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.0
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        self.0.end();
    }
}
