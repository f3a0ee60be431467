//! The examples, from Rust, on real machines.

mod guide;
mod openvpn;
