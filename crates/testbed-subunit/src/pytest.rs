//! pytest's report log, as it is read: the JSON lines of `pytest --report-log=FILE` (plugin pytest-reportlog).
//!
//! | report | event |
//! |---|---|
//! | first `setup` of a test | `inprogress` |
//! | `teardown` | the status that all of its phases come to, at the time of its end |
//! | `failed` | `fail`; in `setup` and `teardown` with the tag `error` |
//! | `failed` with `[XPASS(strict)]` | `uxsuccess` |
//! | `passed` with `wasxfail` | `success` with the tag `xpass`: pytest takes it for one |
//! | `skipped`, with `wasxfail` | `skip`, `xfail` |
//! | `rerun` | file `rerun 1` and so on; in the end the tag `flaky` if it passed, `rerun` if not |
//! | representation of the error | file `traceback`; the message is the reason, and the place is the file `location` |
//! | captured `stdout`, `stderr`, `log` | files of these names, all phases joined |
//! | `user_properties` | lines `name=value` of the file `properties` |
//! | worker of pytest-xdist | tag, as in `gw0` |
//! | subtest | a test of its own: `nodeid [message] (parameter=value)` |
//! | collector that failed or was skipped | `fail` with the tag `error`, or `skip`, of its node |
//! | warning | a line of the file `warnings` of no test |
//! | exit status 2, 3 or 4, or no end of the session | `fail` of `report` |
//! | a line that is no report | file `stdout` of no test, as it stands |
//!
//! The id is pytest's own, `tests/test_dns.py::TestA::test_b[c]`. Half characters, which JSON of Python may hold, are
//! read as U+FFFD, and numbers that are none as null. At a time there may be 4096 tests; of one past it, the first
//! by name is taken for unfinished. A line of more than 64 MiB is output.
//!
//! ```
//! use testbed_subunit::read::Reader;
//! use testbed_subunit::{Status, pytest};
//!
//! let mut told = Vec::new();
//! let mut each = |event: testbed_subunit::EventRef<'_>| {
//!     if let Some((id, status)) = event.id().zip(event.status()) {
//!         told.push((id.to_owned(), status));
//!     }
//! };
//! let mut reader = pytest::Reader::new();
//! for when in ["setup", "call", "teardown"] {
//!     let report = format!(r#""nodeid":"t.py::a","when":"{when}","outcome":"passed","$report_type":"TestReport""#);
//!     reader.feed(format!("{{{report}}}\n").as_bytes(), &mut each);
//! }
//! reader.feed(br#"{"exitstatus":0,"$report_type":"SessionFinish"}"#, &mut each);
//! reader.finish(&mut each);
//! let id = "t.py::a".to_owned();
//! assert_eq!(told, [(id.clone(), Status::InProgress), (id, Status::Success)]);
//! ```

mod case;
mod lenient;
mod report;

use std::collections::BTreeMap;

use self::case::Case;
use self::report::Report;
use crate::event::{Draft, Status};
use crate::read::{self, Each, Line, Lines, TEXT, emit, fault, name, output};

/// Lines of more bytes are output.
const LINE_MAX: usize = 64 * 1024 * 1024;

/// Tests that are known at a time.
const TESTS_MAX: usize = 4096;

/// Reads a report log of pytest: see [the module](self).
#[derive(Clone, Debug, Default)]
pub struct Reader {
    lines: Lines<LINE_MAX>,
    state: State,
}

#[derive(Clone, Debug, Default)]
struct State {
    open: BTreeMap<String, Case>,
    /// The status that the session ended with.
    exit: Option<i64>,
}

impl Reader {
    /// A reader at the start of a log.
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
        match state.exit {
            Some(2) => fault("the session was interrupted", each),
            Some(3) => fault("pytest had an internal error", each),
            Some(4) => fault("pytest was called wrongly", each),
            Some(_) => {}
            None => fault("the session did not end", each),
        }
        *self = Self::new();
    }
}

impl State {
    fn line(&mut self, line: Line<'_>, each: &mut Each<'_>) {
        let (Line::Whole(bytes) | Line::Piece(bytes)) = line;
        let taken = match line {
            Line::Whole(bytes) if bytes.starts_with(b"{") => match serde_json::from_slice(bytes) {
                Ok(report) => self.report(&report, each),
                Err(_) => match serde_json::from_slice(&lenient::json(bytes)) {
                    Ok(report) => self.report(&report, each),
                    Err(_) => false,
                },
            },
            _ => false,
        };
        if !taken {
            output(bytes, each);
        }
    }

    /// Takes a report. False where it is none that we know.
    fn report(&mut self, report: &Report, each: &mut Each<'_>) -> bool {
        match (&*report.kind, report.nodeid.as_deref()) {
            ("SessionStart", _) => {}
            ("SessionFinish", _) => self.exit = report.exitstatus.or(Some(0)),
            ("TestReport", Some(node)) => self.phase(node, report, each),
            ("SubTestReport", Some(node)) => {
                let mut case = Case::begin(&report.subtest(node));
                case.phase(report, each);
                case.end(report, each);
            }
            ("CollectReport", Some(node)) => {
                if report.outcome.as_deref() != Some("passed") {
                    let mut case = Case::begin(if node.is_empty() { "." } else { node });
                    case.phase(report, each);
                    case.end(report, each);
                }
            }
            ("WarningMessage", _) => {
                let text = report.warning();
                emit(Draft::output("warnings", text.as_bytes()).mime(TEXT), each);
            }
            _ => return false,
        }
        true
    }

    /// A phase of a test.
    fn phase(&mut self, node: &str, report: &Report, each: &mut Each<'_>) {
        let key = name(node);
        if !self.open.contains_key(&*key) {
            if self.open.len() >= TESTS_MAX {
                self.open.pop_first();
            }
            let id = key.to_string();
            emit(Draft::test(&id, Status::InProgress).at(report.start()), each);
            self.open.insert(id, Case::begin(node));
        }
        let Some(case) = self.open.get_mut(&*key) else { return };
        case.phase(report, each);
        // A worker that died while it ran the test leaves one report of no known phase.
        let goes_on = matches!(report.when.as_deref(), Some("setup" | "call")) || case.begins_again();
        if !goes_on && let Some(case) = self.open.remove(&*key) {
            case.end(report, each);
        }
    }
}
