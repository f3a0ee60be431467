//! Lines about what is still running, for who has no terminal: each test's come less and less often.

use super::lines::short;
use super::running::Running;
use crate::terminal;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A test is told of when it has been running for so long, and then each time that has tripled.
const FIRST: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Still {
    /// When each running test, by its title, is told of next.
    next: HashMap<String, Duration>,
}

impl Still {
    /// Tells of those whose time has come.
    pub(super) fn tell(&mut self, running: &Running) {
        let now = Instant::now();
        let tests = running.tests();
        if tests.is_empty() {
            self.next.clear();
        }
        for test in tests {
            let took = now.saturating_duration_since(test.since);
            if took < FIRST {
                // Those behind it began later.
                break;
            }
            let next = self.next.entry(test.title()).or_insert(FIRST);
            if took >= *next {
                *next = took * 3;
                terminal::talk(&format!("  running {} ({})\n", test.title(), short(took)));
            }
        }
    }
}
