//! What a machine has changed: its upper layer.

use crate::engine::Engine;
use rustix::fd::OwnedFd;
use std::fmt;
use std::sync::Arc;
use testbed_agent::Fault;
use testbed_agent::launch::Order;

/// An upper layer that the launcher holds, of a machine or of none. With the last handle it is let go; a machine that
/// runs on it keeps it until its end.
pub(crate) struct Upper {
    engine: Engine,
    number: u32,
}

impl Upper {
    /// The one that a machine was made with.
    pub(crate) fn of_machine(engine: &Engine, number: u32) -> Arc<Upper> {
        Arc::new(Upper { engine: engine.clone(), number })
    }

    /// An empty one in memory, of at most `size` bytes.
    ///
    /// # Errors
    /// What the launcher says.
    pub(crate) fn make(engine: &Engine, size: u64) -> Result<Arc<Upper>, Fault> {
        let number = engine.number();
        engine.order(&Order::MakeUpper { upper: number, size })?;
        Ok(Arc::new(Upper { engine: engine.clone(), number }))
    }

    /// Its number at the launcher.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The folder that holds `upper` and `work`.
    ///
    /// # Errors
    /// What the launcher says.
    pub(crate) fn open(&self) -> Result<OwnedFd, Fault> {
        self.engine.open(&Order::OpenUpper { upper: self.number })
    }
}

impl fmt::Debug for Upper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upper({})", self.number)
    }
}

impl Drop for Upper {
    fn drop(&mut self) {
        // Without its launcher there is nothing to let go.
        let _ = self.engine.send_order(&Order::ForgetUpper { upper: self.number }, Vec::new());
    }
}
