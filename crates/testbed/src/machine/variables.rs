//! What a machine and those who test it leave for each other: texts under keys.

use crate::engine::link::lock;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use testbed_agent::{Fault, FaultKind};

/// The longest key, in bytes.
pub const MAX_KEY: usize = 128;
/// The longest value, in bytes.
pub const MAX_VALUE: usize = 32 * 1024;
/// What all keys and values of a machine may hold together, in bytes.
pub const MAX_VARIABLES: usize = 1 << 20;

/// A machine's variables. They are the machine's through all its starts and rollbacks, and part of no snapshot and no fork.
#[derive(Debug, Default)]
pub struct Variables {
    all: Mutex<BTreeMap<String, String>>,
    changed: Condvar,
}

impl Variables {
    /// Sets a variable, whether it is set already or not.
    ///
    /// # Errors
    /// [`FaultKind::Invalid`] for a key that is empty, longer than [`MAX_KEY`] or has spaces or control characters, and
    /// [`FaultKind::Exhausted`] for a value longer than [`MAX_VALUE`] or beyond [`MAX_VARIABLES`].
    pub fn set(&self, key: &str, value: &str) -> Result<(), Fault> {
        let exhausted = |most: usize, of: &str| {
            let fault = Fault::new(FaultKind::Exhausted, format!("set the variable `{key}`"));
            Err(fault.hint(format!("{of} hold {most} bytes at most; for more there are files")))
        };
        if key.is_empty()
            || key.len() > MAX_KEY
            || key.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Err(Fault::new(FaultKind::Invalid, format!("name a variable `{key}`"))
                .hint(format!("a key has 1 to {MAX_KEY} bytes, and neither spaces nor control characters")));
        }
        if value.len() > MAX_VALUE {
            return exhausted(MAX_VALUE, "values");
        }
        let mut all = lock(&self.all);
        let others = all.iter().filter(|(its, _)| *its != key);
        let used: usize = others.map(|(key, value)| key.len() + value.len()).sum();
        if used + key.len() + value.len() > MAX_VARIABLES {
            return exhausted(MAX_VARIABLES, "a machine's variables together");
        }
        all.insert(key.to_owned(), value.to_owned());
        self.changed.notify_all();
        Ok(())
    }

    /// The value of a variable, if it is set.
    pub fn get(&self, key: &str) -> Option<String> {
        lock(&self.all).get(key).cloned()
    }

    /// Waits until a variable is set; none if it is not within `deadline`.
    pub fn wait(&self, key: &str, deadline: Duration) -> Option<String> {
        self.wait_unless(key, deadline, &AtomicBool::new(false))
    }

    /// As [`Variables::wait`], until `stopped` is true after [`Variables::wake`].
    pub(crate) fn wait_unless(&self, key: &str, deadline: Duration, stopped: &AtomicBool) -> Option<String> {
        let end = Instant::now() + deadline;
        let mut all = lock(&self.all);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let found = all.get(key).cloned();
            if found.is_some() || left.is_zero() || stopped.load(Ordering::Acquire) {
                return found;
            }
            all = self.changed.wait_timeout(all, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Has those who wait look again.
    pub(crate) fn wake(&self) {
        // Whoever waits is either before its look, and sees what changed, or asleep.
        drop(lock(&self.all));
        self.changed.notify_all();
    }

    /// Forgets a variable; gives the value that it had.
    pub fn remove(&self, key: &str) -> Option<String> {
        lock(&self.all).remove(key)
    }

    /// All that are set and their values, by key.
    pub fn all(&self) -> Vec<(String, String)> {
        self.page("", usize::MAX).0
    }

    /// Those behind a key, as many as hold `most` bytes but one at least, and whether there are more.
    pub(crate) fn page(&self, after: &str, most: usize) -> (Vec<(String, String)>, bool) {
        let all = lock(&self.all);
        let mut page = Vec::new();
        let mut held = 0_usize;
        for (key, value) in all.range::<str, _>((Bound::Excluded(after), Bound::Unbounded)) {
            // Lengths are numbers of a few bytes each.
            held = held.saturating_add(key.len() + value.len() + 16);
            if held > most && !page.is_empty() {
                return (page, true);
            }
            page.push((key.clone(), value.clone()));
        }
        (page, false)
    }
}
