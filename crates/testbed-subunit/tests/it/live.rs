//! Reading by a clock: how long anything is held back at most, whatever comes.

use std::time::Duration;

use proptest::prelude::*;
use testbed_subunit::v2::{Live, Patience};

use crate::arbitrary;
use crate::seen::{Seen, hex};

const V1: &str = "b329010c03666f6f08555f1b";
/// The start of a packet of 4 MiB less a byte.
const CLAIM: &str = "b32040bfffff";

/// A reader, the clock it reads by, and when each byte came in.
struct Reading {
    live: Live,
    patience: Patience,
    now: Duration,
    came: Vec<Duration>,
    seen: Vec<Seen>,
    out: usize,
}

impl Reading {
    fn new() -> Reading {
        let patience = Patience::default();
        let (now, came, seen) = (Duration::from_secs(1000), Vec::new(), Vec::new());
        Reading { live: Live::new(patience), patience, now, came, seen, out: 0 }
    }

    fn input(&mut self, bytes: &[u8]) {
        self.live.push(self.now, bytes);
        self.came.resize(self.came.len() + bytes.len(), self.now);
        self.drain();
    }

    /// Lets time pass, as a reader does: it waits as long as it is told to, and ticks.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(wait) = self.live.wait(self.now).filter(|&wait| self.now + wait <= end) {
            self.now += wait;
            self.live.tick(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        while let Some(item) = self.live.next_item() {
            let held = self.now - self.came[self.out];
            assert!(held <= 2 * self.patience.packet, "a byte was held back for {held:?}");
            self.out += item.bytes().len();
            self.seen.push(item.into());
        }
    }

    fn packets(&self) -> usize {
        self.seen.iter().filter(|seen| matches!(seen, Seen::Packet(..))).count()
    }
}

#[test]
fn a_packet_behind_any_number_of_false_starts_is_out_a_second_after_the_last_input() {
    let mut reading = Reading::new();
    reading.input(&hex(&CLAIM.repeat(10_000)));
    reading.input(&hex(V1));
    reading.pass(Duration::from_millis(999));
    assert_eq!(reading.packets(), 0);
    reading.pass(Duration::from_millis(1));
    assert_eq!((reading.packets(), reading.live.held_back()), (1, 0));
}

#[test]
fn noise_is_out_after_a_pause_and_what_may_be_a_packet_after_a_stall() {
    let mut reading = Reading::new();
    reading.input("a prompt: \u{b3}".as_bytes());
    reading.pass(Duration::from_millis(50));
    assert_eq!(reading.seen, [Seen::Noise(b"a prompt: \xc2".to_vec())]);
    reading.pass(Duration::from_millis(950));
    assert_eq!(reading.seen[1..], [Seen::Noise(b"\xb3".to_vec())]);
}

#[test]
fn packets_among_chatter_are_out_within_twice_the_time_of_a_packet() {
    // Two lines a second for ten minutes, and input never stops for a second.
    let mut reading = Reading::new();
    for line in 0..1200 {
        let start = if line % 100 == 0 { hex(CLAIM) } else { Vec::new() };
        reading.input(&[&start[..], b"still there\n", &hex(V1)].concat());
        reading.pass(Duration::from_millis(500));
    }
    reading.pass(Duration::from_secs(1));
    assert_eq!((reading.packets(), reading.live.held_back()), (1200, 0));
}

#[test]
fn a_slow_packet_is_waited_for() {
    let bytes = vec![b'x'; 1_000_000];
    let mut packet = Vec::new();
    testbed_subunit::v2::encode(&testbed_subunit::Draft::output("log", &bytes).check().unwrap(), &mut packet);
    let mut reading = Reading::new();
    for piece in packet.chunks(packet.len() / 10) {
        reading.input(piece);
        reading.pass(Duration::from_millis(900));
    }
    assert_eq!((reading.packets(), reading.seen.len()), (1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_is_held_back_for_longer_than_stated(
        parts in prop::collection::vec(
            (
                prop_oneof![
                    arbitrary::stream(),
                    (1..50usize).prop_map(|times| hex(&CLAIM.repeat(times))),
                    Just(hex("b3")),
                ],
                prop::sample::select(vec![0, 10, 60, 500, 990, 1000, 3000]),
            ),
            1..80,
        ),
    ) {
        let mut reading = Reading::new();
        for (bytes, then) in &parts {
            reading.input(bytes);
            reading.pass(Duration::from_millis(*then));
            if *then >= 1000 {
                prop_assert_eq!(reading.live.held_back(), 0);
            }
        }
        reading.live.end();
        reading.drain();
        let stream: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        prop_assert_eq!(reading.seen.iter().flat_map(|seen| seen.bytes().to_vec()).collect::<Vec<_>>(), stream);
    }
}
