//! A stream of subunit's version 1: as other formats; tests begin and end by turns; what is written of it is read as it
//! was.
#![no_main]

#[path = "../oracles/reader.rs"]
mod reader;
#[path = "../oracles/v1.rs"]
mod v1;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| v1::check(input.0, input.1));
