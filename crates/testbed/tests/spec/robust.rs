//! No text makes the checks panic, and every place they tell lies within it.

use proptest::prelude::*;
use proptest::sample::Index;
use testbed::plan::{Host, Plan};
use testbed::spec::{FixedFiles, Severity, check};

/// A file that uses most keys.
const WHOLE: &str = include_str!("whole.toml");

/// Checks a text, and all that can be done with the outcome.
fn survives(text: &str) {
    let (testbed, problems) = check(text, "testbed.toml", &super::files());
    for problem in problems.iter() {
        for label in problem.labels() {
            let span = label.place().span().expect("a file's problems have places");
            assert!(text.get(span.clone()).is_some(), "{span:?} of {} in {text:?}", text.len());
        }
    }
    for styled in [false, true] {
        let _ = problems.render(styled);
    }
    let json = serde_json::to_value(&problems).expect("problems are JSON");
    let lines = text.split('\n').count();
    let positions = |key: &str| {
        let list = json["problems"].as_array().into_iter().flatten();
        list.filter_map(|problem| problem[key].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!((positions("line").len(), positions("column").len()), (problems.len(), problems.len()));
    assert!(positions("line").iter().all(|line| (1..=lines as u64).contains(line)));
    assert!(positions("column").iter().all(|column| *column >= 1));
    let errors = problems.iter().filter(|problem| problem.severity() == Severity::Error).count();
    assert_eq!(testbed.is_none(), errors > 0);
    if let Some(testbed) = testbed {
        let _ = (Plan::new(&testbed, &Host::default()).to_string(), testbed.hosts_file());
    }
}

/// Pieces that mean something to the checks.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "[",
            "]",
            "{",
            "}",
            "=",
            ".",
            ",",
            "\"",
            "'",
            "\"\"\"",
            "\n",
            "\r\n",
            "+",
            "-",
            "/",
            "#",
            "\0",
            "é",
            "\u{2028}",
            "[[tests]]\n",
            "[machines.a]\n",
            "[defaults]\n",
            "count = 2048\n",
            "kernel = \"own\"\n",
            "image = \"x\"\n",
            "interfaces = { lan = {} }\n",
            "10.0.0.1",
            "0.0.0.0/0",
            "::/0",
            "255.255.255.255+",
            "true",
            "-1",
            "1e400",
            "99999999999999999999",
            "1979-05-27",
            "nan",
            "0x10",
            "depends = [\"a\"]\n",
            "base = \"vpn\"\n",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        survives(&text);
    }

    #[test]
    fn no_text_of_meaningful_pieces_panics(pieces in prop::collection::vec(piece(), 0..40)) {
        survives(&pieces.concat());
    }

    #[test]
    fn no_edit_of_a_valid_file_panics(edits in prop::collection::vec((any::<Index>(), 0usize..12, piece()), 1..6)) {
        let mut text: Vec<char> = WHOLE.chars().collect();
        for (at, removed, inserted) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, inserted.chars());
        }
        survives(&text.into_iter().collect::<String>());
    }

    #[test]
    fn no_swap_of_lines_panics(swaps in prop::collection::vec((any::<Index>(), any::<Index>()), 1..6)) {
        let mut lines: Vec<&str> = WHOLE.lines().collect();
        for (a, b) in swaps {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
        }
        survives(&lines.join("\n"));
    }
}

#[test]
fn the_whole_file_is_valid() {
    let (_, problems) = check(WHOLE, "testbed.toml", &super::files());
    assert!(problems.is_empty(), "{problems}");
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for text in [
        format!("{}x = 1", "a.".repeat(100_000)),
        format!("[{}x]", "a.".repeat(100_000)),
        format!("x = {}", "[".repeat(100_000)),
        format!("x = {}", "{a=".repeat(100_000)),
    ] {
        survives(&text);
        assert!(
            check(&text, "testbed.toml", &super::files()).1.to_string().contains("recurs"),
            "{:.20}",
            text
        );
    }
}

#[test]
fn a_long_file_is_refused_and_a_large_one_is_quick() {
    let (testbed, problems) = check(&"#".repeat(2 << 20), "testbed.toml", &FixedFiles::new("/"));
    assert!(testbed.is_none() && problems.to_string().contains("longer than 1024 KiB"));
    let wrong: String = (0..2000).map(|number| format!("[machines.m{number}]\nimgae = 1\n")).collect();
    let start = std::time::Instant::now();
    let (_, problems) = check(&wrong, "testbed.toml", &FixedFiles::new("/"));
    assert_eq!(problems.len(), 2000);
    let _ = (problems.to_string(), serde_json::to_string(&problems).unwrap());
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
