//! What one line of TAP says.

use std::borrow::Cow;

/// A line without its indentation and its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Said<'a> {
    /// `TAP version 14`.
    Version,
    /// `1..N`, and the reason if everything is skipped.
    Plan { last: u64, skipped: Option<&'a str> },
    /// A test point.
    Point(Point<'a>),
    /// `Bail out!`, and why.
    BailOut(&'a str),
    /// `# Subtest: name`.
    Subtest(Cow<'a, str>),
    /// Another comment, without its `#`.
    Comment(&'a str),
    /// Nothing of TAP's.
    Other,
}

/// A test point: `not ok 3 - description # TODO reason`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Point<'a> {
    pub(super) ok: bool,
    pub(super) number: Option<u64>,
    pub(super) description: Cow<'a, str>,
    pub(super) directive: Option<(Directive, Cow<'a, str>)>,
}

/// What changes the meaning of a test point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Directive {
    Skip,
    Todo,
}

impl<'a> Said<'a> {
    pub(super) fn parse(line: &'a str) -> Self {
        let line = line.trim_end();
        if let Some(comment) = line.strip_prefix('#') {
            return match comment.trim_start().strip_prefix("Subtest:") {
                Some(name) => Self::Subtest(unescaped(name.trim())),
                None => Self::Comment(comment.strip_prefix(' ').unwrap_or(comment)),
            };
        }
        let version = without_case(line, "TAP version ").map(str::trim);
        if version.is_some_and(|number| number.parse::<u32>().is_ok()) {
            return Self::Version;
        }
        if let Some(reason) = without_case(line, "Bail out!") {
            return Self::BailOut(reason.trim());
        }
        if let Some(plan) = plan(line) {
            return plan;
        }
        point(line).map_or(Self::Other, Self::Point)
    }
}

fn without_case<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    let head = line.get(..start.len())?;
    head.eq_ignore_ascii_case(start).then(|| &line[start.len()..])
}

fn plan(line: &str) -> Option<Said<'_>> {
    let rest = line.strip_prefix("1..")?;
    let (number, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    let last = number.parse().ok()?;
    let rest = rest.trim_start();
    let reason = match rest.strip_prefix('#') {
        Some(reason) => Some(reason.trim_start()),
        None if rest.is_empty() => None,
        None => return None,
    };
    let skipped = (last == 0).then(|| {
        let reason = reason.unwrap_or_default();
        // `# SKIP why`, `# Skipped: why`, or the reason alone.
        let word =
            without_case(reason, "skip").map(|rest| rest.trim_start_matches(|c: char| !c.is_whitespace()));
        word.unwrap_or(reason).trim_start()
    });
    Some(Said::Plan { last, skipped })
}

fn point(line: &str) -> Option<Point<'_>> {
    let (ok, rest) = match line.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok")?),
    };
    if !(rest.is_empty() || rest.starts_with(char::is_whitespace)) {
        return None;
    }
    let rest = rest.trim_start();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let behind = &rest[digits..];
    let is_number = behind.is_empty() || behind.starts_with(char::is_whitespace);
    let (number, rest) = match rest[..digits].parse() {
        Ok(number) if is_number => (Some(number), behind.trim_start()),
        _ => (None, rest),
    };
    let (description, directive) = parted(rest);
    let description = match description.strip_prefix('-') {
        Some(rest) if rest.is_empty() || rest.starts_with(char::is_whitespace) => rest.trim_start(),
        _ => description,
    };
    let directive = directive.map(|(directive, reason)| (directive, unescaped(reason)));
    Some(Point { ok, number, description: unescaped(description), directive })
}

/// Parts a description from its directive, which begins at a `#` that is not escaped and before which is space.
fn parted(text: &str) -> (&str, Option<(Directive, &str)>) {
    for (at, _) in text.match_indices('#') {
        let before = &text[..at];
        if !(before.is_empty() || before.ends_with(char::is_whitespace)) {
            continue;
        }
        let behind = text[at + 1..].trim_start();
        let todo = without_case(behind, "todo")
            .filter(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
            .map(|rest| (Directive::Todo, rest));
        let skip = || {
            let rest = without_case(behind, "skip")?;
            Some((Directive::Skip, rest.trim_start_matches(|c: char| c.is_alphanumeric())))
        };
        if let Some((directive, reason)) = todo.or_else(skip) {
            return (before.trim_end(), Some((directive, reason.trim_start_matches(':').trim())));
        }
    }
    (text, None)
}

/// TAP escapes `#` and `\` by a backslash.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let escaped = chars.next_if(|next| char == '\\' && matches!(next, '#' | '\\'));
        plain.push(escaped.unwrap_or(char));
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        match Said::parse(line) {
            Said::Point(Point { ok, number, description, directive }) => {
                let number = number.map_or("-".to_owned(), |number| number.to_string());
                let directive = directive.map_or(String::new(), |(which, why)| format!(" {which:?}({why})"));
                format!("{ok} {number} [{description}]{directive}")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn points() {
        for (line, expected) in [
            ("ok", "true - []"),
            ("not ok 3", "false 3 []"),
            ("ok 1 - plain ", "true 1 [plain]"),
            ("ok 1 plain - text", "true 1 [plain - text]"),
            ("ok - -1 is kept", "true - [-1 is kept]"),
            ("ok 2nd try", "true - [2nd try]"),
            ("ok 1 - issue \\#12 \\\\ x \\n", "true 1 [issue #12 \\ x \\n]"),
            ("ok 1 - a # skip no net", "true 1 [a] Skip(no net)"),
            ("ok 1 - a # SKIPPED: no net", "true 1 [a] Skip(no net)"),
            ("ok # skip", "true - [] Skip()"),
            ("not ok 4 # TODO \\# 7", "false 4 [] Todo(# 7)"),
            ("not ok 4 b # todos # TODO c", "false 4 [b # todos] Todo(c)"),
            ("ok 1 - C# skip", "true 1 [C# skip]"),
            ("ok 1 - a \\# skip", "true 1 [a # skip]"),
            ("ok 99999999999999999999999", "true - [99999999999999999999999]"),
            ("okay", "Other"),
            ("not  ok", "Other"),
            ("1..3", "Plan { last: 3, skipped: None }"),
            ("1..0 # Skipped: not here", "Plan { last: 0, skipped: Some(\"not here\") }"),
            ("1..0", "Plan { last: 0, skipped: Some(\"\") }"),
            ("1..3 and more", "Other"),
            ("Bail out!  disk", "BailOut(\"disk\")"),
            ("TAP version 13", "Version"),
            ("TAP version of mine", "Other"),
            ("# Subtest: a \\# b", "Subtest(\"a # b\")"),
            ("#  indented", "Comment(\" indented\")"),
            ("pragma +strict", "Other"),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }
}
