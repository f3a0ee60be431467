//! The event: what a run says, one small fact at a time.
//!
//! [`Draft`] is what one writes, [`EventRef`] is a draft that has been checked, [`Event`] owns its parts.

mod owned;
mod split;
mod status;
mod tags;
mod timestamp;

use thiserror::Error;

pub use self::owned::{Event, File};
pub use self::split::Split;
pub use self::status::{Status, UnknownStatus};
pub use self::tags::{Tags, TagsIter};
pub use self::timestamp::{TimeError, Timestamp};
use crate::v2;

/// Why a draft is no event.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum EventError {
    /// A string holds U+0000, which readers of subunit must refuse.
    #[error("{field} holds a NUL character")]
    Nul {
        /// The string that holds it.
        field: Field,
    },
    /// The packet would be longer than [`v2::MAX_PACKET`].
    #[error("packet of {length} bytes is longer than {}", v2::MAX_PACKET)]
    TooLong {
        /// Bytes the packet would have.
        length: usize,
    },
}

/// The strings of an event, to name one in an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Field {
    /// The test's id.
    Id,
    /// One of the tags.
    Tag,
    /// The MIME type of the file.
    Mime,
    /// The name of the file.
    FileName,
    /// The route code.
    Route,
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Id => "test id",
            Self::Tag => "tag",
            Self::Mime => "MIME type",
            Self::FileName => "file name",
            Self::Route => "route code",
        })
    }
}

/// A piece of a file that an event carries.
///
/// A file is identified by route, test id and name. Its pieces are joined in the order of arrival, and the event
/// whose [`EventRef::eof`] is set ends it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileRef<'a> {
    /// Name of the file. `stdout`, `stderr`, `traceback` and `reason` are the customary ones.
    pub name: &'a str,
    /// The next bytes of the file. May be empty.
    pub bytes: &'a [u8],
}

/// An event being written, not yet checked.
///
/// ```
/// use testbed_subunit::{Draft, Status};
///
/// let event = Draft::test("net/vpn.ping", Status::Fail)
///     .tags(&["worker-0"])
///     .file("stdout", b"no answer\n")
///     .eof(true)
///     .check()?;
/// assert_eq!(event.id(), Some("net/vpn.ping"));
/// # Ok::<(), testbed_subunit::EventError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Draft<'a> {
    pub(crate) id: Option<&'a str>,
    pub(crate) status: Option<Status>,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) runnable: bool,
    pub(crate) tags: Tags<'a>,
    pub(crate) file: Option<FileRef<'a>>,
    pub(crate) eof: bool,
    pub(crate) mime: Option<&'a str>,
    pub(crate) route: Option<&'a str>,
}

impl<'a> Draft<'a> {
    /// An event that says nothing yet: no test, no status, not runnable.
    pub fn new() -> Self {
        Self::default()
    }

    /// A test reaches `status`. The event is marked runnable.
    pub fn test(id: &'a str, status: Status) -> Self {
        Self { id: Some(id), status: Some(status), runnable: true, ..Self::default() }
    }

    /// Something that is no test (a machine, a shared resource) reaches `status`. Not runnable.
    pub fn activity(id: &'a str, status: Status) -> Self {
        Self { id: Some(id), status: Some(status), ..Self::default() }
    }

    /// The next bytes of a file that belongs to no test.
    pub fn output(name: &'a str, bytes: &'a [u8]) -> Self {
        Self { file: Some(FileRef { name, bytes }), ..Self::default() }
    }

    /// Sets the test's id.
    #[must_use]
    pub fn id(self, id: impl Into<Option<&'a str>>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// Sets the status that the test reaches by this event.
    #[must_use]
    pub fn status(self, status: impl Into<Option<Status>>) -> Self {
        Self { status: status.into(), ..self }
    }

    /// Sets when the event happened.
    #[must_use]
    pub fn at(self, timestamp: impl Into<Option<Timestamp>>) -> Self {
        Self { timestamp: timestamp.into(), ..self }
    }

    /// Says whether the id can be run on its own.
    #[must_use]
    pub fn runnable(self, runnable: bool) -> Self {
        Self { runnable, ..self }
    }

    /// Sets the tags. They are a set: order and repetition mean nothing.
    #[must_use]
    pub fn tags(self, tags: impl Into<Tags<'a>>) -> Self {
        Self { tags: tags.into(), ..self }
    }

    /// Adds the next bytes of the file `name`.
    #[must_use]
    pub fn file(self, name: &'a str, bytes: &'a [u8]) -> Self {
        Self { file: Some(FileRef { name, bytes }), ..self }
    }

    /// Says whether the file ends with this event.
    #[must_use]
    pub fn eof(self, eof: bool) -> Self {
        Self { eof, ..self }
    }

    /// Sets the MIME type of the file. A reader takes `application/octet-stream` where none is given.
    #[must_use]
    pub fn mime(self, mime: impl Into<Option<&'a str>>) -> Self {
        Self { mime: mime.into(), ..self }
    }

    /// Sets the route code: the steps back to the origin, nearest first, parted by `/`.
    #[must_use]
    pub fn route(self, route: impl Into<Option<&'a str>>) -> Self {
        Self { route: route.into(), ..self }
    }

    /// Makes an event of the draft.
    ///
    /// # Errors
    /// When no reader would take the packet: see [`EventError`]. A file that is too long for one packet goes
    /// through [`Draft::split`].
    pub fn check(self) -> Result<EventRef<'a>, EventError> {
        self.check_strings()?;
        let length = v2::packet_length(&self);
        if length > v2::MAX_PACKET {
            return Err(EventError::TooLong { length });
        }
        Ok(EventRef(self))
    }

    /// Makes as many events as the file needs, each with at most `piece` bytes of it.
    ///
    /// Every event repeats id, time, tags, MIME type and route. An interim status stands on the first, a final one
    /// on the last, as does the end of the file, so that the test ends when all of its file has arrived.
    ///
    /// # Errors
    /// As [`Draft::check`], where everything but the file's bytes leaves no room in a packet.
    pub fn split(self, piece: usize) -> Result<Split<'a>, EventError> {
        Split::new(self, piece)
    }

    fn check_strings(&self) -> Result<(), EventError> {
        let clean = |field, text: &str| match memchr::memchr(0, text.as_bytes()) {
            Some(_) => Err(EventError::Nul { field }),
            None => Ok(()),
        };
        self.id.map_or(Ok(()), |id| clean(Field::Id, id))?;
        for tag in self.tags {
            clean(Field::Tag, tag)?;
        }
        self.mime.map_or(Ok(()), |mime| clean(Field::Mime, mime))?;
        self.file.map_or(Ok(()), |file| clean(Field::FileName, file.name))?;
        self.route.map_or(Ok(()), |route| clean(Field::Route, route))
    }
}

/// An event that borrows its parts, from a packet or from the writer's own memory.
///
/// It exists only if it can be sent: no string holds NUL, and the packet is at most [`v2::MAX_PACKET`] bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EventRef<'a>(pub(crate) Draft<'a>);

impl<'a> EventRef<'a> {
    /// The test that the event is about. `None` where it is about the whole run.
    pub fn id(&self) -> Option<&'a str> {
        self.0.id
    }

    /// The status that the test reaches by this event.
    pub fn status(&self) -> Option<Status> {
        self.0.status
    }

    /// When it happened, by the clock of whoever wrote it.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.0.timestamp
    }

    /// Whether the id can be run on its own.
    pub fn runnable(&self) -> bool {
        self.0.runnable
    }

    /// The tags, as written. They are a set: order and repetition mean nothing.
    pub fn tags(&self) -> Tags<'a> {
        self.0.tags
    }

    /// The piece of a file that the event carries.
    pub fn file(&self) -> Option<FileRef<'a>> {
        self.0.file
    }

    /// Whether the file ends with this event.
    pub fn eof(&self) -> bool {
        self.0.eof
    }

    /// The MIME type of the file.
    pub fn mime(&self) -> Option<&'a str> {
        self.0.mime
    }

    /// The steps back to the origin of the event, nearest first, parted by `/`.
    pub fn route(&self) -> Option<&'a str> {
        self.0.route
    }

    /// A draft with all parts of this event, to change some of them.
    pub fn draft(self) -> Draft<'a> {
        self.0
    }

    /// An event that owns its parts.
    pub fn to_owned(self) -> Event {
        Event::from(self)
    }
}
