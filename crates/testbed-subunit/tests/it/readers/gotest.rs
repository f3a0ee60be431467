use super::*;

fn of(lines: &[&str]) -> Vec<Event> {
    events(Format::GoTest, lines.join("\n").as_bytes())
}

#[test]
fn what_go_prints() {
    let events = events(Format::GoTest, SAMPLES[3]);
    assert_eq!(
        outcomes(&events),
        [
            "success example.org/m/bench.TestOk",
            "success example.org/m/bench.BenchmarkLogs",
            "success example.org/m/bench.BenchmarkQuick",
            "success example.org/m/bench.BenchmarkSub",
            "success example.org/m/bench.BenchmarkSub/x",
            "fail example.org/m/broken: the build failed",
            "fail example.org/m/exits: failed outside of its tests",
            "fail example.org/m/fatal.TestExit: panic: unexpected call to os.Exit(0) during test [recovered, repanicked]",
            "success example.org/m/ok.TestPass",
            "fail example.org/m/ok.TestFail: no answer",
            "skip example.org/m/ok.TestSkip: needs a network",
            "success example.org/m/ok.TestSub/a_b",
            "fail example.org/m/ok.TestSub/bad: boom",
            "fail example.org/m/ok.TestSub",
            "success example.org/m/ok.Example",
            "success example.org/m/panics.TestBefore",
            "fail example.org/m/panics.TestPanics: panic: assignment to entry in nil map [recovered, repanicked]",
        ]
    );
    let built = file(&events, "example.org/m/broken", "build");
    assert!(built.ends_with("broken/b_test.go:3:28: undefined: undefined\n"), "{built}");
    assert!(file(&events, "example.org/m/exits", "stdout").starts_with("cannot set up\n"));
    let out = "=== RUN   TestFail\n    ok_test.go:4: no answer\n--- FAIL: TestFail (0.00s)\n";
    assert_eq!(file(&events, "example.org/m/ok.TestFail", "stdout"), out);
    assert!(file(&events, "", "stdout").contains("?   \texample.org/m/none\t[no test files]\n"));
}

#[test]
fn times_are_those_of_the_events() {
    let events = of(&[
        r#"{"Time":"2026-11-20T20:00:01.5+01:00","Action":"run","Package":"p","Test":"T"}"#,
        r#"{"Time":"2026-11-20T20:00:03.75+01:00","Action":"pass","Package":"p","Test":"T","Elapsed":2.25}"#,
    ]);
    let mut records = Records::default();
    let record = events.iter().find_map(|event| records.event(event.as_ref())).unwrap();
    assert_eq!(record.duration(), Some(std::time::Duration::from_millis(2250)));
    assert_eq!(record.start.unwrap().to_string(), "2026-11-20T19:00:01.500000000Z");
}

#[test]
fn a_stream_that_breaks_off_has_failed() {
    let events = of(&[
        r#"{"Action":"start","Package":"quiet"}"#,
        r#"{"Action":"start","Package":"loud"}"#,
        r#"{"Action":"run","Package":"loud","Test":"T"}"#,
    ]);
    assert_eq!(outcomes(&events), ["fail quiet: the package never ended", "- loud.T"]);
    assert!(!summary(&events).is_success());
}

#[test]
fn a_package_fails_only_where_no_test_says_so() {
    let events = of(&[
        r#"{"Action":"fail","Package":"p","Test":"T"}"#,
        r#"{"Action":"fail","Package":"p"}"#,
        r#"{"Action":"fail","Package":"q"}"#,
    ]);
    assert_eq!(outcomes(&events), ["fail p.T", "fail q: failed outside of its tests"]);
}

#[test]
fn output_behind_the_end_opens_nothing() {
    let events = of(&[
        r#"{"Action":"run","Package":"p","Test":"T"}"#,
        r#"{"Action":"pass","Package":"p","Test":"T"}"#,
        r#"{"Action":"output","Package":"p","Test":"T","Output":"late\n"}"#,
        r#"{"Action":"pass","Package":"p"}"#,
    ]);
    assert_eq!(outcomes(&events), ["success p.T"]);
    assert_eq!(file(&events, "", "stdout"), "late\n");
}

#[test]
fn what_is_no_event_is_output() {
    let lines = ["go: downloading x v1", "{\"Action\":\"sing\"}", "{\"other\": 1}", "{", "\u{fffd} null"];
    let events = of(&lines);
    assert_eq!(file(&events, "", "stdout"), lines.join("\n"));
    assert_eq!(outcomes(&events), ["fail report: there are no results"]);
}
