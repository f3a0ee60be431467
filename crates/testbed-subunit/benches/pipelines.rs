//! Speed of whole pipelines over a stream of large attachments, and that of copying the stream, which is the least that
//! any of them must do.
//!
//! `cargo bench -p testbed-subunit --bench pipelines`
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark talks to a person, who reads its panics"
)]

use std::hint::black_box;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use testbed_subunit::stream::{Code, Discard, Filter, Prefix, Rules, Sink, Tagger};
use testbed_subunit::v2::{self, Decoder, Item};
use testbed_subunit::{Draft, Status};

const TESTS: usize = 128;
/// Bytes that each test attaches, and those of a packet.
const ATTACHED: usize = 4 << 20;
const PACKET: usize = 512 * 1024;
const ROUNDS: usize = 15;
/// What a reader takes from a pipe at once.
const PIECE: usize = 256 * 1024;

fn main() {
    let stream = stream();
    println!("{TESTS} tests of {ATTACHED} bytes each, in packets of {PACKET}; medians of {ROUNDS} rounds");
    let mut copy = vec![0; stream.len()];
    measure("copy", &stream, &mut || {
        copy.copy_from_slice(&stream);
        black_box(copy.last().copied());
    });
    measure("decode", &stream, &mut || read(&stream, &mut Discard::<io::Error>::default()));
    measure("decode, filter by verdict (half stays), encode", &stream, &mut || {
        let rules = Rules::new().without_status(Status::Success);
        read(&stream, &mut Filter::new(rules, v2::Writer::new(Page::default())));
    });
    measure("decode, filter by id (half stays), encode", &stream, &mut || {
        let rules = Rules::new().ids(|id| id.ends_with(['0', '2', '4', '6', '8']));
        read(&stream, &mut Filter::new(rules, v2::Writer::new(Page::default())));
    });
    measure("decode, tag, encode", &stream, &mut || {
        read(&stream, &mut Tagger::new(&["nightly"], &[], v2::Writer::new(Page::default())).unwrap());
    });
    let code = Code::new("0").unwrap();
    measure("decode, prefix the route, encode", &stream, &mut || {
        read(&stream, &mut Prefix::new(code.clone(), v2::Writer::new(Page::default())));
    });
    measure("decode, forward by a prefixed route", &stream, &mut || {
        let mut out = v2::Writer::new(Page::default());
        each_item(&stream, |item| out.forward(item, &code, None).unwrap());
    });
    let mut packets = Vec::new();
    v2::Items::new(&stream)
        .for_each(|item| packets.extend(if let Item::Packet(one) = item { Some(one) } else { None }));
    measure("forward alone", &stream, &mut || {
        let (mut forwarder, mut out) = (v2::Forwarder::new(), Page::default());
        for packet in &packets {
            let slices = forwarder.prefix(packet, &code).unwrap();
            slices.slices().into_iter().for_each(|slice| out.write_all(slice).unwrap());
        }
    });
}

/// Takes what a pipe takes: a copy into memory that is used again.
struct Page(Vec<u8>);

impl Default for Page {
    fn default() -> Self {
        Self(vec![0; PIECE])
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.0.len());
        self.0[..length].copy_from_slice(&bytes[..length]);
        black_box(self.0.first().copied());
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Every second test passes.
fn stream() -> Vec<u8> {
    let attached: Vec<u8> =
        (0..ATTACHED as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut out = v2::Writer::new(Vec::new());
    for test in 0..TESTS {
        let id = format!("tests.group_{:03}.Large.test_{test:05}", test % 10);
        Draft::test(&id, Status::InProgress).send(&mut out).unwrap();
        let status = if test.is_multiple_of(2) { Status::Fail } else { Status::Success };
        let ends = Draft::test(&id, status).file("console", &attached).eof(true);
        ends.split(PACKET).unwrap().for_each(|event| out.event(event).unwrap());
    }
    out.into_inner()
}

fn each_item(stream: &[u8], mut each: impl FnMut(&Item<'_>)) {
    let mut decoder = Decoder::new();
    for piece in stream.chunks(PIECE) {
        decoder.push(piece);
        while let Some(item) = decoder.next_item() {
            each(&item);
        }
    }
}

fn read<S: Sink>(stream: &[u8], sink: &mut S)
where
    S::Error: std::fmt::Debug,
{
    each_item(stream, |item| item.send(None, sink).unwrap());
    sink.finish().unwrap();
}

fn measure(what: &str, stream: &[u8], work: &mut dyn FnMut()) {
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    rounds.sort_unstable();
    let seconds = rounds[rounds.len() / 2].as_secs_f64();
    println!("{what}: {:.2} GB/s", stream.len() as f64 / seconds / 1e9);
}
