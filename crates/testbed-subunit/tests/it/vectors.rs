//! Packets as python-subunit 1.4.6 writes them, and what they mean.

use testbed_subunit::v2::{self, Decoder, Item};
use testbed_subunit::{Draft, EventError, EventRef, Status, Timestamp, event::Field, json};

use crate::seen::{Seen, hex, however_cut};

fn time(seconds: u32, nanos: u32) -> Timestamp {
    Timestamp::new(seconds, nanos).unwrap()
}

/// The draft becomes the packet, and the packet becomes the draft's event however it is cut.
#[track_caller]
fn both_ways(digits: &str, draft: Draft<'_>) {
    let packet = hex(digits);
    assert_eq!(encoded(draft), packet);
    reads_as(&packet, draft);
}

#[track_caller]
fn reads_as(packet: &[u8], draft: Draft<'_>) {
    let event = draft.check().unwrap();
    // The longest packet would be summed four million times.
    let seen = if packet.len() < 20_000 { however_cut(packet) } else { crate::seen::whole(packet) };
    assert_eq!(seen, [Seen::Packet(event.to_owned(), packet.to_vec())]);
    let Seen::Packet(owned, _) = &seen[0] else { unreachable!("compared above") };
    assert_eq!(owned.as_ref(), event);
}

fn encoded(draft: Draft<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    v2::encode(&draft.check().unwrap(), &mut out);
    out
}

#[test]
fn v1_listed_test() {
    both_ways("b329010c03666f6f08555f1b", Draft::test("foo", Status::Exists));
}

#[test]
fn v2_routed_and_timed() {
    let draft = Draft::test("net/vpn.ping", Status::InProgress).route("0/3").at(time(1_795_201_200, 0));
    both_ways("b32f021e6b0098b0000c6e65742f76706e2e70696e6703302f332c00a723", draft);
}

#[test]
fn v3_microseconds() {
    let draft = Draft::test("bar", Status::Success).at(time(1_008_161_999, 45_000));
    both_ways("b32b03133c1754cf80afc80362617249963e2d", draft);
}

#[test]
fn v4_all_but_the_route() {
    let draft = Draft::test("t", Status::Fail)
        .at(time(1_795_201_201, 500_000_000))
        .tags(&["worker-0"])
        .mime("text/plain;charset=utf8")
        .file("traceback", b"boom\n")
        .eof(true);
    both_ways(
        "b32bf640456b0098b1ddcd650001740108776f726b65722d3017746578742f706c61696e3b636861727365743d\
         757466380974726163656261636b05626f6f6d0ac2a55d66",
        draft,
    );
}

#[test]
fn v5_output_of_no_test() {
    both_ways("b3204013067374646f75740368690a691ccc3c", Draft::output("stdout", b"hi\n"));
}

#[test]
fn v6_end_of_no_file() {
    both_ways("b3211008531588dc", Draft::new().runnable(true).eof(true));
}

#[test]
fn v7_beyond_ascii() {
    let draft = Draft::activity("t\u{e9}st/\u{2603}", Status::UxSuccess);
    both_ways("b32804120974c3a973742fe29883f0241693", draft);
}

#[test]
fn v8_nothing_at_all() {
    both_ways("b32000081815f0ba", Draft::new());
}

#[test]
fn v9_input_on_its_way_to_a_leaf() {
    both_ways("b324401305737464696e02630a0131f95b17ed", Draft::output("stdin", b"c\n").route("1"));
}

#[test]
fn v10_last_second() {
    let draft = Draft::test("x", Status::Skip).at(time(u32::MAX, 999_999_000));
    both_ways("b32b0512fffffffffb9ac618017841b1c3b9", draft);
}

#[test]
fn v11_empty_file() {
    both_ways("b321500b0166009d76b20c", Draft::output("f", b"").runnable(true).eof(true));
}

#[test]
fn v12_empty_id() {
    both_ways("b3290309009ffb607d", Draft::test("", Status::Success));
}

#[test]
fn v13_to_v15_lengths_at_the_edges() {
    for (start, name, bytes, crc) in [
        ("b321403f0035", None, 53, "528992df"),
        ("b3214040410036", None, 54, "8166f32f"),
        ("b321407fff007ff3", None, 16_371, "100e679f"),
        ("b32140804001007ff4", None, 16_372, "f6b6aa58"),
    ] {
        let name: Option<&str> = name;
        let draft = vec![0xff; bytes];
        let draft = Draft::output(name.unwrap_or_default(), &draft).runnable(true);
        both_ways(&format!("{start}{}{crc}", "ff".repeat(bytes)), draft);
    }
}

#[test]
fn v16_repeated_tags_are_one() {
    let packet = hex("b329811103666f6f0201610161eda4e273");
    reads_as(&packet, Draft::test("foo", Status::Exists).tags(&["a"]));
}

#[test]
fn v17_length_written_longer_than_need_be() {
    reads_as(&hex("b32901400d03666f6f41e1473f"), Draft::test("foo", Status::Exists));
}

#[test]
fn m1_a_route_grows_at_each_multiplexer() {
    let draft = Draft::test("foo", Status::Exists);
    both_ways("b32d010e03666f6f0130e68adc9d", draft.route("0"));
    both_ways("b32d011003666f6f03312f30f15fad43", draft.route("1/0"));
}

#[test]
fn m2_a_route_makes_the_length_grow() {
    let bytes = [0xff; 53];
    let packet = format!("b3254040420035{}013000065ec9", "ff".repeat(53));
    both_ways(&packet, Draft::output("", &bytes).runnable(true).route("0"));
}

#[test]
fn longest_packet_and_one_byte_more() {
    // Signature, flags, 3 octets of length, empty name, 3 octets of file length, CRC.
    let bytes = vec![0x20; v2::MAX_PACKET - 14];
    let packet = encoded(Draft::output("", &bytes));
    assert_eq!(packet.len(), v2::MAX_PACKET);
    reads_as(&packet, Draft::output("", &bytes));
    let too_long = Draft::output("x", &bytes).check();
    // The length would need a fourth octet.
    assert_eq!(too_long, Err(EventError::TooLong { length: v2::MAX_PACKET + 2 }));
}

#[test]
fn what_a_reader_must_refuse_is_not_written() {
    let refused = |draft: Draft<'_>, field| {
        assert_eq!(draft.check(), Err(EventError::Nul { field }));
        assert_eq!(draft.split(10).unwrap_err(), EventError::Nul { field });
    };
    refused(Draft::test("a\0b", Status::Fail), Field::Id);
    refused(Draft::new().tags(&["fine", "\0"]), Field::Tag);
    refused(Draft::new().mime("\0"), Field::Mime);
    refused(Draft::output("\0", b""), Field::FileName);
    refused(Draft::new().route("0/\0"), Field::Route);
    assert!(Draft::output("f", b"\0").check().is_ok(), "a file may hold any bytes");
}

/// 120 events of every shape, written by python-subunit 1.4.6, and what was written, in JSON by Python's own means.
/// A tag set has no order there, so it is sorted here.
#[test]
fn a_stream_of_python_subunit() {
    let stream = include_bytes!("../vectors/python-subunit-1.4.6.subunit");
    let expected = include_str!("../vectors/python-subunit-1.4.6.jsonl");
    let (mut read, mut written) = (Vec::new(), Vec::new());
    for item in v2::Items::new(stream) {
        let Item::Packet(packet) = item else { panic!("{item:?}") };
        json::line(&packet.event.to_owned().as_ref(), &mut read);
        v2::encode(&packet.event, &mut written);
    }
    let values = |lines: &str| {
        let parsed = lines.lines().map(serde_json::from_str);
        parsed.collect::<Result<Vec<serde_json::Value>, _>>().unwrap()
    };
    let (read, expected) = (values(str::from_utf8(&read).unwrap()), values(expected));
    assert_eq!(expected.len(), 120);
    assert_eq!(read, expected);
    assert_eq!(written, stream, "our packets are python-subunit's, byte by byte");
}

#[test]
fn a_packet_read_into_the_decoders_own_room() {
    let packet = hex("b329010c03666f6f08555f1b");
    let mut decoder = Decoder::new();
    let room = decoder.space(100);
    room[..packet.len()].copy_from_slice(&packet);
    decoder.filled(packet.len());
    let item = decoder.next_item().unwrap();
    let id = |event: EventRef<'_>| event.id().map(str::to_owned);
    assert!(matches!(item, Item::Packet(packet) if id(packet.event).as_deref() == Some("foo")));
    assert_eq!(decoder.next_item(), None);
}
