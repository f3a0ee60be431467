use std::collections::HashMap;

use super::Sink;
use crate::event::{EventRef, Timestamp};

/// Gives a time to each event that has none.
#[derive(Clone, Debug)]
pub struct Timestamper<C, S> {
    clock: C,
    sink: S,
}

impl<C: FnMut() -> Timestamp, S> Timestamper<C, S> {
    /// Gives the time of `clock` to each event without one, on its way to `sink`.
    pub fn new(clock: C, sink: S) -> Self {
        Self { clock, sink }
    }

    /// What the events go to.
    pub fn into_inner(self) -> S {
        self.sink
    }
}

impl<C: FnMut() -> Timestamp, S: Sink> Sink for Timestamper<C, S> {
    type Error = S::Error;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), S::Error> {
        if event.timestamp().is_some() {
            return self.sink.event(event);
        }
        event.draft().at((self.clock)()).send(&mut self.sink)
    }

    fn finish(&mut self) -> Result<(), S::Error> {
        self.sink.finish()
    }
}

/// How far one clock is ahead of another, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Offset(pub i64);

impl Offset {
    /// How far `here` is ahead of `there`.
    pub fn between(here: Timestamp, there: Timestamp) -> Self {
        // Times of the wire lie within 136 years of each other, which 63 bits of nanoseconds hold.
        Self(nanos(here) - nanos(there))
    }

    /// The moment that this offset makes of `time`, within what the wire can carry.
    pub fn apply(self, time: Timestamp) -> Timestamp {
        let moved = nanos(time).saturating_add(self.0).max(0);
        let seconds = u32::try_from(moved / NANOS).ok();
        let last = || Timestamp::new(u32::MAX, NANOS as u32 - 1);
        let moved = seconds.map_or_else(last, |seconds| Timestamp::new(seconds, (moved % NANOS) as u32));
        moved.unwrap_or(time)
    }
}

const NANOS: i64 = 1_000_000_000;

fn nanos(time: Timestamp) -> i64 {
    i64::from(time.seconds()) * NANOS + i64::from(time.nanos())
}

/// Moves the times of each route onto one clock, for a live stream whose origins have clocks of their own.
///
/// What a route's clock is off by is learned from its first event with a time, by how far that lies from the moment
/// in which it came in, or set before. It then stays as it is, so that durations remain those which the origin
/// measured. Events without a time stay without one. Memory: one offset for each route.
#[derive(Clone, Debug)]
pub struct SkewCorrector<C, S> {
    clock: C,
    /// An offset that is no larger is none: the way of an event takes time, too.
    tolerance: Offset,
    own: Option<Offset>,
    routes: HashMap<Box<str>, Offset>,
    sink: S,
}

impl<C: FnMut() -> Timestamp, S> SkewCorrector<C, S> {
    /// Moves all times onto `clock`, but for those of a route that are off by `tolerance` at most.
    pub fn new(clock: C, tolerance: Offset, sink: S) -> Self {
        Self { clock, tolerance, own: None, routes: HashMap::new(), sink }
    }

    /// Sets what is to be added to the times of a route. `None` is where events without a route come from.
    pub fn set(&mut self, route: Option<&str>, offset: Offset) {
        match route {
            None => self.own = Some(offset),
            Some(route) => {
                self.routes.insert(route.into(), offset);
            }
        }
    }

    /// What is added to the times of a route, once that is known.
    pub fn offset(&self, route: Option<&str>) -> Option<Offset> {
        match route {
            None => self.own,
            Some(route) => self.routes.get(route).copied(),
        }
    }

    /// What the events go to.
    pub fn into_inner(self) -> S {
        self.sink
    }
}

impl<C: FnMut() -> Timestamp, S: Sink> Sink for SkewCorrector<C, S> {
    type Error = S::Error;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), S::Error> {
        let Some(time) = event.timestamp() else { return self.sink.event(event) };
        let offset = match self.offset(event.route()) {
            Some(offset) => offset,
            None => {
                let seen = Offset::between((self.clock)(), time);
                let offset = if seen.0.abs() <= self.tolerance.0 { Offset(0) } else { seen };
                self.set(event.route(), offset);
                offset
            }
        };
        event.draft().at(offset.apply(time)).send(&mut self.sink)
    }

    fn finish(&mut self) -> Result<(), S::Error> {
        self.sink.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Draft, Event, Status};

    fn at(seconds: u32) -> Timestamp {
        Timestamp::new(seconds, 0).unwrap()
    }

    fn times(events: &[Event]) -> Vec<Option<u32>> {
        events.iter().map(|event| event.as_ref().timestamp().map(Timestamp::seconds)).collect()
    }

    #[test]
    fn only_events_without_a_time_get_one() {
        let mut stamped = Timestamper::new(|| at(9), Vec::new());
        Draft::test("t", Status::InProgress).at(at(5)).send(&mut stamped).unwrap();
        Draft::test("t", Status::Success).send(&mut stamped).unwrap();
        assert_eq!(times(&stamped.into_inner()), [Some(5), Some(9)]);
    }

    #[test]
    fn each_route_is_moved_by_its_own_offset() {
        let mut now = 1_000;
        let clock = || {
            now += 10;
            at(now)
        };
        let mut corrected = SkewCorrector::new(clock, Offset(NANOS), Vec::new());
        corrected.set(Some("2"), Offset(-5 * NANOS));
        for (route, time) in
            [(Some("0"), 10), (Some("1"), 1_019), (Some("0"), 13), (None, 5_000), (Some("2"), 50)]
        {
            Draft::test("t", Status::Exists).route(route).at(at(time)).send(&mut corrected).unwrap();
        }
        Draft::test("t", Status::Exists).route("0").send(&mut corrected).unwrap();
        assert_eq!(corrected.offset(Some("0")), Some(Offset(1_000 * NANOS)));
        assert_eq!(corrected.offset(Some("1")), Some(Offset(0)));
        let moved = times(&corrected.into_inner());
        assert_eq!(moved, [Some(1_010), Some(1_019), Some(1_013), Some(1_030), Some(45), None]);
    }

    #[test]
    fn times_stay_within_what_the_wire_can_carry() {
        assert_eq!(Offset(i64::MIN).apply(at(1)), at(0));
        assert_eq!(Offset(i64::MAX).apply(at(1)), Timestamp::new(u32::MAX, 999_999_999).unwrap());
        assert_eq!(Offset(-1).apply(at(1)), Timestamp::new(0, 999_999_999).unwrap());
        assert_eq!(Offset::between(at(0), at(u32::MAX)).apply(at(u32::MAX)), at(0));
    }
}
