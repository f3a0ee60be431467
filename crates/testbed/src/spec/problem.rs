//! What is wrong with a file, where, and what to do about it.

use super::render;
use serde::{Serialize, Serializer};
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// A place in what was described: a key path always, a span of the text if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    pub(super) path: String,
    pub(super) span: Option<Range<usize>>,
}

impl Place {
    /// The keys that lead there, as TOML writes them: `machines.gw1.interfaces.lan`, `tests[2].on`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Bytes of the file's text. None when the testbed was built without a file.
    pub fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }
}

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// There is no testbed.
    Error,
    /// There is one, but probably not the one that was meant.
    Warning,
}

/// What kind of thing is wrong. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The text is not TOML.
    Syntax,
    /// There is no key of this name here.
    UnknownKey,
    /// The key wants a value of another type.
    WrongType,
    /// The type is right, the value is not.
    BadValue,
    /// A name is not legal.
    BadName,
    /// A name stands for nothing.
    UnknownName,
    /// A key is missing.
    MissingKey,
    /// Two things that must differ do not.
    Duplicate,
    /// Two subnets have addresses in common.
    Overlap,
    /// An address lies outside its subnet, or has a meaning of its own there.
    Address,
    /// An address cannot be reached from its machine.
    Unreachable,
    /// Things need each other in a circle.
    Cycle,
    /// A file or folder of the host is not there.
    MissingFile,
    /// Keys or values that are fine alone do not fit each other.
    Misfit,
}

impl ProblemKind {
    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            ProblemKind::Syntax => "syntax",
            ProblemKind::UnknownKey => "unknown-key",
            ProblemKind::WrongType => "wrong-type",
            ProblemKind::BadValue => "bad-value",
            ProblemKind::BadName => "bad-name",
            ProblemKind::UnknownName => "unknown-name",
            ProblemKind::MissingKey => "missing-key",
            ProblemKind::Duplicate => "duplicate",
            ProblemKind::Overlap => "overlap",
            ProblemKind::Address => "address",
            ProblemKind::Unreachable => "unreachable",
            ProblemKind::Cycle => "cycle",
            ProblemKind::MissingFile => "missing-file",
            ProblemKind::Misfit => "misfit",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    severity: Severity,
    kind: ProblemKind,
    message: String,
    labels: Vec<Label>,
    hint: Option<String>,
}

/// A place and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    place: Place,
    text: String,
}

impl Label {
    /// Where.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What; may be empty.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Problem {
    pub(super) fn error(kind: ProblemKind, place: &Place, message: impl AsRef<str>) -> Problem {
        Problem {
            severity: Severity::Error,
            kind,
            message: printable(message.as_ref()),
            labels: vec![Label { place: place.clone(), text: String::new() }],
            hint: None,
        }
    }

    pub(super) fn warning(kind: ProblemKind, place: &Place, message: impl AsRef<str>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(kind, place, message) }
    }

    /// What to say at the place itself.
    pub(super) fn label(mut self, text: impl AsRef<str>) -> Problem {
        self.labels[0].text = printable(text.as_ref());
        self
    }

    /// Another place that has to do with it.
    pub(super) fn also(mut self, place: &Place, text: impl AsRef<str>) -> Problem {
        self.labels.push(Label { place: place.clone(), text: printable(text.as_ref()) });
        self
    }

    /// What to do about it.
    pub(super) fn help(mut self, text: impl AsRef<str>) -> Problem {
        self.hint = Some(printable(text.as_ref()));
        self
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What kind of thing it is.
    pub fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.labels[0].place
    }

    /// The places it has to do with; the first is [`place`](Self::place).
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// What to do.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// A text without characters that would move a terminal's cursor or hide other text.
fn printable(text: &str) -> String {
    let hides = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(hides) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if hides(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

/// `text` in backquotes, its middle left out when it is long.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST {
        return format!("`{text}`");
    }
    let head: String = text.chars().take(MOST - 10).collect();
    format!("`{head}…`")
}

/// Names for people: `a`, `b` and `c`. At most ten; the number of the others is told.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 10;
    let names: Vec<String> = names.into_iter().map(quoted).collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        all if all.len() > MOST => format!("{} and {} more", all[..MOST].join(", "), all.len() - MOST),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

/// A file's name and text, for showing pieces of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

/// All that is wrong with a description of a testbed, in the order of the file.
///
/// `Display` shows it as plain text; [`render`](Self::render) can colour it; `Serialize` gives stable JSON:
///
/// ```
/// use testbed::spec::{FixedFiles, check};
///
/// let (testbed, problems) = check("machnes = {}", "testbed.toml", &FixedFiles::new("/bed"));
/// assert!(testbed.is_none());
/// assert_eq!(problems.iter().next().unwrap().hint(), Some("did you mean `machines`?"));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Problems {
    source: Option<Source>,
    list: Vec<Problem>,
}

impl Problems {
    pub(super) fn of(source: Option<Source>) -> Problems {
        Problems { source, list: Vec::new() }
    }

    pub(super) fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// Puts all in the order of the file, each once: what `[defaults]` or `count` spread over machines was found for
    /// each of them. What is said of an address differs between these machines, so there the first stands for all.
    pub(super) fn settle(&mut self) {
        self.trust_syntax_first();
        let mut seen = HashSet::new();
        self.list.retain(|problem| {
            let message = match problem.kind {
                ProblemKind::Address | ProblemKind::Duplicate | ProblemKind::Unreachable => "",
                _ => &problem.message,
            };
            seen.insert((problem.kind, problem.place().clone(), message.to_owned()))
        });
        self.list.sort_by_key(|problem| problem.place().span().map_or(0, |span| span.start));
    }

    /// In a text with syntax errors, leaves away what these may have caused: a line with one says nothing else, and
    /// what is missing or in the wrong table may stand where the parser lost its way.
    fn trust_syntax_first(&mut self) {
        let Some(text) = self.source.as_ref().map(|source| source.text.as_str()) else { return };
        let line = |problem: &Problem| {
            let at = problem.place().span()?.start;
            text[..at].rfind('\n')
        };
        let broken: HashSet<_> =
            self.list.iter().filter(|problem| problem.kind == ProblemKind::Syntax).map(line).collect();
        if broken.is_empty() {
            return;
        }
        self.list.retain(|problem| match problem.kind {
            ProblemKind::Syntax => true,
            ProblemKind::MissingKey | ProblemKind::UnknownName | ProblemKind::UnknownKey => false,
            _ => !broken.contains(&line(problem)),
        });
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// As text for a terminal, each with its piece of the file. `styled` is for the caller to decide: with it, there
    /// are ANSI colours.
    pub fn render(&self, styled: bool) -> String {
        render::text(self.source.as_ref(), &self.list, styled)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for Problems {
    /// What `unwrap` shows, so the same as `Display`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

impl std::error::Error for Problems {}

impl Serialize for Problems {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        render::report(self.source.as_ref(), &self.list).serialize(serializer)
    }
}
