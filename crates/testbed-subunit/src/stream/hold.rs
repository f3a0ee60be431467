use std::collections::BTreeSet;

use crate::event::{EventRef, Status};
use crate::v2::KeptEvents;

/// The events of a test that is held back until its verdict.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// Place in the order in which tests began.
    pub(super) order: u64,
    pub(super) events: KeptEvents,
    tags: BTreeSet<Box<str>>,
    runnable: bool,
    status: Option<Status>,
}

impl Held {
    pub(super) fn new(order: u64) -> Self {
        Self { order, ..Self::default() }
    }

    pub(super) fn push(&mut self, event: EventRef<'_>) {
        self.events.push(event);
        self.runnable |= event.runnable();
        self.status = event.status().or(self.status);
        for tag in event.tags() {
            if !self.tags.contains(tag) {
                self.tags.insert(tag.into());
            }
        }
    }
}

/// A test and all of its events, to be judged.
#[derive(Clone, Copy, Debug)]
pub struct HeldTest<'a> {
    id: &'a str,
    held: Option<&'a Held>,
    last: Option<EventRef<'a>>,
}

impl<'a> HeldTest<'a> {
    /// The test `id`, of which `held` was heard before, and `last` just now.
    pub(super) fn new(id: &'a str, held: Option<&'a Held>, last: Option<EventRef<'a>>) -> Self {
        Self { id, held, last }
    }

    /// Its id.
    pub fn id(&self) -> &'a str {
        self.id
    }

    /// What became of it. [`Status::InProgress`] where it never ended.
    pub fn status(&self) -> Status {
        let before = || self.held.and_then(|held| held.status);
        self.last.and_then(|event| event.status()).or_else(before).unwrap_or(Status::InProgress)
    }

    /// Whether any event called it runnable.
    pub fn runnable(&self) -> bool {
        self.held.is_some_and(|held| held.runnable) || self.last.is_some_and(|event| event.runnable())
    }

    /// Whether any event has the tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.held.is_some_and(|held| held.tags.contains(tag))
            || self.last.is_some_and(|event| event.tags().contains(tag))
    }

    /// Its events, in their order.
    pub fn events(&self) -> impl Iterator<Item = EventRef<'a>> {
        self.held.into_iter().flat_map(|held| held.events.iter()).chain(self.last)
    }
}
