//! Turns what happens in a run into events.

use super::evidence::Evidence;
use super::executor::Verdict;
use super::process::Stream;
use super::schedule::Case;
use super::{READY, TESTBED_FAILED, evidence};
use crate::spec::Testbed;
use std::sync::Arc;
use testbed_agent::Fault;
use testbed_subunit::{Draft, Event, Status, Timestamp};

/// The most bytes of a file that go into one event.
const PIECE: usize = 64 * 1024;

const TEXT: &str = "text/plain;charset=utf-8";

/// Tells events to a sink.
pub(super) struct Teller<'a> {
    testbed: Arc<Testbed>,
    sink: &'a mut dyn FnMut(Event),
}

impl<'a> Teller<'a> {
    pub(super) fn new(testbed: Arc<Testbed>, sink: &'a mut dyn FnMut(Event)) -> Teller<'a> {
        Teller { testbed, sink }
    }

    /// A test will run.
    pub(super) fn planned(&mut self, case: &Case, at: Option<Timestamp>) {
        self.test(case, Draft::new().at(at).status(Status::Exists), &[]);
    }

    /// A test is not run.
    pub(super) fn skipped(&mut self, id: &str, why: &str, at: Option<Timestamp>) {
        self.tell(Draft::test(id, Status::Exists).at(at));
        let draft = Draft::test(id, Status::Skip).at(at).file("reason", why.as_bytes());
        self.tell(draft.mime(TEXT).eof(true));
    }

    /// A test begins on a copy.
    pub(super) fn began(&mut self, case: &Case, copy: u32, at: Option<Timestamp>) {
        let tag = format!("copy-{copy}");
        self.test(case, Draft::new().at(at).status(Status::InProgress), &[&tag]);
    }

    /// A test writes something.
    pub(super) fn output(&mut self, case: &Case, stream: Stream, bytes: &[u8], at: Option<Timestamp>) {
        self.test(case, Draft::new().at(at).file(stream.name(), bytes).mime(TEXT), &[]);
    }

    /// A test has ended.
    pub(super) fn ended(&mut self, case: &Case, verdict: &Verdict, at: Option<Timestamp>) {
        for evidence in &verdict.evidence {
            let name = evidence.full_name();
            self.test(case, Draft::new().at(at).file(&name, &evidence.text).mime(TEXT).eof(true), &[]);
        }
        let mut draft = Draft::new().at(at).status(verdict.status);
        if let Some(reason) = &verdict.reason {
            draft = draft.file("reason", reason.as_bytes()).mime(TEXT).eof(true);
        }
        self.test(case, draft, if verdict.testbed_failed { &[TESTBED_FAILED] } else { &[] });
    }

    /// The machines of a copy are asked for.
    pub(super) fn starts(&mut self, copy: u32, at: Option<Timestamp>) {
        self.machines(copy, |id| Draft::activity(id, Status::InProgress).at(at));
    }

    /// The machines of a copy are ready.
    pub(super) fn ready(&mut self, copy: u32, at: Option<Timestamp>) {
        self.machines(copy, |id| Draft::activity(id, Status::InProgress).at(at).tags(&[READY]));
    }

    /// Nothing of a copy's machines is left.
    pub(super) fn gone(&mut self, copy: u32, at: Option<Timestamp>) {
        self.machines(copy, |id| Draft::activity(id, Status::Success).at(at));
    }

    /// A copy failed: the machine that it happened to, or all of them if it is of none.
    pub(super) fn broken(&mut self, copy: u32, fault: &Fault, evidence: &[Evidence], at: Option<Timestamp>) {
        let testbed = Arc::clone(&self.testbed);
        // What is of no machine goes with the one that it happened to.
        let first = testbed.machines().first().map(crate::spec::Machine::name);
        let main = fault.machine.as_deref().or(first);
        for machine in testbed.machines() {
            let id = activity(copy, machine.name());
            let its = |evidence: &&Evidence| evidence.machine.as_deref().or(main) == Some(machine.name());
            for evidence in evidence.iter().filter(its) {
                let draft = Draft::new().id(&*id).at(at).file(&evidence.name, &evidence.text);
                self.tell(draft.mime(TEXT).eof(true));
            }
            if fault.machine.as_deref().is_some_and(|name| name != machine.name()) {
                self.tell(Draft::activity(&id, Status::Success).at(at));
                continue;
            }
            let reason = evidence::reason(fault);
            let draft = Draft::activity(&id, Status::Fail).at(at).tags(&[TESTBED_FAILED]);
            self.tell(draft.file("reason", reason.as_bytes()).mime(TEXT).eof(true));
        }
    }

    fn machines(&mut self, copy: u32, draft: impl Fn(&str) -> Draft<'_>) {
        let testbed = Arc::clone(&self.testbed);
        for machine in testbed.machines() {
            self.tell(draft(&activity(copy, machine.name())));
        }
    }

    /// Tells of a test what the draft says, with what names this execution of it.
    fn test(&mut self, case: &Case, draft: Draft<'_>, tags: &[&str]) {
        let testbed = Arc::clone(&self.testbed);
        let test = &testbed.tests()[case.test];
        let route = case.repetition.map(|number| number.to_string());
        let repeat = route.as_ref().map(|number| format!("repeat-{number}"));
        let own = test.tags().iter().map(String::as_str);
        let tags: Vec<&str> = own.chain(repeat.as_deref()).chain(tags.iter().copied()).collect();
        self.tell(draft.id(test.id()).runnable(true).route(route.as_deref()).tags(&tags[..]));
    }

    fn tell(&mut self, draft: Draft<'_>) {
        // The model's names hold no NUL and are far shorter than a packet, so every draft is an event.
        if let Ok(events) = draft.split(PIECE) {
            for event in events {
                (self.sink)(event.to_owned());
            }
        }
    }
}

fn activity(copy: u32, machine: &str) -> String {
    format!("testbed/{copy}/{machine}")
}
