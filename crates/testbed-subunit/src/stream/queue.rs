//! A queue between threads: the standard library's channel is a sink.
//!
//! ```
//! use std::sync::mpsc::sync_channel;
//! use std::thread;
//! use testbed_subunit::stream::{Code, Prefix, Sink};
//! use testbed_subunit::{Draft, Event, Status};
//!
//! let (sender, receiver) = sync_channel::<Event>(64);
//! let mut seen = Vec::new();
//! thread::scope(|scope| {
//!     for worker in ["0", "1"] {
//!         let sender = sender.clone();
//!         scope.spawn(move || {
//!             let mut stream = Prefix::new(Code::new(worker).unwrap(), sender);
//!             Draft::test("vpn.ping", Status::Success).send(&mut stream).unwrap();
//!         });
//!     }
//!     drop(sender);
//!     for event in receiver {
//!         seen.event(event.as_ref()).unwrap();
//!     }
//! });
//! let mut routes: Vec<_> = seen.iter().map(|event| event.as_ref().route()).collect();
//! routes.sort();
//! assert_eq!(routes, [Some("0"), Some("1")]);
//! ```

use std::sync::mpsc::SyncSender;

use thiserror::Error;

use super::Sink;
use crate::event::{Event, EventError, EventRef};

/// Why an event could not be queued.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum QueueError {
    /// Nobody takes events out any more.
    #[error("the queue's other end is gone")]
    Closed,
    /// It is no event.
    #[error(transparent)]
    Event(#[from] EventError),
}

/// A queue between threads. It holds as many events as the channel was made for; when it is full, whoever puts one in
/// waits. A stream has ended when all of its senders are gone.
impl Sink for SyncSender<Event> {
    type Error = QueueError;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), QueueError> {
        self.send(event.to_owned()).map_err(|_| QueueError::Closed)
    }
}
