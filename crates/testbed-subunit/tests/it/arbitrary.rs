//! Events and streams to test with.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use testbed_subunit::{Draft, Event, Status, Timestamp, v2};

/// A string that may stand in an event. Now and then it holds characters that end in the signature's byte.
fn text(longest: usize) -> impl Strategy<Value = String> {
    let any_text = vec(any::<char>().prop_filter("no NUL", |c| *c != '\0'), 0..longest);
    prop_oneof![any_text.prop_map(String::from_iter), "[a-z/.]{0,80}", "[\u{f3}\u{b3}\u{433} n]{0,40}",]
}

fn status() -> impl Strategy<Value = Status> {
    proptest::sample::select(Status::ALL.to_vec())
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (any::<u32>(), 0..1_000_000_000u32).prop_map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap())
}

prop_compose! {
    pub(crate) fn event()(
        id in option::of(text(40)),
        status in option::of(status()),
        time in option::of(timestamp()),
        runnable in any::<bool>(),
        tags in vec(text(10), 0..4),
        file in option::of((text(10), vec(any::<u8>(), 0..100))),
        eof in any::<bool>(),
        mime in option::of(text(20)),
        route in option::of("[0-9]{1,3}(/[0-9]{1,3}){0,3}"),
    ) -> Event {
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let mut draft = Draft::new()
            .id(id.as_deref())
            .status(status)
            .at(time)
            .runnable(runnable)
            .tags(&tags)
            .eof(eof)
            .mime(mime.as_deref())
            .route(route.as_deref());
        if let Some((name, bytes)) = &file {
            draft = draft.file(name, bytes);
        }
        draft.check().unwrap().to_owned()
    }
}

/// One packet.
pub(crate) fn packet() -> impl Strategy<Value = Vec<u8>> {
    event().prop_map(|event| {
        let mut out = Vec::new();
        v2::encode(&event.as_ref(), &mut out);
        out
    })
}

/// What programs print, and what looks like the start of a packet and is none.
pub(crate) fn noise() -> impl Strategy<Value = Vec<u8>> {
    let header = (0x20..0x30u8, any::<u8>(), any::<u8>(), any::<u8>());
    prop_oneof![
        text(40).prop_map(String::into_bytes),
        vec(any::<u8>(), 0..40),
        "[a-z \n]{0,60}".prop_map(String::into_bytes),
        header.prop_map(|(a, b, c, d)| vec![v2::SIGNATURE, a, b & !8, c, d]),
    ]
}

/// Packets, whole or with some bytes changed, and noise, in any order.
pub(crate) fn stream() -> impl Strategy<Value = Vec<u8>> {
    let changed = (packet(), vec((any::<proptest::sample::Index>(), any::<u8>()), 1..3));
    let damaged = changed.prop_map(|(mut packet, changes)| {
        for (at, to) in changes {
            let at = at.index(packet.len());
            packet[at] = to;
        }
        packet
    });
    vec(prop_oneof![packet(), packet(), damaged, noise()], 0..8).prop_map(|parts| parts.concat())
}
