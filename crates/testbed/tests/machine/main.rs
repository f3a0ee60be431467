//! Machines for real: made, used, limited, attacked, killed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in what tests share")]
#![expect(clippy::print_stderr, reason = "what cannot be tested here is told loudly")]

mod basics;
mod beds;
#[path = "../common/mod.rs"]
mod common;
mod host;
mod isolation;
mod lifetime;
mod limits;
mod lives;
