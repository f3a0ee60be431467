//! Rules about Rust code.

use super::rust::{self, Source};
use super::tree::Tree;
use super::{Finding, Rule};

const UNSAFE: Rule = Rule {
    invariant: "2. `unsafe` only in testbed-sys",
    advice: "give testbed-sys a small safe function for it, or use the one that rustix has",
};

const QUIET: Rule = Rule {
    invariant: "3. the library never prints, exits, or reads the environment or the home folder",
    advice: "return the value, or take it as an argument; only testbed-cli speaks and reads the environment",
};

const EVENTS: Rule = Rule {
    invariant: "4. deadlines everywhere, and no polling where an event exists",
    advice: "wait for the event with a deadline: poll(2), a channel with a timeout, an inotify descriptor",
};

const STALE: Rule = Rule {
    invariant: "3. the library never prints, exits, or reads the environment or the home folder",
    advice: "take the exception out of the table EXCEPTIONS in xtask/src/tidy/code.rs",
};

const FINISHED: Rule = Rule {
    invariant: "9. what is merged is finished: no stubs, no tests that are put aside, no silenced lints",
    advice: "finish it, or leave it out and say so in docs/limitations.md; for a lint, `#[expect(.., reason = \"..\")]`",
};

const SMALL: Rule = Rule {
    invariant: "10. a file holds one subject: about 600 lines at most",
    advice: "split it along a line that has a name",
};

/// Longer files are told.
const LONGEST: usize = 700;

/// The only place for `unsafe`.
const UNSAFE_CRATE: &str = "crates/testbed-sys/";

/// What prints, exits, or reads what belongs to the user's session.
const LOUD: &[&str] = &[
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "dbg!",
    "io::stdout",
    "io::stderr",
    "process::exit",
    "process::abort",
    "env::var",
    "env::var_os",
    "env::vars",
    "env::vars_os",
    "env::args",
    "env::args_os",
    "env::home_dir",
    "env::temp_dir",
    "env::set_var",
    "env::remove_var",
];

/// What waits without knowing what for.
const BLIND: &[&str] = &["thread::sleep"];

/// Crates that may be loud.
const SPEAKERS: &[&str] = &["crates/testbed-cli/", "xtask/"];

/// Where a library may do so all the same: file, what it calls, reason.
pub(super) type Exception = (&'static str, &'static str, &'static str);

pub(super) const EXCEPTIONS: &[Exception] = &[(
    "crates/testbed-agent/src/main.rs",
    "env::args_os",
    "the name that the program is called by decides its role, and one role is a command",
)];

/// A test that other tests start as a process of their own is not put aside.
const STARTED_BY_TESTS: &str = "#[ignore = \"a process that tests start\"]";

const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "#[ignore", "#[allow(", "#![allow("];

pub(super) fn check(tree: &Tree, exceptions: &[Exception], findings: &mut Vec<Finding>) {
    let sources = rust::sources(tree);
    for source in &sources {
        only_safe(source, findings);
        quiet(source, exceptions, findings);
        finished(source, tree.text(source.path).unwrap_or_default(), findings);
        small(source, findings);
    }
    for (path, word, reason) in exceptions {
        let used =
            sources.iter().any(|s| s.path == *path && rust::find_words(&s.product, word).next().is_some());
        if !used {
            findings.push(Finding::new(&STALE, path, 0, format!("no longer calls `{word}` ({reason})")));
        }
    }
}

fn only_safe(source: &Source<'_>, findings: &mut Vec<Finding>) {
    if source.path.starts_with(UNSAFE_CRATE) {
        return;
    }
    for word in ["unsafe", "unsafe_code"] {
        for at in rust::find_words(&source.code, word) {
            let line = rust::line_of(&source.code, at);
            findings.push(Finding::new(&UNSAFE, source.path, line, format!("`{word}` outside testbed-sys")));
        }
    }
}

fn quiet(source: &Source<'_>, exceptions: &[Exception], findings: &mut Vec<Finding>) {
    let is_library = source.path.starts_with("crates/") && source.path.contains("/src/");
    if !is_library || SPEAKERS.iter().any(|speaker| source.path.starts_with(speaker)) {
        return;
    }
    let words = LOUD.iter().map(|word| (&QUIET, *word)).chain(BLIND.iter().map(|word| (&EVENTS, *word)));
    for (rule, word) in words {
        if exceptions.iter().any(|(path, excepted, _)| *path == source.path && *excepted == word) {
            continue;
        }
        for at in rust::find_words(&source.product, word) {
            let line = rust::line_of(&source.product, at);
            findings.push(Finding::new(rule, source.path, line, format!("a library calls `{word}`")));
        }
    }
}

fn finished(source: &Source<'_>, text: &str, findings: &mut Vec<Finding>) {
    for word in UNFINISHED {
        for at in rust::find_words(&source.code, word) {
            if text.get(at..).is_some_and(|rest| rest.starts_with(STARTED_BY_TESTS)) {
                continue;
            }
            let line = rust::line_of(&source.code, at);
            findings.push(Finding::new(&FINISHED, source.path, line, format!("`{word}`")));
        }
    }
}

fn small(source: &Source<'_>, findings: &mut Vec<Finding>) {
    let lines = source.code.lines().count();
    if lines > LONGEST {
        let what = format!("{lines} lines");
        findings.push(Finding { is_warning: true, ..Finding::new(&SMALL, source.path, 0, what) });
    }
}
