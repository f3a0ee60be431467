use std::borrow::Cow;

use super::line::{Directive, Point, Said};
use crate::event::{Draft, Status};
use crate::read::{self, Each, Line, Lines, TEXT, emit, explained, first_line, name, output};

/// Lines of more bytes are output.
const LINE_MAX: usize = 1024 * 1024;

/// Subtests that are nested deeper are output.
const DEPTH_MAX: usize = 32;

/// Missing points that are told one by one. What is missing past them is told at once.
const MISSING_MAX: u64 = 100;

/// Reads TAP: see [the module](super).
#[derive(Clone, Debug, Default)]
pub struct Reader {
    lines: Lines<LINE_MAX>,
    state: State,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// The document, its open subtest, that one's open subtest, and so on.
    levels: Vec<Level>,
    yaml: Option<Yaml>,
    bailed_out: bool,
}

/// A document or a subtest.
#[derive(Clone, Debug, Default)]
struct Level {
    /// What stands before the ids of its points.
    prefix: String,
    plan: Option<u64>,
    /// The highest number that any point had.
    last: u64,
    /// A point whose status has not been told.
    pending: Option<Pending>,
    /// The name that a comment gave what comes next.
    announced: Option<String>,
    /// The id under which the subtest that has just ended was begun.
    begun: Option<String>,
}

#[derive(Clone, Debug)]
struct Pending {
    id: String,
    status: Status,
    reason: Option<String>,
    todo: bool,
}

/// Where a line belongs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// To the last level.
    Last,
    /// To the last level, which it gave its name.
    Named,
    /// To no level.
    Nowhere,
}

/// An open block of YAML.
#[derive(Clone, Copy, Debug)]
struct Yaml {
    level: usize,
    indent: usize,
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
        if state.levels.is_empty() && !state.bailed_out {
            state.levels.push(Level::default());
        }
        state.end(each);
        *self = Self::new();
    }
}

impl State {
    fn line(&mut self, line: Line<'_>, each: &mut Each<'_>) {
        let bytes = match line {
            Line::Whole(bytes) => bytes,
            Line::Piece(bytes) if self.yaml.is_some() => return self.diagnose(bytes, each),
            Line::Piece(bytes) => return output(bytes, each),
        };
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        let inner = text.trim_start_matches(' ');
        let indent = text.len() - inner.len();
        if self.yaml.is_some() && self.yaml_line(bytes, inner, indent, each) {
            return;
        }
        if inner == "---" && self.begins_yaml(indent) {
            return;
        }
        let said = Said::parse(inner);
        if self.bailed_out && said != Said::Version {
            return output(bytes, each);
        }
        let place = self.enter(&said, indent, each);
        match said {
            _ if place == Place::Nowhere => output(bytes, each),
            Said::Version => {}
            Said::Plan { last, skipped } => self.plan(last, skipped, each),
            Said::Point(point) => self.point(point, each),
            Said::BailOut(why) => self.bail_out(why, each),
            Said::Subtest(_) if place == Place::Named => {}
            Said::Subtest(name) => self.announce(name.into_owned(), each),
            Said::Comment(text) => self.comment(indent / 4, text, each),
            Said::Other => output(bytes, each),
        }
    }

    /// Opens and closes levels until the one that `said` belongs to is the last.
    fn enter(&mut self, said: &Said<'_>, indent: usize, each: &mut Each<'_>) -> Place {
        let depth = indent / 4;
        if *said == Said::Version && depth == 0 {
            self.end(each);
        }
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        match said {
            Said::Other | Said::BailOut(_) => return Place::Last,
            _ if !indent.is_multiple_of(4) || depth > self.levels.len() || depth >= DEPTH_MAX => {
                return Place::Nowhere;
            }
            Said::Comment(_) if depth == self.levels.len() => return Place::Nowhere,
            Said::Comment(_) => return Place::Last,
            _ => {}
        }
        while self.levels.len() > depth + 1 {
            self.leave(each);
        }
        if depth == self.levels.len() { self.begin(said, each) } else { Place::Last }
    }

    /// Begins a subtest. Its name stood before it, or is the first that is `said` in it.
    fn begin(&mut self, said: &Said<'_>, each: &mut Each<'_>) -> Place {
        let Some(parent) = self.levels.last_mut() else { return Place::Nowhere };
        parent.tell(each);
        let announced = parent.announced.take();
        let (named, place) = match (&announced, said) {
            (Some(name), _) => (Some(name.as_str()), Place::Last),
            (None, Said::Subtest(name)) => (Some(&**name), Place::Named),
            (None, _) => (None, Place::Last),
        };
        let id = match named {
            Some(named) => format!("{}{named}", parent.prefix),
            None => format!("{}test {}", parent.prefix, parent.last.saturating_add(1)),
        };
        let id = name(&id).into_owned();
        let prefix = format!("{id}/");
        if named.is_some() {
            emit(Draft::test(&id, Status::InProgress), each);
            parent.begun = Some(id);
        }
        self.levels.push(Level { prefix, ..Level::default() });
        place
    }

    /// Ends the last level.
    fn leave(&mut self, each: &mut Each<'_>) {
        if let Some(mut level) = self.levels.pop() {
            level.end(self.levels.is_empty(), each);
        }
    }

    /// Ends the document.
    fn end(&mut self, each: &mut Each<'_>) {
        self.yaml = None;
        while !self.levels.is_empty() {
            self.leave(each);
        }
        self.bailed_out = false;
    }

    /// What comes next in the last level has this name.
    fn announce(&mut self, name: String, each: &mut Each<'_>) {
        if let Some(level) = self.levels.last_mut() {
            level.tell(each);
            level.announced = Some(name);
        }
    }

    fn plan(&mut self, last: u64, skipped: Option<&str>, each: &mut Each<'_>) {
        let outermost = self.levels.len() == 1;
        let Some(level) = self.levels.last_mut() else { return };
        level.tell(each);
        if level.plan.is_some() {
            return level.fault("planned twice", each);
        }
        level.plan = Some(last);
        if let Some(reason) = skipped.filter(|_| outermost && level.last == 0) {
            told(&format!("{}plan", level.prefix), Status::Skip, Some(reason), false, each);
        }
    }

    fn point(&mut self, point: Point<'_>, each: &mut Each<'_>) {
        let Some(level) = self.levels.last_mut() else { return };
        level.tell(each);
        let expected = level.last.saturating_add(1);
        let number = point.number.unwrap_or(expected);
        if number < expected {
            level.fault(&format!("point {number} came where {expected} was expected"), each);
        } else {
            level.missing(expected, number - 1, each);
            level.last = number;
        }
        level.announced = None;
        let id = level.begun.take().unwrap_or_else(|| match &*point.description {
            "" => format!("{}test {number}", level.prefix),
            description => format!("{}{description}", level.prefix),
        });
        let (directive, reason) = match point.directive {
            Some((directive, reason)) => (Some(directive), Some(reason).filter(|reason| !reason.is_empty())),
            None => (None, None),
        };
        let (status, todo) = match (point.ok, directive) {
            (true, None) => (Status::Success, false),
            (true, Some(Directive::Skip)) => (Status::Skip, false),
            (true, Some(Directive::Todo)) => (Status::Success, true),
            (false, Some(Directive::Todo)) => (Status::XFail, false),
            (false, None | Some(Directive::Skip)) => (Status::Fail, false),
        };
        let id = name(&id).into_owned();
        level.pending = Some(Pending { id, status, reason: reason.map(Cow::into_owned), todo });
    }

    fn bail_out(&mut self, why: &str, each: &mut Each<'_>) {
        self.levels.iter_mut().rev().for_each(|level| level.tell(each));
        told("Bail out!", Status::Fail, Some(why), false, each);
        self.levels.clear();
        self.bailed_out = true;
    }

    /// A comment is about the point before it, or else about the subtest that it stands in.
    fn comment(&mut self, depth: usize, text: &str, each: &mut Each<'_>) {
        let pending =
            self.levels.get(depth).and_then(|level| level.pending.as_ref()).map(|pending| &*pending.id);
        let subtest = || depth.checked_sub(1).and_then(|parent| self.levels.get(parent)?.begun.as_deref());
        let text = format!("{text}\n");
        let draft = Draft::output("comment", text.as_bytes()).mime(TEXT);
        emit(draft.id(pending.or_else(subtest)), each);
    }

    /// Whether a line `---` begins the diagnostics of the last point.
    fn begins_yaml(&mut self, indent: usize) -> bool {
        let level = indent / 4;
        let pending = self.levels.get(level).is_some_and(|level| level.pending.is_some());
        let begins = pending && level + 1 == self.levels.len() && !indent.is_multiple_of(4);
        if begins {
            self.yaml = Some(Yaml { level, indent });
        }
        begins
    }

    /// Takes a line while a block of YAML is open. False where it has just ended without saying so.
    fn yaml_line(&mut self, bytes: &[u8], inner: &str, indent: usize, each: &mut Each<'_>) -> bool {
        let Some(Yaml { level, indent: block }) = self.yaml else { return false };
        if inner == "..." && indent == block {
            self.yaml = None;
            return true;
        }
        if indent < block && !inner.is_empty() {
            self.yaml = None;
            return false;
        }
        self.diagnose(bytes.get(block..).unwrap_or(b"\n"), each);
        let pending = self.levels.get_mut(level).and_then(|level| level.pending.as_mut());
        if let Some(pending) = pending.filter(|pending| indent == block && pending.reason.is_none()) {
            let value = inner.strip_prefix("message:").or_else(|| inner.strip_prefix("error:"));
            pending.reason = value.map(unquoted).and_then(first_line).map(str::to_owned);
        }
        true
    }

    /// Adds to the YAML of the last point.
    fn diagnose(&self, bytes: &[u8], each: &mut Each<'_>) {
        let level = self.yaml.and_then(|yaml| self.levels.get(yaml.level));
        let id = level.and_then(|level| level.pending.as_ref()).map(|pending| &*pending.id);
        emit(Draft::output("diagnostic.yaml", bytes).id(id).mime("application/yaml"), each);
    }
}

impl Level {
    /// Tells the status of the last point.
    fn tell(&mut self, each: &mut Each<'_>) {
        if let Some(Pending { id, status, reason, todo }) = self.pending.take() {
            told(&id, status, reason.as_deref(), todo, each);
        }
    }

    fn end(&mut self, outermost: bool, each: &mut Each<'_>) {
        self.tell(each);
        match self.plan {
            Some(plan) if self.last > plan => {
                self.fault(&format!("{plan} points were planned and {} came", self.last), each);
            }
            Some(plan) => self.missing(self.last.saturating_add(1), plan, each),
            None if outermost => self.fault("there is no plan", each),
            None => {}
        }
    }

    /// Points that were to come and did not.
    fn missing(&self, first: u64, last: u64, each: &mut Each<'_>) {
        let reason = Some("the point is missing");
        for number in (first..=last).take(MISSING_MAX as usize) {
            told(&format!("{}test {number}", self.prefix), Status::Fail, reason, false, each);
        }
        if let Some(next) = first.checked_add(MISSING_MAX).filter(|next| *next <= last) {
            told(&format!("{}tests {next} to {last}", self.prefix), Status::Fail, reason, false, each);
        }
    }

    /// Something is wrong with the numbers of this level.
    fn fault(&self, what: &str, each: &mut Each<'_>) {
        told(&format!("{}plan", self.prefix), Status::Fail, Some(what), false, each);
    }
}

fn told(id: &str, status: Status, reason: Option<&str>, todo: bool, each: &mut Each<'_>) {
    let id = name(id);
    let mut draft = Draft::test(&id, status);
    if todo {
        draft = draft.tags(&["todo"]);
    }
    emit(explained(draft, reason.filter(|reason| !reason.is_empty())), each);
}

/// A plain or quoted scalar of YAML on one line. Nothing where the value is a block, which follows.
fn unquoted(value: &str) -> &str {
    let value = value.trim();
    let quoted = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    match quoted('"').or_else(|| quoted('\'')) {
        Some(inner) => inner,
        None if value.starts_with(['|', '>']) => "",
        None => value,
    }
}
