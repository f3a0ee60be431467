//! The verdict on a run, and its figures.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::event::{Status, Timestamp};
use crate::record::{Record, Rest};

/// How many tests came to what.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Totals {
    /// Listed and not run ([`Status::Exists`]).
    pub listed: u64,
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// Passed although they were expected to fail.
    pub uxsuccess: u64,
    /// Not run.
    pub skipped: u64,
    /// Failed as expected.
    pub xfail: u64,
    /// Begun and never ended.
    pub unfinished: u64,
}

impl Totals {
    /// All that were run or skipped: everything but what was only listed.
    pub fn run(&self) -> u64 {
        self.passed + self.xfail + self.skipped + self.failures()
    }

    /// Those for which a run has failed: failed, passed against expectation, or never ended.
    pub fn failures(&self) -> u64 {
        self.failed + self.uxsuccess + self.unfinished
    }

    fn add(&mut self, status: Option<Status>) {
        *match status {
            Some(Status::Exists) => &mut self.listed,
            Some(Status::Success) => &mut self.passed,
            Some(Status::UxSuccess) => &mut self.uxsuccess,
            Some(Status::Skip) => &mut self.skipped,
            Some(Status::Fail) => &mut self.failed,
            Some(Status::XFail) => &mut self.xfail,
            Some(Status::InProgress) | None => &mut self.unfinished,
        } += 1;
    }
}

/// A test and how long it took.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timed {
    /// How long it took.
    pub duration: Duration,
    /// The test's id.
    pub id: Box<str>,
}

/// The figures of a run, from its records.
///
/// Tests and what is not runnable (machines, shared resources) are counted apart. Both can fail the run.
#[derive(Clone, Debug)]
pub struct Summary {
    tests: Totals,
    activities: Totals,
    strays: u64,
    tags: BTreeSet<Box<str>>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    longest: Vec<Timed>,
    longest_limit: usize,
}

impl Default for Summary {
    /// Remembers the ten longest tests.
    fn default() -> Self {
        Self::new(10)
    }
}

impl Summary {
    /// A summary that remembers the `longest` longest tests.
    pub fn new(longest: usize) -> Self {
        Self {
            tests: Totals::default(),
            activities: Totals::default(),
            strays: 0,
            tags: BTreeSet::new(),
            first: None,
            last: None,
            longest: Vec::new(),
            longest_limit: longest,
        }
    }

    /// Counts a record.
    pub fn add(&mut self, record: &Record) {
        let totals = if record.runnable { &mut self.tests } else { &mut self.activities };
        totals.add(record.status);
        self.tags.extend(record.tags.iter().cloned());
        for time in [record.start, record.stop].into_iter().flatten() {
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = Some(self.last.map_or(time, |last| last.max(time)));
        }
        if let (true, Some(duration)) = (record.runnable, record.duration()) {
            let at = self.longest.partition_point(|one| one.duration >= duration);
            if at < self.longest_limit {
                self.longest.truncate(self.longest_limit - 1);
                self.longest.insert(at, Timed { duration, id: record.id.clone() });
            }
        }
    }

    /// Counts what is left at the end of the stream: unfinished tests, and failures of no test.
    pub fn add_rest(&mut self, rest: &Rest) {
        rest.unfinished.iter().for_each(|record| self.add(record));
        self.strays += rest.strays;
    }

    /// The figures of the tests.
    pub fn tests(&self) -> Totals {
        self.tests
    }

    /// The figures of what is not runnable.
    pub fn activities(&self) -> Totals {
        self.activities
    }

    /// Failures that name no test.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Whether nothing failed. testtools' summary passes a test that succeeded against expectation; subunit's own
    /// text calls it a failure, and so does this.
    pub fn is_success(&self) -> bool {
        self.tests.failures() + self.activities.failures() + self.strays == 0
    }

    /// All tags of all tests.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(AsRef::as_ref)
    }

    /// The tests that took longest, the longest first.
    pub fn longest(&self) -> &[Timed] {
        &self.longest
    }

    /// From the first time that was told to the last.
    pub fn elapsed(&self) -> Option<Duration> {
        self.last?.since(self.first?)
    }
}
