//! A stream of TAP: the same events however it is cut, each of which can be written and read again.
#![no_main]

#[path = "../oracles/reader.rs"]
mod reader;

use libfuzzer_sys::fuzz_target;
use testbed_subunit::read::Format;

fuzz_target!(|input: (u8, &[u8])| reader::check(Format::Tap, input.0, input.1));
