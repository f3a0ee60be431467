//! What events fold into.

use std::time::Duration;

use proptest::prelude::*;
use testbed_subunit::record::{Limits, Record, Records, Rest};
use testbed_subunit::summary::Summary;
use testbed_subunit::{Draft, Event, Status, Timestamp};

use crate::arbitrary;

fn at(seconds: u32) -> Timestamp {
    Timestamp::new(seconds, 0).unwrap()
}

/// All records of the drafts' events, and what is left.
fn folded<'a>(drafts: impl IntoIterator<Item = Draft<'a>>) -> (Vec<Record>, Rest) {
    let mut records = Records::default();
    let done = drafts.into_iter().filter_map(|draft| records.event(draft.check().unwrap())).collect();
    (done, records.finish())
}

/// All records of the drafts' events, at last those that never ended.
pub(crate) fn records<'a>(drafts: impl IntoIterator<Item = Draft<'a>>) -> Vec<Record> {
    let (mut all, rest) = folded(drafts);
    all.extend(rest.unfinished);
    all
}

fn summed(drafts: &[Draft<'_>]) -> Summary {
    let (done, rest) = folded(drafts.iter().copied());
    let mut summary = Summary::default();
    done.iter().for_each(|record| summary.add(record));
    summary.add_rest(&rest);
    summary
}

fn text(record: &Record, name: &str) -> String {
    String::from_utf8(record.attachment(name).unwrap().kept.to_vec()).unwrap()
}

#[test]
fn a_test_from_start_to_end() {
    let (done, rest) = folded([
        Draft::test("t", Status::InProgress).at(at(10)).tags(&["worker-0"]),
        Draft::new().id("t").file("stdout", b"one "),
        Draft::new().id("t").file("log", b"x").mime("text/plain").eof(true).at(at(11)),
        Draft::new().id("t").file("stdout", b"two").eof(true),
        Draft::test("t", Status::Success).at(at(13)).tags(&["slow"]),
    ]);
    let [record] = &done[..] else { panic!("{done:?}") };
    assert_eq!(rest, Rest::default());
    assert_eq!((&*record.id, record.status, record.runnable), ("t", Some(Status::Success), true));
    assert_eq!(record.duration(), Some(Duration::from_secs(3)));
    assert_eq!(record.tags.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["slow", "worker-0"]);
    let names: Vec<&str> = record.attachments.iter().map(|one| &*one.name).collect();
    assert_eq!(names, ["stdout", "log"]);
    assert_eq!(text(record, "stdout"), "one two");
    assert_eq!(record.attachment("log").unwrap().mime.as_deref(), Some("text/plain"));
}

#[test]
fn one_id_on_two_routes_is_two_tests() {
    let (done, rest) = folded([
        Draft::test("t", Status::InProgress).route("0"),
        Draft::test("t", Status::InProgress).route("1"),
        Draft::test("t", Status::InProgress),
        Draft::test("t", Status::Success).route("1"),
    ]);
    assert_eq!(done.len(), 1);
    assert_eq!(done[0].route.as_deref(), Some("1"));
    let routes: Vec<_> = rest.unfinished.iter().map(|record| record.route.as_deref()).collect();
    assert_eq!(routes, [Some("0"), None]);
}

#[test]
fn after_its_end_an_id_begins_again() {
    let (done, _) = folded([
        Draft::test("t", Status::Exists),
        Draft::test("t", Status::Fail).file("stdout", b"first"),
        Draft::test("t", Status::Success).file("stdout", b"second"),
    ]);
    let statuses: Vec<_> = done.iter().map(|record| record.status.unwrap()).collect();
    assert_eq!(statuses, [Status::Exists, Status::Fail, Status::Success]);
    assert_eq!(text(&done[2], "stdout"), "second");
}

#[test]
fn after_its_end_a_file_begins_again() {
    let (done, _) = folded([
        Draft::new().id("t").file("f", b"1").eof(true),
        Draft::new().id("t").file("f", b"2").eof(true),
        Draft::test("t", Status::Success),
    ]);
    let files: Vec<_> = done[0].attachments.iter().map(|one| one.kept.to_vec()).collect();
    assert_eq!(files, [b"1", b"2"]);
}

#[test]
fn a_clock_that_goes_back_takes_no_time_and_is_told() {
    let (done, _) = folded([
        Draft::test("t", Status::InProgress).at(at(20)),
        Draft::test("t", Status::Success).at(at(10)),
    ]);
    assert_eq!((done[0].duration(), done[0].is_skewed()), (Some(Duration::ZERO), true));
}

#[test]
fn files_of_no_test_belong_to_no_record() {
    let (done, rest) = folded([
        Draft::output("stdout", b"a").route("0"),
        Draft::test("t", Status::Success),
        Draft::output("stdout", b"b"),
    ]);
    assert_eq!((done.len(), done[0].attachments.len()), (1, 0));
    assert_eq!(rest, Rest::default());
}

#[test]
fn attachments_are_bounded_in_size_and_number() {
    let mut records = Records::new(Limits { bytes: 10, attachments: 2 });
    for name in ["a", "b", "c"] {
        let draft = Draft::new().id("t").file(name, b"0123456789abcdef");
        records.event(draft.check().unwrap());
    }
    let record = &records.finish().unfinished[0];
    assert_eq!(record.attachments.len(), 2);
    assert_eq!(text(record, "b"), "01234\n[... 6 bytes left out ...]\nbcdef");
    assert_eq!(record.bytes_left_out, 16);
}

#[test]
fn the_verdict() {
    let passes = |drafts: &[Draft<'_>]| summed(drafts).is_success();
    for status in [Status::Exists, Status::Success, Status::Skip, Status::XFail] {
        assert!(passes(&[Draft::test("t", status)]), "{status}");
        assert!(passes(&[Draft::activity("t", status)]), "{status}");
    }
    for status in [Status::Fail, Status::UxSuccess, Status::InProgress] {
        assert!(!passes(&[Draft::test("t", status)]), "{status}");
        assert!(!passes(&[Draft::activity("t", status)]), "{status}");
    }
    assert!(passes(&[]));
    assert!(!passes(&[Draft::new().id("t").file("f", b"")]), "a file and no status");
    assert!(!passes(&[Draft::new().status(Status::Fail)]), "a failure of no test");
    assert!(passes(&[Draft::output("stdout", b"x")]));
}

#[test]
fn the_figures() {
    let summary = summed(&[
        Draft::activity("testbed/1/gw1", Status::InProgress).at(at(0)),
        Draft::test("quick", Status::InProgress).at(at(10)),
        Draft::test("slow", Status::InProgress).at(at(10)).tags(&["net"]),
        Draft::test("quick", Status::Success).at(at(11)),
        Draft::test("slow", Status::Fail).at(at(15)),
        Draft::test("listed", Status::Exists),
        Draft::test("skipped", Status::Skip),
        Draft::test("hung", Status::InProgress).at(at(12)),
        Draft::activity("testbed/1/gw1", Status::Success).at(at(20)),
    ]);
    let tests = summary.tests();
    let figures = (tests.passed, tests.failed, tests.skipped, tests.unfinished, tests.listed, tests.run());
    assert_eq!(figures, (1, 1, 1, 1, 1, 4));
    assert_eq!(summary.activities().passed, 1);
    assert_eq!(summary.longest().iter().map(|one| &*one.id).collect::<Vec<_>>(), ["slow", "quick"]);
    assert_eq!(summary.elapsed(), Some(Duration::from_secs(20)));
    assert_eq!(summary.tags().collect::<Vec<_>>(), ["net"]);
}

#[test]
fn only_so_many_of_the_longest() {
    let ids: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
    let mut summary = Summary::new(3);
    for (id, took) in ids.iter().zip([3, 9, 1, 7, 5, 8, 2].into_iter().cycle()) {
        let (done, _) = folded([
            Draft::test(id, Status::InProgress).at(at(0)),
            Draft::test(id, Status::Success).at(at(took)),
        ]);
        summary.add(&done[0]);
    }
    assert_eq!(summary.longest().iter().map(|one| one.duration.as_secs()).collect::<Vec<_>>(), [9, 9, 9]);
}

proptest! {
    /// A small model: every event with an id either completes a record or stays in one that is left.
    #[test]
    fn every_final_status_is_one_record(events in prop::collection::vec(arbitrary::event(), 0..30)) {
        let mut records = Records::default();
        let done: Vec<_> = events.iter().filter_map(|event| records.event(event.as_ref())).collect();
        let finals = events.iter().filter(|event| {
            let event = event.as_ref();
            event.id().is_some() && event.status().is_some_and(Status::is_final)
        });
        prop_assert_eq!(done.len(), finals.count());
        prop_assert!(done.iter().all(Record::is_finished));
        let rest = records.finish();
        prop_assert!(!rest.unfinished.iter().any(Record::is_finished));
        let bytes = |records: &[Record]| {
            let all = records.iter().flat_map(|record| &record.attachments);
            all.map(|one| one.kept.total()).sum::<u64>()
        };
        let of_tests = events.iter().map(Event::as_ref).filter(|event| event.id().is_some());
        let came = of_tests.filter_map(|event| event.file()).map(|file| file.bytes.len() as u64);
        let kept = bytes(&done) + bytes(&rest.unfinished);
        prop_assert_eq!(kept, came.sum::<u64>());
    }
}
