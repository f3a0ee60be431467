//! Rules about documents, examples, and what no file may hold.

use super::tree::Tree;
use super::{Finding, Rule, rust};
use std::collections::BTreeSet;

const LINKS: Rule = Rule {
    invariant: "12. documents are true: what they link to exists, and examples are run by tests",
    advice: "correct the link; the anchor of a heading is its text in small letters, with hyphens for spaces and without punctuation",
};

const EXAMPLES: Rule = Rule {
    invariant: "12. documents are true: what they link to exists, and examples are run by tests",
    advice: "run it in a test under a `tests` folder, naming it `examples/NAME`",
};

const ANYWHERE: Rule = Rule {
    invariant: "13. nothing is tied to one place: no registries by name, no paths of one computer",
    advice: "leave it to the configuration of the host, or use a path from the root of the repository",
};

/// Registries of packages and images, as name and top-level domain. Which one is used is up to a host's configuration.
const REGISTRIES: &[(&str, &str)] = &[
    ("crates", "io"),
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("rubygems", "org"),
    ("docker", "io"),
    ("quay", "io"),
    ("ghcr", "io"),
];

/// Written by cargo, which puts its registry in.
const LOCK_FILES: &[&str] = &["Cargo.lock", "fuzz/Cargo.lock"];

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in tree.files() {
        if path.ends_with(".md") {
            links(tree, path, text, findings);
        }
        if !LOCK_FILES.contains(&path) {
            places(tree, path, text, findings);
        }
    }
    examples(tree, findings);
}

fn links(tree: &Tree, path: &str, text: &str, findings: &mut Vec<Finding>) {
    let prose = prose_of(text);
    for (at, _) in prose.match_indices("](") {
        let rest = &prose[at + 2..];
        let Some(target) = rest.split([')', '\n']).next().map(str::trim) else { continue };
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let file = if file.is_empty() { Some(path.to_owned()) } else { resolve(path, file) };
        let line = rust::line_of(&prose, at);
        let mut wrong = |what: String| findings.push(Finding::new(&LINKS, path, line, what));
        match file {
            Some(file) if tree.has(&file) => {
                let known = tree.text(&file).is_none_or(|text| anchors(text).contains(anchor));
                if !anchor.is_empty() && !known {
                    wrong(format!("{file} has no heading `#{anchor}`"));
                }
            }
            _ => wrong(format!("`{target}` leads nowhere")),
        }
    }
}

/// The document without its blocks and spans of code. Offsets stay.
fn prose_of(text: &str) -> String {
    let mut prose = String::with_capacity(text.len());
    let mut fenced = false;
    for line in text.split_inclusive('\n') {
        let is_fence = line.trim_start().starts_with("```");
        let mut code = fenced || is_fence;
        fenced ^= is_fence;
        for character in line.chars() {
            let in_span = code;
            if character == '`' && !fenced && !is_fence {
                code = !code;
            }
            if (in_span || character == '`') && character != '\n' {
                prose.extend(std::iter::repeat_n(' ', character.len_utf8()));
            } else {
                prose.push(character);
            }
        }
    }
    prose
}

/// Where a link from a document leads, relative to the root; none if that is outside of the repository.
fn resolve(document: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings =
        text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings.map(anchor_of).collect()
}

fn anchor_of(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn examples(tree: &Tree, findings: &mut Vec<Finding>) {
    let folders: BTreeSet<&str> = tree
        .files()
        .filter_map(|(path, _)| path.strip_prefix("examples/")?.split_once('/').map(|(folder, _)| folder))
        .collect();
    let tests: Vec<&str> = tree
        .files()
        .filter(|(path, _)| path.ends_with(".rs") && path.split('/').any(|part| part == "tests"))
        .map(|(_, text)| text)
        .collect();
    for folder in folders {
        let path = format!("examples/{folder}");
        // A longer name is another example.
        let is_whole = |text: &str, at: usize| !text[at + path.len()..].starts_with('-');
        let is_named = |text: &str| rust::find_words(text, &path).any(|at| is_whole(text, at));
        if !tests.iter().any(|text| is_named(text)) {
            findings.push(Finding::new(&EXAMPLES, &path, 0, "no test runs it"));
        }
    }
}

fn places(tree: &Tree, path: &str, text: &str, findings: &mut Vec<Finding>) {
    let hosts = REGISTRIES.iter().map(|(name, domain)| format!("{name}.{domain}"));
    for word in hosts.chain(tree.local_paths.iter().cloned()) {
        for at in rust::find_words(text, &word) {
            let line = rust::line_of(text, at);
            findings.push(Finding::new(&ANYWHERE, path, line, format!("names `{word}`")));
        }
    }
}
