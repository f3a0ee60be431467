//! subunit v1: the protocol of lines that came before packets, its reader and its writer.
//!
//! A stream has one state and one test at a time: `test: ID`, then `success: ID` or another outcome, which may bring
//! details in brackets. What is neither is output of whatever printed it. Times, tags and progress are lines of their
//! own.
//!
//! ```
//! use testbed_subunit::read::Reader;
//! use testbed_subunit::{Records, Status, v1};
//!
//! let mut reader = v1::Reader::new();
//! let (mut records, mut ended) = (Records::default(), Vec::new());
//! let mut fold = |event: testbed_subunit::EventRef<'_>| ended.extend(records.event(event));
//! for piece in ["test: ping\nskip: pi", "ng [\nno network\n]\n"] {
//!     reader.feed(piece.as_bytes(), &mut fold);
//! }
//! reader.finish(&mut fold);
//! assert_eq!(ended[0].status, Some(Status::Skip));
//! assert_eq!(ended[0].reason().as_deref(), Some("no network"));
//! ```
//!
//! # What it means in events
//!
//! | line | event |
//! |---|---|
//! | `test: ID`, `testing ID` | `inprogress` |
//! | `success: ID`, `successful: ID` | `success`; simple details are the file `message` |
//! | `failure: ID`, `error: ID` | `fail`; simple details are the file `traceback` |
//! | `skip: ID` | `skip`; simple details are the file `reason` |
//! | `xfail: ID`, `uxsuccess: ID` | `xfail`, `uxsuccess`; simple details are the file `traceback` |
//! | `tags: NEW -GONE` | tags of the open test, or of all tests that follow |
//! | `time: 2001-12-12 12:59:59.000045Z` | the time of what follows |
//! | `progress: +3` | nothing: version 2 has no word for it |
//! | any other | output: the file `stdout` of no test |
//!
//! The colon may be left out. Each part of multipart details is a file. All events of tests are runnable.
//!
//! # Where this reader goes on
//!
//! - A `test:` line (with its colon) while a test is open: the open one fails, because its outcome got lost, and the
//!   new one begins. python-subunit takes that line for output, and all that follows with it.
//! - The end of the stream within a test: it fails. What came of its details is kept.
//! - A time, a number or a part's header that cannot be read is output. python-subunit ends with an exception.
//! - A name that is no UTF-8: what is wrong of it becomes U+FFFD, and NUL becomes `␀`. python-subunit ends with an exception.
//! - A last line without an end is a line. python-subunit loses its last character.
//! - Lines may end in CR LF.
//! - A line of more than [`LINE_MAX`] bytes is output, or a piece of simple details.

mod line;
mod read;
mod write;

pub use self::line::LINE_MAX;
pub use self::read::Reader;
pub use self::write::Writer;
