//! Packets that are forwarded by other routes.

use proptest::prelude::*;
use testbed_subunit::stream::{Code, Prefix, Router};
use testbed_subunit::v2::{self, Decoder, Forwarder, Item, Items, Packet};
use testbed_subunit::{Draft, Event, EventError, Sink, Status};

use crate::arbitrary;
use crate::seen::hex;

fn code(code: &str) -> Code {
    Code::new(code).unwrap()
}

fn encoded(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    v2::encode(&event.as_ref(), &mut out);
    out
}

#[track_caller]
fn only(stream: &[u8]) -> Packet<'_> {
    let mut items = Items::new(stream);
    match (items.next(), items.next()) {
        (Some(Item::Packet(packet)), None) => packet,
        other => panic!("{other:?}"),
    }
}

fn prefixed(packet: &[u8], by: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Forwarder::new().prefix(&only(packet), &code(by)).unwrap().append_to(&mut out);
    out
}

fn stripped(packet: &[u8], by: &str) -> Option<Vec<u8>> {
    let mut forwarder = Forwarder::new();
    let pieces = forwarder.strip(&only(packet), &code(by))?.unwrap();
    Some(pieces.slices().concat())
}

#[test]
fn m1_two_levels_of_multiplexers() {
    let once = prefixed(&hex("b329010c03666f6f08555f1b"), "0");
    assert_eq!(once, hex("b32d010e03666f6f0130e68adc9d"));
    let twice = prefixed(&once, "1");
    assert_eq!(twice, hex("b32d011003666f6f03312f30f15fad43"));
    assert_eq!(stripped(&twice, "1"), Some(once));
    assert_eq!(stripped(&twice, "0"), None);
}

#[test]
fn m2_the_length_grows() {
    let packet = [hex("b321403f0035"), vec![0xff; 53], hex("528992df")].concat();
    let forwarded = [hex("b3254040420035"), vec![0xff; 53], hex("013000065ec9")].concat();
    assert_eq!(prefixed(&packet, "0"), forwarded);
    assert_eq!(stripped(&forwarded, "0"), Some(packet));
}

#[test]
fn a_length_that_is_longer_than_need_be_is_written_short() {
    // V17: V1 with its length in two octets.
    assert_eq!(prefixed(&hex("b32901400d03666f6f41e1473f"), "0"), hex("b32d010e03666f6f0130e68adc9d"));
}

#[test]
fn large_packets_at_each_limit() {
    for length in [0, 1, 16_000, 16_384, 20_000, v2::MAX_PACKET - 40] {
        let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let draft = Draft::test("t", Status::Fail).file("log", &bytes).tags(&["x"]).mime("a/b");
        for route in [None, Some("0"), Some("12/3")] {
            let packet = encoded(&draft.route(route).check().unwrap().to_owned());
            let joined = route.map_or("7".to_owned(), |route| format!("7/{route}"));
            let expected = encoded(&draft.route(&*joined).check().unwrap().to_owned());
            assert_eq!(prefixed(&packet, "7"), expected, "{length} bytes by {route:?}");
            assert_eq!(stripped(&expected, "7"), Some(packet), "{length} bytes by {route:?}");
        }
    }
}

#[test]
fn a_packet_without_room_for_a_route_becomes_two() {
    let bytes = vec![7; v2::MAX_PACKET - 17];
    let full = Draft::test("t", Status::Fail).file("f", &bytes).check().unwrap();
    let stream = encoded(&full.to_owned());
    assert!(stream.len() == v2::MAX_PACKET);
    let error = Forwarder::new().prefix(&only(&stream), &code("0")).unwrap_err();
    assert!(matches!(error, EventError::TooLong { .. }));
    let mut out = v2::Writer::new(Vec::new());
    out.forward(&Item::Packet(only(&stream)), &code("0"), None).unwrap();
    let out = out.into_inner();
    let events: Vec<_> = Items::new(&out)
        .map(|item| match item {
            Item::Packet(packet) => packet.event,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(events.iter().map(|event| event.status()).collect::<Vec<_>>(), [None, Some(Status::Fail)]);
    assert!(events.iter().all(|event| event.route() == Some("0")));
    assert_eq!(events.iter().map(|event| event.file().unwrap().bytes.len()).sum::<usize>(), bytes.len());
}

/// What a multiplexer makes of a stream, cut into small pieces.
fn multiplexed(streams: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = v2::Writer::new(Vec::new());
    for (route, stream) in streams {
        let (mut decoder, route) = (Decoder::new(), code(route));
        for piece in stream.chunks(7) {
            decoder.push(piece);
            while let Some(item) = decoder.next_item() {
                out.forward(&item, &route, Some("stdout")).unwrap();
            }
        }
        decoder.end();
        while let Some(item) = decoder.next_item() {
            out.forward(&item, &route, Some("stdout")).unwrap();
        }
    }
    out.into_inner()
}

#[test]
fn two_levels_keep_the_origin_of_noise_and_damage() {
    let mut leaf = b"chatter\n".to_vec();
    leaf.extend(hex("b329010c03666f6f08555f1b"));
    leaf.extend(hex("b329010c03666f6f08555f00"));
    let worker = multiplexed(&[("0", b"more chatter\n".to_vec()), ("1", leaf)]);
    let host = multiplexed(&[("1", worker), ("2", hex("b329010c03666f6f08555f1b"))]);
    let seen: Vec<_> = Items::new(&host)
        .map(|item| match item {
            Item::Packet(packet) => {
                let event = packet.event;
                let file = event.file().map(|file| file.name.to_owned());
                (event.route().map(str::to_owned), event.id().map(str::to_owned), file)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let from = |route: &str, id: Option<&str>, file: Option<&str>| {
        (Some(route.to_owned()), id.map(str::to_owned), file.map(str::to_owned))
    };
    let parser = Some(v2::PARSER_ID);
    assert_eq!(
        seen,
        [
            from("1/0", None, Some("stdout")),
            from("1/1", None, Some("stdout")),
            from("1/1", Some("foo"), None),
            from("1/1", parser, Some("Packet data")),
            from("1/1", parser, Some("Parser Error")),
            from("2", Some("foo"), None),
        ]
    );
}

/// Standard input for the debugger in one of four leaves, behind two levels.
#[test]
fn standard_input_reaches_one_leaf() {
    fn level() -> (Router<Vec<Event>>, [testbed_subunit::stream::Target; 2]) {
        let mut router = Router::new(Vec::new());
        let targets = [router.add(Vec::new()), router.add(Vec::new())];
        router.route(code("0"), targets[0], true);
        router.route(code("1"), targets[1], true);
        (router, targets)
    }
    let (mut host, workers) = level();
    Draft::output("stdin", b"c\n").route("1/0").send(&mut host).unwrap();
    assert!(host.sink(workers[0]).is_empty());
    let (mut worker, leaves) = level();
    host.sink(workers[1]).iter().for_each(|event| worker.event(event.as_ref()).unwrap());
    assert!(worker.sink(leaves[1]).is_empty());
    let [event] = &worker.sink(leaves[0])[..] else { panic!("one event") };
    assert_eq!((event.as_ref().route(), event.as_ref().file().unwrap().bytes), (None, &b"c\n"[..]));
    // The same packet, hop by hop, as bytes. At its leaf it has no route.
    let packet = encoded(&Draft::output("stdin", b"c\n").route("1/0").check().unwrap().to_owned());
    let at_worker = stripped(&packet, "1").unwrap();
    let at_leaf = stripped(&at_worker, "0").unwrap();
    assert_eq!(only(&at_leaf).event, event.as_ref());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn as_if_it_had_been_encoded(event in arbitrary::event(), by in "[0-9a-z]{1,5}(/[0-9]{1,2})?", many in 0..3usize) {
        let log = vec![b'x'; 9_000 * many];
        let draft = event.as_ref().draft();
        let event = if many > 0 { draft.file("log", &log).check().unwrap().to_owned() } else { event };
        let packet = encoded(&event);
        let mut prefix = Prefix::new(code(&by), Vec::new());
        prefix.event(event.as_ref()).unwrap();
        let expected = encoded(&prefix.into_inner()[0]);
        prop_assert_eq!(&prefixed(&packet, &by), &expected);
        prop_assert_eq!(stripped(&expected, &by), Some(packet));
    }
}
