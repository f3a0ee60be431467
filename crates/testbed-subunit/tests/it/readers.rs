//! What readers of other formats make of what the real tools print, and of anything.

use proptest::prelude::*;
use testbed_subunit::read::{self, Format};
use testbed_subunit::{Event, EventError, EventRef, Records, Sink, Status, Summary};

use crate::records::records;

mod gotest;
mod junit;
mod libtest;
mod pytest;
mod tap;

/// The events of `stream`, whole. Cut at any size they are the same.
fn events(format: Format, stream: &[u8]) -> Vec<Event> {
    let whole = in_pieces(format, stream, stream.len().max(1));
    for size in [1, 2, 3, 7, 61, 1021] {
        assert_eq!(in_pieces(format, stream, size), whole, "pieces of {size} bytes");
    }
    whole
}

fn in_pieces(format: Format, stream: &[u8], size: usize) -> Vec<Event> {
    let mut seen = Vec::new();
    let mut each = |event: EventRef<'_>| seen.push(event.to_owned());
    let mut reader = format.reader();
    stream.chunks(size).for_each(|piece| reader.feed(piece, &mut each));
    reader.finish(&mut each);
    seen
}

/// Each test that ended: its id, its status and its reason. `-` are tests that never did.
fn outcomes(events: &[Event]) -> Vec<String> {
    let shown = |record: &testbed_subunit::Record| {
        let status = record.status.filter(|status| status.is_final()).map_or("-", Status::as_str);
        let tags: String = record.tags.iter().map(|tag| format!(" @{tag}")).collect();
        let reason = record.reason().map_or(String::new(), |reason| format!(": {reason}"));
        format!("{status} {}{tags}{reason}", record.id)
    };
    records(events.iter().map(|event| event.as_ref().draft())).iter().map(shown).collect()
}

/// The file of a test, its pieces joined. An empty id is no test.
fn file(events: &[Event], id: &str, name: &str) -> String {
    let mut bytes = Vec::new();
    for event in events.iter().map(Event::as_ref) {
        if let Some(file) = event.file().filter(|file| event.id().unwrap_or("") == id && file.name == name) {
            bytes.extend_from_slice(file.bytes);
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn summary(events: &[Event]) -> Summary {
    let (mut records, mut summary) = (Records::default(), Summary::default());
    for event in events {
        if let Some(record) = records.event(event.as_ref()) {
            summary.add(&record);
        }
    }
    summary.add_rest(&records.finish());
    summary
}

fn format() -> impl Strategy<Value = Format> {
    prop::sample::select(Format::ALL.to_vec())
}

/// Pieces of the samples, in any order and changed here and there, and anything between them.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<&[u8]> =
        SAMPLES.iter().flat_map(|sample| sample.split_inclusive(|byte| *byte == b'\n')).collect();
    let line = (0..lines.len(), prop::option::of((any::<prop::sample::Index>(), any::<u8>())));
    let line = line.prop_map(move |(line, change)| {
        let mut line = lines[line].to_vec();
        if let Some((at, to)) = change {
            let at = at.index(line.len());
            line[at] = to;
        }
        line
    });
    let anything = prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::vec(prop_oneof![9 => line, 1 => anything], 0..30).prop_map(|lines| lines.concat())
}

const SAMPLES: &[&[u8]] = &[
    include_bytes!("../samples/test-more.tap"),
    include_bytes!("../samples/bail-out.tap"),
    include_bytes!("../samples/node-20.tap"),
    include_bytes!("../samples/go-1.27.json"),
    include_bytes!("../samples/pytest-9.2.xml"),
    include_bytes!("../samples/cargo-test.txt"),
    include_bytes!("../samples/libtest.json"),
    include_bytes!("../samples/nextest.json"),
    include_bytes!("../samples/pytest-9.2.json"),
    include_bytes!("../samples/node-20.xml"),
];

proptest! {
    #[test]
    fn the_same_events_however_cut(format in format(), stream in stream(), sizes in prop::collection::vec(1..50usize, 1..20)) {
        let whole = in_pieces(format, &stream, stream.len().max(1));
        let mut seen = Vec::new();
        let mut each = |event: EventRef<'_>| seen.push(event.to_owned());
        let mut reader = format.reader();
        let mut rest = &stream[..];
        for size in sizes.iter().cycle() {
            let (piece, later) = rest.split_at(rest.len().min(*size));
            reader.feed(piece, &mut each);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        reader.finish(&mut each);
        prop_assert_eq!(seen, whole);
    }

    #[test]
    fn a_reader_is_as_new_when_it_has_finished(format in format(), stream in stream()) {
        let mut reader = format.reader();
        let mut runs = [Vec::new(), Vec::new()];
        for seen in &mut runs {
            reader.feed(&stream, &mut |event| seen.push(event.to_owned()));
            reader.finish(&mut |event| seen.push(event.to_owned()));
        }
        prop_assert_eq!(&runs[0], &runs[1]);
    }
}

/// A sink that takes so many events, and no more.
struct Takes(usize);

impl Sink for Takes {
    type Error = EventError;

    fn event(&mut self, _: EventRef<'_>) -> Result<(), EventError> {
        self.0 = self.0.checked_sub(1).ok_or(EventError::TooLong { length: 0 })?;
        Ok(())
    }
}

#[test]
fn a_sink_that_fails_gets_no_more() {
    let (mut reader, mut sink) = (Format::Tap.reader(), Takes(2));
    assert_eq!(read::into(&mut sink, |each| reader.feed(b"ok 1\nok 2\nok 3\n", each)), Ok(()));
    assert_eq!(read::into(&mut sink, |each| reader.finish(each)), Err(EventError::TooLong { length: 0 }));
}

#[test]
fn formats_have_names() {
    for format in Format::ALL {
        assert_eq!(format.as_str().parse(), Ok(format));
    }
    let error = "xml".parse::<Format>().unwrap_err().to_string();
    assert!(
        error.starts_with("no format is called `xml`: there are tap, junit, go, libtest, pytest"),
        "{error}"
    );
}
