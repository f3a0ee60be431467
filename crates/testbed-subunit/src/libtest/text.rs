use super::{Cause, id, line, told};
use crate::event::{Draft, Status};
use crate::read::{Each, emit, first_line, output};

/// Failed tests, and tests whose outcome is not known, that wait for what is told at the end.
const WAITING_MAX: usize = 4096;

/// Reads the text that the harness prints.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    /// Whether there was any result.
    pub(super) has_begun: bool,
    block: Option<Block>,
}

/// The tests of one binary.
#[derive(Clone, Debug, Default)]
struct Block {
    /// Tests that there are to be.
    announced: u64,
    /// Tests that were told of.
    told: u64,
    waiting: Vec<Waiting>,
    part: Part,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Part {
    /// Tests are told of.
    #[default]
    Tests,
    /// What the last of those that wait prints comes before its outcome.
    Printing,
    /// What failed tests printed: now this one of those that wait.
    Outputs(Option<usize>),
    /// The names of those that failed.
    Names,
}

/// A test whose status has not been told.
#[derive(Clone, Debug)]
struct Waiting {
    test: String,
    id: String,
    /// Whether it is known to have failed.
    failed: bool,
    /// Whether its output has been printed.
    printed: bool,
    reason: Option<String>,
    cause: Cause,
}

impl Text {
    pub(super) fn line(&mut self, bytes: &[u8], binary: Option<&str>, each: &mut Each<'_>) {
        let lossy = String::from_utf8_lossy(bytes);
        let text = lossy.trim_end_matches(['\n', '\r']);
        let Some(block) = &mut self.block else {
            if let Some(announced) = line::running(text) {
                self.block = Some(Block { announced, ..Block::default() });
                self.has_begun = true;
            }
            return output(bytes, each);
        };
        if let Some(count) = line::result(text) {
            // A failed test may itself have run tests. Only one result is about all that were told of here.
            if count == block.told || !matches!(block.part, Part::Outputs(_)) {
                let missing = count > block.told;
                block.end(!missing, each);
                self.block = None;
                if missing {
                    told(
                        binary.unwrap_or("tests"),
                        Status::Fail,
                        Some("not all results were told"),
                        &[],
                        each,
                    );
                }
                return output(bytes, each);
            }
        }
        block.line(bytes, text, binary, each);
    }

    /// A piece of a line that is too long to be looked at.
    pub(super) fn prints(&mut self, bytes: &[u8], each: &mut Each<'_>) {
        match &self.block {
            Some(block) => block.prints(bytes, each),
            None => output(bytes, each),
        }
    }

    /// The binary has ended, with its result or without.
    pub(super) fn end(&mut self, binary: Option<&str>, each: &mut Each<'_>) {
        if let Some(mut block) = self.block.take() {
            block.end(false, each);
            let reason =
                format!("ended without a result: {} of {} tests were told of", block.told, block.announced);
            told(binary.unwrap_or("tests"), Status::Fail, Some(&reason), &[], each);
        }
    }
}

impl Block {
    fn line(&mut self, bytes: &[u8], text: &str, binary: Option<&str>, each: &mut Each<'_>) {
        match self.part {
            Part::Printing => {
                if let Some(outcome) = line::outcome(text) {
                    return self.printed_out(outcome, each);
                }
            }
            Part::Outputs(_) | Part::Names => {
                if let Some(at) = line::section(text).and_then(|test| self.waits(test)) {
                    self.part = Part::Outputs(Some(at));
                    self.waiting[at].printed = true;
                    return;
                }
            }
            Part::Tests => {}
        }
        match (self.part, line::told(text)) {
            (Part::Tests | Part::Printing, Some(told)) => return self.test(told, binary, each),
            (Part::Tests | Part::Printing, None) if text == "failures:" => {
                self.part = Part::Outputs(None);
                return;
            }
            (Part::Outputs(_), _) if text == "failures:" => {
                self.part = Part::Names;
                return;
            }
            (Part::Names, _) => {
                if let Some(name) = text.strip_prefix("    ") {
                    let name = line::plain(name);
                    let named = self.waiting.iter_mut().find(|one| one.test == name);
                    if let Some(one) = named {
                        one.failed = true;
                        return;
                    }
                }
            }
            _ => {}
        }
        if let Part::Outputs(Some(at)) = self.part {
            self.waiting[at].cause.look(text);
        }
        self.prints(bytes, each);
    }

    /// A line tells of a test.
    fn test(&mut self, line: line::Told<'_>, binary: Option<&str>, each: &mut Each<'_>) {
        self.told += 1;
        self.part = Part::Tests;
        let id = id(binary, line.test);
        match line.outcome {
            Some((Status::Fail, reason)) => {
                self.wait(line.test, id, true, reason, each);
            }
            Some((status, reason)) => told(&id, status, reason, &[], each),
            None => {
                emit(Draft::test(&id, Status::InProgress), each);
                if self.wait(line.test, id, false, None, each) {
                    self.part = Part::Printing;
                    if !line.rest.is_empty() {
                        self.prints(format!("{}\n", line.rest).as_bytes(), each);
                    }
                }
            }
        }
    }

    /// A test waits for what is told at the end. False where too many do: a failure is told at once then.
    fn wait(
        &mut self,
        test: &str,
        id: String,
        failed: bool,
        reason: Option<&str>,
        each: &mut Each<'_>,
    ) -> bool {
        if self.waiting.len() >= WAITING_MAX || test.len() > WAITING_MAX {
            if failed {
                told(&id, Status::Fail, reason, &[], each);
            }
            return false;
        }
        let reason = reason.map(str::to_owned);
        let (test, cause) = (test.to_owned(), Cause::default());
        self.waiting.push(Waiting { test, id, failed, printed: false, reason, cause });
        true
    }

    /// The outcome of the test that was printing.
    fn printed_out(&mut self, (status, reason): (Status, Option<&str>), each: &mut Each<'_>) {
        self.part = Part::Tests;
        match self.waiting.last_mut() {
            Some(last) if status == Status::Fail => last.failed = true,
            Some(_) => {
                if let Some(last) = self.waiting.pop() {
                    told(&last.id, status, reason, &[], each);
                }
            }
            None => {}
        }
    }

    /// Where the failed test of that name waits whose output is to come.
    fn waits(&self, test: &str) -> Option<usize> {
        self.waiting.iter().position(|one| one.test == test && !one.printed)
    }

    /// Output, of the test that prints or of none.
    fn prints(&self, bytes: &[u8], each: &mut Each<'_>) {
        let test = match self.part {
            Part::Printing => self.waiting.last(),
            Part::Outputs(at) => at.and_then(|at| self.waiting.get(at)),
            Part::Tests | Part::Names => None,
        };
        match test {
            Some(test) => emit(Draft::output("stdout", bytes).id(&*test.id), each),
            None => output(bytes, each),
        }
    }

    /// Tells what waited. A test without an outcome has passed if there was a `result`, and did not end otherwise.
    fn end(&mut self, result: bool, each: &mut Each<'_>) {
        for one in std::mem::take(&mut self.waiting) {
            if one.failed {
                let reason = one.reason.or(one.cause.found);
                told(&one.id, Status::Fail, reason.as_deref().and_then(first_line), &[], each);
            } else if result {
                told(&one.id, Status::Success, None, &[], each);
            }
        }
    }
}
