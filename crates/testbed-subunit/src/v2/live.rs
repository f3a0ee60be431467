//! Reading while somebody writes: nothing is held back for longer than a stated time.

use std::time::Duration;

use super::{Decoder, Item};

/// How long a live reader waits for what may still come.
///
/// The times bound each other's worst case. However the input is made:
///
/// - without a candidate behind it, a byte of noise comes out [`Patience::pause`] after the last input at most;
/// - every byte, and every whole packet, comes out [`Patience::stall`] after the last input at most, behind any number of
///   false starts;
/// - while input goes on, it comes out within twice [`Patience::packet`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    /// Without input for so long, noise is no longer gathered.
    pub pause: Duration,
    /// Without input for so long, a packet that has begun is none. A writer that stops within a packet for longer loses
    /// it: nobody can tell its start from a false one.
    pub stall: Duration,
    /// A packet that is not whole after so long is none, also if input goes on.
    pub packet: Duration,
}

impl Default for Patience {
    /// 50 ms, 1 s and 10 s. The longest packet then needs 420 kB a second.
    fn default() -> Self {
        Self {
            pause: Duration::from_millis(50),
            stall: Duration::from_secs(1),
            packet: Duration::from_secs(10),
        }
    }
}

/// A [`Decoder`] for a stream that is still being written, and the clock's part in reading it.
///
/// It knows no clock: `now` is the time since any moment that stays the same. Its reader waits for input no longer than
/// [`Live::wait`] says, hands over what came by [`Live::push`] or calls [`Live::tick`] if nothing did, and then takes all
/// items.
///
/// ```
/// use std::time::Duration;
/// use testbed_subunit::v2::{Item, Live};
///
/// let mut live = Live::default();
/// // A letter that ends in 0xB3, and by chance looks like the start of a packet of 4 MiB.
/// live.push(Duration::ZERO, b"\xb3\x20\x40\xbf\xff\xff ready\n");
/// assert_eq!(live.next_item(), None);
/// let wait = live.wait(Duration::ZERO).ok_or("it is held back")?;
/// let mut now = wait;
/// live.tick(now);
/// while live.next_item().is_none() {
///     now += live.wait(now).ok_or("it is held back")?;
///     live.tick(now);
/// }
/// assert_eq!(now, Duration::from_secs(1));
/// assert_eq!(live.wait(now), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Live {
    decoder: Decoder,
    patience: Patience,
    /// When input last came.
    last: Duration,
    /// What has been told to the decoder since.
    told: Told,
    /// When the mark was made, and what had been received then: what is older than it is given up next.
    mark: Option<(Duration, u64)>,
}

#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
enum Told {
    #[default]
    Nothing,
    Pause,
    Stall,
}

impl Live {
    /// A reader at the start of a stream.
    pub fn new(patience: Patience) -> Self {
        Self { patience, ..Self::default() }
    }

    /// Takes the next bytes of the stream, which came at `now`.
    pub fn push(&mut self, now: Duration, bytes: &[u8]) {
        self.decoder.push(bytes);
        self.came(now);
    }

    /// Room for at least `least` further bytes. Then call [`Live::filled`].
    pub fn space(&mut self, least: usize) -> &mut [u8] {
        self.decoder.space(least)
    }

    /// The first `length` bytes of what [`Live::space`] gave came at `now`.
    pub fn filled(&mut self, now: Duration, length: usize) {
        self.decoder.filled(length);
        self.came(now);
    }

    /// Nothing came until `now`.
    pub fn tick(&mut self, now: Duration) {
        let idle = now.saturating_sub(self.last);
        if idle >= self.patience.stall {
            self.decoder.stalled();
            self.told = Told::Stall;
        } else if idle >= self.patience.pause {
            self.decoder.pause();
            self.told = self.told.max(Told::Pause);
        }
        self.age(now);
    }

    /// How long to wait for input before [`Live::tick`] is to be called. `None` where nothing is held back.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        if self.decoder.held_back() == 0 {
            return None;
        }
        let next = match self.told {
            Told::Nothing => self.last + self.patience.pause,
            Told::Pause | Told::Stall => self.last + self.patience.stall,
        };
        let age = self.mark.map_or(Duration::MAX, |(made, _)| made + self.patience.packet);
        Some(next.min(age).saturating_sub(now))
    }

    /// The next item, or `None` where there is none yet.
    #[inline]
    pub fn next_item(&mut self) -> Option<Item<'_>> {
        self.decoder.next_item()
    }

    /// Nothing more comes: whatever is held back comes out of [`Live::next_item`].
    pub fn end(&mut self) {
        self.decoder.end();
    }

    /// Bytes that are held back until more come.
    pub fn held_back(&self) -> usize {
        self.decoder.held_back()
    }

    fn came(&mut self, now: Duration) {
        self.last = now;
        self.told = Told::Nothing;
        self.age(now);
    }

    /// What was there at the mark, and still is, has been waited for long enough once the mark is that old.
    fn age(&mut self, now: Duration) {
        match self.mark {
            Some((made, _)) if now.saturating_sub(made) < self.patience.packet => return,
            Some((_, received)) if received > self.decoder.handed_out() => self.decoder.give_up(received),
            _ => {}
        }
        self.mark = Some((now, self.decoder.received()));
    }
}
