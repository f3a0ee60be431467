//! Streams with noise and damage.

use crate::generate::{Numbers, packet};
use crate::reference::{Reference, hex, told};
use serde_json::Value;
use testbed_subunit::v2::{Corrupt, FieldError, Item, Items, PARSER_ID};

const STREAMS: usize = 4_000;

/// The events of packets that both have read, and of nothing else.
fn packets(events: &Value) -> Vec<Value> {
    let all = events.as_array().unwrap().iter();
    let raised = |event: &Value| event[0].as_str().is_some_and(|id| id.starts_with("raised: "));
    let is_noise = |event: &Value| event[0].is_null() && event[4] == "stdout" && event[9].is_null();
    all.filter(|event| event[0] != PARSER_ID && !is_noise(event) && !raised(event)).cloned().collect()
}

fn ours(stream: &[u8]) -> Vec<Value> {
    let packets = Items::new(stream).filter_map(|item| match item {
        Item::Packet(packet) => Some(told(packet.event)),
        _ => None,
    });
    packets.collect()
}

fn is_within(few: &[Value], many: &[Value]) -> bool {
    let mut many = many.iter();
    few.iter().all(|one| many.any(|other| other == one))
}

/// Whether the events are the same, but for nanoseconds, which the reference cuts or rounds to microseconds.
fn are_same(ours: &[Value], theirs: &[Value]) -> bool {
    let parts = |event: &Value| {
        let mut event = event.as_array().unwrap().clone();
        (event.pop().and_then(|micros| micros.as_u64()), event)
    };
    let near = |ours: Option<u64>, theirs: Option<u64>| match (ours, theirs) {
        (Some(ours), Some(theirs)) => theirs.abs_diff(ours) <= 1,
        (ours, theirs) => ours == theirs,
    };
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|(ours, theirs)| {
            let (ours, theirs) = (parts(ours), parts(theirs));
            ours.1 == theirs.1 && near(ours.0, theirs.0)
        })
}

/// Three packets, of which one is damaged, or has noise before it; and those that are whole.
fn changed(numbers: &mut Numbers) -> (Vec<u8>, Vec<Value>) {
    let events = [numbers.event(), numbers.event(), numbers.event()];
    let mut parts: Vec<Vec<u8>> = events.iter().map(packet).collect();
    let mut whole: Vec<Value> = events.iter().map(|event| told(event.as_ref())).collect();
    let which = numbers.below(3);
    let at = numbers.below(parts[which].len());
    match numbers.below(5) {
        0 => parts[which][at] ^= 1 << numbers.below(8),
        1 => drop(parts[which].remove(at)),
        2 => parts[which].insert(at, numbers.below(256) as u8),
        3 => parts[which].truncate(at),
        _ => {
            let noise =
                *numbers.one(&["text\n", "fall\u{f3} en vm1\n", "\u{30f3} \n", "\u{33ca}", ">", "\n\n"]);
            parts[which].splice(0..0, noise.bytes());
            return (parts.concat(), whole);
        }
    }
    // A change may be none: a byte put in where the same one stands.
    if parts[which] != packet(&events[which]) {
        whole.remove(which);
    }
    (parts.concat(), whole)
}

#[test]
fn damage_costs_us_what_is_damaged_and_never_more_than_it_costs_the_reference() {
    let mut numbers = Numbers::new(0xda_3a9e);
    let (streams, whole): (Vec<_>, Vec<_>) = (0..STREAMS).map(|_| changed(&mut numbers)).unzip();
    let theirs = Reference::up().makes_of_each("parse", &streams);
    let (mut same, mut more) = (0, 0);
    for ((stream, whole), theirs) in streams.iter().zip(&whole).zip(&theirs) {
        let (ours, theirs) = (ours(stream), packets(theirs));
        assert!(is_within(whole, &ours), "{stream:02x?}\n{whole:?}\n{ours:?}");
        assert!(is_within(&theirs, &ours), "{stream:02x?}\n{theirs:?}\n{ours:?}");
        if ours == theirs { same += 1 } else { more += 1 }
    }
    // A damaged length, and text that ends in 0xB3, cost the reference packets that follow.
    println!("{same} streams mean the same to both; of {more} we read more");
    assert!(same > STREAMS / 2 && more > 0, "{same} {more}");
}

#[test]
fn packets_with_a_right_checksum_and_wrong_fields() {
    let mut numbers = Numbers::new(0xf1e1d5);
    let streams: Vec<Vec<u8>> = (0..STREAMS)
        .map(|_| {
            let mut bytes = packet(&numbers.event());
            let end = bytes.len() - 4;
            let at = 1 + numbers.below(end.min(40) - 1);
            bytes[at] = numbers.below(256) as u8;
            let sum = crc32(&bytes[..end]).to_be_bytes();
            bytes[end..].copy_from_slice(&sum);
            bytes
        })
        .collect();
    let theirs = Reference::up().makes_of_each("parse", &streams);
    let (mut both, mut neither) = (0, 0);
    for (stream, theirs) in streams.iter().zip(&theirs) {
        let (ours, theirs) = (ours(stream), packets(theirs));
        let cause = Items::new(stream).find_map(|item| match item {
            Item::Damaged(damaged) => Some(damaged.cause),
            _ => None,
        });
        match (are_same(&ours, &theirs), cause) {
            (true, None) => both += 1,
            (true, Some(_)) => neither += 1,
            // What the format forbids, and the reference reads.
            (
                false,
                Some(
                    Corrupt::Version(_)
                    | Corrupt::Reserved
                    | Corrupt::Field(FieldError::Trailing | FieldError::Nanoseconds),
                ),
            ) => assert_eq!((ours.len(), theirs.len()), (0, 1), "{stream:02x?}"),
            (false, _) => panic!("{stream:02x?}\nours: {ours:?} {cause:?}\ntheirs: {theirs:?}"),
        }
    }
    println!("{both} are packets to both, {neither} to neither");
    assert!(both > STREAMS / 10 && neither > STREAMS / 10, "{both} {neither}");
}

/// Streams of which the reference loses or adds something, and what it should have read.
#[test]
fn expected_differences() {
    let v1 = "b329010c03666f6f08555f1b";
    let streams: Vec<(&str, String, usize, usize)> = vec![
        // Name, stream, packets that the reference reads, packets that are there.
        ("another version", "b319010c03666f6fa036fa49".into(), 1, 0),
        ("the reserved flag", "b329090c03666f6fe406dd76".into(), 1, 0),
        ("bytes behind the fields", "b329010e03666f6faabb8cffb21b".into(), 1, 0),
        ("a length of 5", format!("b329010503666f6f{v1}"), 0, 1),
        ("a wrong length", format!("b329012003666f6f08555f1b{v1}{v1}{v1}"), 1, 3),
        ("text that ends in 0xb3", format!("66616c6cc3b320656e0a{v1}"), 0, 1),
        ("text in Latin-1", format!("6db320780a{v1}"), 0, 1),
    ];
    let bytes: Vec<Vec<u8>> = streams.iter().map(|(_, digits, ..)| hex(digits)).collect();
    let theirs = Reference::up().makes_of_each("parse", &bytes);
    for (((name, _, read, there), stream), theirs) in streams.iter().zip(&bytes).zip(&theirs) {
        assert_eq!((packets(theirs).len(), ours(stream).len()), (*read, *there), "{name}: {theirs}");
    }
}

/// CRC-32 as zlib has it, bit by bit (RFC 1952, section 8).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| sum >> 1 ^ (0xedb8_8320 * (sum & 1)))
    })
}
