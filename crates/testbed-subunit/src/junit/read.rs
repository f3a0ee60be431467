use std::borrow::Cow;
use std::time::Duration;

use super::case::Case;
use super::markup::{Markup, Token};
use crate::event::{Draft, Status, Timestamp};
use crate::read::{self, Each, TEXT, emit, fault, name, output};

/// Elements that are nested deeper are output.
const DEPTH_MAX: usize = 64;

/// 2000-01-01, since 1970: when a report without a time begins.
const SOMETIME: Duration = Duration::from_secs(946_684_800);

/// Reads JUnit XML: see [the module](super).
#[derive(Clone, Debug, Default)]
pub struct Reader {
    markup: Markup,
    state: State,
}

#[derive(Clone, Debug, Default)]
struct State {
    open: Vec<Element>,
    /// Elements that are open past the deepest that is known.
    deeper: usize,
    case: Option<Case>,
    /// When the next case begins, since 1970.
    now: Option<Duration>,
    /// Whether any element of a report was seen.
    is_report: bool,
}

/// An element that is open.
#[derive(Clone, Debug)]
struct Element {
    tag: Box<str>,
    kind: Kind,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Kind {
    /// Elements stand here, and no text that means anything.
    Frame,
    /// A suite of this name.
    Suite(String),
    Case,
    /// A `failure` or `error` of a suite, which stands for a case.
    OfSuite,
    /// Text of a file of this name. It may also be the reason.
    File {
        file: String,
        explains: bool,
    },
    /// `property` of this name, whose value may be text.
    Property(String),
}

type Attributes<'a> = [(&'a str, Cow<'a, str>)];

impl Reader {
    /// A reader at the start of a document. Another may follow.
    pub fn new() -> Self {
        Self::default()
    }
}

impl read::Reader for Reader {
    fn feed(&mut self, bytes: &[u8], each: &mut Each<'_>) {
        let Self { markup, state } = self;
        markup.feed(bytes, |token| state.token(token, each));
    }

    fn finish(&mut self, each: &mut Each<'_>) {
        let Self { markup, state } = self;
        markup.finish(|token| state.token(token, each));
        let wrong = match (state.is_report, state.open.is_empty()) {
            (false, _) => Some("there is no report"),
            (true, false) => Some("the report breaks off"),
            (true, true) => None,
        };
        if let Some(wrong) = wrong {
            fault(wrong, each);
        }
        *self = Self::new();
    }
}

impl State {
    fn token(&mut self, token: Token<'_>, each: &mut Each<'_>) {
        match token {
            Token::Open { name, attributes, empty } => {
                self.open(name, &attributes, each);
                if empty {
                    self.close(name, each);
                }
            }
            Token::Close(name) => self.close(name, each),
            Token::Text(bytes) => self.text(bytes, each),
            Token::Broken(bytes) => output(bytes, each),
        }
    }

    fn open(&mut self, tag: &str, attributes: &Attributes<'_>, each: &mut Each<'_>) {
        if self.open.len() >= DEPTH_MAX {
            self.deeper += 1;
            return output(format!("<{tag}>").as_bytes(), each);
        }
        let kind = match tag {
            "testsuites" => Kind::Frame,
            "testsuite" => self.suite(attributes),
            "testcase" => self.case(attributes, each),
            "failure" | "error" => self.failure(tag, attributes, each),
            "skipped" => self.skipped(attributes),
            "flakyFailure" | "flakyError" | "rerunFailure" | "rerunError" => self.attempt(tag, attributes),
            "system-out" => Kind::File { file: "stdout".to_owned(), explains: false },
            "system-err" => Kind::File { file: "stderr".to_owned(), explains: false },
            "properties" => Kind::Frame,
            "property" => self.property(attributes, each),
            _ => Kind::File { file: name(tag).into_owned(), explains: false },
        };
        self.is_report |= matches!(tag, "testsuites" | "testsuite" | "testcase");
        self.open.push(Element { tag: tag.into(), kind });
    }

    /// Closes elements up to the one of this name. Without one, nothing is closed.
    fn close(&mut self, tag: &str, each: &mut Each<'_>) {
        if self.deeper > 0 {
            self.deeper -= 1;
            return output(format!("</{tag}>").as_bytes(), each);
        }
        if !self.open.iter().any(|element| &*element.tag == tag) {
            return output(format!("</{tag}>").as_bytes(), each);
        }
        while let Some(element) = self.open.pop() {
            if matches!(element.kind, Kind::Case | Kind::OfSuite) {
                let ended = self.case.take().map(|case| case.end(each));
                self.now = ended.or(self.now);
            }
            if &*element.tag == tag {
                break;
            }
        }
    }

    fn text(&mut self, bytes: &[u8], each: &mut Each<'_>) {
        let blank = bytes.iter().all(u8::is_ascii_whitespace);
        let id = self.case.as_ref().map(|case| case.id.as_str());
        match self.open.last().map(|element| &element.kind) {
            Some(Kind::File { file, .. }) if !blank || file.starts_with("std") => {
                emit(Draft::output(file, bytes).id(id), each);
            }
            Some(Kind::OfSuite) => emit(Draft::output("traceback", bytes).id(id), each),
            Some(Kind::Property(name)) if !blank => {
                let name = name.clone();
                self.has_property(&name, &String::from_utf8_lossy(bytes), each);
            }
            _ if !blank => output(bytes, each),
            _ => {}
        }
        let explains = match self.open.last().map(|element| &element.kind) {
            Some(Kind::File { explains, .. }) => *explains,
            kind => kind == Some(&Kind::OfSuite),
        };
        if let Some(case) = self.case.as_mut().filter(|_| explains && !blank) {
            case.explain(&String::from_utf8_lossy(bytes));
        }
    }

    fn suite(&mut self, attributes: &Attributes<'_>) -> Kind {
        self.set_clock(attributes);
        Kind::Suite(value(attributes, "name").unwrap_or("suite").to_owned())
    }

    fn set_clock(&mut self, attributes: &Attributes<'_>) {
        let time = value(attributes, "timestamp").and_then(|text| text.parse::<Timestamp>().ok());
        self.now = time.map(Timestamp::since_epoch).or(self.now);
    }

    fn case(&mut self, attributes: &Attributes<'_>, each: &mut Each<'_>) -> Kind {
        if self.case.is_some() {
            // A case within a case is none.
            return Kind::File { file: "testcase".to_owned(), explains: false };
        }
        self.set_clock(attributes);
        let [class, name] =
            ["classname", "name"].map(|key| value(attributes, key).filter(|text| !text.is_empty()));
        let id = match (class, name) {
            (Some(class), Some(name)) => format!("{class}.{name}"),
            (one, other) => one.or(other).unwrap_or("testcase").to_owned(),
        };
        let mut case =
            Case::begin(&id, self.now.unwrap_or(SOMETIME), duration(value(attributes, "time")), each);
        let said =
            ["status", "result"].map(|key| value(attributes, key).unwrap_or_default().to_ascii_lowercase());
        let skips = ["notrun", "disabled", "skipped", "suppressed", "ignored"];
        if said.iter().any(|word| skips.contains(&word.as_str())) {
            case.comes_to(Status::Skip, None);
        }
        if let Some(file) = value(attributes, "file") {
            let line = value(attributes, "line").map_or(String::new(), |line| format!(":{line}"));
            let place = format!("{file}{line}");
            emit(Draft::output("location", place.as_bytes()).mime(TEXT).id(&*case.id).eof(true), each);
        }
        self.case = Some(case);
        Kind::Case
    }

    fn failure(&mut self, tag: &str, attributes: &Attributes<'_>, each: &mut Each<'_>) -> Kind {
        let of_suite = self.case.is_none();
        if of_suite {
            let suite = self.open.iter().rev().find_map(|element| match &element.kind {
                Kind::Suite(name) => Some(name.as_str()),
                _ => None,
            });
            let begins = self.now.unwrap_or(SOMETIME);
            self.case = Some(Case::begin(suite.unwrap_or("report"), begins, Duration::ZERO, each));
        }
        if let Some(case) = &mut self.case {
            let message = value(attributes, "message").filter(|text| !text.trim().is_empty());
            case.comes_to(Status::Fail, message.or_else(|| value(attributes, "type")));
            if tag == "error" {
                case.tag("error");
            }
        }
        if of_suite { Kind::OfSuite } else { Kind::File { file: "traceback".to_owned(), explains: true } }
    }

    fn skipped(&mut self, attributes: &Attributes<'_>) -> Kind {
        let message = value(attributes, "message");
        let kind = value(attributes, "type").unwrap_or_default().to_ascii_lowercase();
        let is_expected = kind.contains("xfail") || message == Some("failed as expected");
        if let Some(case) = &mut self.case {
            match kind.as_str() {
                "todo" => case.may_fail(message.unwrap_or_default()),
                _ if is_expected => case.comes_to(Status::XFail, message),
                _ => case.comes_to(Status::Skip, message),
            }
        }
        Kind::File { file: "skipped".to_owned(), explains: true }
    }

    /// One of several attempts at a case.
    fn attempt(&mut self, tag: &str, attributes: &Attributes<'_>) -> Kind {
        if let Some(case) = &mut self.case {
            case.tag(if tag.starts_with("flaky") { "flaky" } else { "rerun" });
            if let Some(message) = value(attributes, "message").filter(|_| case.status() == Status::Success) {
                case.explain(message);
            }
        }
        Kind::File { file: tag.to_owned(), explains: false }
    }

    fn property(&mut self, attributes: &Attributes<'_>, each: &mut Each<'_>) -> Kind {
        let name = value(attributes, "name").unwrap_or_default().to_owned();
        if let Some(value) = value(attributes, "value") {
            self.has_property(&name, value, each);
        }
        Kind::Property(name)
    }

    fn has_property(&mut self, name: &str, value: &str, each: &mut Each<'_>) {
        match &mut self.case {
            Some(case) if name == "tag" => case.tag(value),
            case => {
                let line = format!("{name}={value}\n");
                let id = case.as_ref().map(|case| case.id.as_str());
                emit(Draft::output("properties", line.as_bytes()).mime(TEXT).id(id), each);
            }
        }
    }
}

fn value<'a>(attributes: &'a Attributes<'_>, name: &str) -> Option<&'a str> {
    attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
}

/// Seconds, as in `1,234.5`.
fn duration(text: Option<&str>) -> Duration {
    let seconds = text.map(|text| text.trim().replace(',', "")).and_then(|text| text.parse().ok());
    let nanos = seconds.map_or(0.0, |seconds: f64| (seconds * 1e9).round());
    Duration::from_nanos(nanos.clamp(0.0, 1e18) as u64)
}
