//! Version 1, read and written.

use proptest::prelude::*;
use testbed_subunit::read::Reader as _;
use testbed_subunit::record::{Limits, Record, Records};
use testbed_subunit::v1::{LINE_MAX, Reader, Writer};
use testbed_subunit::{Draft, Event, EventRef, Sink, Status, Timestamp};

use crate::arbitrary;
use crate::seen::cut;

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let (mut reader, mut seen) = (Reader::new(), Vec::new());
    let mut keep = |event: EventRef<'_>| seen.push(event.to_owned());
    pieces.into_iter().for_each(|piece| reader.feed(piece, &mut keep));
    reader.finish(&mut keep);
    seen
}

/// Reads `stream` whole, cut once at every place, and byte by byte. All must agree.
fn however_cut(stream: &[u8]) -> Vec<Event> {
    let seen = read([stream]);
    for cut in 0..=stream.len() {
        let (front, back) = stream.split_at(cut);
        assert_eq!(read([front, back]), seen, "cut at {cut}");
    }
    assert_eq!(read(stream.chunks(1)), seen, "byte by byte");
    seen
}

/// What the events say but for their times: `id status tags name=bytes eof`.
fn told(events: &[Event]) -> Vec<String> {
    let one = |event: &Event| {
        let event = event.as_ref();
        let mut words = vec![event.id().unwrap_or("-").to_owned()];
        words.extend(event.status().map(|status| status.to_string()));
        words.extend(event.tags().iter().map(|tag| format!("#{tag}")));
        if let Some(file) = event.file() {
            words.push(format!("{}={:?}", file.name, String::from_utf8_lossy(file.bytes)));
        }
        words.extend(event.eof().then(|| "eof".to_owned()));
        words.join(" ")
    };
    events.iter().map(one).collect()
}

#[track_caller]
fn says(stream: &str, expected: &[&str]) {
    assert_eq!(told(&however_cut(stream.as_bytes())), expected);
}

#[test]
fn outcomes_and_what_simple_details_are_called() {
    for (word, status, file) in [
        ("success", "success", "message"),
        ("successful", "success", "message"),
        ("failure", "fail", "traceback"),
        ("error", "fail", "traceback"),
        ("skip", "skip", "reason"),
        ("xfail", "xfail", "traceback"),
        ("uxsuccess", "uxsuccess", "traceback"),
    ] {
        let stream = format!("test: a b\n{word}: a b\ntesting c\n{word} c [\nwhy\n ]\n ] x\n]\n");
        says(
            &stream,
            &[
                "a b inprogress",
                &format!("a b {status}"),
                "c inprogress",
                &format!(r#"c {file}="why\n]\n] x\n" eof"#),
                &format!("c {status}"),
            ],
        );
    }
}

#[test]
fn parts_of_any_bytes() {
    let stream = "test: a\nfailure: a [ multipart\nContent-Type: text/plain;charset=utf8\nlog\n5\r\nhel\n]3\r\n\nyo0\r\n\
                  Content-Type: image/png\nshot\n0\r\n]\n";
    says(stream, &["a inprogress", r#"a log="hel\n]\nyo" eof"#, r#"a shot="" eof"#, "a fail"]);
    let events = read([stream.as_bytes()]);
    assert_eq!(events[1].as_ref().mime(), Some("text/plain;charset=utf8"));
    assert_eq!(events[2].as_ref().mime(), Some("image/png"));
    assert!(events.iter().all(|event| event.as_ref().runnable()));
}

#[test]
fn tags_of_the_stream_and_of_a_test() {
    says(
        "tags: all gone\ntags: -gone -other\ntest: a\ntags: own -all\nsuccess: a\ntest: b\nsuccess: b\n",
        &["a inprogress", "a success #own", "b inprogress", "b success #all"],
    );
}

#[test]
fn times_hold_until_the_next() {
    let events =
        read([&b"x\ntime: 2001-12-12 12:59:59.000045Z\ntest: a\ntime: 2001-12-12T13:00:00Z\nskip: a\n"[..]]);
    let times: Vec<_> = events.iter().map(|event| event.as_ref().timestamp()).collect();
    let at = |seconds, nanos| Some(Timestamp::new(seconds, nanos).unwrap());
    assert_eq!(times, [None, at(1_008_161_999, 45_000), at(1_008_162_000, 0)]);
}

#[test]
fn what_is_no_directive_is_output() {
    says(
        "progress: 3\nhello\nsuccess: a\nprogress: x\ntest: a\ntime: now\ntest prose\nsuccess: b\nsuccess: a [x\n\
         progress: push\nskip: a\ntags:\nend",
        &[
            r#"- stdout="hello\nsuccess: a\nprogress: x\n""#,
            "a inprogress",
            r#"- stdout="time: now\ntest prose\nsuccess: b\nsuccess: a [x\n""#,
            "a skip",
            r#"- stdout="tags:\nend""#,
        ],
    );
}

#[test]
fn a_test_whose_outcome_got_lost_costs_itself_only() {
    let lost = r#"traceback="another test began before the outcome of this test was told\n" eof"#;
    says(
        "test: a\nboo\ntest: b\nsuccess: b\n",
        &["a inprogress", r#"- stdout="boo\n""#, &format!("a fail {lost}"), "b inprogress", "b success"],
    );
    says(
        "test: a\nskip: a [ multipart\nContent-Type: a/b\nlog\n2\r\nok?\ntest: b\nskip: b\n",
        &[
            "a inprogress",
            r#"a log="ok" eof"#,
            r#"- stdout="?\n""#,
            &format!("a fail {lost}"),
            "b inprogress",
            "b skip",
        ],
    );
}

#[test]
fn the_stream_may_end_anywhere() {
    let lost = r#"a fail traceback="the stream ended before the outcome of this test was told\n" eof"#;
    says("test: a", &["a inprogress", lost]);
    says("test: a\nsuccess: a", &["a inprogress", "a success"]);
    says("test: a\nskip: a [\nhalf", &["a inprogress", r#"a reason="half" eof"#, lost]);
    says("test: a\nskip: a [\n]", &["a inprogress", r#"a reason="" eof"#, "a skip"]);
    let part = "test: a\nskip: a [ multipart\nContent-Type: a/b\nlog\n9\r\nhalf";
    says(part, &["a inprogress", r#"a log="half" eof"#, lost]);
    says(&part[..44], &["a inprogress", lost]);
}

#[test]
fn bytes_that_are_no_text() {
    let seen = however_cut(b"tags: \xff\0\ntest: \xff\0\nsuccess: \xfe\0\nsuccess: \xff\0\n\xff\n");
    assert_eq!(
        told(&seen),
        [
            "\u{fffd}\u{2400} inprogress",
            "- stdout=\"success: \u{fffd}\\0\\n\"",
            "\u{fffd}\u{2400} success #\u{fffd}\u{2400}",
            "- stdout=\"\u{fffd}\\n\""
        ]
    );
}

#[test]
fn crlf() {
    says("test: a\r\nfailure: a [\r\nx\r\n]\r\n", &["a inprogress", r#"a traceback="x\r\n" eof"#, "a fail"]);
}

#[test]
fn long_lines_and_files_come_in_pieces() {
    let long = "x".repeat(LINE_MAX);
    let stream = format!(
        "test: {long}\ntest: a\nfailure: a [\n ]{long}\n]\ntest: b\nskip: b [ multipart\nContent-Type: {long}\n]\n"
    );
    let seen = read([stream.as_bytes()]);
    for size in [1, 7, 1000, LINE_MAX - 1, LINE_MAX, LINE_MAX + 1] {
        assert_eq!(read(stream.as_bytes().chunks(size)), seen, "pieces of {size}");
    }
    let sizes: Vec<_> = seen
        .iter()
        .map(|event| event.as_ref())
        .map(|event| (event.id(), event.file().map(|file| file.bytes.len()), event.eof()))
        .collect();
    let (a, b) = (Some("a"), Some("b"));
    assert_eq!(
        sizes,
        [
            (None, Some(LINE_MAX), false),
            (None, Some("test: \n".len()), false),
            (a, None, false),
            (a, Some(LINE_MAX), false),
            (a, Some("]\n".len()), true),
            (a, None, false),
            (b, None, false),
            (None, Some(LINE_MAX), false),
            (None, Some("Content-Type: \n".len()), false),
            (b, None, false),
        ]
    );
}

#[test]
fn tags_are_bounded() {
    let mut stream = Vec::new();
    for n in 0..100_000 {
        stream.extend_from_slice(format!("tags: tag-{n}\n").as_bytes());
    }
    stream.extend_from_slice(b"test: a\nsuccess: a\n");
    let seen = read([&stream[..]]);
    let tags = seen.last().unwrap().as_ref().tags();
    assert!(tags.len() > 1_000 && tags.iter().map(str::len).sum::<usize>() < 16 * 1024);
}

#[test]
fn output_waits_for_a_pause() {
    let (mut reader, mut seen) = (Reader::new(), Vec::new());
    reader.feed(b"one\ntwo\nthr", &mut |event| seen.push(event.to_owned()));
    assert_eq!(seen, []);
    reader.pause(&mut |event| seen.push(event.to_owned()));
    assert_eq!(told(&seen), [r#"- stdout="one\ntwo\n""#]);
}

fn written(events: &[Event]) -> Vec<u8> {
    let limits = Limits { bytes: 1 << 20, attachments: 100 };
    let mut writer = Writer::with_limits(Vec::new(), limits);
    events.iter().for_each(|event| writer.event(event.as_ref()).unwrap());
    writer.finish().unwrap();
    writer.into_inner()
}

#[test]
fn written_as_python_subunit_reads_it() {
    let at = |seconds, nanos| Timestamp::new(seconds, nanos).unwrap();
    let events = [
        Draft::output("log", b"text\ntest: no\nte"),
        Draft::output("log", b"sts"),
        Draft::test("t", Status::InProgress).at(at(1_008_161_999, 45_000)).tags(&["x y", "-z"]),
        Draft::test("t", Status::Fail).at(at(1_008_161_999, 45_001)).file("log", b"boom").mime("text/plain"),
        Draft::test("\n", Status::Success),
        Draft::test("listed", Status::Exists),
        Draft::test("hung", Status::InProgress),
    ];
    let events: Vec<Event> = events.iter().map(|draft| draft.check().unwrap().to_owned()).collect();
    assert_eq!(
        String::from_utf8(written(&events)).unwrap(),
        "text\n test: no\ntests\n\
         time: 2001-12-12 12:59:59.000045Z\ntest: t\ntags: _z x_y\n\
         time: 2001-12-12 12:59:59.000045001Z\nfailure: t [ multipart\nContent-Type: text/plain\nlog\n4\r\nboom0\r\n]\n\
         test: -\nsuccessful: -\n\
         test: hung\nerror: hung [ multipart\nContent-Type: text/plain\nunfinished\n\
         15\r\nthe test never ended\n0\r\n]\n"
    );
}

#[test]
fn what_is_long_is_written_so_that_it_can_be_read() {
    let long = "\r".repeat(100_000);
    let tags: Vec<String> = (0..1_000).map(|n| format!("tag-{n:04}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let event = Draft::test(&long, Status::Fail).tags(&tags).file(&long, b"x").mime("a/b").check().unwrap();
    let seen = read([&written(&[event.to_owned()])[..]]);
    let statuses: Vec<_> = seen.iter().map(|event| event.as_ref().status()).collect();
    assert_eq!(statuses, [Some(Status::InProgress), None, Some(Status::Fail)]);
    assert_eq!(seen[2].as_ref().tags(), event.tags());
    assert_eq!(written(&seen), written(&[event.to_owned()]));
}

/// The records of the events, as far as version 1 can say them.
fn sayable(events: &[Event]) -> Vec<Record> {
    let mut records = Records::new(Limits { bytes: 1 << 20, attachments: 100 });
    let mut done: Vec<Record> = events.iter().filter_map(|event| records.event(event.as_ref())).collect();
    done.extend(records.finish().unfinished);
    done.retain(|record| record.status != Some(Status::Exists));
    done
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_stream_stops_it(
        parts in proptest::collection::vec(prop_oneof![
            "(test|testing|success|failure|skip|tags|time|progress)(:| ) ?[ab]( \\[| \\[ multipart)?\n",
            "[\\]0-9A-F]{1,2}\r?\n",
            "Content-Type: [a-z/]{0,9}\n",
            "\\PC{0,20}\n?",
        ].prop_map(String::into_bytes), 0..30),
        sizes in proptest::collection::vec(1..20usize, 1..5),
    ) {
        let stream = parts.concat();
        let seen = read([&stream[..]]);
        prop_assert_eq!(&read(cut(&stream, &sizes)), &seen);
        // Tests begin and end in turns.
        let mut open = false;
        for event in seen.iter().filter(|event| event.as_ref().status().is_some()) {
            prop_assert_eq!(event.as_ref().status() == Some(Status::InProgress), !open);
            open = !open;
        }
        prop_assert!(!open);
    }

    #[test]
    fn what_is_written_is_read(events in proptest::collection::vec(arbitrary::event(), 0..12)) {
        let before = sayable(&events);
        let stream = written(&events);
        let after = sayable(&read([&stream[..]]));
        prop_assert_eq!(after.len(), before.len());
        for (after, before) in after.iter().zip(&before) {
            let status = before.status.filter(|status| status.is_final()).unwrap_or(Status::Fail);
            prop_assert_eq!(after.status, Some(status));
            if !before.id.contains(['\n', '\r']) && !before.id.bytes().all(|byte| b" \t\x0b\x0c".contains(&byte)) {
                prop_assert_eq!(&after.id, &before.id);
            }
            let files = |record: &Record| {
                record.attachments.iter().map(|one| one.kept.to_vec()).collect::<Vec<_>>()
            };
            let mut expected = files(before);
            if !before.is_finished() {
                expected.push(b"the test never ended\n".to_vec());
            }
            prop_assert_eq!(files(after), expected);
        }
        let shown = |events: &[Event]| {
            let files = events.iter().map(Event::as_ref).filter(|event| event.id().is_none());
            files.filter_map(|event| event.file()).map(|file| file.bytes.len()).sum::<usize>()
        };
        prop_assert!(shown(&read([&stream[..]])) >= shown(&events));
    }
}
