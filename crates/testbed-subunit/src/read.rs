//! Readers of other tools' results: bytes go in, events come out.
//!
//! All have the shape of [`Reader`], take any cutting of the bytes, and give the same events for each. What they do
//! not understand comes out as well, as the file `stdout` of no test. None needs more memory than its limits say,
//! however long the stream is.
//!
//! ```
//! use testbed_subunit::read::{Format, Reader};
//! use testbed_subunit::{Records, Summary};
//!
//! let mut reader = "tap".parse::<Format>()?.reader();
//! let (mut records, mut summary) = (Records::default(), Summary::default());
//! let mut fold = |event: testbed_subunit::EventRef<'_>| {
//!     if let Some(record) = records.event(event) {
//!         summary.add(&record);
//!     }
//! };
//! for piece in ["1..2\nok 1 - answers\nnot o", "k 2 - resolves\n"] {
//!     reader.feed(piece.as_bytes(), &mut fold);
//! }
//! reader.finish(&mut fold);
//! assert_eq!((summary.tests().passed, summary.tests().failed), (1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod emit;
mod lines;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

pub(crate) use self::emit::{Each, TEXT, emit, explained, fault, first_line, name, output};
pub(crate) use self::lines::{Line, Lines};
use crate::event::EventRef;
use crate::stream::Sink;
use crate::{gotest, junit, libtest, pytest, tap, v1};

/// Makes events of the bytes of another format.
pub trait Reader {
    /// Takes the next bytes, and calls `each` with the events that they complete.
    fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(EventRef<'_>));

    /// Nothing more has come for a moment: calls `each` with what was only held back to be one event with what follows.
    fn pause(&mut self, _each: &mut dyn FnMut(EventRef<'_>)) {}

    /// The stream has ended: calls `each` with what was held back and what is missing. The reader is as new then.
    fn finish(&mut self, each: &mut dyn FnMut(EventRef<'_>));
}

/// Gives the events that `read` calls its argument with to a sink, which gets no more of them once it has failed. The end
/// of one reader's stream is not that of the sink's: another may follow.
///
/// ```
/// use testbed_subunit::Event;
/// use testbed_subunit::read::{self, Format};
///
/// let (mut reader, mut sink) = (Format::Tap.reader(), Vec::<Event>::new());
/// read::into(&mut sink, |each| reader.feed(b"1..1\nok 1 - answers\n", each))?;
/// read::into(&mut sink, |each| reader.finish(each))?;
/// assert_eq!(sink.len(), 1);
/// # Ok::<(), testbed_subunit::EventError>(())
/// ```
///
/// # Errors
/// Those of `sink`.
pub fn into<S: Sink + ?Sized>(
    sink: &mut S,
    read: impl FnOnce(&mut dyn FnMut(EventRef<'_>)),
) -> Result<(), S::Error> {
    let mut result = Ok(());
    read(&mut |event| {
        if result.is_ok() {
            result = sink.event(event);
        }
    });
    result
}

/// The formats that can be read, by the names that people choose them by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Format {
    /// The Test Anything Protocol, versions 12 to 14: [`tap::Reader`].
    Tap,
    /// JUnit XML: [`junit::Reader`].
    Junit,
    /// What `go test -json` prints: [`gotest::Reader`].
    GoTest,
    /// What `cargo test` and nextest print, as text or JSON: [`libtest::Reader`].
    Libtest,
    /// The report log of pytest: [`pytest::Reader`].
    Pytest,
    /// subunit's version 1: [`v1::Reader`].
    SubunitV1,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Tap, Self::Junit, Self::GoTest, Self::Libtest, Self::Pytest, Self::SubunitV1];

    /// The name: `tap`, `junit`, `go`, `libtest`, `pytest`, `subunit-v1`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Junit => "junit",
            Self::GoTest => "go",
            Self::Libtest => "libtest",
            Self::Pytest => "pytest",
            Self::SubunitV1 => "subunit-v1",
        }
    }

    /// A reader of the format.
    pub fn reader(self) -> Box<dyn Reader + Send> {
        match self {
            Self::Tap => Box::new(tap::Reader::new()),
            Self::Junit => Box::new(junit::Reader::new()),
            Self::GoTest => Box::new(gotest::Reader::new()),
            Self::Libtest => Box::new(libtest::Reader::new()),
            Self::Pytest => Box::new(pytest::Reader::new()),
            Self::SubunitV1 => Box::new(v1::Reader::new()),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that no format is called by.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("no format is called `{word}`: there are {}", Format::ALL.map(Format::as_str).join(", "))]
pub struct UnknownFormat {
    /// The word.
    pub word: String,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, UnknownFormat> {
        let named = Self::ALL.into_iter().find(|format| format.as_str() == word);
        named.ok_or_else(|| UnknownFormat { word: word.to_owned() })
    }
}
