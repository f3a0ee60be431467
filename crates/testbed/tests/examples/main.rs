//! The examples, from Rust, on real machines.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in what tests share")]

mod gateway;
mod guide;
mod openvpn;
