use std::collections::BTreeSet;

use super::{Draft, EventRef, FileRef, Status, Tags, Timestamp};

/// A piece of a file that an event carries, owned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    /// Name of the file.
    pub name: Box<str>,
    /// The next bytes of the file. May be empty.
    pub bytes: Box<[u8]>,
}

/// An event that owns its parts, to be kept or sent between threads.
///
/// It is made from an [`EventRef`] and read as one: see [`Event::as_ref`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    id: Option<Box<str>>,
    status: Option<Status>,
    timestamp: Option<Timestamp>,
    runnable: bool,
    tags: BTreeSet<Box<str>>,
    file: Option<File>,
    eof: bool,
    mime: Option<Box<str>>,
    route: Option<Box<str>>,
}

impl Event {
    /// The event, borrowed.
    pub fn as_ref(&self) -> EventRef<'_> {
        EventRef(Draft {
            id: self.id.as_deref(),
            status: self.status,
            timestamp: self.timestamp,
            runnable: self.runnable,
            tags: Tags::from(&self.tags),
            file: self.file.as_ref().map(|file| FileRef { name: &file.name, bytes: &file.bytes }),
            eof: self.eof,
            mime: self.mime.as_deref(),
            route: self.route.as_deref(),
        })
    }
}

impl From<EventRef<'_>> for Event {
    fn from(event: EventRef<'_>) -> Self {
        Self {
            id: event.id().map(Box::from),
            status: event.status(),
            timestamp: event.timestamp(),
            runnable: event.runnable(),
            tags: event.tags().iter().map(Box::from).collect(),
            file: event.file().map(|file| File { name: file.name.into(), bytes: file.bytes.into() }),
            eof: event.eof(),
            mime: event.mime().map(Box::from),
            route: event.route().map(Box::from),
        }
    }
}
