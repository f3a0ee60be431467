//! What became of tests, by testtools and by us.

use crate::generate::{Numbers, packet};
use crate::reference::Reference;
use serde_json::{Value, json};
use testbed_subunit::record::{Limits, Record};
use testbed_subunit::v2::{Item, Items};
use testbed_subunit::{Draft, Records, Status, Summary, Timestamp};

const TESTS: usize = 3_000;

pub(crate) fn at(seconds: usize) -> Timestamp {
    Timestamp::new(1_795_201_200 + seconds as u32, 45_000).unwrap()
}

pub(crate) fn stream(drafts: &[Draft<'_>]) -> Vec<u8> {
    drafts.iter().flat_map(|draft| packet(&draft.check().unwrap().to_owned())).collect()
}

pub(crate) fn folded(stream: &[u8]) -> (Vec<Record>, Summary) {
    let mut records = Records::new(Limits { bytes: usize::MAX, attachments: usize::MAX });
    let (mut all, mut summary) = (Vec::new(), Summary::default());
    for item in Items::new(stream) {
        let Item::Packet(packet) = item else { panic!("{item:?}") };
        all.extend(records.event(packet.event));
    }
    all.iter().for_each(|record| summary.add(record));
    let rest = records.finish();
    summary.add_rest(&rest);
    all.extend(rest.unfinished);
    (all, summary)
}

/// A record as the reference tells it.
pub(crate) fn told(record: &Record) -> Value {
    let micros = |time: Option<Timestamp>| {
        time.map(|time| u64::from(time.seconds()) * 1_000_000 + u64::from(time.nanos() / 1000))
    };
    let mut details = serde_json::Map::new();
    for attachment in &record.attachments {
        let hex: String = attachment.kept.to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
        let mime = attachment.mime.as_deref().unwrap_or("application/octet-stream");
        details.insert(attachment.name.to_string(), json!([mime, hex]));
    }
    let status = record.status.map_or("unknown", |status| status.as_str());
    json!([record.id, status, record.tags, [micros(record.start), micros(record.stop)], details])
}

#[test]
fn tests_come_to_the_same() {
    let mut numbers = Numbers::new(0xf01d);
    let mut events = Vec::new();
    for test in 0..TESTS {
        let id = format!("pkg.group_{}.test_{test}", test % 7);
        let route = *numbers.one(&[None, Some("0"), Some("1/0")]);
        let tags: &[&str] = [&[][..], &["w0"], &["slow", "w1"]][numbers.below(3)];
        let draft = Draft::new().id(&*id).route(route).runnable(true).tags(tags);
        let status =
            *numbers.one(&[Status::Success, Status::Skip, Status::Fail, Status::XFail, Status::Exists]);
        if status == Status::Exists {
            events.push(stream(&[draft.status(status)]));
            continue;
        }
        let mut its = stream(&[draft.status(Status::InProgress).at(at(test))]);
        for name in &["stdout", "traceback", "core"][..numbers.below(4)] {
            let mime = *numbers.one(&[None, Some("text/plain"), Some("application/json")]);
            let piece = name.repeat(numbers.below(30)).into_bytes();
            its.extend(stream(&[
                draft.file(name, &piece).mime(mime),
                draft.file(name, b"\xb3 the end\n").mime(mime).eof(true),
            ]));
        }
        its.extend(stream(&[draft.status(status).at(at(test + 2))]));
        events.push(its);
    }
    // Tests run at once: the second half of one comes after the first half of others.
    let mut mixed = Vec::new();
    let mut waiting: Vec<u8> = Vec::new();
    for its in &events {
        let ends: Vec<usize> = Items::new(its).map(|item| item.bytes().len()).collect();
        let (front, back) = its.split_at(ends.iter().take(1 + ends.len() / 2).sum());
        mixed.extend_from_slice(front);
        waiting.extend_from_slice(back);
        if numbers.below(5) == 0 {
            mixed.append(&mut waiting);
        }
    }
    mixed.append(&mut waiting);
    let theirs = Reference::up().makes_of_each("fold", &[mixed.clone()]).remove(0);
    let (records, summary) = folded(&mixed);
    let theirs_tests = theirs["tests"].as_array().unwrap();
    assert_eq!((records.len(), theirs_tests.len()), (TESTS, TESTS));
    for (record, theirs) in records.iter().zip(theirs_tests) {
        let mut ours = told(record);
        if record.status == Some(Status::Exists) {
            ours[3] = json!([null, null]);
        }
        assert_eq!(&ours, theirs);
    }
    assert_eq!(theirs["successful"], summary.is_success());
    assert_eq!(theirs["run"], summary.tests().run());
}

/// What testtools has otherwise, and why we do not follow it: see the table in the library's documentation.
#[test]
fn expected_differences() {
    let test = |status| Draft::test("t", status);
    let file = |bytes| Draft::new().id("t").file("f", bytes).eof(true);
    let streams = [
        stream(&[test(Status::UxSuccess)]),
        stream(&[Draft::new().status(Status::Fail)]),
        stream(&[test(Status::InProgress).tags(&["a"]), test(Status::Success).tags(&["b"])]),
        stream(&[file(b"1"), file(b"2"), test(Status::Success)]),
    ];
    let theirs = Reference::up().makes_of_each("fold", &streams);
    let ours: Vec<(Vec<Record>, Summary)> = streams.iter().map(|stream| folded(stream)).collect();
    let successful = |place: usize| (theirs[place]["successful"].as_bool(), ours[place].1.is_success());
    assert_eq!(successful(0), (Some(true), false), "a success against expectation fails a run");
    assert_eq!(successful(1), (Some(true), false), "a failure of no test fails a run");
    let tags: Vec<&str> = ours[2].0[0].tags.iter().map(AsRef::as_ref).collect();
    assert_eq!((&theirs[2]["tests"][0][2], &tags[..]), (&json!(["b"]), &["a", "b"][..]), "tags add up");
    let kept: Vec<Vec<u8>> = ours[3].0[0].attachments.iter().map(|one| one.kept.to_vec()).collect();
    assert_eq!(
        (&theirs[3]["tests"][0][4]["f"][1], &kept[..]),
        (&json!("3132"), &[b"1".to_vec(), b"2".to_vec()][..]),
        "a file that has ended begins again"
    );
}
