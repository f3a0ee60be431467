use std::time::Duration;

use testbed_subunit::{Draft, Timestamp, junit};

use super::*;

fn of(text: &str) -> Vec<String> {
    outcomes(&events(Format::Junit, text.as_bytes()))
}

#[test]
fn what_pytest_writes() {
    let events = events(Format::Junit, SAMPLES[4]);
    assert_eq!(
        outcomes(&events),
        [
            "fail test_broken @error: collection failure",
            "success test_a.test_pass",
            "fail test_a.test_fail: AssertionError: no answer",
            "skip test_a.test_skip: needs a network",
            "skip test_a.test_skip_inside: inside",
            "xfail test_a.test_xfail: known",
            "success test_a.test_xpass",
            "fail test_a.test_xpass_strict: [XPASS(strict)] known",
            "fail test_a.test_setup_error @error: failed on setup with \"RuntimeError: cannot set up\"",
            "fail test_a.test_teardown_error @error: failed on teardown with \"RuntimeError: cannot tear down\"",
            "fail test_a.test_fail_and_teardown: assert 0",
            "fail test_a.test_fail_and_teardown @error: failed on teardown with \"RuntimeError: cannot tear down\"",
            "success test_a.test_param[1]",
            "success test_a.test_param[a/b::c]",
            "success test_a.TestC.test_m",
            "fail test_a.TestU.test_sub: AssertionError: 1 != 0",
            "fail test_a.TestU.test_u: AssertionError: 1 != 2",
            "fail test_a.test_surrogate: AssertionError: #xDCFE",
            "success test_a.test_flaky",
            "success test_a.test_flaky",
        ]
    );
    let traceback = file(&events, "test_a.test_fail", "traceback");
    assert!(traceback.contains("\n>       assert x == 2, \"no answer\"\n"), "{traceback}");
    assert_eq!(file(&events, "", "stdout"), "");
}

#[test]
fn what_node_writes() {
    let events = events(Format::Junit, SAMPLES[9]);
    assert_eq!(
        outcomes(&events),
        [
            "success test.plain",
            "fail test.fails # hash: Expected values to be strictly equal:1 !== 2",
            "xfail test.todo: later",
            "skip test.skip: why",
            "success test.inner",
            "fail test.inner fails: boom",
        ]
    );
    assert!(file(&events, "test.fails # hash", "traceback").contains("TestContext.<anonymous>"));
}

#[test]
fn what_surefire_and_gtest_write() {
    let text = r#"<testsuite xmlns:xsi="x" name="s" timestamp="2026-11-20T19:00:00"><properties><property name="os" value="a&lt;b"/></properties>
        <testcase name="flaky" classname="s.T" time="1.5"><flakyFailure message="once" type="E"><stackTrace><![CDATA[at T.java:3]]></stackTrace><system-out>o</system-out></flakyFailure></testcase>
        <testcase name="never" classname="s.T" time="1,000.25"><failure type="E"><![CDATA[
at T.java:4]]></failure><rerunFailure message="again">at T.java:5</rerunFailure><system-err>e&amp;e</system-err></testcase>
        <testcase name="off" status="notrun" result="suppressed" file="t.cc" line="12"/>
        <testcase name="tagged"><properties><property name="tag" value="slow"/><property name="k">v</property></properties></testcase>
        <system-out>all of it</system-out></testsuite>"#;
    let events = events(Format::Junit, text.as_bytes());
    assert_eq!(
        outcomes(&events),
        ["success s.T.flaky @flaky: once", "fail s.T.never @rerun: E", "skip off", "success tagged @slow"]
    );
    assert_eq!(file(&events, "s.T.flaky", "stackTrace"), "at T.java:3");
    assert_eq!(file(&events, "s.T.never", "traceback"), "\nat T.java:4");
    assert_eq!(file(&events, "s.T.never", "rerunFailure"), "at T.java:5");
    assert_eq!(file(&events, "s.T.never", "stderr"), "e&e");
    assert_eq!(file(&events, "off", "location"), "t.cc:12");
    assert_eq!(file(&events, "tagged", "properties"), "k=v\n");
    assert_eq!(file(&events, "", "properties"), "os=a<b\n");
    assert_eq!(file(&events, "", "stdout"), "all of it");
    let mut records = Records::default();
    let records: Vec<_> = events.iter().filter_map(|event| records.event(event.as_ref())).collect();
    let spans: Vec<_> =
        records.iter().map(|record| (record.start.unwrap().seconds(), record.duration())).collect();
    let begin = "2026-11-20T19:00:00Z".parse::<Timestamp>().unwrap().seconds();
    assert_eq!(spans[0], (begin, Some(Duration::from_millis(1500))));
    assert_eq!(spans[1], (begin + 1, Some(Duration::from_millis(1_000_250))));
    assert_eq!(spans[2], (begin + 1001, Some(Duration::ZERO)));
}

#[test]
fn what_is_broken_or_breaks_off_has_failed() {
    assert_eq!(of(""), ["fail report: there is no report"]);
    assert_eq!(of("<html><body>502</body></html>"), ["fail report: there is no report"]);
    assert_eq!(of("<testsuite/>"), [""; 0]);
    assert_eq!(
        of("<testsuite><testcase name='a'/><testcase name='b'><failure>x</fail"),
        ["success a", "fail report: the report breaks off", "- b"]
    );
    assert_eq!(of("<testsuites><testsuite><testcase name='a'></testsuites>"), ["success a"]);
    let events = events(Format::Junit, b"<testsuite>1 < 2<testcase name='a'/></b></testsuite>");
    assert_eq!(outcomes(&events), ["success a"]);
    assert_eq!(file(&events, "", "stdout"), "1 < 2</b>");
}

#[test]
fn a_suite_can_fail_by_itself() {
    let text =
        "<testsuites><testsuite name='s'><error message='no database'>trace</error></testsuite></testsuites>";
    let events = events(Format::Junit, text.as_bytes());
    assert_eq!(outcomes(&events), ["fail s @error: no database"]);
    assert_eq!(file(&events, "s", "traceback"), "trace");
}

#[test]
fn deep_nesting_needs_no_memory() {
    let text = "<a>".repeat(100_000) + &"</a>".repeat(100_000);
    assert_eq!(
        outcomes(&in_pieces(Format::Junit, text.as_bytes(), 1 << 20)),
        ["fail report: there is no report"]
    );
}

#[test]
fn what_we_write_comes_back() {
    let drafts = [
        Draft::test("a.passes", Status::Success),
        Draft::test("a.fails", Status::Fail).tags(&["slow"]).file("traceback", b"at <3>\r\n"),
        Draft::test("a.skips", Status::Skip).file("reason", b"no \"route\"\n"),
        Draft::test("a.xfails", Status::XFail),
    ];
    let mut records = Records::default();
    let mut report = junit::Writer::new(Vec::new(), "suite");
    for draft in drafts {
        report.add(&records.event(draft.check().unwrap()).unwrap());
    }
    let events = events(Format::Junit, &report.finish().unwrap());
    let expected = [
        "success a.passes",
        "fail a.fails @slow: failed",
        "skip a.skips: no \"route\"",
        "xfail a.xfails: failed as expected",
    ];
    assert_eq!(outcomes(&events), expected);
    assert_eq!(file(&events, "a.fails", "traceback"), "at <3>\r\n");
}
