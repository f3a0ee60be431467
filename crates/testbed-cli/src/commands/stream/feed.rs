//! Bytes that become events.

use super::input::{Feed, PIECE};
use super::output::Out;
use crate::failure::Failure;
use std::cell::RefCell;
use std::io::{self, Write as _};
use std::time::Duration;
use testbed_subunit::EventRef;
use testbed_subunit::stream::Sink;
use testbed_subunit::v2::{Decoder, Item, Live, Packet, Patience};

/// What is done with what is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noise {
    /// It becomes events: a file `stdout` of no test.
    Events,
    /// It is shown to people.
    Talk,
    /// Nothing.
    Drop,
}

/// The file that noise becomes.
const NOISE: &str = "stdout";

/// What takes what stands in a stream: packets, and events of what is none.
pub(super) trait Take {
    /// Takes a packet.
    fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()>;

    /// Takes an event of noise or damage.
    fn other(&mut self, event: EventRef<'_>) -> io::Result<()>;
}

/// To a sink of events, all of them are events.
impl<S: Sink<Error = io::Error>> Take for S {
    fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        self.event(packet.event)
    }

    fn other(&mut self, event: EventRef<'_>) -> io::Result<()> {
        self.event(event)
    }
}

/// Reads packets, and gives them to a sink that several inputs may share.
pub(super) struct Packets<'a, S> {
    decoder: Either,
    noise: Noise,
    sink: &'a RefCell<S>,
    out: Out,
}

/// A file that nobody writes to is there as a whole, so that nothing in it is waited for.
enum Either {
    File(Decoder),
    Live(Live),
}

impl<'a, S: Take> Packets<'a, S> {
    /// Reads packets of a source that is live or not. Where the sink fails, it is because of `out`.
    pub(super) fn new(
        is_live: bool,
        patience: Patience,
        noise: Noise,
        sink: &'a RefCell<S>,
        out: Out,
    ) -> Packets<'a, S> {
        let decoder = match is_live {
            true => Either::Live(Live::new(patience)),
            false => Either::File(Decoder::new()),
        };
        Packets { decoder, noise, sink, out }
    }

    fn drain(&mut self) -> Result<(), Failure> {
        let mut sink = self.sink.borrow_mut();
        loop {
            let item = match &mut self.decoder {
                Either::File(decoder) => decoder.next_item(),
                Either::Live(live) => live.next_item(),
            };
            let Some(item) = item else { return Ok(()) };
            take(item, self.noise, &mut *sink).map_err(|e| self.out.failed(e))?;
        }
    }
}

fn take(item: Item<'_>, noise: Noise, sink: &mut impl Take) -> io::Result<()> {
    match (item, noise) {
        (Item::Packet(packet), _) => sink.packet(&packet),
        (Item::Noise(_), Noise::Drop) => Ok(()),
        (Item::Noise(bytes), Noise::Talk) => {
            let _ = io::stderr().lock().write_all(bytes);
            Ok(())
        }
        (item, _) => {
            let mut first = Ok(());
            item.events(NOISE, |event| {
                if first.is_ok() {
                    first = sink.other(event);
                }
            })?;
            first
        }
    }
}

impl<S: Take> Feed for Packets<'_, S> {
    fn room(&mut self) -> &mut [u8] {
        match &mut self.decoder {
            Either::File(decoder) => decoder.space(PIECE),
            Either::Live(live) => live.space(PIECE),
        }
    }

    fn came(&mut self, now: Duration, length: usize) -> Result<(), Failure> {
        match &mut self.decoder {
            Either::File(decoder) => decoder.filled(length),
            Either::Live(live) => live.filled(now, length),
        }
        self.drain()
    }

    fn tick(&mut self, now: Duration) -> Result<(), Failure> {
        if let Either::Live(live) = &mut self.decoder {
            live.tick(now);
        }
        self.drain()
    }

    fn wait(&self, now: Duration) -> Option<Duration> {
        match &self.decoder {
            Either::File(_) => None,
            Either::Live(live) => live.wait(now),
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        match &mut self.decoder {
            Either::File(decoder) => decoder.end(),
            Either::Live(live) => live.end(),
        }
        self.drain()
    }
}
