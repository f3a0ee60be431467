use std::collections::{BTreeSet, HashMap};

use super::Sink;
use super::hold::{Held, HeldTest};
use crate::event::{EventRef, Status};
use crate::record::put_key;

type IdRule = Box<dyn FnMut(&str) -> bool + Send>;
type TestRule = Box<dyn FnMut(&HeldTest<'_>) -> bool + Send>;

/// Bytes that a test costs which is held back, besides its events.
const TEST: usize = 256;

/// Which tests a [`Filter`] keeps: those that every rule keeps.
///
/// ```
/// use testbed_subunit::Status;
/// use testbed_subunit::stream::Rules;
///
/// // No skipped tests, only those of one package that ran on worker 0, and of these no slow ones.
/// let rules = Rules::new()
///     .without_status(Status::Skip)
///     .ids(|id| id.starts_with("vpn."))
///     .with_tag("worker-0")
///     .without_tag("slow");
/// ```
pub struct Rules {
    /// A bit for each status, by its code. That of [`Status::InProgress`] stands for a test that never ends.
    dropped: u8,
    outside: bool,
    with_tags: BTreeSet<Box<str>>,
    without_tags: BTreeSet<Box<str>>,
    ids: Vec<IdRule>,
    tests: Vec<TestRule>,
    limit: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            dropped: 0,
            outside: true,
            with_tags: BTreeSet::new(),
            without_tags: BTreeSet::new(),
            ids: Vec::new(),
            tests: Vec::new(),
            limit: 64 << 20,
        }
    }
}

impl Rules {
    /// All is kept. (`subunit-filter` begins without successes and expected failures.)
    pub fn new() -> Self {
        Self::default()
    }

    /// Only tests for which a run has failed: `fail`, `uxsuccess`, and those that never end. Nothing of no test.
    pub fn only_failures() -> Self {
        let good = Status::ALL.into_iter().filter(|&status| !status.is_failure() && status.is_final());
        good.fold(Self::new(), Self::without_status).outside(false)
    }

    /// No tests that come to `status`. With [`Status::InProgress`], none that never end.
    #[must_use]
    pub fn without_status(self, status: Status) -> Self {
        Self { dropped: self.dropped | 1 << status.code(), ..self }
    }

    /// Whether events of no test are kept: files of the whole run, and output between packets.
    #[must_use]
    pub fn outside(self, outside: bool) -> Self {
        Self { outside, ..self }
    }

    /// Only tests with this tag on one of their events. Given several times, only those that have all.
    #[must_use]
    pub fn with_tag(mut self, tag: &str) -> Self {
        self.with_tags.insert(tag.into());
        self
    }

    /// No tests with this tag on one of their events. Given several times, none that have any.
    #[must_use]
    pub fn without_tag(mut self, tag: &str) -> Self {
        self.without_tags.insert(tag.into());
        self
    }

    /// Only tests whose id `keep` keeps. It is asked for each event, and no event is held back for it.
    #[must_use]
    pub fn ids(mut self, keep: impl FnMut(&str) -> bool + Send + 'static) -> Self {
        self.ids.push(Box::new(keep));
        self
    }

    /// Only tests that `keep` keeps when they have ended. It may look at all of their events.
    #[must_use]
    pub fn tests(mut self, keep: impl FnMut(&HeldTest<'_>) -> bool + Send + 'static) -> Self {
        self.tests.push(Box::new(keep));
        self
    }

    /// Bytes of events held back at most, of all tests together. 64 MiB unless said. The names of open tests come on top.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Whether a test can be judged by its id alone.
    fn are_of_ids(&self) -> bool {
        self.dropped == 0
            && self.with_tags.is_empty()
            && self.without_tags.is_empty()
            && self.tests.is_empty()
    }

    fn keep_id(&mut self, id: &str) -> bool {
        self.ids.iter_mut().all(|keep| keep(id))
    }

    fn keep(&mut self, test: &HeldTest<'_>) -> bool {
        self.dropped & 1 << test.status().code() == 0
            && self.with_tags.iter().all(|tag| test.has_tag(tag))
            && !self.without_tags.iter().any(|tag| test.has_tag(tag))
            && self.tests.iter_mut().all(|keep| keep(test))
    }
}

/// Passes on the tests that its rules keep: all events of such a test, and none of the others.
///
/// What a test comes to is known from its last event. Until then its events are held back, and come out together;
/// events of other tests may overtake them. Where the rules are about ids alone, nothing is held back.
///
/// Where more would be held back than [`Rules::limit`] allows, the test at hand is kept unjudged: its events come
/// out at once. A log too many is better than a failure too few. [`Filter::unjudged`] counts such tests.
///
/// Routes, the runnable flag and all else of an event stay as they are.
pub struct Filter<S> {
    rules: Rules,
    open: HashMap<Box<str>, Open>,
    begun: u64,
    held: usize,
    unjudged: u64,
    /// The key of the event at hand, to look it up without allocating.
    key: String,
    sink: S,
}

enum Open {
    Held(Held),
    /// It is kept unjudged: too much was held back.
    Passing,
}

impl<S: Sink> Filter<S> {
    /// Passes on to `sink` what `rules` keep.
    pub fn new(rules: Rules, sink: S) -> Self {
        Self { rules, open: HashMap::new(), begun: 0, held: 0, unjudged: 0, key: String::new(), sink }
    }

    /// Tests that were kept because there was no room to hold them back.
    pub fn unjudged(&self) -> u64 {
        self.unjudged
    }

    /// What the events go to.
    pub fn into_inner(self) -> S {
        self.sink
    }

    /// The test's last event: it is judged.
    fn judge(&mut self, id: &str, last: EventRef<'_>) -> Result<(), S::Error> {
        let held = match self.open.remove(&*self.key) {
            Some(Open::Passing) => return self.sink.event(last),
            Some(Open::Held(held)) => {
                self.held -= held.events.len() + TEST;
                Some(held)
            }
            None => None,
        };
        let test = HeldTest::new(id, held.as_ref(), Some(last));
        if self.rules.keep(&test) {
            test.events().try_for_each(|event| self.sink.event(event))
        } else {
            Ok(())
        }
    }

    /// An event of a test that goes on: it is held back, if there is room.
    fn hold(&mut self, event: EventRef<'_>) -> Result<(), S::Error> {
        let length = crate::v2::packet_length(&event.0);
        let room = self.held + length + TEST <= self.rules.limit;
        match self.open.get_mut(&*self.key) {
            Some(Open::Passing) => self.sink.event(event),
            Some(Open::Held(held)) if room => {
                let before = held.events.len();
                held.push(event);
                self.held += held.events.len() - before;
                Ok(())
            }
            Some(open) => {
                if let Open::Held(held) = std::mem::replace(open, Open::Passing) {
                    self.held -= held.events.len() + TEST;
                    self.unjudged += 1;
                    held.events.iter().try_for_each(|event| self.sink.event(event))?;
                }
                self.sink.event(event)
            }
            None if room => {
                let mut held = Held::new(self.begun);
                self.begun += 1;
                held.push(event);
                self.held += held.events.len() + TEST;
                self.open.insert(self.key.as_str().into(), Open::Held(held));
                Ok(())
            }
            None => {
                self.unjudged += 1;
                self.open.insert(self.key.as_str().into(), Open::Passing);
                self.sink.event(event)
            }
        }
    }
}

impl<S: Sink> Sink for Filter<S> {
    type Error = S::Error;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), S::Error> {
        let Some(id) = event.id() else {
            return if self.rules.outside { self.sink.event(event) } else { Ok(()) };
        };
        if !self.rules.keep_id(id) {
            return Ok(());
        }
        if self.rules.are_of_ids() {
            return self.sink.event(event);
        }
        put_key(event.route(), id, &mut self.key);
        if event.status().is_some_and(Status::is_final) { self.judge(id, event) } else { self.hold(event) }
    }

    /// Judges the tests that never ended, in the order in which they began.
    fn finish(&mut self) -> Result<(), S::Error> {
        let mut rest: Vec<Held> = std::mem::take(&mut self.open)
            .into_values()
            .filter_map(|open| match open {
                Open::Held(held) => Some(held),
                Open::Passing => None,
            })
            .collect();
        self.held = 0;
        rest.sort_unstable_by_key(|held| held.order);
        for held in &rest {
            let id = held.events.iter().find_map(|event| event.id()).unwrap_or_default();
            let test = HeldTest::new(id, Some(held), None);
            if self.rules.keep(&test) {
                test.events().try_for_each(|event| self.sink.event(event))?;
            }
        }
        self.sink.finish()
    }
}
