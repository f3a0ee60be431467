use super::feed::Noise;
use super::reading::Through;
use crate::exit::Exit;
use crate::failure::Failure;
use regex::Regex;
use regex::bytes::{Regex as BytesRegex, RegexBuilder};
use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use testbed_subunit::stream::{ExpectFailures, Filter, HeldTest, Rename, Rules};
use testbed_subunit::{Status, v2};

/// Pass on only some of the tests: without more words, those that failed or were skipped.
///
/// A test's events come out together when its outcome is known, with their routes, times and tags as they were.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    through: Through,
    #[command(flatten)]
    statuses: Statuses,
    /// Only tests with this tag. May be repeated: with all of them.
    #[arg(long, value_name = "TAG")]
    with_tag: Vec<String>,
    /// No tests with this tag. May be repeated: with none of them.
    #[arg(long, value_name = "TAG")]
    without_tag: Vec<String>,
    /// Only tests that this regular expression is found in: in their id, outcome or files. May be repeated: any of them.
    #[arg(short = 'm', long = "with", value_name = "REGEX", value_parser = pattern)]
    with: Vec<BytesRegex>,
    /// No tests that this regular expression is found in. May be repeated.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    without: Vec<BytesRegex>,
    /// What is no packet: so it is, unless said.
    #[arg(long, overrides_with = "no_passthrough")]
    passthrough: bool,
    /// A file with ids, one a line, of tests that are known to fail: their failures are expected, their successes are
    /// not. May be repeated.
    #[arg(long, value_name = "FILE")]
    fixup_expected_failures: Vec<PathBuf>,
    /// Replace in ids what a regular expression finds; `\1` stands for its first group. May be repeated.
    #[arg(long, num_args = 2, allow_hyphen_values = true, value_names = ["REGEX", "TEXT"])]
    rename: Vec<String>,
}

/// Which outcomes pass. Of two words for one, the last counts.
#[derive(Debug, clap::Args)]
struct Statuses {
    /// Tests that passed.
    #[arg(short, long, overrides_with = "no_success")]
    success: bool,
    /// No tests that passed: so it is, unless said.
    #[arg(long)]
    no_success: bool,
    /// Tests that failed: so it is, unless said.
    #[arg(long, visible_alias = "error")]
    failure: bool,
    /// No tests that failed.
    #[arg(
        short = 'f',
        long,
        visible_alias = "no-error",
        visible_short_alias = 'e',
        overrides_with = "failure"
    )]
    no_failure: bool,
    /// Tests that were skipped: so it is, unless said.
    #[arg(long)]
    skip: bool,
    /// No tests that were skipped.
    #[arg(long, overrides_with = "skip")]
    no_skip: bool,
    /// Tests that failed as expected.
    #[arg(long, overrides_with = "no_xfail")]
    xfail: bool,
    /// No tests that failed as expected: so it is, unless said.
    #[arg(long)]
    no_xfail: bool,
    /// No tests that passed against expectation.
    #[arg(long)]
    no_uxsuccess: bool,
    /// No tests that never ended.
    #[arg(long)]
    no_unfinished: bool,
    /// No tests that were only listed.
    #[arg(long)]
    no_exists: bool,
    /// All tests, whatever became of them.
    #[arg(short, long)]
    all: bool,
    /// Only tests for which a run has failed, and nothing around them.
    #[arg(short = 'F', long)]
    only_genuine_failures: bool,
}

impl Statuses {
    fn rules(&self) -> Rules {
        let all = if self.only_genuine_failures { Rules::only_failures() } else { Rules::new() };
        let dropped = [
            (Status::Success, !self.success && !self.all),
            (Status::XFail, !self.xfail && !self.all),
            (Status::Fail, self.no_failure),
            (Status::Skip, self.no_skip),
            (Status::UxSuccess, self.no_uxsuccess),
            (Status::InProgress, self.no_unfinished),
            (Status::Exists, self.no_exists),
        ];
        let dropped = dropped.into_iter().filter(|(_, is_dropped)| *is_dropped);
        dropped.fold(all, |rules, (status, _)| rules.without_status(status))
    }
}

/// In several lines: `^` and `$` are the start and end of each.
fn pattern(text: &str) -> Result<BytesRegex, regex::Error> {
    RegexBuilder::new(text).multi_line(true).build()
}

impl Arguments {
    pub(crate) fn run(mut self) -> Result<Exit, Failure> {
        let (known, renames) = (known(&self.fixup_expected_failures)?, renames(&self.rename)?);
        let noise = if self.statuses.only_genuine_failures { Noise::Drop } else { Noise::Events };
        let rules = self.rules();
        self.through.pass(noise, |out| {
            let named = Rename::new(|id: &str| renamed(id, &renames), v2::Writer::new(out));
            ExpectFailures::new(|id: &str| known.contains(id), Filter::new(rules, named))
        })
    }

    fn rules(&mut self) -> Rules {
        let mut rules = self.statuses.rules();
        for tag in &self.with_tag {
            rules = rules.with_tag(tag);
        }
        for tag in &self.without_tag {
            rules = rules.without_tag(tag);
        }
        let (with, without) = (std::mem::take(&mut self.with), std::mem::take(&mut self.without));
        if with.is_empty() && without.is_empty() {
            return rules;
        }
        rules.tests(move |test| {
            let text = text(test);
            let found = |patterns: &[BytesRegex]| patterns.iter().any(|pattern| pattern.is_match(&text));
            (with.is_empty() || found(&with)) && !found(&without)
        })
    }
}

/// What patterns are looked for in: id, outcome, and the files, each on lines of its own.
fn text(test: &HeldTest<'_>) -> Vec<u8> {
    let mut text = format!("{}\n{}\n", test.id(), test.status().as_str()).into_bytes();
    let mut last = None;
    for file in test.events().filter_map(|event| event.file()) {
        if last.is_some_and(|name| name != file.name) {
            text.push(b'\n');
        }
        text.extend_from_slice(file.bytes);
        last = Some(file.name);
    }
    text
}

fn known(files: &[PathBuf]) -> Result<HashSet<String>, Failure> {
    let mut known = HashSet::new();
    for path in files {
        known.extend(lines(path)?.lines().map(|line| line.trim().to_owned()).filter(|id| !id.is_empty()));
    }
    Ok(known)
}

fn lines(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| Failure::call(format!("cannot read {}: {e}", path.display())))
}

fn renames(words: &[String]) -> Result<Vec<(Regex, String)>, Failure> {
    let pairs = words.chunks_exact(2).map(|pair| {
        let pattern = Regex::new(&pair[0]).map_err(|e| Failure::call(format!("--rename: {e}")))?;
        Ok((pattern, groups(&pair[1])))
    });
    pairs.collect()
}

/// `\1` as the regular expressions here have it, which is `${1}`.
fn groups(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some(digit @ '0'..='9') => out.extend(["${", &digit.to_string(), "}"]),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            other => out.push(other),
        }
    }
    out
}

fn renamed<'a>(id: &'a str, renames: &[(Regex, String)]) -> Cow<'a, str> {
    let mut name = Cow::Borrowed(id);
    for (pattern, to) in renames {
        if let Cow::Owned(other) = pattern.replace_all(&name, to.as_str()) {
            name = Cow::Owned(other);
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_one_after_the_other() {
        let renames = renames(&["^a\\.(\\w+)".into(), "$\\1".into(), "b".into(), "c\\\\".into()]).unwrap();
        assert_eq!(renamed("a.b.b", &renames), "$c\\.c\\");
        assert!(matches!(renamed("other", &renames), Cow::Borrowed("other")));
    }
}
