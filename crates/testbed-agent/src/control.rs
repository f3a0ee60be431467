//! The control protocol: what a command, a library or a machine with `control = true` asks of a keeper.
//!
//! Requests for a machine's agent are [`crate::agent::Open`] frames, which the keeper relays. What only the keeper
//! can do is an [`Ask`].

use crate::fault::Fault;
use serde::{Deserialize, Serialize};

/// A request for the keeper itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// What there is and how it is. Answers [`Answer::Status`].
    Status,
}

/// The end of an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done.
    Done,
    /// It could not be done.
    Failed(Fault),
    /// A text for people or programs.
    Status(String),
}
