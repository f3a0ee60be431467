use std::time::Duration;

use super::*;

fn of(lines: &[&str]) -> Vec<String> {
    let finish = r#"{"exitstatus": 1, "$report_type": "SessionFinish"}"#;
    outcomes(&events(Format::Pytest, [lines, &[finish]].concat().join("\n").as_bytes()))
}

#[test]
fn what_pytest_logs() {
    let events = events(Format::Pytest, SAMPLES[8]);
    assert_eq!(
        outcomes(&events),
        [
            "fail test_broken.py @error: ImportError while importing test module '/src/test_broken.py'.",
            "success test_a.py::test_pass",
            "fail test_a.py::test_fail: AssertionError: no answer",
            "skip test_a.py::test_skip: needs a network",
            "skip test_a.py::test_skip_inside: inside",
            "xfail test_a.py::test_xfail: known",
            "success test_a.py::test_xpass @xpass: known",
            "uxsuccess test_a.py::test_xpass_strict: known",
            "fail test_a.py::test_setup_error @error: RuntimeError: cannot set up",
            "fail test_a.py::test_teardown_error @error: RuntimeError: cannot tear down",
            "fail test_a.py::test_fail_and_teardown @error: assert 0",
            "success test_a.py::test_param[1]",
            "success test_a.py::test_param[a/b::c]",
            "success test_a.py::TestC::test_m",
            "success test_a.py::TestU::test_sub (i=0)",
            "fail test_a.py::TestU::test_sub (i=1): AssertionError: 1 != 0",
            "success test_a.py::TestU::test_sub",
            "fail test_a.py::TestU::test_u: AssertionError: 1 != 2",
            "fail test_a.py::test_surrogate: AssertionError: \u{fffd}",
            "success test_a.py::test_flaky @flaky",
        ]
    );
    // Each phase repeats what was captured before it.
    assert_eq!(file(&events, "test_a.py::test_pass", "stdout"), "printed\n");
    assert_eq!(file(&events, "test_a.py::test_pass", "stderr"), "to err\n");
    let traceback = file(&events, "test_a.py::test_fail", "traceback");
    assert!(
        traceback.contains("\n>       assert x == 2, \"no answer\"\nE       AssertionError"),
        "{traceback}"
    );
    assert!(traceback.ends_with("\ntest_a.py:7: AssertionError\n"), "{traceback}");
    assert_eq!(file(&events, "test_a.py::test_fail", "location"), "/src/test_a.py:7");
    assert!(file(&events, "test_a.py::test_flaky", "rerun 1").contains("not yet"));
    assert_eq!(file(&events, "", "warnings"), "/src/test_a.py:27: UserWarning: careful\n".repeat(2));
    assert_eq!(file(&events, "", "stdout"), "");
}

#[test]
fn times_are_those_of_the_phases() {
    let events = events(Format::Pytest, SAMPLES[8]);
    let mut records = Records::default();
    let all: Vec<_> = events.iter().filter_map(|event| records.event(event.as_ref())).collect();
    let passed = all.iter().find(|record| &*record.id == "test_a.py::test_pass").unwrap();
    // From 1795289967.2725613 to 1795289967.273626.
    assert_eq!(passed.start.unwrap().to_string(), "2026-11-21T19:39:27.272561000Z");
    assert_eq!(passed.duration(), Some(Duration::from_micros(1065)));
}

#[test]
fn a_session_that_breaks_off_has_failed() {
    let text = r#"{"nodeid": "a", "when": "setup", "outcome": "passed", "$report_type": "TestReport"}"#;
    let seen = outcomes(&events(Format::Pytest, text.as_bytes()));
    assert_eq!(seen, ["fail report: the session did not end", "- a"]);
    let interrupted = br#"{"exitstatus": 2, "$report_type": "SessionFinish"}"#;
    assert_eq!(outcomes(&events(Format::Pytest, interrupted)), ["fail report: the session was interrupted"]);
}

#[test]
fn workers_run_tests_at_once_and_die() {
    let report = |node: &str, when: &str, outcome: &str, worker: &str| {
        format!(
            r#"{{"nodeid":"{node}","when":"{when}","outcome":"{outcome}","longrepr":NaN,"worker_id":"{worker}","$report_type":"TestReport"}}"#
        )
    };
    let lines = [
        report("a", "setup", "passed", "gw0"),
        report("b", "setup", "passed", "gw1"),
        report("a", "call", "failed", "gw0"),
        report("b", "???", "failed", "gw1"),
        report("a", "teardown", "passed", "gw0"),
    ];
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    assert_eq!(of(&lines), ["fail b @gw1", "fail a @gw0"]);
}
