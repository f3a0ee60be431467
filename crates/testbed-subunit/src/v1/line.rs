//! What a line says.

use crate::event::{Status, Timestamp};

/// The most bytes of a line that says something, its end included.
pub const LINE_MAX: usize = 64 * 1024;

/// A line that is none of these is output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Directive<'a> {
    /// A test begins. `certain` where the colon stands there, which prose would not have.
    Test {
        name: &'a [u8],
        certain: bool,
    },
    /// A test ends, or its details begin: `name` and perhaps ` [` or ` [ multipart`.
    Outcome {
        outcome: Outcome,
        name: &'a [u8],
    },
    Tags(&'a [u8]),
    Time(Timestamp),
    Progress,
}

/// How a test ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Outcome {
    pub(super) status: Status,
    /// Name of the file that simple details are.
    pub(super) file: &'static str,
    pub(super) mime: &'static str,
}

/// As python-subunit names it.
const TRACEBACK: (&str, &str) = ("traceback", "text/x-traceback; charset=\"utf8\"");

impl Outcome {
    fn of(word: &[u8]) -> Option<Self> {
        let (status, (file, mime)) = match word {
            b"success" | b"successful" => (Status::Success, ("message", "text/plain")),
            b"failure" | b"error" => (Status::Fail, TRACEBACK),
            b"skip" => (Status::Skip, ("reason", "text/plain")),
            b"xfail" => (Status::XFail, TRACEBACK),
            b"uxsuccess" => (Status::UxSuccess, TRACEBACK),
            _ => return None,
        };
        Some(Self { status, file, mime })
    }
}

/// Reads a line that is no part of details.
pub(super) fn directive(line: &[u8]) -> Option<Directive<'_>> {
    let line = without_end(line);
    let (word, rest) = line.split_at(line.iter().position(|&byte| is_blank(byte))?);
    let rest = rest.get(1..)?;
    if rest.iter().all(|&byte| is_blank(byte)) {
        return None;
    }
    let colons = word.iter().rev().take_while(|&&byte| byte == b':').count();
    let word = &word[..word.len() - colons];
    match word {
        b"test" | b"testing" => Some(Directive::Test { name: rest, certain: colons > 0 }),
        b"tags" => Some(Directive::Tags(rest)),
        b"time" => std::str::from_utf8(rest).ok()?.parse().ok().map(Directive::Time),
        b"progress" => is_progress(rest.trim_ascii()).then_some(Directive::Progress),
        word => Outcome::of(word).map(|outcome| Directive::Outcome { outcome, name: rest }),
    }
}

/// Whether a line that begins with `start` can say something outside of a test. `None` where it takes more to tell.
pub(super) fn may_speak(start: &[u8]) -> Option<bool> {
    const WORDS: [&[u8]; 5] = [b"test", b"testing", b"tags", b"time", b"progress"];
    let mut undecided = false;
    for word in WORDS {
        match start.strip_prefix(word) {
            Some([]) => undecided = true,
            Some([b':', ..]) => return Some(true),
            Some([byte, ..]) if is_blank(*byte) && *byte != b'\n' => return Some(true),
            Some(_) => {}
            None => undecided |= word.starts_with(start),
        }
    }
    if undecided { None } else { Some(false) }
}

pub(super) fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What python-subunit parts words at.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn is_progress(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-")).unwrap_or(text);
    matches!(text, b"push" | b"pop") || (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_say_something() {
        let test = |name, certain| Some(Directive::Test { name, certain });
        assert_eq!(directive(b"test: a b\n"), test(b"a b", true));
        assert_eq!(directive(b"testing a\r\n"), test(b"a", false));
        assert_eq!(directive(b"test::  a"), test(b" a", true));
        assert_eq!(directive(b"tags: a -b\n"), Some(Directive::Tags(b"a -b")));
        assert_eq!(directive(b"progress: +3\n"), Some(Directive::Progress));
        assert_eq!(directive(b"progress pop\n"), Some(Directive::Progress));
        let time = Timestamp::new(1_008_161_999, 45_000).unwrap();
        assert_eq!(directive(b"time: 2001-12-12 12:59:59.000045Z\n"), Some(Directive::Time(time)));
        let outcome = |word: &str| match directive(format!("{word}: a\n").as_bytes()) {
            Some(Directive::Outcome { outcome, name: b"a" }) => outcome.status,
            other => panic!("{word}: {other:?}"),
        };
        let words = ["success", "successful", "failure", "error", "skip", "xfail", "uxsuccess"];
        assert_eq!(
            words.map(outcome),
            [
                Status::Success,
                Status::Success,
                Status::Fail,
                Status::Fail,
                Status::Skip,
                Status::XFail,
                Status::UxSuccess
            ]
        );
    }

    #[test]
    fn lines_that_are_output() {
        for line in [
            "",
            "\n",
            "test:\n",
            "test: \n",
            " test: a\n",
            "tester: a\n",
            "Test: a\n",
            "time: now\n",
            "progress: many\n",
            "progress: +\n",
            "time: 1969-12-31 23:59:59Z\n",
            ": a\n",
        ] {
            assert_eq!(directive(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn the_start_of_a_line_tells_whether_it_may_speak() {
        for (start, may) in [
            ("test: x", Some(true)),
            ("testing x", Some(true)),
            ("tester", Some(false)),
            ("test\n", Some(false)),
            ("tes", None),
            ("test", None),
            ("testi", None),
            ("", None),
            ("x", Some(false)),
            ("progress\t", Some(true)),
            ("success: x", Some(false)),
        ] {
            assert_eq!(may_speak(start.as_bytes()), may, "{start}");
        }
    }
}
