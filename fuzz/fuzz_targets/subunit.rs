//! A stream of results: its items are the stream, packets are written as they were read and forwarded as if they were
//! written anew, a filter loses nothing that it keeps, and reports can be made of it.
#![no_main]

#[path = "../oracles/subunit.rs"]
mod subunit;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| subunit::check(input.0, input.1));
