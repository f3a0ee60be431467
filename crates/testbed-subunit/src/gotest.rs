//! `go test -json`, as it is read.
//!
//! | `go test` | event |
//! |---|---|
//! | `run` | `inprogress` |
//! | `pass`, `fail`, `skip` of a test | `success`, `fail`, `skip`, and as the reason what the test logged about it |
//! | `bench`; a benchmark of which nothing more is heard | `success`; when its package ends |
//! | `output` of a test | file `stdout` of it; behind its end, of no test |
//! | `output` of a package | file `stdout` of no test |
//! | `build-output` | file `build` of no test |
//! | `fail` of a package none of whose tests failed | `fail` of the package, with the last of its output and of its build |
//! | package that never ends | the same |
//! | `pass`, `skip` of a package, its `fail` after that of a test | nothing: its tests say it |
//! | `pause`, `cont` | nothing: its output says it |
//! | no event at all | `fail` of `report` |
//! | a line that is no such object | file `stdout` of no test, as it stands |
//!
//! A test's id is `package.Test/Subtest`, as go and gojson2subunit write it. Times are those of the events. What a
//! build or a package prints is told when it comes; of its last 16 KiB there is a copy at its failure.
//!
//! At a time there may be 1024 packages and 16,384 tests. Of those past it, later output is output of no test. A line
//! of more than 16 MiB is output.
//!
//! ```
//! use testbed_subunit::read::Reader;
//! use testbed_subunit::{Status, gotest};
//!
//! let mut told = Vec::new();
//! let mut each = |event: testbed_subunit::EventRef<'_>| {
//!     if let Some((id, status)) = event.id().zip(event.status()) {
//!         told.push((id.to_owned(), status));
//!     }
//! };
//! let mut reader = gotest::Reader::new();
//! for line in [
//!     r#"{"Action":"run","Package":"example.org/m","Test":"TestPing"}"#,
//!     r#"{"Action":"pass","Package":"example.org/m","Test":"TestPing","Elapsed":0.1}"#,
//!     r#"{"Action":"pass","Package":"example.org/m","Elapsed":0.2}"#,
//! ] {
//!     reader.feed(line.as_bytes(), &mut each);
//!     reader.feed(b"\n", &mut each);
//! }
//! reader.finish(&mut each);
//! let id = "example.org/m.TestPing".to_owned();
//! assert_eq!(told, [(id.clone(), Status::InProgress), (id, Status::Success)]);
//! ```

mod package;

use std::collections::BTreeMap;

use serde::Deserialize;

use self::package::{Open, Package};
use crate::event::{Draft, Status, Timestamp};
use crate::read::{self, Each, Line, Lines, TEXT, emit, explained, fault, name, output};
use crate::record::Kept;

/// Lines of more bytes are output.
const LINE_MAX: usize = 16 * 1024 * 1024;

/// Packages, and builds, that are known at a time.
const PACKAGES_MAX: usize = 1024;

/// Tests that are known at a time.
const TESTS_MAX: usize = 16 * 1024;

/// Bytes that are kept of what a package or a build prints.
const KEPT: usize = 16 * 1024;

/// Reads what `go test -json` prints: see [the module](self).
#[derive(Clone, Debug, Default)]
pub struct Reader {
    lines: Lines<LINE_MAX>,
    state: State,
}

#[derive(Clone, Debug, Default)]
struct State {
    packages: BTreeMap<String, Package>,
    builds: BTreeMap<String, Kept>,
    /// Tests that are open in all packages.
    tests: usize,
    /// Whether there was any event of go's.
    has_begun: bool,
}

/// One line (`go doc test2json`, `go help buildjson`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    action: String,
    time: Option<String>,
    package: Option<String>,
    test: Option<String>,
    output: Option<String>,
    output_type: Option<String>,
    import_path: Option<String>,
    failed_build: Option<String>,
}

impl Reader {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }
}

impl read::Reader for Reader {
    fn feed(&mut self, bytes: &[u8], each: &mut Each<'_>) {
        let Self { lines, state } = self;
        lines.feed(bytes, |line| state.line(line, each));
    }

    fn finish(&mut self, each: &mut Each<'_>) {
        let Self { lines, state } = self;
        lines.finish(|line| state.line(line, each));
        for (id, package) in std::mem::take(&mut state.packages) {
            package.end(&id, false, None, Some("the package never ended"), None, each);
        }
        if !state.has_begun {
            fault("there are no results", each);
        }
        *self = Self::new();
    }
}

impl State {
    fn line(&mut self, line: Line<'_>, each: &mut Each<'_>) {
        let (Line::Whole(bytes) | Line::Piece(bytes)) = line;
        let entry = match line {
            Line::Whole(bytes) if bytes.starts_with(b"{") => serde_json::from_slice(bytes).ok(),
            _ => None,
        };
        if !entry.is_some_and(|entry| self.entry(&entry, each)) {
            output(bytes, each);
        }
    }

    /// Takes an event of go's. False where it is none that we know.
    fn entry(&mut self, entry: &Entry, each: &mut Each<'_>) -> bool {
        let time = entry.time.as_deref().and_then(|time| time.parse().ok());
        let package = entry.package.as_deref().unwrap_or_default();
        let text = entry.output.as_deref().unwrap_or_default();
        match (&*entry.action, entry.test.as_deref()) {
            ("start", _) => {
                self.package(package);
            }
            ("run", Some(test)) => {
                self.run(package, test);
                emit(Draft::test(&id(package, test), Status::InProgress).at(time), each);
            }
            ("pause" | "cont", _) | ("build-fail", _) => {}
            ("output", Some(test)) => self.test_output(package, test, entry, time, each),
            ("output", None) => {
                emit(Draft::output("stdout", text.as_bytes()).mime(TEXT).at(time), each);
                if let Some(package) = self.package(package) {
                    package.kept.push(text.as_bytes());
                }
            }
            ("pass" | "bench", Some(test)) => self.ends(package, test, Status::Success, time, each),
            ("fail", Some(test)) => self.ends(package, test, Status::Fail, time, each),
            ("skip", Some(test)) => self.ends(package, test, Status::Skip, time, each),
            ("pass" | "bench" | "skip", None) => self.package_ends(package, true, entry, time, each),
            ("fail", None) => self.package_ends(package, false, entry, time, each),
            ("build-output", _) => self.build_output(entry, each),
            _ => return false,
        }
        self.has_begun = true;
        true
    }

    /// What is known of a package, from now on. `None` where there are too many.
    fn package(&mut self, package: &str) -> Option<&mut Package> {
        if !self.packages.contains_key(package) {
            if self.packages.len() >= PACKAGES_MAX || package.len() > LINE_MAX / PACKAGES_MAX {
                return None;
            }
            self.packages.insert(package.to_owned(), Package::new(KEPT));
        }
        self.packages.get_mut(package)
    }

    fn run(&mut self, package: &str, test: &str) {
        if self.tests >= TESTS_MAX || test.len() > LINE_MAX / TESTS_MAX {
            return;
        }
        if let Some(known) = self.package(package) {
            let begun = known.run(test);
            self.tests += usize::from(begun);
        }
    }

    fn test_output(
        &mut self,
        package: &str,
        test: &str,
        entry: &Entry,
        time: Option<Timestamp>,
        each: &mut Each<'_>,
    ) {
        let text = entry.output.as_deref().unwrap_or_default();
        let open = self.packages.get_mut(package).and_then(|package| package.open(test));
        let known = open.is_some();
        if let Some(open) = open {
            open.prints(text, entry.output_type.as_deref());
        }
        let id = id(package, test);
        let draft = Draft::output("stdout", text.as_bytes()).mime(TEXT).at(time);
        emit(draft.id(known.then_some(&*id)), each);
    }

    fn ends(
        &mut self,
        package: &str,
        test: &str,
        status: Status,
        time: Option<Timestamp>,
        each: &mut Each<'_>,
    ) {
        let known = self.package(package);
        let open = known.and_then(|package| package.ends(test, status));
        self.tests -= usize::from(open.is_some());
        let reason = open.and_then(Open::reason).filter(|_| status != Status::Success);
        let id = id(package, test);
        emit(explained(Draft::test(&id, status).at(time), reason.as_deref()), each);
    }

    fn package_ends(
        &mut self,
        package: &str,
        passed: bool,
        entry: &Entry,
        time: Option<Timestamp>,
        each: &mut Each<'_>,
    ) {
        let known = self.packages.remove(package).unwrap_or_else(|| Package::new(KEPT));
        self.tests -= known.tests();
        let build = entry.failed_build.as_deref().and_then(|build| self.builds.get(build));
        let reason =
            if entry.failed_build.is_some() { "the build failed" } else { "failed outside of its tests" };
        known.end(package, passed, time, Some(reason), build, each);
        if passed {
            self.builds.remove(package);
        }
    }

    fn build_output(&mut self, entry: &Entry, each: &mut Each<'_>) {
        let text = entry.output.as_deref().unwrap_or_default();
        emit(Draft::output("build", text.as_bytes()).mime(TEXT), each);
        let build = entry.import_path.as_deref().unwrap_or_default();
        if !self.builds.contains_key(build) {
            if build.len() > LINE_MAX / PACKAGES_MAX {
                return;
            }
            while self.builds.len() >= PACKAGES_MAX {
                self.builds.pop_first();
            }
            self.builds.insert(build.to_owned(), Kept::new(KEPT));
        }
        if let Some(kept) = self.builds.get_mut(build) {
            kept.push(text.as_bytes());
        }
    }
}

fn id(package: &str, test: &str) -> String {
    let id = if package.is_empty() { test.to_owned() } else { format!("{package}.{test}") };
    name(&id).into_owned()
}
