//! The raw tree: exactly what was written, each key and value with its place.
//!
//! It comes from a TOML text, or from a [builder](super::Builder), which writes the same tree without spans. All
//! checks work on it, so both are held to the same rules.

use super::problem::{Place, Problem, ProblemKind, Problems};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// What was written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// A date or a time, which no key wants.
    Date,
    /// An integer of more than 64 bits.
    Huge,
    /// A problem has been reported for it; nothing more is to be said.
    Bad,
}

/// A key of a table, in file order.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Place,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    pub(super) fn is_bad(&self) -> bool {
        matches!(self.value, Value::Bad)
    }

    /// The items of a list, or the value itself.
    pub(super) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Bad => &[],
            _ => std::slice::from_ref(self),
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Its type, for people.
    pub(super) fn type_name(&self) -> &'static str {
        match self.value {
            Value::Text(_) => "text",
            Value::Integer(_) | Value::Huge => "an integer",
            Value::Float(_) => "a number",
            Value::Bool(_) => "true or false",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Date => "a date or time",
            Value::Bad => "nothing",
        }
    }
}

/// Reads a TOML text. Syntax errors are reported, and what could be read is returned all the same.
pub(super) fn parse(text: &str, problems: &mut Problems) -> Node {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let place = Place { path: String::new(), span: Some(clamp(text, error.span().unwrap_or(0..0))) };
        problems.push(Problem::error(ProblemKind::Syntax, &place, format!("not TOML: {}", error.message())));
    }
    let place = Place { path: String::new(), span: Some(0..0) };
    Node { value: Value::Table(entries(text, table.get_ref(), "")), place }
}

fn entries(text: &str, table: &DeTable<'_>, path: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| {
            let name = key.get_ref().as_ref();
            let path = join(path, name);
            let at = Place { path: path.clone(), span: Some(clamp(text, key.span())) };
            let place = Place { path, span: Some(clamp(text, value.span())) };
            Entry { key: name.to_owned(), at, value: node(text, value.get_ref(), place) }
        })
        .collect();
    // The parser's table is sorted by name; eth0 is the first in the file.
    entries.sort_by_key(|entry| entry.at.span().map_or(0, |span| span.start));
    entries
}

fn node(text: &str, value: &DeValue<'_>, place: Place) -> Node {
    let value = match value {
        DeValue::String(value) => Value::Text(value.as_ref().to_owned()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Huge, Value::Integer)
        }
        DeValue::Float(number) => number.as_str().parse().map_or(Value::Huge, Value::Float),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .enumerate()
                .map(|(number, item)| {
                    let path = format!("{}[{number}]", place.path);
                    node(text, item.get_ref(), Place { path, span: Some(clamp(text, item.span())) })
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(entries(text, table, &place.path)),
    };
    Node { value, place }
}

/// `path.key`, the key quoted as TOML wants it.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The span, moved to where the text can be cut. What follows relies on it: every span lies within the text, between
/// characters.
fn clamp(text: &str, span: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    start..text.ceil_char_boundary(span.end.clamp(start, text.len()))
}
