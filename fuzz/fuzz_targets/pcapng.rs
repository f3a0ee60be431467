//! A capture that a machine hands out: blocks or an error, whatever way it is cut, and a line for each packet.
#![no_main]

use libfuzzer_sys::fuzz_target;
use testbed_agent::describe::describe;
use testbed_agent::filter::Link;
use testbed_agent::pcapng::{Block, Decoder, PcapngError};

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, usize::from(cut) + 1), whole, "cuts change what is read");
    for block in whole.0 {
        if let Block::Packet(packet) = block {
            let link = packet.link.link().unwrap_or(Link::Ethernet);
            let line = describe(link, &packet.data, packet.length);
            assert!(!line.contains('\n'), "{line:?}");
        }
    }
    for link in [Link::Ethernet, Link::Ip] {
        let line = describe(link, bytes, bytes.len() as u32);
        assert!(!line.contains('\n'), "{line:?}");
    }
});

fn read(bytes: &[u8], piece: usize) -> (Vec<Block>, Option<PcapngError>) {
    let mut decoder = Decoder::new();
    let mut blocks = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.feed(piece);
        loop {
            match decoder.next_block() {
                Ok(Some(block)) => blocks.push(block),
                Ok(None) => break,
                Err(error) => return (blocks, Some(error)),
            }
        }
    }
    (blocks, None)
}
