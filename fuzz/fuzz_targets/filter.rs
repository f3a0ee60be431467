//! A filter in the first line, a packet behind it: the text is a filter or an error that points into it; the filter can
//! be asked about any packet, and given to the kernel unless it is too long.
#![no_main]

use libfuzzer_sys::fuzz_target;
use testbed_agent::filter::{Filter, Link};

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let Ok(text) = std::str::from_utf8(parts.next().unwrap_or_default()) else { return };
    let packet = parts.next().unwrap_or_default();
    match text.parse::<Filter>() {
        Ok(filter) => {
            for link in [Link::Ethernet, Link::Ip] {
                let matches = filter.matches(link, packet);
                assert!(matches || !filter.is_all());
            }
            for program in [filter.compile(96), filter.compile_live(96)].into_iter().flatten() {
                assert!(!program.is_empty());
            }
        }
        Err(error) => {
            assert!(text.get(error.position..error.position + error.length).is_some(), "{error:?}");
        }
    }
});
