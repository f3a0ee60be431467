//! What became of each test: the fold that every report begins with.
//!
//! ```
//! use testbed_subunit::record::Records;
//! use testbed_subunit::{Draft, Status};
//!
//! let mut records = Records::default();
//! for draft in [
//!     Draft::test("vpn.ping", Status::InProgress),
//!     Draft::new().id("vpn.ping").file("stdout", b"no "),
//!     Draft::new().id("vpn.ping").file("stdout", b"answer\n"),
//! ] {
//!     assert!(records.event(draft.check()?).is_none());
//! }
//! let done = records.event(Draft::test("vpn.ping", Status::Fail).check()?).ok_or("a final status")?;
//! assert!(done.is_failure());
//! assert_eq!(done.attachment("stdout").map(|a| a.kept.to_vec()), Some(b"no answer\n".to_vec()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod kept;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

pub use self::kept::Kept;
use crate::event::{EventRef, FileRef, Status, Timestamp};

/// What is kept of the files that tests attach.
///
/// Ids, names and tags are kept whole. What does not fit of a file is left out of its middle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes kept of one attachment.
    pub bytes: usize,
    /// Attachments kept of one test.
    pub attachments: usize,
}

impl Default for Limits {
    /// 64 attachments of 256 KiB.
    fn default() -> Self {
        Self { bytes: 256 * 1024, attachments: 64 }
    }
}

/// A file that a test attached, all of its pieces joined.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Attachment {
    /// Name of the file. Unique within the record, unless a file was begun again after its end.
    pub name: Box<str>,
    /// MIME type: the first that was given.
    pub mime: Option<Box<str>>,
    /// Its bytes, as far as they were kept.
    pub kept: Kept,
    /// Whether its end has been seen.
    pub ended: bool,
}

/// What became of one test, between two final statuses of its id on one route.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// The test's id.
    pub id: Box<str>,
    /// Where it ran. One id on two routes is two tests.
    pub route: Option<Box<str>>,
    /// The last status that it reached. A test has finished if this is a final one.
    pub status: Option<Status>,
    /// Whether any event called it runnable. What is not runnable is no test but an activity around tests.
    pub runnable: bool,
    /// Time of its first event that has one.
    pub start: Option<Timestamp>,
    /// Time of its final status.
    pub stop: Option<Timestamp>,
    /// The tags of all its events.
    pub tags: BTreeSet<Box<str>>,
    /// Its files, in the order in which they began.
    pub attachments: Vec<Attachment>,
    /// Bytes of attachments that are not kept at all, because there were too many.
    pub bytes_left_out: u64,
}

impl Record {
    /// Whether it reached a final status.
    pub fn is_finished(&self) -> bool {
        self.status.is_some_and(Status::is_final)
    }

    /// Whether a run with this test has failed. A test that never finished is a failure.
    pub fn is_failure(&self) -> bool {
        !self.is_finished() || self.status.is_some_and(Status::is_failure)
    }

    /// How long it took. Zero where its clock went back: see [`Record::is_skewed`].
    pub fn duration(&self) -> Option<Duration> {
        Some(self.stop?.since(self.start?).unwrap_or_default())
    }

    /// Whether its end is told to be before its start, as when two clocks timed it.
    pub fn is_skewed(&self) -> bool {
        self.start.zip(self.stop).is_some_and(|(start, stop)| stop < start)
    }

    /// The first attachment of that name.
    pub fn attachment(&self, name: &str) -> Option<&Attachment> {
        self.attachments.iter().find(|attachment| &*attachment.name == name)
    }

    /// Why it was skipped or failed, in one line: the first line of its attachment `reason`.
    pub fn reason(&self) -> Option<String> {
        let bytes = self.attachment("reason")?.kept.to_vec();
        let text = String::from_utf8_lossy(&bytes);
        text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    }

    fn take(&mut self, event: EventRef<'_>, limits: Limits) {
        self.runnable |= event.runnable();
        self.start = self.start.or(event.timestamp());
        for tag in event.tags() {
            if !self.tags.contains(tag) {
                self.tags.insert(tag.into());
            }
        }
        if let Some(file) = event.file() {
            self.attach(file, event, limits);
        }
        if let Some(status) = event.status() {
            self.status = Some(status);
            if status.is_final() {
                self.stop = event.timestamp();
            }
        }
    }

    /// Adds the bytes to the open file of that name, or begins one.
    fn attach(&mut self, file: FileRef<'_>, event: EventRef<'_>, limits: Limits) {
        let open = self.attachments.iter().rposition(|one| !one.ended && &*one.name == file.name);
        let at = match open {
            Some(at) => at,
            None if self.attachments.len() >= limits.attachments => {
                self.bytes_left_out += file.bytes.len() as u64;
                return;
            }
            None => {
                let kept = Kept::new(limits.bytes);
                self.attachments.push(Attachment { name: file.name.into(), mime: None, kept, ended: false });
                self.attachments.len() - 1
            }
        };
        let attachment = &mut self.attachments[at];
        attachment.kept.push(file.bytes);
        attachment.ended = event.eof();
        if attachment.mime.is_none() {
            attachment.mime = event.mime().map(Box::from);
        }
    }
}

/// Makes of `key` what stands for the test `id` on `route`, and for no other.
pub(crate) fn put_key(route: Option<&str>, id: &str, key: &mut String) {
    key.clear();
    if let Some(route) = route {
        // No part of a key holds NUL, so no two pairs have the same.
        key.extend([route, "\0"]);
    }
    key.push_str(id);
}

/// Folds events into records.
///
/// A record is complete with its test's final status, which may be the first that is heard of the test. More events
/// of the same id begin a new record.
#[derive(Clone, Debug, Default)]
pub struct Records {
    limits: Limits,
    open: HashMap<Box<str>, Open>,
    begun: u64,
    rest: Rest,
    /// The key of the event at hand, to look it up without allocating.
    key: String,
}

#[derive(Clone, Debug)]
struct Open {
    /// Place in the order in which tests began.
    order: u64,
    record: Record,
}

/// What is left when a stream has ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Rest {
    /// Tests that never reached a final status, in the order in which they began.
    pub unfinished: Vec<Record>,
    /// Events that say `fail` or `uxsuccess` of no test.
    pub strays: u64,
}

impl Records {
    /// A fold that keeps attachments within `limits`.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes the next event, and gives the record that it completes. Files of no test are in none.
    pub fn event(&mut self, event: EventRef<'_>) -> Option<Record> {
        let Some(id) = event.id() else {
            self.rest.strays += u64::from(event.status().is_some_and(Status::is_failure));
            return None;
        };
        put_key(event.route(), id, &mut self.key);
        let ends = event.status().is_some_and(Status::is_final);
        if let Some(open) = self.open.get_mut(&*self.key) {
            open.record.take(event, self.limits);
            return if ends { self.open.remove(&*self.key).map(|open| open.record) } else { None };
        }
        let mut record = Record { id: id.into(), route: event.route().map(Box::from), ..Record::default() };
        record.take(event, self.limits);
        if ends {
            return Some(record);
        }
        self.open.insert(self.key.as_str().into(), Open { order: self.begun, record });
        self.begun += 1;
        None
    }

    /// The tests that are running, in no order.
    pub fn unfinished(&self) -> impl Iterator<Item = &Record> {
        self.open.values().map(|open| &open.record)
    }

    /// The stream has ended: what is left over.
    pub fn finish(mut self) -> Rest {
        let mut open: Vec<Open> = self.open.into_values().collect();
        open.sort_unstable_by_key(|open| open.order);
        self.rest.unfinished = open.into_iter().map(|open| open.record).collect();
        self.rest
    }
}
