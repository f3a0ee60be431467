//! What the agent of a capsule tells its keeper of the machines inside.
//!
//! A capsule is a machine with a kernel of its own that holds the machines and networks of a whole testbed. Its agent
//! is what its keeper reaches all of them by:
//!
//! - An [`Open`](crate::agent::Open) that names a machine by its number at the launcher goes to that machine's agent,
//!   with all frames of the channel. One that names none is for the capsule's own agent.
//! - An [`Order`](crate::launch::Order) goes to the launcher inside, in a
//!   [`Kind::Ask`](crate::frame::Kind::Ask). What the launcher opens stays inside, under the number of the channel:
//!   [`Tooling::device`](crate::agent::Tooling::device).
//! - What no channel of the keeper's says comes as a [`Word`], in a [`Kind::Note`](crate::frame::Kind::Note) on channel 0.

use crate::fault::Fault;
use crate::launch::Ended;
use serde::{Deserialize, Serialize};

/// The folder that holds the root of each image, named by its number.
pub const IMAGES: &str = "/images";
/// The cgroup that the machines' cgroups are in.
pub const CGROUP: &str = "/sys/fs/cgroup/testbed";

/// Something that happened inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// A machine has ended.
    Ended(Ended),
    /// A machine's agent answers.
    Greeted {
        /// The machine's number.
        machine: u32,
    },
    /// What a machine's process 1 says of itself before it ends.
    Broken {
        /// The machine's number.
        machine: u32,
        /// Why.
        fault: Fault,
    },
    /// A machine's agent cannot be reached any more.
    Gone {
        /// The machine's number.
        machine: u32,
        /// What is wrong with what it said, if that is why.
        broke: Option<String>,
    },
    /// A program of a machine opens this channel.
    Opens {
        /// The machine's number.
        machine: u32,
        /// The channel, whose first frame follows.
        channel: u32,
    },
}

/// How an [`Open`](crate::agent::Open) names a machine of a capsule.
pub fn address(machine: u32) -> String {
    machine.to_string()
}

/// The number of the machine that an [`Open`](crate::agent::Open) names.
pub fn addressed(machine: &str) -> Option<u32> {
    machine.parse().ok()
}
