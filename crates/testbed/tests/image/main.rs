//! Images: their cache, where they come from, and what builds them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in what tests share")]
#![expect(clippy::print_stderr, reason = "what cannot be tested here is told loudly")]

mod accelerator;
mod archives;
mod cache;
mod harness;
mod import;
mod machines;
