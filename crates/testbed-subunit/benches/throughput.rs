//! Speed of the v2 codec against floors that run beside it: the least that any writer or reader must do.
//!
//! `cargo bench -p testbed-subunit --bench throughput`; with `-- FILE` the events are those of a file of packets, as
//! another program's floor may have read them. The floors keep no guarantee: their writer checks nothing, and their reader
//! takes a whole stream without noise, and does not look for NUL.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark talks to a person, who reads its panics"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use testbed_subunit::v2::{self, Decoder, Item, Items};
use testbed_subunit::{Draft, Event, EventRef, Status, Timestamp};

const EVENTS: u32 = 200_000;
const ROUNDS: usize = 25;
/// What a reader takes from a pipe at once.
const PIECE: usize = 256 * 1024;

fn main() {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let events: Vec<Event> = match given {
        Some(path) => packets(&std::fs::read(path).unwrap()),
        None => (0..EVENTS).map(event).collect(),
    };
    let mut stream = Vec::new();
    events.iter().for_each(|event| v2::encode(&event.as_ref(), &mut stream));
    let views: Vec<EventRef<'_>> = events.iter().map(Event::as_ref).collect();
    println!("{} events, {} bytes; {ROUNDS} rounds by turns", events.len(), stream.len());
    let compare = |what, floor: &mut dyn FnMut() -> usize, ours: &mut dyn FnMut() -> usize| {
        compare(what, events.len(), floor, ours);
    };
    compare("encode", &mut || floor_encode(&views), &mut || encode(&views));
    compare("decode, whole", &mut || floor_decode(&stream), &mut || decode_whole(&stream));
    compare("decode, in pieces", &mut || floor_decode_pieces(&stream), &mut || decode_pieces(&stream));
    let claims = b"\xb3\x20\x40\xbf\xff\xff".repeat(2 * v2::MAX_PACKET / 6);
    let took = timed(&mut || Items::new(&claims).count());
    println!("hostile: {} bytes of overlapping claims of 4 MiB in {took:?}", claims.len());
}

fn packets(stream: &[u8]) -> Vec<Event> {
    let events = Items::new(stream).map(|item| match item {
        Item::Packet(packet) => packet.event.to_owned(),
        other => panic!("{other:?}"),
    });
    events.collect()
}

/// The shapes of a real run: long ids, times, a tag; some output, now and then much.
fn event(n: u32) -> Event {
    let test = n / 3;
    let id = format!(
        "tempest.api.compute.servers.test_group_{:03}.ServersNegativeTestJSON.test_reboot_{test:08}[id-{:x}]",
        test % 300,
        u64::from(test).wrapping_mul(0x9e37_79b9_7f4a_7c15),
    );
    let time = Timestamp::new(1_700_000_000 + n / 300, n.wrapping_mul(2_654_435_761) % 1_000_000_000);
    let output = vec![b'x'; if test.is_multiple_of(1000) { 64 * 1024 } else { 200 + (test % 4000) as usize }];
    let draft = match n % 3 {
        0 => Draft::test(&id, Status::InProgress).tags(&["worker-0"]),
        1 if test.is_multiple_of(10) => Draft::new()
            .id(&*id)
            .runnable(true)
            .mime("text/plain; charset=\"utf8\"")
            .file("stdout", &output)
            .eof(true),
        1 => Draft::test(&id, Status::InProgress),
        _ => Draft::test(&id, Status::Success).tags(&["worker-0"]),
    };
    draft.at(time.unwrap()).check().unwrap().to_owned()
}

fn compare(what: &str, events: usize, floor: &mut dyn FnMut() -> usize, ours: &mut dyn FnMut() -> usize) {
    assert_eq!(floor(), ours(), "{what}: not the same work");
    let (mut floors, mut own) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floors.push(timed(floor));
        own.push(timed(ours));
    }
    // What others on the machine do makes a round slower, never faster: the least are the steadier figures.
    let nanos = |took: Duration| took.as_nanos() as f64 / events as f64;
    floors.sort_unstable();
    own.sort_unstable();
    let (median_floor, median_own) = (nanos(floors[ROUNDS / 2]), nanos(own[ROUNDS / 2]));
    let (floor, own) = (nanos(floors[0]), nanos(own[0]));
    println!(
        "{what}: {own:.0} ns an event at least, floor {floor:.0} ns: {:.2} of the floor's speed, {:.2} by medians",
        floor / own,
        median_floor / median_own,
    );
}

fn timed(work: &mut dyn FnMut() -> usize) -> Duration {
    let start = Instant::now();
    black_box(work());
    start.elapsed()
}

/// Ours and the floor's writers empty their buffer when a pipe's worth is in it.
fn encode(events: &[EventRef<'_>]) -> usize {
    let (mut out, mut written) = (Vec::with_capacity(1 << 20), 0);
    for event in events {
        v2::encode(event, &mut out);
        if out.len() > 1 << 16 {
            written += out.len();
            out.clear();
        }
    }
    written + out.len()
}

fn floor_encode(events: &[EventRef<'_>]) -> usize {
    let (mut out, mut written) = (Vec::with_capacity(1 << 20), 0);
    for event in events {
        floor_put(event, &mut out);
        if out.len() > 1 << 16 {
            written += out.len();
            out.clear();
        }
    }
    written + out.len()
}

fn decode_whole(stream: &[u8]) -> usize {
    Items::new(stream).map(|item| id_length(&item)).sum()
}

fn decode_pieces(stream: &[u8]) -> usize {
    let mut decoder = Decoder::new();
    let mut sum = 0;
    for piece in stream.chunks(PIECE) {
        decoder.push(piece);
        while let Some(item) = decoder.next_item() {
            sum += id_length(&item);
        }
    }
    sum
}

fn id_length(item: &Item<'_>) -> usize {
    let Item::Packet(packet) = item else { panic!("{item:?}") };
    black_box(&packet.event).id().map_or(0, str::len)
}

fn floor_decode(mut stream: &[u8]) -> usize {
    let mut sum = 0;
    while let Some((event, length)) = floor_get(stream) {
        sum += event.id_length();
        stream = &stream[length..];
    }
    sum
}

fn floor_decode_pieces(stream: &[u8]) -> usize {
    let mut buffer = vec![0; v2::MAX_PACKET + PIECE];
    let (mut held, mut sum) = (0, 0);
    for piece in stream.chunks(PIECE) {
        buffer[held..held + piece.len()].copy_from_slice(piece);
        held += piece.len();
        let mut at = 0;
        while let Some((event, length)) = floor_get(&buffer[at..held]) {
            sum += event.id_length();
            at += length;
        }
        buffer.copy_within(at..held, 0);
        held -= at;
    }
    sum
}

fn floor_number(out: &mut Vec<u8>, value: usize) {
    match value as u32 {
        value @ 0..0x40 => out.push(value as u8),
        value @ 0x40..0x4000 => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        value @ 0x4000..0x40_0000 => out.extend_from_slice(&(value | 0x80_0000).to_be_bytes()[1..]),
        value => out.extend_from_slice(&(value | 0xc000_0000).to_be_bytes()),
    }
}

fn floor_octets(value: usize) -> usize {
    1 + usize::from(value >= 0x40) + usize::from(value >= 0x4000) + usize::from(value >= 0x40_0000)
}

fn floor_put(event: &EventRef<'_>, out: &mut Vec<u8>) {
    let mut flags = 0x2000 | event.status().map_or(0, |status| u16::from(status.code()));
    let string = |length: usize| length + floor_octets(length);
    let mut length = 7;
    if let Some(time) = event.timestamp() {
        flags |= 0x200;
        length += 4 + floor_octets(time.nanos() as usize);
    }
    if let Some(id) = event.id() {
        flags |= 0x800;
        length += string(id.len());
    }
    if !event.tags().is_empty() {
        flags |= 0x80;
        length += 1 + event.tags().iter().map(|tag| string(tag.len())).sum::<usize>();
    }
    if let Some(mime) = event.mime() {
        flags |= 0x20;
        length += string(mime.len());
    }
    if let Some(file) = event.file() {
        flags |= 0x40;
        length += string(file.name.len()) + string(file.bytes.len());
    }
    flags |= u16::from(event.eof()) << 4 | u16::from(event.runnable()) << 8;
    length += floor_octets(length + floor_octets(length));
    let start = out.len();
    out.push(v2::SIGNATURE);
    out.extend_from_slice(&flags.to_be_bytes());
    floor_number(out, length);
    let put = |out: &mut Vec<u8>, bytes: &[u8]| {
        floor_number(out, bytes.len());
        out.extend_from_slice(bytes);
    };
    if let Some(time) = event.timestamp() {
        out.extend_from_slice(&time.seconds().to_be_bytes());
        floor_number(out, time.nanos() as usize);
    }
    event.id().into_iter().for_each(|id| put(out, id.as_bytes()));
    if !event.tags().is_empty() {
        floor_number(out, event.tags().len());
        event.tags().iter().for_each(|tag| put(out, tag.as_bytes()));
    }
    event.mime().into_iter().for_each(|mime| put(out, mime.as_bytes()));
    if let Some(file) = event.file() {
        put(out, file.name.as_bytes());
        put(out, file.bytes);
    }
    let crc = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

fn floor_take_number(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let first = usize::from(*bytes.get(*at)?);
    let mut value = first & 0x3f;
    for octet in 1..=first >> 6 {
        value = value << 8 | usize::from(*bytes.get(*at + octet)?);
    }
    *at += 1 + (first >> 6);
    Some(value)
}

fn floor_take<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let length = floor_take_number(bytes, at)?;
    let taken = bytes.get(*at..*at + length)?;
    *at += length;
    Some(taken)
}

#[derive(Default)]
struct FloorEvent<'a> {
    runnable: bool,
    time: Option<(u32, u32)>,
    id: Option<&'a str>,
    tag: Option<&'a str>,
    mime: Option<&'a str>,
    file: Option<(&'a str, &'a [u8])>,
    route: Option<&'a str>,
}

impl FloorEvent<'_> {
    fn id_length(&self) -> usize {
        black_box((self.runnable, self.time, self.tag, self.mime, self.file, self.route));
        self.id.map_or(0, str::len)
    }
}

/// The packet at the front of `bytes`, and its length. All fields are read, and all strings checked for UTF-8.
fn floor_get(bytes: &[u8]) -> Option<(FloorEvent<'_>, usize)> {
    if bytes.len() < 8 || bytes[0] != v2::SIGNATURE {
        return None;
    }
    let flags = u16::from_be_bytes([bytes[1], bytes[2]]);
    let mut at = 3;
    let length = floor_take_number(bytes, &mut at)?;
    if flags >> 12 != 2 || length > bytes.len() || length < at + 4 {
        return None;
    }
    let (body, crc) = bytes[..length].split_at(length - 4);
    if crc32fast::hash(body).to_be_bytes() != crc {
        return None;
    }
    let text = |at: &mut usize| std::str::from_utf8(floor_take(body, at)?).ok();
    let mut event = FloorEvent { runnable: flags & 0x100 != 0, ..FloorEvent::default() };
    if flags & 0x200 != 0 {
        let seconds = u32::from_be_bytes(body.get(at..at + 4)?.try_into().ok()?);
        at += 4;
        event.time = Some((seconds, floor_take_number(body, &mut at)? as u32));
    }
    if flags & 0x800 != 0 {
        event.id = Some(text(&mut at)?);
    }
    if flags & 0x80 != 0 {
        for _ in 0..floor_take_number(body, &mut at)? {
            event.tag = Some(text(&mut at)?);
        }
    }
    if flags & 0x20 != 0 {
        event.mime = Some(text(&mut at)?);
    }
    if flags & 0x40 != 0 {
        event.file = Some((text(&mut at)?, floor_take(body, &mut at)?));
    }
    if flags & 0x400 != 0 {
        event.route = Some(text(&mut at)?);
    }
    Some((event, length))
}
