//! Whether the raw tree has the shape that the table of keys says: known keys, values of the right types.
//!
//! What does not fit is reported and made [`Value::Bad`], so that later checks see only what has the right shape and
//! say nothing a second time.

use super::keys::{Form, Kind, Table};
use super::name::nearest;
use super::problem::{Problem, ProblemKind, Problems, listed, quoted};
use super::raw::{Entry, Node, Value};
use std::collections::HashSet;

pub(super) fn fit_table(node: &mut Node, table: &'static Table, problems: &mut Problems) {
    let Value::Table(entries) = &mut node.value else { return };
    for entry in entries.iter_mut() {
        if let Some(key) = table.key(&entry.key) {
            fit(&mut entry.value, &key.kind, problems);
            continue;
        }
        let mut problem =
            Problem::error(ProblemKind::UnknownKey, &entry.at, format!("unknown key {}", quoted(&entry.key)));
        let names = || table.all_keys().map(|key| key.name);
        problem = match nearest(&entry.key, names()) {
            Some(name) => problem.help(format!("did you mean `{name}`?")),
            None => {
                let all: Vec<String> = names().map(|name| format!("`{name}`")).collect();
                problem.help(format!("`{}` has the keys {}", table.title, all.join(", ")))
            }
        };
        problems.push(problem);
        entry.value.value = Value::Bad;
    }
}

fn fit(node: &mut Node, kind: &Kind, problems: &mut Problems) {
    if node.is_bad() {
        return;
    }
    let Some(kind) = choose(node, kind) else {
        problems.push(wrong_type(node, kind));
        node.value = Value::Bad;
        return;
    };
    let complaint = match (&mut node.value, kind) {
        (Value::List(items), Kind::List(inner)) => {
            items.iter_mut().for_each(|item| fit(item, inner, problems));
            None
        }
        (Value::Table(entries), Kind::Map { value, .. }) => {
            twice(entries, problems);
            entries.iter_mut().for_each(|entry| fit(&mut entry.value, value, problems));
            None
        }
        (Value::Table(_), Kind::Table(table)) => {
            fit_table(node, table, problems);
            None
        }
        (Value::Text(text), Kind::Choice(choices)) if !choices.contains(&text.as_str()) => {
            let problem = Problem::error(
                ProblemKind::BadValue,
                &node.place,
                format!("{} is not one of {}", quoted(text), listed(choices.iter().copied())),
            );
            Some(match nearest(text, choices.iter().copied()) {
                Some(name) => problem.help(format!("did you mean `{name}`?")),
                None => problem,
            })
        }
        (Value::Integer(number), Kind::Integer { min, max }) if !(min..=max).contains(&&*number) => {
            let message = format!("{number} is not from {min} to {max}");
            Some(Problem::error(ProblemKind::BadValue, &node.place, message))
        }
        _ => None,
    };
    if let Some(problem) = complaint {
        problems.push(problem);
        node.value = Value::Bad;
    }
}

/// Reports a name that a table has twice. TOML has no such tables, but a builder can write one.
fn twice(entries: &mut Vec<Entry>, problems: &mut Problems) {
    let mut seen = HashSet::new();
    entries.retain(|entry| {
        let new = seen.insert(entry.key.clone());
        if !new {
            let message = format!("{} is there twice", quoted(&entry.key));
            problems.push(Problem::error(ProblemKind::Duplicate, &entry.at, message));
        }
        new
    });
}

/// The alternative whose TOML type is that of the value.
fn choose<'a>(node: &Node, kind: &'a Kind) -> Option<&'a Kind> {
    match (&node.value, kind) {
        (_, Kind::Any(kinds)) => kinds.iter().find_map(|kind| choose(node, kind)),
        (Value::Text(_), Kind::Text(_) | Kind::Choice(_))
        | (Value::Bool(_), Kind::Bool)
        | (Value::Integer(_), Kind::Integer { .. })
        | (Value::Integer(_) | Value::Float(_), Kind::Number)
        | (Value::List(_), Kind::List(_))
        | (Value::Table(_), Kind::Map { .. } | Kind::Table(_)) => Some(kind),
        _ => None,
    }
}

fn wrong_type(node: &Node, kind: &Kind) -> Problem {
    let message = format!("expected {}, found {}", expected(kind), node.type_name());
    let problem = Problem::error(ProblemKind::WrongType, &node.place, message);
    let hint = match (&node.value, kind) {
        (Value::Text(text), Kind::List(_)) => Some(format!("write [\"{text}\"]")),
        (Value::Text(text), Kind::Bool | Kind::Integer { .. } | Kind::Number) => {
            let bare = text.parse::<f64>().is_ok() || text == "true" || text == "false";
            bare.then(|| format!("write {text}, without quotes"))
        }
        (Value::Integer(number), Kind::Text(Form::Duration)) => {
            Some(format!("write \"{number}s\" for seconds"))
        }
        (Value::Integer(number), Kind::Text(Form::Size)) => {
            Some(format!("write \"{number}M\" for mebibytes"))
        }
        (Value::Integer(number), Kind::Text(_)) => Some(format!("write \"{number}\"")),
        (Value::Bool(value), Kind::Text(_)) => Some(format!("write \"{value}\"")),
        _ => None,
    };
    match hint {
        Some(hint) => problem.help(hint),
        None => problem,
    }
}

/// A kind, for people.
pub(super) fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Text(form) => match form.example() {
            Some(example) => format!("{} such as \"{example}\"", form.describe()),
            None => form.describe().to_owned(),
        },
        Kind::Choice(choices) => format!("one of {}", listed(choices.iter().copied())),
        Kind::Bool => "true or false".to_owned(),
        Kind::Integer { .. } => "an integer".to_owned(),
        Kind::Number => "a number".to_owned(),
        Kind::List(_) => "a list".to_owned(),
        Kind::Map { .. } | Kind::Table(_) => "a table".to_owned(),
        Kind::Any(kinds) => {
            let all: Vec<String> = kinds.iter().map(expected).collect();
            match all.as_slice() {
                [head @ .., last] => format!("{} or {last}", head.join(", ")),
                [] => "nothing".to_owned(),
            }
        }
    }
}
