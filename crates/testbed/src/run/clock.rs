//! The one clock of a run.

use std::time::{Instant, SystemTime};
use testbed_subunit::Timestamp;

/// Tells the time of day as it was at the start of the run, plus what has passed since: setting the host's clock
/// makes no test longer or shorter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: SystemTime,
    since: Instant,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock { start: SystemTime::now(), since: Instant::now() }
    }

    /// Now; none outside the years 1970 to 2106.
    pub(super) fn now(&self) -> Option<Timestamp> {
        Timestamp::try_from(self.start + self.since.elapsed()).ok()
    }
}
