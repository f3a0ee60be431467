//! The examples, from Rust, on real machines.

mod openvpn;
