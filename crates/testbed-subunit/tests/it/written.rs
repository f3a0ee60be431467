//! Tables, folders and annotations, and reports that come back by our own readers.

use std::collections::BTreeMap;

use proptest::prelude::*;
use testbed_subunit::folder::Folder;
use testbed_subunit::read::Format;
use testbed_subunit::record::Record;
use testbed_subunit::{Draft, Event, EventRef, Status, Timestamp, csv, github, tap};

use crate::arbitrary;
use crate::records::records;

fn as_csv(records: &[Record]) -> String {
    let mut table = csv::Writer::new(Vec::new()).unwrap();
    records.iter().for_each(|record| table.add(record).unwrap());
    String::from_utf8(table.finish().unwrap()).unwrap()
}

fn as_commands(drafts: &[Draft<'_>]) -> String {
    let mut report = github::Writer::new(Vec::new()).root("/work/");
    records(drafts.iter().copied()).iter().for_each(|record| report.add(record).unwrap());
    String::from_utf8(report.finish().unwrap()).unwrap()
}

/// The files of a folder, written as its pieces say.
fn as_files<'a>(events: impl IntoIterator<Item = EventRef<'a>>) -> BTreeMap<String, Vec<u8>> {
    let mut folder = Folder::new();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut write = |piece: testbed_subunit::folder::Piece<'_>| {
        let file = files.entry(piece.path.to_owned()).or_default();
        if !piece.append {
            file.clear();
        }
        file.extend_from_slice(piece.bytes);
    };
    events.into_iter().for_each(|event| folder.event(event, &mut write));
    folder.finish(&mut write);
    files
}

fn of_drafts(drafts: &[Draft<'_>]) -> BTreeMap<String, String> {
    let files = as_files(drafts.iter().map(|draft| draft.check().unwrap()));
    files.into_iter().map(|(path, bytes)| (path, String::from_utf8(bytes).unwrap())).collect()
}

/// The cells of a table (RFC 4180).
fn cells(table: &str) -> Vec<Vec<String>> {
    let mut rows = vec![vec![String::new()]];
    let (mut quoted, mut chars) = (false, table.chars().peekable());
    while let Some(char) = chars.next() {
        let row = rows.last_mut().unwrap();
        match char {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => row.last_mut().unwrap().push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(String::new()),
            '\r' if !quoted && chars.next_if_eq(&'\n').is_some() => rows.push(vec![String::new()]),
            char => row.last_mut().unwrap().push(char),
        }
    }
    assert_eq!(rows.pop(), Some(vec![String::new()]), "the last row has an end");
    rows
}

#[test]
fn a_table_of_every_field() {
    let time = |seconds: u32| Timestamp::new(1_795_201_200 + seconds, 250_000_000).unwrap();
    let all = records([
        Draft::test("a, b", Status::InProgress).at(time(0)).route("0/1"),
        Draft::test("a, b", Status::Fail)
            .at(time(2))
            .route("0/1")
            .tags(&["y", "x"])
            .file("reason", b"no \"x\"\nat all"),
        Draft::test("hangs", Status::InProgress),
        Draft::test("listed", Status::Exists),
    ]);
    let expected = "test,status,start_time,stop_time,duration,route,tags,reason\r\n\
        \"a, b\",fail,2026-11-20T19:00:00.250000000Z,2026-11-20T19:00:02.250000000Z,2.000,0/1,x y,\"no \"\"x\"\"\"\r\n\
        listed,exists,,,,,,\r\n\
        hangs,unfinished,,,,,,\r\n";
    assert_eq!(as_csv(&all), expected);
}

#[test]
fn a_folder_of_a_run() {
    let files = of_drafts(&[
        Draft::output("stdout", b"starting\n"),
        Draft::new().id("t/A").file("log", b"one").route("0"),
        Draft::new().id("t/A").file("log", b" two").eof(true).route("0").mime("text/plain"),
        Draft::new().id("t/A").file("log", b"again").route("0"),
        Draft::test("t/A", Status::Fail).tags(&["slow"]).route("0"),
        Draft::test("t/A", Status::Success).file("log", b"run two").route("0"),
        Draft::test("hangs", Status::InProgress).file("test.json", b"mine"),
        Draft::output("stdout", b"going on\n"),
    ]);
    let expected = [
        ("hangs/%74est.json", "mine"),
        (
            "hangs/test.json",
            "{\"id\":\"hangs\",\"status\":\"unfinished\",\"tags\":[],\"files\":[{\"name\":\"test.json\",\"bytes\":4}]}\n",
        ),
        ("~at-0/t%2fA~c2/log", "one two"),
        ("~at-0/t%2fA~c2/log~n2", "again"),
        (
            "~at-0/t%2fA~c2/test.json",
            "{\"id\":\"t/A\",\"route\":\"0\",\"status\":\"fail\",\"tags\":[\"slow\"],\"files\":[{\"name\":\"log\",\"mime\":\"text/plain\",\"bytes\":7},{\"name\":\"log\",\"bytes\":5}]}\n",
        ),
        ("~at-0/t%2fA~c2~n2/log", "run two"),
        (
            "~at-0/t%2fA~c2~n2/test.json",
            "{\"id\":\"t/A\",\"route\":\"0\",\"status\":\"success\",\"tags\":[],\"files\":[{\"name\":\"log\",\"bytes\":7}]}\n",
        ),
        ("~run/stdout", "starting\ngoing on\n"),
    ];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect();
    assert_eq!(files, expected);
}

#[test]
fn annotations_of_what_failed() {
    let seen = as_commands(&[
        Draft::test("passes", Status::Success).file("stdout", b"quiet"),
        Draft::test("a: b, c", Status::Fail)
            .file("stdout", b"thread 'x' panicked at /work/src/a.rs:3:4:\nno"),
        Draft::test("d", Status::UxSuccess),
        Draft::test("e", Status::Fail).file("reason", b"50% loss"),
        Draft::test("hangs\n", Status::InProgress),
    ]);
    let expected = "::error file=src/a.rs,line=3,title=a%3A b%2C c::failed\n\
        ::group::a: b, c (failed)\n::stop-commands::TOKEN\n\
        --- stdout ---\nthread 'x' panicked at /work/src/a.rs:3:4:\nno\n\
        ::TOKEN::\n::endgroup::\n\
        ::error title=d::passed against expectation\n\
        ::error title=e::50%25 loss\n\
        ::error title=hangs%0A::did not finish\n";
    let at = seen.find("testbed-").unwrap();
    assert_eq!(seen.replace(&seen[at..at + 16], "TOKEN"), expected);
}

/// What is neither command nor group, but for output behind `stop-commands`, as GitHub's runner reads it.
fn commands(text: &str) -> Vec<String> {
    let mut token: Option<String> = None;
    let mut found = Vec::new();
    for line in text.split(['\n', '\r']) {
        match &token {
            Some(stopped) if line.trim() == format!("::{stopped}::") => token = None,
            Some(_) => {}
            None => {
                token = line.strip_prefix("::stop-commands::").map(str::to_owned);
                let command =
                    line.trim_start().strip_prefix("::").and_then(|rest| rest.split([' ', ':']).next());
                found.extend(command.map(str::to_owned));
            }
        }
    }
    assert_eq!(token, None, "commands are still stopped");
    found
}

#[test]
fn output_cannot_command() {
    let seen = as_commands(&[
        Draft::test("t", Status::Fail).file("stdout", b"x\r::set-env name=A::b\n  ::error::c\n")
    ]);
    assert_eq!(commands(&seen), ["error", "group", "stop-commands", "endgroup"]);
}

#[test]
fn tap_comes_back() {
    let ids = ["plain", "# hash", "back\\slash", "3 numbers", "- dash", "a # SKIP b", "1..4"];
    let statuses = [Status::Success, Status::Fail, Status::Skip, Status::XFail];
    let all = ids
        .iter()
        .flat_map(|id| statuses.map(|status| Draft::test(id, status).file("stdout", b"ok 7\n---\n")));
    let all = records(all);
    let mut report = tap::Writer::new(Vec::new()).unwrap();
    all.iter().for_each(|record| report.add(record).unwrap());
    let text = report.finish().unwrap();
    let mut reader = Format::Tap.reader();
    let mut events: Vec<Event> = Vec::new();
    reader.feed(&text, &mut |event| events.push(event.to_owned()));
    reader.finish(&mut |event| events.push(event.to_owned()));
    let again = records(events.iter().map(|event| event.as_ref().draft()));
    let told =
        |all: &[Record]| -> Vec<_> { all.iter().map(|record| (record.id.clone(), record.status)).collect() };
    assert_eq!(told(&again), told(&all), "{}", String::from_utf8_lossy(&text));
}

proptest! {
    #[test]
    fn a_table_of_anything_has_its_cells(events in prop::collection::vec(arbitrary::event(), 0..10)) {
        let all = records(events.iter().map(|event| event.as_ref().draft()));
        let rows = cells(&as_csv(&all));
        prop_assert_eq!(rows.len(), all.len() + 1);
        for (row, record) in rows.iter().skip(1).zip(&all) {
            prop_assert_eq!(row.len(), 8);
            prop_assert_eq!(&*row[0], &*record.id);
        }
    }

    #[test]
    fn a_folder_of_anything_stays_in_it(events in prop::collection::vec(arbitrary::event(), 0..20)) {
        let files = as_files(events.iter().map(Event::as_ref));
        for path in files.keys() {
            prop_assert!(path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."), "{path}");
            prop_assert!(!path.contains(['\\', '\0', ':']), "{path}");
            prop_assert!((2..=3).contains(&path.split('/').count()), "{path}");
        }
        let bytes: usize = events.iter().filter_map(|event| Some(event.as_ref().file()?.bytes.len())).sum();
        let kept = files.iter().filter(|(path, _)| !path.ends_with("/test.json"));
        prop_assert_eq!(kept.map(|(_, bytes)| bytes.len()).sum::<usize>(), bytes);
    }

    #[test]
    fn annotations_of_anything_are_ours(events in prop::collection::vec(arbitrary::event(), 0..10)) {
        let drafts: Vec<_> = events.iter().map(|event| event.as_ref().draft()).collect();
        let known = ["error", "group", "stop-commands", "endgroup"];
        prop_assert!(commands(&as_commands(&drafts)).iter().all(|command| known.contains(&command.as_str())));
    }
}
