use super::*;

fn of(text: &str) -> Vec<String> {
    outcomes(&events(Format::Libtest, text.as_bytes()))
}

#[test]
fn what_cargo_test_prints() {
    let events = events(Format::Libtest, SAMPLES[5]);
    assert_eq!(
        outcomes(&events),
        [
            "skip sample::tests::ignored",
            "skip sample::tests::ignored_why: needs a network",
            "success sample::tests::panics",
            "success sample::tests::passes",
            "fail sample::tests::fails: assertion `left == right` failed: no answer",
            "fail sample::tests::panics_not: test did not panic as expected at src/lib.rs:25:32",
            "fail sample::tests::panics_otherwise: y",
            "fail sample::tests::returns: Error: \"an error\"",
            "success bin/sample::in_main",
            "success it::a::b",
            "fail it::quiet: assertion failed: false",
            "success sample::src/lib.rs - (line 1)",
            "success sample::src/lib.rs - one (line 10)",
            "skip sample::src/lib.rs - one (line 13)",
            "success sample::src/lib.rs - one (line 7)",
            "fail sample::src/lib.rs - one (line 4): assertion `left == right` failed",
        ]
    );
    let printed = file(&events, "sample::tests::fails", "stdout");
    assert!(printed.starts_with("before\nto stderr\n\nthread 'tests::fails'"), "{printed}");
    // A test that prints what looks like the output of another.
    let printed = file(&events, "sample::tests::returns", "stdout");
    assert_eq!(printed, "---- tests::fails stdout ----\nError: \"an error\"\n\n\n");
}

#[test]
fn what_the_harness_prints_as_json() {
    let events = events(Format::Libtest, SAMPLES[6]);
    assert_eq!(
        outcomes(&events),
        [
            "skip sample::tests::ignored",
            "skip sample::tests::ignored_why: needs a network",
            "success sample::tests::panics",
            "fail sample::tests::fails: assertion `left == right` failed: no answer",
            "fail sample::tests::panics_not: test did not panic as expected at src/lib.rs:25:32",
            "fail sample::tests::panics_otherwise: panic did not contain expected string",
            "success sample::tests::passes",
            "fail sample::tests::returns: Error: \"an error\"",
            "success bin/sample::in_main",
            "success it::a::b",
            "fail it::quiet: assertion failed: false",
            "success sample::src/lib.rs - (line 1)",
            "skip sample::src/lib.rs - one (line 13)",
            "success sample::src/lib.rs - one (line 10)",
            "success sample::src/lib.rs - one (line 7)",
            "fail sample::src/lib.rs - one (line 4): assertion `left == right` failed",
        ]
    );
}

#[test]
fn what_nextest_prints() {
    let mut all = outcomes(&events(Format::Libtest, SAMPLES[7]));
    all.sort();
    assert_eq!(
        all,
        [
            "fail sample::it::quiet: assertion failed: false",
            "fail sample::tests::fails: assertion `left == right` failed: no answer",
            "fail sample::tests::panics_not: test did not panic as expected at src/lib.rs:25:32",
            "fail sample::tests::panics_otherwise: y",
            "fail sample::tests::returns: Error: \"an error\"",
            "skip sample::tests::ignored",
            "skip sample::tests::ignored_why",
            "success sample::in_main",
            "success sample::it::a::b",
            "success sample::tests::panics",
            "success sample::tests::passes",
        ]
    );
}

#[test]
fn attempts_of_nextest_are_one_test() {
    let lines = [
        r#"{"type":"test","event":"started","name":"p-q::it$flaky"}"#,
        r#"{"type":"test","event":"ok","name":"p-q::it$flaky#2","exec_time":0.02}"#,
        r#"{"type":"test","event":"started","name":"p-q::p_q$fails"}"#,
        r#"{"type":"test","event":"failed","name":"p-q::p_q$fails#3","stdout":""}"#,
    ];
    assert_eq!(of(&lines.join("\n")), ["success p-q::it::flaky @flaky", "fail p_q::fails @rerun"]);
}

#[test]
fn output_that_is_not_captured() {
    let events = events(Format::Libtest, include_bytes!("../../samples/nocapture.txt"));
    assert_eq!(outcomes(&events), ["success it::a::b", "fail it::quiet"]);
    assert_eq!(file(&events, "it::a::b", "stdout"), "hello\n\nworld\n");
    // Its outcome stands behind output that ends in no line, and only the list of failures tells it.
    let text = "running 2 tests\ntest a ... printedFAILED\ntest b ... printedok\n\nfailures:\n\nfailures:\n    a\n\n\
                test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
    assert_eq!(of(text), ["fail a", "success b"]);
}

#[test]
fn a_binary_that_ends_early_has_failed() {
    let text = "     Running tests/it.rs (target/debug/deps/it-14fb52c9beb4c1fa)\n\nrunning 2 tests\ntest a ... ok\n\
                test aborts ... error: test failed, to rerun pass `--test it`\n";
    assert_eq!(
        of(text),
        ["success it::a", "fail it: ended without a result: 2 of 2 tests were told of", "- it::aborts"]
    );
    assert_eq!(of("error: could not compile `a`\n"), ["fail report: there are no results"]);
    assert_eq!(of("{\"type\":\"suite\",\"event\":\"started\"}\n"), ["fail tests: ended without a result"]);
    assert_eq!(
        of("running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured\n"),
        [""; 0]
    );
    let named = "   Doc-tests a\0b\nrunning 1 test\n";
    assert_eq!(of(named), ["fail a\u{2400}b: ended without a result: 0 of 1 tests were told of"]);
    let lost = "running 2 tests\ntest a ... ok\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n";
    assert_eq!(of(lost), ["success a", "fail tests: not all results were told"]);
}

#[test]
fn a_failed_test_may_have_run_tests() {
    let text = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nrunning 1 test\n\
                test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured\n\nthread 'b' (1) panicked at b.rs:1:2:\nno\n\n\
                failures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured\n";
    assert_eq!(of(text), ["success a", "fail b: no"]);
}
