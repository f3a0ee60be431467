//! Problems as text for people and as JSON for programs.

use super::problem::{Label, Problem, Severity, Source};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;
use std::ops::Range;

/// Columns that a rendered problem may fill.
const WIDTH: usize = 110;

pub(super) fn text(source: Option<&Source>, problems: &[Problem], styled: bool) -> String {
    let renderer = if styled { Renderer::styled() } else { Renderer::plain() }.term_width(WIDTH);
    let mut out = String::new();
    for problem in problems {
        out.push_str(&renderer.render(&[group(source, problem)]));
        out.push_str("\n\n");
    }
    out.truncate(out.trim_end().len());
    out
}

fn group<'a>(source: Option<&'a Source>, problem: &'a Problem) -> Group<'a> {
    let level = match problem.severity() {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(problem.message()).id(problem.kind().as_str()));
    match source.and_then(|source| snippet(source, problem)) {
        Some(snippet) => group = group.element(snippet),
        None if problem.place().path().is_empty() => {}
        None => group = group.element(Level::NOTE.message(format!("at {}", problem.place().path()))),
    }
    if let Some(hint) = problem.hint() {
        group = group.element(Level::HELP.message(hint));
    }
    group
}

/// The lines that the labels lie in. Only these go to the renderer, whose work grows with what it is given.
fn snippet<'a>(
    source: &'a Source,
    problem: &'a Problem,
) -> Option<Snippet<'a, annotate_snippets::Annotation<'a>>> {
    problem.place().span()?;
    let spans = || problem.labels().iter().filter_map(|label| label.place().span());
    let first = spans().map(|span| span.start).min()?;
    let last = spans().map(|span| span.end).max()?;
    let text = source.text.as_str();
    let start = text[..first].rfind('\n').map_or(0, |at| at + 1);
    let end = text[last..].find('\n').map_or(text.len(), |at| last + at);
    let line = 1 + text[..start].bytes().filter(|byte| *byte == b'\n').count();
    let annotations = problem.labels().iter().enumerate().filter_map(|(number, label)| {
        let span = label.place().span()?;
        let kind = if number == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        let annotation = kind.span(span.start - start..span.end - start);
        Some(if label.text().is_empty() { annotation } else { annotation.label(label.text()) })
    });
    Some(Snippet::source(&text[start..end]).path(&source.name).line_start(line).annotations(annotations))
}

/// What `--format json` prints.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    /// The version of this form.
    version: u32,
    problems: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    severity: Severity,
    kind: &'static str,
    message: &'a str,
    #[serde(flatten)]
    at: At<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related: Vec<At<'a>>,
}

#[derive(Serialize)]
struct At<'a> {
    path: &'a str,
    #[serde(flatten)]
    position: Option<Position<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    label: &'a str,
}

/// Lines and columns count from 1; columns count characters, and the end is the first one beyond.
#[derive(Serialize)]
struct Position<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
    source: &'a str,
}

pub(super) fn report<'a>(source: Option<&'a Source>, problems: &'a [Problem]) -> Report<'a> {
    let at = |label: &'a Label| At {
        path: label.place().path(),
        position: source.zip(label.place().span()).map(|(source, span)| position(source, span)),
        label: label.text(),
    };
    let entry = |problem: &'a Problem| Entry {
        severity: problem.severity(),
        kind: problem.kind().as_str(),
        message: problem.message(),
        at: at(&problem.labels()[0]),
        hint: problem.hint(),
        related: problem.labels()[1..].iter().map(at).collect(),
    };
    Report { version: 1, problems: problems.iter().map(entry).collect() }
}

fn position(source: &Source, span: Range<usize>) -> Position<'_> {
    let text = source.text.as_str();
    let point = |at: usize| {
        let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
        let line = 1 + text[..start].bytes().filter(|byte| *byte == b'\n').count();
        (line, 1 + text[start..at].chars().count(), start)
    };
    let (line, column, start) = point(span.start);
    let (end_line, end_column, _) = point(span.end);
    let piece = text[start..].lines().next().unwrap_or_default();
    Position { file: &source.name, line, column, end_line, end_column, source: piece }
}
