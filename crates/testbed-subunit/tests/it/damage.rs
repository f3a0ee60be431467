//! Streams with noise and damage: only what is damaged is lost, nothing else, and nothing twice.

use proptest::prelude::*;
use testbed_subunit::v2::{self, Corrupt, Decoder, FieldError, NOISE_MAX};
use testbed_subunit::{Draft, Status};

use crate::arbitrary;
use crate::seen::{Seen, cut, drain, hex, however_cut, in_pieces, whole};

const V1: &str = "b329010c03666f6f08555f1b";

fn foo() -> Seen {
    Seen::Packet(Draft::test("foo", Status::Exists).check().unwrap().to_owned(), hex(V1))
}

fn noise(bytes: &[u8]) -> Seen {
    Seen::Noise(bytes.to_vec())
}

fn damaged(cause: Corrupt, bytes: &[u8]) -> Seen {
    Seen::Damaged { cause, offset: 0, bytes: bytes.to_vec(), begins: true }
}

/// Reads the damaged packet and V1 behind it, and expects the one as damage and the other as a packet.
#[track_caller]
fn costs_itself_only(digits: &str, cause: Corrupt) {
    let packet = hex(digits);
    let seen = however_cut(&[packet.clone(), hex(V1)].concat());
    assert_eq!(seen, [damaged(cause, &packet), foo()]);
}

/// Reads the packet with an impossible header and V1 behind it. Its length is not to be believed.
#[track_caller]
fn costs_its_header(digits: &str, cause: Corrupt) {
    let packet = hex(digits);
    let seen = however_cut(&[packet.clone(), hex(V1)].concat());
    assert_eq!(seen, [damaged(cause, &packet[..4]), noise(&packet[4..]), foo()]);
}

#[test]
fn b1_bad_checksum() {
    let cause = Corrupt::Checksum { stored: 0x0855_5f00, computed: 0x0855_5f1b };
    costs_itself_only("b329010c03666f6f08555f00", cause);
}

#[test]
fn b2_another_version() {
    costs_its_header("b319010c03666f6fa036fa49", Corrupt::Version(1));
}

#[test]
fn b3_reserved_flag() {
    costs_its_header("b329090c03666f6fe406dd76", Corrupt::Reserved);
}

#[test]
fn b4_stray_bytes_before_the_checksum() {
    costs_itself_only("b329010e03666f6faabb8cffb21b", Corrupt::Field(FieldError::Trailing));
}

#[test]
fn b5_nul_in_the_id() {
    costs_itself_only("b329010c0366006fea302873", Corrupt::Field(FieldError::Nul));
}

#[test]
fn b6_id_is_no_utf8() {
    costs_itself_only("b329010c0366ff6f7914d501", Corrupt::Field(FieldError::Utf8));
}

#[test]
fn b7_length_in_four_octets_is_not_waited_for() {
    costs_its_header("b32140c00011", Corrupt::Length);
    let mut decoder = Decoder::new();
    decoder.push(&hex("b32140c0"));
    assert_eq!(decoder.next_item().map(Seen::from), Some(damaged(Corrupt::Length, &hex("b32140c0"))));
}

#[test]
fn b8_length_shorter_than_any_packet() {
    costs_its_header("b329010503666f6f", Corrupt::Length);
}

#[test]
fn b9_flipped_length_costs_one_packet_of_four() {
    let bad = hex("b329012003666f6f08555f1b");
    let seen = however_cut(&[bad.clone(), hex(&V1.repeat(3))].concat());
    assert!(
        matches!(&seen[0], Seen::Damaged { cause: Corrupt::Checksum { .. }, bytes, .. } if *bytes == bad)
    );
    assert_eq!(seen[1..], [foo(), foo(), foo()]);
}

#[test]
fn b10_file_past_the_end() {
    costs_itself_only("b3214013066261726e657904776f6fdce2db35", Corrupt::Field(FieldError::PastEnd));
}

#[test]
fn b11_truncated_at_the_end() {
    let stream = [hex(V1), hex("b329010c03666f6f0855")].concat();
    let bytes = hex("b329010c03666f6f0855");
    let cause = Corrupt::Truncated { missing: 2 };
    let truncated = Seen::Damaged { cause, offset: 12, bytes, begins: true };
    assert_eq!(however_cut(&stream), [foo(), truncated]);
}

#[test]
fn a_second_of_nanoseconds_is_refused() {
    // 1 s and 10^9 ns.
    let mut packet = hex("b3220012 00000001 fb9aca00".replace(' ', "").as_str());
    packet[3] = (packet.len() + 4) as u8;
    packet.extend(crc32fast::hash(&packet).to_be_bytes());
    let seen = however_cut(&packet);
    assert_eq!(seen, [damaged(Corrupt::Field(FieldError::Nanoseconds), &packet)]);
}

/// Reads text and V1 behind it, and expects all of the text as one noise.
#[track_caller]
fn is_noise(text: &[u8]) {
    assert_eq!(however_cut(&[text, &hex(V1)].concat()), [noise(text), foo()]);
    let twice = [text, &hex(V1), b"\n", text, &hex(V1)].concat();
    assert_eq!(however_cut(&twice), [noise(text), foo(), noise(&[b"\n", text].concat()), foo()]);
}

#[test]
fn n1_and_n2_characters_that_end_in_the_signature() {
    is_noise("fall\u{f3} en\n".as_bytes());
    is_noise("\u{30f3} \n".as_bytes());
}

#[test]
fn n3_signature_within_a_character() {
    is_noise("\u{33ca}".as_bytes());
}

#[test]
fn n4_half_a_character() {
    is_noise(b"\xc3");
}

#[test]
fn n5_another_encoding() {
    is_noise(b"m\xb3 x\n");
}

#[test]
fn n6_packet_without_its_signature() {
    is_noise(&hex("29010c03666f6f08555f1b"));
}

#[test]
fn a_line_may_begin_with_the_signature_by_chance() {
    is_noise(b"x\n\xb3\xb3\xb3\n\xb3\x20\xff\n");
}

#[test]
fn damage_in_the_middle_of_a_line_is_noise() {
    is_noise(&[b"starting server ".to_vec(), hex("b329010c03666f6f08555f00")].concat());
}

#[test]
fn damage_at_the_start_of_a_line_is_damage() {
    let bad = hex("b329010c03666f6f08555f00");
    let seen = however_cut(&[b"hello\n".to_vec(), bad.clone(), b"world\n".to_vec()].concat());
    let cause = Corrupt::Checksum { stored: 0x0855_5f00, computed: 0x0855_5f1b };
    let middle = Seen::Damaged { cause, offset: 6, bytes: bad, begins: true };
    assert_eq!(seen, [noise(b"hello\n"), middle, noise(b"world\n")]);
}

#[test]
fn noise_is_bounded() {
    let text = vec![b'x'; NOISE_MAX + 10];
    let seen = in_pieces(text.chunks(1000));
    assert_eq!(seen, [noise(&text[..NOISE_MAX]), noise(&text[NOISE_MAX..])]);
}

#[test]
fn noise_is_held_back_until_a_pause() {
    let mut decoder = Decoder::new();
    let mut seen = Vec::new();
    decoder.push("a prompt: \u{f3}\u{b3}".as_bytes());
    drain(&mut decoder, &mut seen);
    assert_eq!(seen, []);
    decoder.pause();
    drain(&mut decoder, &mut seen);
    // The last byte may begin a packet.
    assert_eq!(seen, [noise(&"a prompt: \u{f3}\u{b3}".as_bytes()[..13])]);
    decoder.push(b" en");
    decoder.pause();
    drain(&mut decoder, &mut seen);
    assert_eq!(seen.len(), 1);
    decoder.stalled();
    drain(&mut decoder, &mut seen);
    assert_eq!(seen[1..], [noise(b"\xb3 en")]);
}

#[test]
fn a_stalled_candidate_frees_what_is_behind_it() {
    let claim = hex("b32040bfffff");
    let mut decoder = Decoder::new();
    let mut seen = Vec::new();
    decoder.push(&[b"x".to_vec(), claim.clone(), hex(V1), claim.clone()].concat());
    drain(&mut decoder, &mut seen);
    decoder.pause();
    drain(&mut decoder, &mut seen);
    assert_eq!(seen, [noise(b"x")]);
    decoder.stalled();
    drain(&mut decoder, &mut seen);
    // The last is behind a packet, so the same bytes were meant as one. It does not take a second stall.
    let offset = (1 + claim.len() + 12) as u64;
    let damage = Seen::Damaged { cause: Corrupt::Stalled, offset, bytes: claim.clone(), begins: true };
    assert_eq!(seen[1..], [noise(&claim), foo(), damage]);
    assert_eq!(decoder.held_back(), 0);
    // A stall with nothing to wait for does not count against what comes later.
    decoder.stalled();
    decoder.push(&hex(&V1[..10]));
    drain(&mut decoder, &mut seen);
    decoder.push(&hex(&V1[10..]));
    drain(&mut decoder, &mut seen);
    assert_eq!(seen[4..], [foo()]);
}

#[test]
fn memory_is_bounded_by_a_packet() {
    // Each candidate claims the most there is, so that all of them are waited for.
    let stream = [hex("b32040bfffff").repeat(1000), vec![b'x'; 3 * v2::MAX_PACKET]].concat();
    let mut decoder = Decoder::new();
    let mut held = 0;
    for piece in stream.chunks(50_000) {
        decoder.push(piece);
        while decoder.next_item().is_some() {}
        held = held.max(decoder.held_back());
    }
    assert!(held <= v2::MAX_PACKET, "{held} bytes held back");
}

#[test]
fn overlapping_claims_cost_no_more_than_reading() {
    // 700,000 candidates, each of 4 MiB: summed one by one they are 2.9 TB.
    let claim = hex("b32040bfffff");
    let stream = claim.repeat(2 * v2::MAX_PACKET / claim.len());
    let joined = whole(&stream).iter().map(|item| item.bytes().len()).sum::<usize>();
    assert_eq!(joined, stream.len());
}

#[test]
fn items_as_events() {
    let stream = [b"text\n".to_vec(), hex("b329010c03666f6f08555f00"), hex(V1)].concat();
    let mut events = Vec::new();
    for item in v2::Items::new(&stream) {
        item.events("stdout", |event| events.push(event.to_owned())).unwrap();
    }
    let ids: Vec<_> = events.iter().map(|event| (event.as_ref().id(), event.as_ref().status())).collect();
    let parser = Some(v2::PARSER_ID);
    assert_eq!(
        ids,
        [(None, None), (parser, None), (parser, Some(Status::Fail)), (Some("foo"), Some(Status::Exists))]
    );
    assert_eq!(events[0].as_ref().file().unwrap().bytes, b"text\n");
    assert_eq!(events[1].as_ref().file().unwrap().bytes, hex("b329010c03666f6f08555f00"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn events_come_back(event in arbitrary::event()) {
        let mut packet = Vec::new();
        v2::encode(&event.as_ref(), &mut packet);
        prop_assert_eq!(whole(&packet), [Seen::Packet(event, packet)]);
    }

    #[test]
    fn items_do_not_depend_on_the_cuts(stream in arbitrary::stream(), sizes in prop::collection::vec(1..40usize, 1..20)) {
        let seen = whole(&stream);
        let joined: Vec<u8> = seen.iter().flat_map(|item| item.bytes().to_vec()).collect();
        prop_assert_eq!(&joined, &stream);
        prop_assert_eq!(&in_pieces(cut(&stream, &sizes)), &seen);
        prop_assert_eq!(in_pieces(stream.chunks(1)), seen);
    }

    #[test]
    fn undamaged_packets_are_never_lost(
        parts in prop::collection::vec((arbitrary::noise(), arbitrary::packet()), 1..6),
    ) {
        let stream = parts.iter().flat_map(|(noise, packet)| [&noise[..], packet]).collect::<Vec<_>>().concat();
        let found = whole(&stream);
        let packets = found.iter().filter_map(|item| match item {
            Seen::Packet(_, bytes) => Some(bytes),
            _ => None,
        });
        prop_assert_eq!(packets.collect::<Vec<_>>(), parts.iter().map(|(_, packet)| packet).collect::<Vec<_>>());
    }

    #[test]
    fn pauses_and_stalls_lose_no_byte(
        stream in arbitrary::stream(),
        steps in prop::collection::vec((1..30usize, 0..3u8), 1..20),
    ) {
        let (mut decoder, mut seen, mut rest) = (Decoder::new(), Vec::new(), &stream[..]);
        for (size, then) in steps.into_iter().cycle() {
            let (piece, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            decoder.push(piece);
            match then {
                0 => decoder.pause(),
                1 => decoder.stalled(),
                _ => {}
            }
            drain(&mut decoder, &mut seen);
            if rest.is_empty() { break }
        }
        decoder.end();
        drain(&mut decoder, &mut seen);
        prop_assert_eq!(seen.iter().flat_map(|item| item.bytes().to_vec()).collect::<Vec<_>>(), stream);
    }
}
