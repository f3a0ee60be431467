//! What is running, and since when.

use super::lines::printable;
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};
use testbed_subunit::{EventRef, Status};

/// The tests that are running, and the machines that are starting.
pub(super) struct Running {
    stored: bool,
    tests: BTreeMap<(String, Option<String>), Test>,
    /// Machines that are asked for and not ready.
    starting: BTreeMap<String, Instant>,
}

/// A test that is running.
pub(super) struct Test {
    pub(super) id: String,
    pub(super) route: Option<String>,
    pub(super) since: Instant,
    /// The copy of the testbed that it has.
    pub(super) copy: String,
}

impl Test {
    /// The id, and which repetition it is.
    pub(super) fn title(&self) -> String {
        let number = self.route.as_ref().map_or(String::new(), |route| format!(" #{}", printable(route)));
        format!("{}{number}", printable(&self.id))
    }
}

impl Running {
    /// Nothing is. What is `stored` began when its events say, and not when they are seen.
    pub(super) fn new(stored: bool) -> Running {
        Running { stored, tests: BTreeMap::new(), starting: BTreeMap::new() }
    }

    /// Takes the next event.
    pub(super) fn event(&mut self, event: EventRef<'_>) {
        let (Some(id), Some(status)) = (event.id(), event.status()) else { return };
        if !event.runnable() {
            if status == Status::InProgress && !event.tags().contains(testbed::run::READY) {
                self.starting.insert(id.to_owned(), Instant::now());
            } else {
                self.starting.remove(id);
            }
            return;
        }
        let key = (id.to_owned(), event.route().map(str::to_owned));
        if status != Status::InProgress {
            self.tests.remove(&key);
            return;
        }
        let copy = event.tags().iter().find(|tag| tag.starts_with("copy-")).unwrap_or_default();
        let test =
            Test { id: key.0.clone(), route: key.1.clone(), since: self.began(event), copy: copy.into() };
        self.tests.entry(key).or_insert(test);
    }

    fn began(&self, event: EventRef<'_>) -> Instant {
        let now = Instant::now();
        let time = event.timestamp().filter(|_| self.stored).map(SystemTime::from);
        let age = time.and_then(|time| SystemTime::now().duration_since(time).ok());
        age.and_then(|age| now.checked_sub(age)).unwrap_or(now)
    }

    /// The tests, those first that have been running for longest.
    pub(super) fn tests(&self) -> Vec<&Test> {
        let mut tests: Vec<&Test> = self.tests.values().collect();
        tests.sort_by_key(|test| test.since);
        tests
    }

    /// How many machines are starting.
    pub(super) fn starting(&self) -> usize {
        self.starting.len()
    }
}
