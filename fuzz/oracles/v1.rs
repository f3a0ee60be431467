//! What must hold of a stream of subunit's version 1.

use testbed_subunit::read::{Format, Reader as _};
use testbed_subunit::{Event, EventRef, Sink, Status, v1};

/// As for other formats; tests begin and end by turns; what is written of it is read as it was.
pub(crate) fn check(cut: u8, bytes: &[u8]) {
    super::reader::check(Format::SubunitV1, cut, bytes);
    let seen = read(bytes);
    let mut open = None;
    for event in seen.iter().map(Event::as_ref) {
        match (event.status(), open) {
            (Some(Status::InProgress), None) => open = event.id(),
            (Some(status), Some(id)) if status.is_final() && event.id() == Some(id) => open = None,
            (None, _) if event.id().is_none() || event.id() == open => {}
            other => panic!("{other:?} in {open:?}"),
        }
    }
    assert!(open.is_none(), "a test that never ends");
    let once = written(&seen);
    let again = read(&once);
    assert_eq!(written(&again), once, "written anew it differs");
    let ends =
        |events: &[Event]| events.iter().filter_map(|event| event.as_ref().status()).collect::<Vec<_>>();
    assert_eq!(ends(&again), ends(&seen), "written and read differ");
}

fn read(bytes: &[u8]) -> Vec<Event> {
    let (mut reader, mut seen) = (v1::Reader::new(), Vec::new());
    let mut keep = |event: EventRef<'_>| seen.push(event.to_owned());
    reader.feed(bytes, &mut keep);
    reader.finish(&mut keep);
    seen
}

fn written(events: &[Event]) -> Vec<u8> {
    let mut writer = v1::Writer::new(Vec::new());
    events.iter().for_each(|event| writer.event(event.as_ref()).expect("a vector takes all"));
    writer.finish().expect("a vector takes all");
    writer.into_inner()
}
