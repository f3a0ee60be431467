//! Operators over a stream of events, which compose.
//!
//! A [`Sink`] takes events. Most operators are sinks that hold the next one, and give it what they were given, or
//! something else: with tags, with times, with a route, or only some of it. What one writes last is what an event
//! reaches first. Events are borrowed all the way, and no operator allocates for an event unless its text says so.
//!
//! ```
//! use testbed_subunit::stream::{Code, Filter, Prefix, Rules, Sink, Tagger};
//! use testbed_subunit::{Draft, Status, v2};
//!
//! // Only what went wrong, tagged, as if it came from worker 0, as packets.
//! let packets = v2::Writer::new(Vec::new());
//! let mut stream =
//!     Filter::new(Rules::only_failures(), Tagger::new(&["nightly"], &[], Prefix::new(Code::new("0")?, packets))?);
//! for draft in [
//!     Draft::test("vpn.ping", Status::InProgress),
//!     Draft::test("vpn.trace", Status::Success),
//!     Draft::test("vpn.ping", Status::Fail),
//! ] {
//!     draft.send(&mut stream)?;
//! }
//! stream.finish()?;
//!
//! let bytes = stream.into_inner().into_inner().into_inner().into_inner();
//! let seen: Vec<_> = v2::Items::new(&bytes)
//!     .filter_map(|item| match item {
//!         v2::Item::Packet(packet) => Some((packet.event.id()?, packet.event.route()?)),
//!         _ => None,
//!     })
//!     .collect();
//! assert_eq!(seen, [("vpn.ping", "0"), ("vpn.ping", "0")]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | testtools | here |
//! |---|---|
//! | `StreamResult` | [`Sink`] |
//! | `CopyStreamResult` | [`Tee`] |
//! | `StreamTagger` | [`Tagger`] |
//! | `TimestampingStreamResult` | [`Timestamper`] |
//! | `StreamFailFast`, `TestControl` | [`FailFast`] |
//! | `StreamResultRouter` | [`Router`] |
//! | `StreamToDict` | [`ToRecords`] |
//! | `StreamSummary` | [`Summarize`] |
//! | `StreamToQueue` | [`Prefix`] over [`std::sync::mpsc::SyncSender`] |
//! | `ResourcedToStreamDecorator` | [`Resource`] |
//! | `subunit-filter` | [`Filter`], [`Rename`], [`ExpectFailures`] |

mod clock;
mod edit;
mod fail_fast;
mod filter;
mod hold;
mod queue;
mod resource;
mod route;
mod router;
mod tag;
mod tee;
mod to_records;

use crate::event::{Draft, Event, EventError, EventRef};

pub use self::clock::{Offset, SkewCorrector, Timestamper};
pub use self::edit::{ExpectFailures, Rename};
pub use self::fail_fast::FailFast;
pub use self::filter::{Filter, Rules};
pub use self::hold::HeldTest;
pub use self::queue::QueueError;
pub use self::resource::Resource;
pub use self::route::{Code, CodeError, Prefix};
pub use self::router::{Router, Target};
pub use self::tag::Tagger;
pub use self::tee::Tee;
pub use self::to_records::{Summarize, ToRecords};

/// What takes a stream of events.
pub trait Sink {
    /// Why an event could not be taken. An operator may make an event that is none, so that has to be among it.
    type Error: From<EventError>;

    /// Takes the next event.
    ///
    /// # Errors
    /// Those of what the event is given to.
    fn event(&mut self, event: EventRef<'_>) -> Result<(), Self::Error>;

    /// The stream has ended. To be called once; no event follows.
    ///
    /// # Errors
    /// Those of what is given out at the end.
    fn finish(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl Draft<'_> {
    /// Gives the event to `sink`, or several where its file is too long for one packet: see [`Draft::split`].
    ///
    /// # Errors
    /// Where the draft is no event, and those of `sink`.
    pub fn send<S: Sink + ?Sized>(self, sink: &mut S) -> Result<(), S::Error> {
        match self.check() {
            Ok(event) => sink.event(event),
            Err(EventError::TooLong { .. }) if self.file.is_some() => {
                self.split(usize::MAX)?.try_for_each(|event| sink.event(event))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    type Error = S::Error;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), S::Error> {
        (**self).event(event)
    }

    fn finish(&mut self) -> Result<(), S::Error> {
        (**self).finish()
    }
}

impl<S: Sink + ?Sized> Sink for Box<S> {
    type Error = S::Error;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), S::Error> {
        (**self).event(event)
    }

    fn finish(&mut self) -> Result<(), S::Error> {
        (**self).finish()
    }
}

/// Keeps all events.
impl Sink for Vec<Event> {
    type Error = EventError;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), EventError> {
        self.push(event.to_owned());
        Ok(())
    }
}

/// Calls a function with each event.
#[derive(Clone, Copy, Debug)]
pub struct Each<F>(pub F);

impl<F, E> Sink for Each<F>
where
    F: FnMut(EventRef<'_>) -> Result<(), E>,
    E: From<EventError>,
{
    type Error = E;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), E> {
        self.0(event)
    }
}

/// Takes all events and does nothing with them.
#[derive(Clone, Copy, Debug)]
pub struct Discard<E = EventError>(std::marker::PhantomData<fn() -> E>);

impl<E> Default for Discard<E> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<E: From<EventError>> Sink for Discard<E> {
    type Error = E;

    fn event(&mut self, _: EventRef<'_>) -> Result<(), E> {
        Ok(())
    }
}
