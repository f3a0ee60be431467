//! The control protocol's two ends: who serves a testbed that lives, and who speaks to it.
//!
//! ```text
//! client ── Unix socket ── Session ─┬─ relays ── links of agents
//!                                   └─ asks ──── threads that do what only the keeper can
//! programs of a machine ── its agent ── its link ── Session (with the machine's rights)
//! ```
//!
//! A [`Session`](session::Session) is what one client, or all programs of one machine, may reach of one copy. It trusts
//! nobody: what it relays has been read and is written anew, both sides are held to their credit, and a client that
//! does not read stalls only what it opened.

mod asks;
mod channel;
mod client;
mod relay;
mod rights;
mod server;
pub(crate) mod session;
mod status;

pub use asks::Holder;
pub use client::{Client, Credit, Happening, Talk};
pub use server::Server;
pub use testbed_agent::agent;
pub use testbed_agent::control::{
    Answer, Ask, Condition, InterfaceStatus, MachineStatus, PortStatus, ServiceStatus, SnapshotStatus, Status,
};
