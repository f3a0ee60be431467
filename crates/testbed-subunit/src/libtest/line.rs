//! What one line of text says.

use crate::event::Status;

/// A line that tells of a test.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Told<'a> {
    pub(super) test: &'a str,
    pub(super) outcome: Option<(Status, Option<&'a str>)>,
    /// What stands where the outcome should, and is none.
    pub(super) rest: &'a str,
}

/// The name of the binary whose tests follow, where cargo tells it.
pub(super) fn binary(line: &str) -> Option<String> {
    let line = line.trim();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return (!name.contains(' ')).then(|| name.to_owned());
    }
    let rest = line.strip_prefix("Running ")?;
    let rest = rest.strip_prefix("unittests ").unwrap_or(rest);
    let (source, path) = match rest.strip_suffix(')').and_then(|rest| rest.rsplit_once(" (")) {
        Some((source, path)) => (source, path),
        None => ("", rest),
    };
    let file = path.rsplit(['/', '\\']).next()?;
    let file = file.strip_suffix(".exe").unwrap_or(file);
    let (name, hash) = file.rsplit_once('-')?;
    if hash.len() != 16 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let source = source.replace('\\', "/");
    let of_program = source == "src/main.rs" || source.starts_with("src/bin/");
    Some(if of_program { format!("bin/{name}") } else { name.to_owned() })
}

/// `running 3 tests`.
pub(super) fn running(line: &str) -> Option<u64> {
    let (number, word) = line.strip_prefix("running ")?.split_once(' ')?;
    matches!(word, "test" | "tests").then(|| number.parse().ok())?
}

/// How many tests are told of in `test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; …`.
pub(super) fn result(line: &str) -> Option<u64> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    counts.split("; ").take(4).try_fold(0_u64, |sum, count| {
        let (number, _) = count.split_once(' ')?;
        sum.checked_add(number.parse().ok()?)
    })
}

/// `test NAME ... ok`.
pub(super) fn told(line: &str) -> Option<Told<'_>> {
    let rest = line.strip_prefix("test ")?;
    if let Some((test, last)) = rest.rsplit_once(" ... ")
        && let Some(outcome) = outcome(last)
    {
        return Some(Told { test: plain(test), outcome: Some(outcome), rest: "" });
    }
    let (test, rest) = rest.split_once(" ... ").or_else(|| Some((rest.strip_suffix(" ...")?, "")))?;
    Some(Told { test: plain(test), outcome: None, rest })
}

/// An outcome, and the reason that stands behind it.
pub(super) fn outcome(text: &str) -> Option<(Status, Option<&str>)> {
    // With `--report-time` the time stands behind it: `ok <0.001s>`.
    let word = text.split_once(" <").filter(|(_, time)| time.ends_with('>')).map_or(text, |(word, _)| word);
    Some(match word.trim_end() {
        "ok" => (Status::Success, None),
        "FAILED" | "failed" => (Status::Fail, None),
        "FAILED (time limit exceeded)" => (Status::Fail, Some("time limit exceeded")),
        "ignored" => (Status::Skip, None),
        word => match word.strip_prefix("ignored, ") {
            Some(reason) => (Status::Skip, Some(reason)),
            None => (Status::Success, Some(word.strip_prefix("bench: ")?)),
        },
    })
}

/// `---- NAME stdout ----`.
pub(super) fn section(line: &str) -> Option<&str> {
    let inner = line.strip_prefix("---- ")?.strip_suffix(" ----")?;
    inner.strip_suffix(" stdout").or_else(|| inner.strip_suffix(" stderr")).map(plain)
}

/// A name without what the harness puts behind it.
pub(super) fn plain(name: &str) -> &str {
    let behind = [" - should panic", " - compile fail", " - compile"];
    behind.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries() {
        for (line, expected) in [
            ("     Running unittests src/lib.rs (target/debug/deps/a_b-e6daf73c296d6df0)", Some("a_b")),
            ("     Running unittests src/main.rs (target/debug/deps/a-e6daf73c296d6df0)", Some("bin/a")),
            ("     Running unittests src\\bin\\x.rs (target\\deps\\x-e6daf73c296d6df0.exe)", Some("bin/x")),
            ("     Running tests/it.rs (target/debug/deps/it-e6daf73c296d6df0)", Some("it")),
            ("     Running target/debug/deps/it-e6daf73c296d6df0", Some("it")),
            ("   Doc-tests a_b", Some("a_b")),
            ("     Running `target/debug/a`", None),
            ("Running out of memory-a", None),
        ] {
            assert_eq!(binary(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn tests() {
        let shown = |line| {
            told(line).map(|told| {
                let outcome = told.outcome.map_or(String::new(), |(status, why)| format!("{status} {why:?}"));
                format!("[{}] {outcome}|{}", told.test, told.rest)
            })
        };
        for (line, expected) in [
            ("test a::b ... ok", "[a::b] success None|"),
            ("test a - should panic ... FAILED <0.010s>", "[a] fail None|"),
            ("test src/lib.rs - x (line 3) - compile fail ... ok", "[src/lib.rs - x (line 3)] success None|"),
            ("test a ... ignored, b ... c", "[a] |ignored, b ... c"),
            ("test a ... ignored, why", "[a] skip Some(\"why\")|"),
            ("test a ... bench:  12 ns/iter (+/- 1)", "[a] success Some(\" 12 ns/iter (+/- 1)\")|"),
            ("test a ... hello", "[a] |hello"),
            ("test a ... ", "[a] |"),
        ] {
            assert_eq!(shown(line).as_deref(), Some(expected), "{line}");
        }
        assert_eq!(shown("test results are in"), None);
        assert_eq!(
            result("test result: ok. 1 passed; 2 failed; 3 ignored; 0 measured; 9 filtered out"),
            Some(6)
        );
        assert_eq!((running("running 1 test"), running("running late tests")), (Some(1), None));
        assert_eq!(section("---- a::b stdout ----"), Some("a::b"));
    }
}
