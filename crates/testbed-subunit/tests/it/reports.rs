//! Reports, read back by readers that are not ours.

use proptest::prelude::*;
use roxmltree::{Document, Node};
use serde_json::{Value, json};
use testbed_subunit::record::Record;
use testbed_subunit::{Draft, Event, Status, Timestamp, json, junit, tap};

use crate::arbitrary;
use crate::records::records;

fn as_junit(records: &[Record]) -> String {
    let of_testbed = |record: &Record| record.tags.contains("testbed");
    let mut report = junit::Writer::new(Vec::new(), "a \"suite\"").broken(of_testbed).output_of_passed(true);
    records.iter().for_each(|record| report.add(record));
    String::from_utf8(report.finish().unwrap()).unwrap()
}

fn child<'a>(node: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn one_case(drafts: &[Draft<'_>], check: impl FnOnce(Node<'_, '_>)) {
    let xml = as_junit(&records(drafts.iter().copied()));
    let document = Document::parse(&xml).unwrap();
    let cases: Vec<_> = document.descendants().filter(|node| node.has_tag_name("testcase")).collect();
    assert_eq!(cases.len(), 1, "{xml}");
    check(cases[0]);
}

#[test]
fn junit_totals_and_names() {
    let time = |seconds: u32| Timestamp::new(1_795_201_200 + seconds, 250_000_000).unwrap();
    let xml = as_junit(&records([
        Draft::test("a.B.passes", Status::InProgress).at(time(0)),
        Draft::test("a.B.passes", Status::Success).at(time(2)),
        Draft::test("a.B.fails", Status::Fail),
        Draft::test("surprises", Status::UxSuccess),
        Draft::test("skipped [x.y]", Status::Skip),
        Draft::test("xfail", Status::XFail),
        Draft::test("listed", Status::Exists),
        Draft::test("no machine", Status::Fail).tags(&["testbed"]),
        Draft::test("hangs", Status::InProgress),
    ]));
    let document = Document::parse(&xml).unwrap();
    let suites = document.root_element();
    let suite = child(suites, "testsuite").unwrap();
    for (name, value) in
        [("name", "a \"suite\""), ("tests", "7"), ("failures", "2"), ("errors", "2"), ("time", "2.000")]
    {
        assert_eq!((suites.attribute(name), suite.attribute(name)), (Some(value), Some(value)), "{name}");
    }
    assert_eq!(suite.attribute("skipped"), Some("2"));
    assert_eq!(suite.attribute("timestamp"), Some("2026-11-20T19:00:00"));
    let cases: Vec<_> = suite.children().filter(Node::is_element).collect();
    let names: Vec<_> =
        cases.iter().map(|case| (case.attribute("classname"), case.attribute("name"))).collect();
    assert_eq!(names[0], (Some("a.B"), Some("passes")));
    assert_eq!(names[3], (Some("a \"suite\""), Some("skipped [x.y]")));
    let outcomes: Vec<_> = cases
        .iter()
        .map(|case| {
            let found = case
                .children()
                .find(|child| ["failure", "error", "skipped"].iter().any(|name| child.has_tag_name(*name)));
            found.map_or("", |child| child.tag_name().name())
        })
        .collect();
    assert_eq!(outcomes, ["", "failure", "failure", "skipped", "skipped", "error", "error"]);
}

#[test]
fn junit_shows_what_a_failure_needs() {
    let drafts = [
        Draft::new().id("t").file("stdout", b"o<u>t\n"),
        Draft::new().id("t").file("console/gw1", b"boot\n").mime("text/plain"),
        Draft::new().id("t").file("capture/net1", b"\x0a\x0d\x0d\x0a\xff").mime("application/x-pcapng"),
        Draft::new().id("t").file("stderr", b"e&rr\n"),
        Draft::new().id("t").file("traceback", b"at \"line\" 3\r\n"),
        Draft::test("t", Status::Fail).file("reason", b"\n no route\nmore").tags(&["net"]),
    ];
    one_case(&drafts, |case| {
        let failure = child(case, "failure").unwrap();
        assert_eq!(failure.attribute("message"), Some("no route"));
        assert_eq!(failure.text(), Some("at \"line\" 3\r\n"));
        assert_eq!(
            child(case, "system-out").unwrap().text(),
            Some(
                "o<u>t\n--- console/gw1 ---\nboot\n--- capture/net1 ---\n(5 bytes of application/x-pcapng)\n"
            )
        );
        assert_eq!(child(case, "system-err").unwrap().text(), Some("e&rr\n"));
        let tag = child(child(case, "properties").unwrap(), "property").unwrap();
        assert_eq!((tag.attribute("name"), tag.attribute("value")), (Some("tag"), Some("net")));
    });
}

#[test]
fn junit_of_what_no_xml_may_hold() {
    let drafts = [
        Draft::new().id("t\u{1b}\u{fffe}\n<\"").file("stdout", b"\0\x07\x1b[31mred\x7f\xff]]>\xef\xbf\xbf"),
        Draft::test("t\u{1b}\u{fffe}\n<\"", Status::Fail),
    ];
    one_case(&drafts, |case| {
        assert_eq!(case.attribute("name"), Some("t\u{241b}\u{fffd}\n<\""));
        let shown = "\u{2400}\u{2407}\u{241b}[31mred\u{2421}\u{fffd}]]>\u{fffd}";
        assert_eq!(child(case, "system-out").unwrap().text(), Some(shown));
    });
}

#[test]
fn junit_leaves_the_output_of_passed_tests_out() {
    let all = records([Draft::test("t", Status::Success).file("stdout", b"secret")]);
    let mut report = junit::Writer::new(Vec::new(), "s");
    report.add(&all[0]);
    assert!(!String::from_utf8(report.finish().unwrap()).unwrap().contains("secret"));
}

fn as_json(draft: Draft<'_>) -> Value {
    let mut out = Vec::new();
    json::line(&draft.check().unwrap(), &mut out);
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn json_of_everything() {
    let draft = Draft::test("t\"\\\u{1}\u{2603}", Status::XFail)
        .at(Timestamp::new(1_795_201_201, 5).unwrap())
        .tags(&["a", "b"])
        .file("f\t", b"line\r\n")
        .mime("text/plain")
        .eof(true)
        .route("0/1");
    assert_eq!(
        as_json(draft),
        json!({
            "time": "2026-11-20T19:00:01.000000005Z", "route": "0/1", "id": "t\"\\\u{1}\u{2603}",
            "status": "xfail", "runnable": true, "tags": ["a", "b"],
            "file": {"name": "f\t", "text": "line\r\n"}, "mime": "text/plain", "eof": true,
        })
    );
    assert_eq!(as_json(Draft::new()), json!({"runnable": false}));
}

#[test]
fn json_of_bytes_that_are_no_text() {
    // The vectors of RFC 4648 section 10, behind a byte that makes the text none.
    for (bytes, base64) in
        [(&b"\xff"[..], "/w=="), (b"\xfff", "/2Y="), (b"\xfffo", "/2Zv"), (b"\xfffoo", "/2Zvbw==")]
    {
        let file = as_json(Draft::output("f", bytes));
        assert_eq!(file["file"], json!({"name": "f", "base64": base64}));
    }
}

#[test]
fn tap_of_every_status() {
    let all = records([
        Draft::test("a #1", Status::Success),
        Draft::test("b", Status::Skip).file("reason", b"needs #vlan"),
        Draft::test("c", Status::XFail),
        Draft::test("d", Status::UxSuccess),
        Draft::test("listed", Status::Exists),
        Draft::test("e\nf", Status::Fail).file("stdout", b"no\n\x1banswer"),
        Draft::test("g", Status::InProgress),
    ]);
    let mut report = tap::Writer::new(Vec::new()).unwrap();
    all.iter().for_each(|record| report.add(record).unwrap());
    let expected = "TAP version 13\n\
        ok 1 - a \\#1\n\
        ok 2 - b # SKIP needs \\#vlan\n\
        not ok 3 - c # TODO\n\
        not ok 4 - d\n  ---\n  status: uxsuccess\n  ...\n\
        not ok 5 - e f\n  ---\n  status: fail\n  ...\n\
        # stdout:\n#   no\n#    answer\n\
        not ok 6 - g\n  ---\n  status: unfinished\n  ...\n\
        1..6\n";
    assert_eq!(String::from_utf8(report.finish().unwrap()).unwrap(), expected);
}

proptest! {
    #[test]
    fn junit_of_anything_is_xml(events in prop::collection::vec(arbitrary::event(), 0..10)) {
        let all = records(events.iter().map(|event| event.as_ref().draft()));
        let xml = as_junit(&all);
        let document = Document::parse(&xml);
        prop_assert!(document.is_ok(), "{:?}\n{xml}", document.err());
        let cases = document.iter().flat_map(Document::descendants).filter(|node| node.has_tag_name("testcase"));
        let shown = all.iter().filter(|record| record.status != Some(Status::Exists));
        prop_assert_eq!(cases.count(), shown.count());
    }

    #[test]
    fn json_of_anything_is_one_line(event in arbitrary::event()) {
        let mut out = Vec::new();
        json::line(&event.as_ref(), &mut out);
        prop_assert_eq!(out.iter().position(|&byte| byte == b'\n'), Some(out.len() - 1));
        let value: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(from_json(&value), event);
    }

    #[test]
    fn tap_of_anything_has_a_point_a_record(events in prop::collection::vec(arbitrary::event(), 0..10)) {
        let all = records(events.iter().map(|event| event.as_ref().draft()));
        let mut report = tap::Writer::new(Vec::new()).unwrap();
        all.iter().for_each(|record| report.add(record).unwrap());
        let text = String::from_utf8(report.finish().unwrap()).unwrap();
        let points = text.lines().filter(|line| line.starts_with("ok ") || line.starts_with("not ok ")).count();
        let shown = all.iter().filter(|record| record.status != Some(Status::Exists)).count();
        prop_assert_eq!(points, shown);
        let plan = format!("1..{shown}");
        prop_assert_eq!(text.lines().last(), Some(&*plan));
    }
}

/// The event that a line of JSON tells of. That nothing is lost shows when it equals the one that was written.
fn from_json(value: &Value) -> Event {
    let text = |key: &str| value[key].as_str();
    let tags: Vec<&str> = value["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut draft = Draft::new()
        .id(text("id"))
        .status(text("status").map(|word| word.parse().unwrap()))
        .at(text("time").map(time_of))
        .runnable(value["runnable"].as_bool().unwrap())
        .tags(&tags)
        .mime(text("mime"))
        .eof(value["eof"] == json!(true))
        .route(text("route"));
    let bytes = match (&value["file"]["text"], &value["file"]["base64"]) {
        (Value::String(text), _) => text.as_bytes().to_vec(),
        (_, Value::String(base64)) => from_base64(base64),
        _ => Vec::new(),
    };
    if let Some(name) = value["file"]["name"].as_str() {
        draft = draft.file(name, &bytes);
    }
    draft.check().unwrap().to_owned()
}

fn from_base64(text: &str) -> Vec<u8> {
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String =
        text.chars().filter_map(|char| digits.find(char)).map(|digit| format!("{digit:06b}")).collect();
    let octets = bits.as_bytes().chunks_exact(8);
    octets.map(|octet| octet.iter().fold(0, |value, bit| value << 1 | (bit - b'0'))).collect()
}

/// Seconds by counting whole years and months, which is another way than the writer's.
fn time_of(text: &str) -> Timestamp {
    let number = |from: usize, to: usize| text[from..to].parse::<u32>().unwrap();
    let leap = |year: u32| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let year = number(0, 4);
    let mut days: u32 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let months = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    days += months[..number(5, 7) as usize - 1].iter().sum::<u32>() + number(8, 10) - 1;
    let seconds = days * 86_400 + number(11, 13) * 3_600 + number(14, 16) * 60 + number(17, 19);
    Timestamp::new(seconds, number(20, 29)).unwrap()
}
