//! Packets without damage mean the same to both, and are the same.

use crate::generate::{Numbers, packet};
use crate::reference::Reference;
use testbed_subunit::v2::{Item, Items, MAX_PACKET};
use testbed_subunit::{Draft, Event, Status, Timestamp};

const EVENTS: usize = 100_000;

#[test]
fn a_hundred_thousand_events_go_both_ways() {
    let mut numbers = Numbers::new(0x7e57_bed5);
    let mut events: Vec<Event> = (0..EVENTS).map(|_| numbers.event()).collect();
    // Every length of a packet around those where its length takes one more octet, and the longest.
    let mut of_length = |file: usize| {
        let bytes = vec![b'.'; file];
        events.push(Draft::output("f", &bytes).check().unwrap().to_owned());
    };
    (0..140).chain(16_340..16_420).for_each(&mut of_length);
    of_length(MAX_PACKET - 15);
    let ours: Vec<u8> = events.iter().flat_map(packet).collect();

    let theirs = Reference::up().makes("again", &ours);
    let mut read = Items::new(&theirs).zip(Items::new(&ours)).zip(&events).enumerate();
    let compared = read.by_ref().map(|(place, ((theirs, ours), event))| {
        let (Item::Packet(theirs), Item::Packet(ours)) = (theirs, ours) else {
            panic!("event {place}: {event:?}\n{theirs:?}")
        };
        assert_eq!((theirs.event, ours.event), (event.as_ref(), event.as_ref()), "event {place}");
        // A set of tags has no order in Python.
        if event.as_ref().tags().len() < 2 {
            assert_eq!(theirs.bytes, ours.bytes, "event {place}: {event:?}");
        }
    });
    assert_eq!(compared.count(), events.len());
    assert_eq!(Items::new(&theirs).count(), events.len());
}

#[test]
fn what_the_reference_cannot_say() {
    // Nanoseconds are cut, or by some versions rounded, to microseconds, and a MIME type of no letter is none.
    let time = |nanos| Timestamp::new(1_795_201_200, nanos).unwrap();
    let said = |draft: Draft<'_>| draft.check().unwrap().to_owned();
    let test = Draft::test("t", Status::Success);
    let ours = [said(test.at(time(123_456_400))), said(test.mime(""))];
    let stream: Vec<u8> = ours.iter().flat_map(packet).collect();
    let theirs = Reference::up().makes("again", &stream);
    let read: Vec<Event> = Items::new(&theirs)
        .map(|item| match item {
            Item::Packet(packet) => packet.event.to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(read, [said(test.at(time(123_456_000))), said(test)]);
}
