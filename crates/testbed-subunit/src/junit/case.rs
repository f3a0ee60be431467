//! A test case while it is read.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::event::{Draft, Status, Timestamp};
use crate::read::{Each, emit, explained, first_line, name};

/// More tags than this are left out.
const TAGS_MAX: usize = 256;

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) id: String,
    status: Status,
    reason: Option<String>,
    tags: BTreeSet<Box<str>>,
    /// It may fail, and why.
    todo: Option<String>,
    /// When it began, since 1970.
    start: Duration,
    duration: Duration,
}

impl Case {
    pub(super) fn begin(id: &str, start: Duration, duration: Duration, each: &mut Each<'_>) -> Self {
        let id = name(id).into_owned();
        emit(Draft::test(&id, Status::InProgress).at(moment(start)), each);
        Self { id, status: Status::Success, reason: None, tags: BTreeSet::new(), todo: None, start, duration }
    }

    /// Something says what became of it. A failure outdoes all else.
    pub(super) fn comes_to(&mut self, status: Status, reason: Option<&str>) {
        if self.status == Status::Fail {
            return;
        }
        self.status = status;
        self.reason = reason.and_then(first_line).map(str::to_owned);
    }

    /// It may fail, as it is not finished: a failure is expected.
    pub(super) fn may_fail(&mut self, why: &str) {
        self.todo = Some(first_line(why).unwrap_or_default().to_owned());
    }

    pub(super) fn status(&self) -> Status {
        self.status
    }

    /// Takes text from which there is to be a reason, if there is none yet.
    pub(super) fn explain(&mut self, text: &str) {
        if self.reason.is_none() {
            self.reason = first_line(text).map(str::to_owned);
        }
    }

    pub(super) fn tag(&mut self, tag: &str) {
        if self.tags.len() < TAGS_MAX {
            self.tags.insert(name(tag).into());
        }
    }

    /// Tells its status, and gives the moment of it.
    pub(super) fn end(mut self, each: &mut Each<'_>) -> Duration {
        if let Some(why) = self.todo.take() {
            if self.status == Status::Fail {
                self.status = Status::XFail;
            } else {
                self.tag("todo");
            }
            self.reason = Some(why).filter(|why| !why.is_empty()).or(self.reason);
        }
        let stop = self.start.saturating_add(self.duration);
        let draft = Draft::test(&self.id, self.status).at(moment(stop)).tags(&self.tags);
        emit(explained(draft, self.reason.as_deref()), each);
        stop
    }
}

fn moment(since_epoch: Duration) -> Option<Timestamp> {
    let seconds = u32::try_from(since_epoch.as_secs()).ok()?;
    Timestamp::new(seconds, since_epoch.subsec_nanos()).ok()
}
