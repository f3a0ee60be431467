use std::collections::BTreeMap;

use super::id;
use crate::event::{Draft, Status, Timestamp};
use crate::read::{Each, TEXT, emit, explained, first_line, name};
use crate::record::Kept;

/// What is known of a package whose tests run.
#[derive(Clone, Debug)]
pub(super) struct Package {
    open: BTreeMap<String, Open>,
    failed: bool,
    /// The last that it printed outside of tests.
    pub(super) kept: Kept,
}

/// What is known of a test that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    /// What it logged as an error, or else last.
    reason: Option<String>,
    is_error: bool,
    /// It is a benchmark that was measured, or has one below it.
    measured: bool,
}

impl Package {
    pub(super) fn new(kept: usize) -> Self {
        Self { open: BTreeMap::new(), failed: false, kept: Kept::new(kept) }
    }

    /// Tests that run.
    pub(super) fn tests(&self) -> usize {
        self.open.len()
    }

    /// A test begins. False where it already runs.
    pub(super) fn run(&mut self, test: &str) -> bool {
        let parent = test.rsplit_once('/').and_then(|(parent, _)| self.open.get_mut(parent));
        if let Some(parent) = parent {
            parent.measured = true;
        }
        self.open.insert(test.to_owned(), Open::default()).is_none()
    }

    pub(super) fn open(&mut self, test: &str) -> Option<&mut Open> {
        self.open.get_mut(test)
    }

    /// A test ends.
    pub(super) fn ends(&mut self, test: &str, status: Status) -> Option<Open> {
        self.failed |= status == Status::Fail;
        self.open.remove(test)
    }

    /// The package ends, and with it the benchmarks of which go says no more than their figures.
    pub(super) fn end(
        self,
        package: &str,
        passed: bool,
        time: Option<Timestamp>,
        reason: Option<&str>,
        build: Option<&Kept>,
        each: &mut Each<'_>,
    ) {
        let is_done = |test: &str, open: &Open| test.starts_with("Benchmark") && (passed || open.measured);
        let mut hangs = false;
        for (test, open) in &self.open {
            if is_done(test, open) {
                emit(Draft::test(&id(package, test), Status::Success).at(time), each);
            } else {
                hangs = true;
            }
        }
        if passed || self.failed || hangs {
            return;
        }
        let package = name(if package.is_empty() { "package" } else { package });
        for (file, kept) in [("stdout", Some(&self.kept)), ("build", build)] {
            if let Some(kept) = kept.filter(|kept| !kept.is_empty()) {
                let bytes = kept.to_vec();
                emit(Draft::output(file, &bytes).mime(TEXT).id(&*package).at(time).eof(true), each);
            }
        }
        emit(explained(Draft::test(&package, Status::Fail).at(time), reason), each);
    }
}

impl Open {
    /// Takes what the test prints, and of what kind go says that it is.
    pub(super) fn prints(&mut self, text: &str, kind: Option<&str>) {
        self.measured |= text.contains(" ns/op");
        let is_error = kind == Some("error");
        let is_frame =
            kind == Some("frame") || text.starts_with("=== ") || text.trim_start().starts_with("--- ");
        if is_frame || kind == Some("error-continue") || (self.is_error && !is_error) {
            return;
        }
        // The first error says what went wrong, and before a skip the last line says why.
        if let Some(line) = first_line(text).filter(|_| !(self.is_error && is_error)) {
            let is_panic = self.reason.as_deref().is_some_and(|reason| reason.starts_with("panic: "));
            if !is_panic {
                self.reason = Some(logged(line).to_owned());
            }
            self.is_error = is_error;
        }
    }

    pub(super) fn reason(self) -> Option<String> {
        self.reason
    }
}

/// What was logged, without the place where it was: `x_test.go:12: no answer`.
fn logged(line: &str) -> &str {
    let Some((place, rest)) = line.split_once(": ") else { return line };
    match place.rsplit_once(".go:") {
        Some((_, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            rest.trim_start()
        }
        _ => line,
    }
}
