//! What `go test -json` prints: the same events however it is cut, each of which can be written and read again.
#![no_main]

#[path = "../oracles/reader.rs"]
mod reader;

use libfuzzer_sys::fuzz_target;
use testbed_subunit::read::Format;

fuzz_target!(|input: (u8, &[u8])| reader::check(Format::GoTest, input.0, input.1));
