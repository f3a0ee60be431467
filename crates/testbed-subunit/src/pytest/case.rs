//! A test of which phases are reported.

use std::collections::BTreeSet;

use super::report::{Report, plain};
use crate::event::{Draft, Status};
use crate::read::{Each, TEXT, emit, explained, first_line, name};

#[derive(Clone, Debug)]
pub(super) struct Case {
    id: String,
    status: Status,
    reason: Option<String>,
    tags: BTreeSet<Box<str>>,
    /// Sections and properties of earlier phases: each report repeats them.
    sections: usize,
    properties: usize,
    /// Attempts that are repeated.
    attempts: u32,
    begins_again: bool,
}

impl Case {
    pub(super) fn begin(id: &str) -> Self {
        Self {
            id: name(id).into_owned(),
            status: Status::Success,
            reason: None,
            tags: BTreeSet::new(),
            sections: 0,
            properties: 0,
            attempts: 0,
            begins_again: false,
        }
    }

    /// Whether this attempt has failed, and another follows.
    pub(super) fn begins_again(&self) -> bool {
        self.begins_again
    }

    /// Takes the report of a phase.
    pub(super) fn phase(&mut self, report: &Report, each: &mut Each<'_>) {
        if report.when.as_deref() == Some("setup") {
            (self.sections, self.properties, self.begins_again) = (0, 0, false);
        }
        if let Some(worker) = report.worker_id.as_deref() {
            self.tags.insert(name(worker).into());
        }
        let xfail = &report.wasxfail;
        let xfailed = xfail.is_string() || xfail.as_bool() == Some(true);
        let why = plain(xfail);
        let why = why.strip_prefix("reason: ").unwrap_or(&why);
        let mut file = "traceback".to_owned();
        match report.outcome.as_deref() {
            Some("rerun") => {
                self.attempts += 1;
                self.begins_again = true;
                file = format!("rerun {}", self.attempts);
            }
            Some("skipped") if xfailed => self.comes_to(Status::XFail, Some(why)),
            Some("skipped") => self.comes_to(Status::Skip, report.reason()),
            Some("passed") if xfailed => {
                self.tags.insert("xpass".into());
                self.reason = first_line(why).map(str::to_owned);
            }
            Some("passed") => {}
            _ => self.fails(report),
        }
        self.attach(&file, &report.traceback(), each);
        if let Some(place) = report.location().filter(|_| file == "traceback") {
            self.attach("location", &place, each);
        }
        self.files(report, each);
    }

    /// Tells what it has come to.
    pub(super) fn end(mut self, report: &Report, each: &mut Each<'_>) {
        if self.attempts > 0 {
            self.tags.insert(if self.status == Status::Success { "flaky" } else { "rerun" }.into());
        }
        let draft = Draft::test(&self.id, self.status).at(report.stop()).tags(&self.tags);
        emit(explained(draft, self.reason.as_deref()), each);
    }

    fn fails(&mut self, report: &Report) {
        let reason = report.reason();
        let strict = reason.and_then(|reason| reason.strip_prefix("[XPASS(strict)]"));
        match strict {
            Some(why) => self.comes_to(Status::UxSuccess, Some(why)),
            None => self.comes_to(Status::Fail, reason),
        }
        if !matches!(report.when.as_deref(), Some("call" | "???")) {
            self.tags.insert("error".into());
        }
    }

    /// The first failure stays, and outdoes all else.
    fn comes_to(&mut self, status: Status, reason: Option<&str>) {
        if !self.status.is_failure() {
            self.status = status;
            self.reason = reason.and_then(first_line).map(str::to_owned);
        }
    }

    /// What is new of the files that each report repeats.
    fn files(&mut self, report: &Report, each: &mut Each<'_>) {
        for (title, text) in report.sections.iter().skip(self.sections) {
            let captured = title.strip_prefix("Captured ").and_then(|rest| rest.split(' ').next());
            emit(
                Draft::output(&name(captured.unwrap_or(title)), text.as_bytes()).mime(TEXT).id(&*self.id),
                each,
            );
        }
        self.sections = self.sections.max(report.sections.len());
        for (key, value) in report.user_properties.iter().skip(self.properties) {
            let line = format!("{}={}\n", plain(key), plain(value));
            emit(Draft::output("properties", line.as_bytes()).mime(TEXT).id(&*self.id), each);
        }
        self.properties = self.properties.max(report.user_properties.len());
    }

    fn attach(&self, file: &str, text: &str, each: &mut Each<'_>) {
        if !text.is_empty() {
            emit(Draft::output(file, text.as_bytes()).mime(TEXT).id(&*self.id).eof(true), each);
        }
    }
}
