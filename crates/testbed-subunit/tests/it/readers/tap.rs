use super::*;

fn of(text: &str) -> Vec<String> {
    outcomes(&events(Format::Tap, text.as_bytes()))
}

#[test]
fn what_test_more_prints() {
    let events = events(Format::Tap, SAMPLES[0]);
    assert_eq!(
        outcomes(&events),
        [
            "success first",
            "fail second # not a directive",
            "fail compares",
            "xfail todo fails: not done",
            "success todo passes @todo: not done",
            "skip test 6: no net",
            "success inner things/a",
            "success inner things/deep/test 1",
            "fail inner things/deep/x",
            "fail inner things/deep",
            "fail inner things",
            "skip skipped: not here",
            "success test 9",
        ]
    );
    let comment = "  Failed test 'compares'\n  at a.t line 4.\n         got: '1'\n    expected: '2'\n";
    assert_eq!(file(&events, "compares", "comment"), comment);
    assert_eq!(file(&events, "", "stdout"), "garbage line\n");
    assert_eq!(file(&events, "", "comment"), "Looks like you failed 3 tests of 9.\n");
}

#[test]
fn what_node_prints() {
    let events = events(Format::Tap, SAMPLES[2]);
    assert_eq!(
        outcomes(&events),
        [
            "success plain",
            "fail fails # hash",
            "xfail todo: later",
            "skip skip: why",
            "success suite/inner",
            "fail suite/inner fails: boom",
            "fail suite: 1 subtest failed",
        ]
    );
    let yaml = file(&events, "fails # hash", "diagnostic.yaml");
    assert!(yaml.starts_with("duration_ms: 1.818921\nlocation: '/src/n.mjs:3:1'\n"), "{yaml}");
    assert!(yaml.contains("\nerror: |-\n  Expected values to be strictly equal:\n  \n  1 !== 2\n"), "{yaml}");
}

#[test]
fn what_is_missing_or_too_much() {
    assert_eq!(
        of("1..3\nok 1 - a\nok 3 - c\n"),
        ["success a", "fail test 2: the point is missing", "success c"]
    );
    assert_eq!(
        of("ok\nok\n1..1\n"),
        ["success test 1", "success test 2", "fail plan: 1 points were planned and 2 came"]
    );
    assert_eq!(of("ok 1\n"), ["success test 1", "fail plan: there is no plan"]);
    assert_eq!(of(""), ["fail plan: there is no plan"]);
    assert_eq!(of("1..1\n1..2\nok 1\n"), ["fail plan: planned twice", "success test 1"]);
    assert_eq!(
        of("1..2\nok 2\nok 1\n"),
        [
            "fail test 1: the point is missing",
            "success test 2",
            "fail plan: point 1 came where 3 was expected",
            "success test 1"
        ]
    );
    let many = of("1..18446744073709551615\n");
    assert_eq!(many.len(), 101);
    assert_eq!(many[100], "fail tests 101 to 18446744073709551615: the point is missing");
}

#[test]
fn the_whole_is_skipped_or_given_up() {
    assert_eq!(of("1..0 # SKIP not on this platform\n"), ["skip plan: not on this platform"]);
    assert_eq!(outcomes(&events(Format::Tap, SAMPLES[1])), ["success one", "fail Bail out!: disk on fire"]);
    let again = of("1..5\nBail out!\nok 1\nTAP version 13\n1..1\nok 1 - later\n");
    assert_eq!(again, ["fail Bail out!", "success later"]);
}

#[test]
fn a_directive_changes_a_point() {
    assert_eq!(of("1..1\nnot ok 1 - a # SKIP b\n"), ["fail a: b"]);
    assert_eq!(of("1..1\nok 1 - a # because\n"), ["success a # because"]);
}

#[test]
fn subtests_are_named_before_or_inside_or_not_at_all() {
    let inside = "    # Subtest: in\n    ok 1 - a\n    1..1\nok 1 - in\n1..1\n";
    assert_eq!(of(inside), ["success in/a", "success in"]);
    let nameless = "    ok 1 - a\n    1..1\nok 1 - what it was\n1..1\n";
    assert_eq!(of(nameless), ["success test 1/a", "success what it was"]);
    let another = "# Subtest: x\n    ok 1 - a\n    1..2\nnot ok 1 - y\n1..1\n";
    assert_eq!(of(another), ["success x/a", "fail x/test 2: the point is missing", "fail x"]);
    let hangs = "1..1\n# Subtest: x\n    ok 1 - a\n";
    assert_eq!(of(hangs), ["success x/a", "fail test 1: the point is missing", "- x"]);
}

#[test]
fn output_between_points_is_no_tap() {
    let text = "1..1\n    indented\n  ok 1 - not at four\nok 1 - a\n  ---\n  message: \"no\n answer\"\n  - - -\npragma +strict\r\n";
    let events = events(Format::Tap, text.as_bytes());
    assert_eq!(outcomes(&events), ["success a: \"no"]);
    let out = "    indented\n  ok 1 - not at four\n answer\"\n  - - -\npragma +strict\r\n";
    assert_eq!(file(&events, "", "stdout"), out);
}
