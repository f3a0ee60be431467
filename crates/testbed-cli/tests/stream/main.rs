//! `testbed stream`: what goes in, what comes out, and how it ends.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in what tests share")]

#[path = "../folder/mod.rs"]
mod folder;

mod call;
mod filters;
mod live;
mod memory;
mod reports;
mod scripts;
