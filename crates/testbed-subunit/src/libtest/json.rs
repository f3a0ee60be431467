use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Cause, id, told};
use crate::event::{Draft, Status};
use crate::read::{Each, TEXT, emit};

/// Suites that are known at a time.
const SUITES_MAX: usize = 1024;

/// Longer names of suites are not kept.
const NAME_MAX: usize = 4096;

/// Reads the JSON lines of the harness and of nextest.
#[derive(Clone, Debug, Default)]
pub(super) struct Json {
    /// Whether there was any result.
    pub(super) has_begun: bool,
    /// How often each suite has begun and not ended.
    suites: BTreeMap<String, u64>,
}

/// One line (`--format json` of the harness, `libtest-json-plus` of nextest).
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    event: Option<String>,
    name: Option<String>,
    stdout: Option<String>,
    message: Option<String>,
    reason: Option<String>,
    nextest: Option<Nextest>,
}

/// What nextest adds to a suite.
#[derive(Debug, Deserialize)]
struct Nextest {
    #[serde(rename = "crate")]
    package: String,
    test_binary: String,
}

impl Json {
    /// Takes a line. False where it is none of the harness.
    pub(super) fn line(&mut self, bytes: &[u8], binary: Option<&str>, each: &mut Each<'_>) -> bool {
        let Ok(entry) = serde_json::from_slice::<Entry>(bytes) else { return false };
        let event = entry.event.as_deref();
        match (&*entry.kind, event, entry.name.as_deref()) {
            ("suite", Some("started" | "ok" | "failed" | "discovery"), _) => self.suite(&entry, binary),
            ("test", Some("discovered"), Some(name)) => {
                let (id, _) = id_of(name, binary);
                emit(Draft::test(&id, Status::Exists), each);
            }
            ("test" | "bench", _, Some(name)) => return self.test(&entry, name, binary, each),
            ("report", _, _) | ("suite", Some("completed"), _) => {}
            _ => return false,
        }
        self.has_begun = true;
        true
    }

    fn suite(&mut self, entry: &Entry, binary: Option<&str>) {
        let name = match &entry.nextest {
            Some(nextest) => joined(&nextest.package, &nextest.test_binary),
            None => binary.unwrap_or("tests").to_owned(),
        };
        if entry.event.as_deref() == Some("started") {
            if name.len() <= NAME_MAX && (self.suites.len() < SUITES_MAX || self.suites.contains_key(&name)) {
                *self.suites.entry(name).or_default() += 1;
            }
        } else if let Some(open) = self.suites.get_mut(&name) {
            *open -= 1;
            if *open == 0 {
                self.suites.remove(&name);
            }
        }
    }

    fn test(&mut self, entry: &Entry, name: &str, binary: Option<&str>, each: &mut Each<'_>) -> bool {
        let (id, again) = id_of(name, binary);
        let status = match (entry.event.as_deref(), &*entry.kind) {
            (Some("started"), _) => Status::InProgress,
            // It has run for long, and goes on.
            (Some("timeout"), _) => return true,
            (Some("ok"), _) | (None, "bench") => Status::Success,
            (Some("failed"), _) => Status::Fail,
            (Some("ignored"), _) => Status::Skip,
            _ => return false,
        };
        self.has_begun = true;
        let mut cause = Cause::default();
        if let Some(stdout) = &entry.stdout {
            emit(Draft::output("stdout", stdout.as_bytes()).mime(TEXT).id(&*id).eof(true), each);
            stdout.lines().for_each(|line| cause.look(line));
        }
        let found = cause.found.filter(|_| status == Status::Fail);
        let reason = entry.message.as_deref().or(entry.reason.as_deref()).or(found.as_deref());
        let tags: &[&str] = match status {
            Status::Success if again => &["flaky"],
            Status::Fail if again => &["rerun"],
            _ => &[],
        };
        told(&id, status, reason, tags, each);
        true
    }

    /// The stream has ended: suites that have not are told of.
    pub(super) fn end(&mut self, each: &mut Each<'_>) {
        for (name, _) in std::mem::take(&mut self.suites) {
            told(&name, Status::Fail, Some("ended without a result"), &[], each);
        }
    }
}

/// The id of a test, and whether this is not its first attempt.
///
/// nextest calls a test `package::binary$test`, and its second attempt `package::binary$test#2`.
fn id_of(name: &str, binary: Option<&str>) -> (String, bool) {
    let Some((place, test)) = name.split_once('$') else { return (id(binary, name), false) };
    let binary = match place.split_once("::") {
        Some((package, binary)) => joined(package, binary),
        None => place.to_owned(),
    };
    let attempt = test.rsplit_once('#').filter(|(_, number)| number.parse::<u32>().is_ok());
    (id(Some(&binary), attempt.map_or(test, |(test, _)| test)), attempt.is_some())
}

/// A package and its binary, in one word where both are called the same.
fn joined(package: &str, binary: &str) -> String {
    if package == binary || package.replace('-', "_") == binary {
        return binary.to_owned();
    }
    format!("{package}::{binary}")
}
