//! The protocols between the host and what runs inside its machines.
//!
//! Two message sets share one [frame]: the *agent protocol* ([`agent`]: keeper ↔ process 1 of a machine) and the
//! *control protocol* ([`control`]: command, library or a machine with `control = true` ↔ keeper). A third, private
//! one ([`launch`]) lets the keeper tell its launcher which machines to make; both ends of it always come from
//! the same build.
//!
//! All of these are sans-I/O: bytes in, bytes out. Nothing in them trusts the other side. Only [`layers`] touches files: what
//! both the keeper and its launcher do with those of images and machines.

pub mod agent;
pub mod capsule;
pub mod capture;
pub mod client;
pub mod control;
pub mod copy;
pub mod describe;
pub mod fault;
pub mod filter;
pub mod frame;
pub mod guest;
pub mod keys;
pub mod launch;
pub mod layers;
pub mod pcapng;
pub mod quantity;
pub mod relay;
pub mod users;

pub use fault::{Doing, Fault, FaultKind};
