//! Results of Rust's test harness, as they are read: `cargo test`, as text or JSON, and `cargo nextest`.
//!
//! | what is printed | event |
//! |---|---|
//! | `test NAME ... ok`, `bench: …` | `success` |
//! | `test NAME ... FAILED` | `fail`, behind the output that the harness prints later |
//! | `test NAME ... ignored, why` | `skip`, `why` as its reason |
//! | `test NAME ... ` and then output (`--nocapture`, one thread) | `inprogress`; the output is the file `stdout` of it |
//! | such a test whose outcome is lost in its output | told at the end, from the list of failures |
//! | `---- NAME stdout ----` and what follows | file `stdout` of it; the panic's message is the reason |
//! | JSON `started`, `ok`, `failed`, `ignored` | `inprogress`, `success`, `fail`, `skip`; `stdout` is its file |
//! | nextest's attempts, `NAME#2` | the last one, as nextest has it: tag `flaky` if it passed, `rerun` if it failed |
//! | a binary that ends before its results | `fail` of the binary |
//! | no results at all | `fail` of `report` |
//! | anything else, cargo's own lines too | file `stdout` of no test |
//!
//! An id is the binary's name and the test's, `it::dns::resolves`, where cargo's lines tell of the binary: they are on
//! standard error. The library's is its crate's name; that of a program is `bin/NAME`. With nextest there is the
//! package before it, `package::it::dns::resolves`, unless both have one name. What the harness puts behind a name,
//! ` - should panic` or ` - compile`, is not part of it. Neither text nor JSON has times, so that events have none;
//! `exec_time` is left out.
//!
//! Up to 4096 failed tests wait for their output. A line of more than 16 MiB is output.
//!
//! ```
//! use testbed_subunit::read::Reader;
//! use testbed_subunit::{Status, libtest};
//!
//! let mut told = Vec::new();
//! let mut each = |event: testbed_subunit::EventRef<'_>| {
//!     if let Some((id, status)) = event.id().zip(event.status()) {
//!         told.push((id.to_owned(), status));
//!     }
//! };
//! let mut reader = libtest::Reader::new();
//! reader.feed(b"running 2 tests\ntest a::b ... ok\ntest c ... ignored\n", &mut each);
//! reader.feed(b"test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured\n", &mut each);
//! reader.finish(&mut each);
//! assert_eq!(told, [("a::b".to_owned(), Status::Success), ("c".to_owned(), Status::Skip)]);
//! ```

mod json;
mod line;
mod text;

use self::json::Json;
use self::text::Text;
use crate::event::{Draft, Status};
use crate::read::{self, Each, Line, Lines, emit, explained, fault, first_line, name, output};

/// Lines of more bytes are output.
const LINE_MAX: usize = 16 * 1024 * 1024;

/// Reads what Rust's test harness prints: see [the module](self).
#[derive(Clone, Debug, Default)]
pub struct Reader {
    lines: Lines<LINE_MAX>,
    text: Text,
    json: Json,
    /// The binary whose tests run, as far as is known.
    binary: Option<String>,
}

impl Reader {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }
}

impl read::Reader for Reader {
    fn feed(&mut self, bytes: &[u8], each: &mut Each<'_>) {
        let Self { lines, text, json, binary } = self;
        lines.feed(bytes, |line| take(line, text, json, binary, each));
    }

    fn finish(&mut self, each: &mut Each<'_>) {
        let Self { lines, text, json, binary } = self;
        lines.finish(|line| take(line, text, json, binary, each));
        text.end(binary.as_deref(), each);
        json.end(each);
        if !text.has_begun && !json.has_begun {
            fault("there are no results", each);
        }
        *self = Self::new();
    }
}

fn take(line: Line<'_>, text: &mut Text, json: &mut Json, binary: &mut Option<String>, each: &mut Each<'_>) {
    let bytes = match line {
        Line::Whole(bytes) => bytes,
        Line::Piece(bytes) => return text.prints(bytes, each),
    };
    if bytes.starts_with(b"{") && json.line(bytes, binary.as_deref(), each) {
        return;
    }
    if let Some(begun) = line::binary(&String::from_utf8_lossy(bytes)) {
        text.end(binary.as_deref(), each);
        *binary = Some(begun);
        return output(bytes, each);
    }
    text.line(bytes, binary.as_deref(), each);
}

/// The id of a test of that binary.
fn id(binary: Option<&str>, test: &str) -> String {
    let id = binary.map(|binary| format!("{binary}::{test}"));
    name(id.as_deref().unwrap_or(test)).into_owned()
}

fn told(id: &str, status: Status, reason: Option<&str>, tags: &[&str], each: &mut Each<'_>) {
    let id = name(id);
    emit(explained(Draft::test(&id, status).tags(tags), reason.and_then(first_line)), each);
}

/// Finds why a test failed in what it printed: what it panicked with, or the error that it returned.
#[derive(Clone, Debug, Default)]
struct Cause {
    found: Option<String>,
    /// The line before told of a panic, whose message is next.
    panicked: bool,
}

impl Cause {
    fn look(&mut self, line: &str) {
        let line = line.trim();
        if std::mem::take(&mut self.panicked) {
            self.found = first_line(line).map(str::to_owned);
        }
        if self.found.is_some() {
            return;
        }
        let panic = line.strip_prefix("thread '").and_then(|rest| rest.split_once(" panicked at "));
        match panic {
            // Before Rust 1.73, the message stood in the same line.
            Some((_, rest)) if rest.starts_with('\'') => {
                let message = rest.rsplit_once("', ").map_or(rest, |(message, _)| message);
                self.found = first_line(message.trim_matches('\'')).map(str::to_owned);
            }
            Some(_) => self.panicked = true,
            None => {
                let message =
                    line.strip_prefix("Error: ").or_else(|| line.strip_prefix("note: test did not"));
                self.found =
                    message.and_then(|_| first_line(line.trim_start_matches("note: "))).map(str::to_owned);
            }
        }
    }
}
