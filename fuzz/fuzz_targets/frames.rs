//! Bytes of a hostile machine: frames or an error, whatever way they are cut, and what a frame holds is a message or an
//! error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use testbed_agent::frame::{Decoder, Frame, FrameError, Hello, Kind};
use testbed_agent::{agent, control, launch};

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, usize::from(cut) + 1), whole, "cuts change what is read");

    let mut again = Vec::new();
    for frame in &whole.0 {
        frame.encode(&mut again);
        open(frame);
    }
    assert!(bytes.starts_with(&again), "frames are not what was sent");
});

fn read(bytes: &[u8], piece: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.feed(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// Reads the body as everything that it may be, and as all that it may not.
fn open(frame: &Frame) {
    if let Ok(hello) = frame.message::<Hello>("hello") {
        let _ = hello.agree();
    }
    let _ = frame.message::<agent::Open>("open");
    let _ = frame.message::<agent::Steer>("steer");
    let _ = frame.message::<agent::Note>("note");
    let _ = frame.message::<control::Ask>("ask");
    let _ = frame.message::<control::Answer>("answer");
    let _ = frame.message::<launch::Order>("order");
    let _ = frame.message::<launch::Outcome>("outcome");
    let _ = frame.message::<launch::Ended>("ended");
    if let Ok(agent::Reply::Failed(fault)) = frame.message::<agent::Reply>("reply") {
        let _ = fault.to_string();
    }
    match frame.kind {
        Kind::Data => drop(frame.data()),
        Kind::End => drop(frame.end()),
        Kind::Credit => drop(frame.credit()),
        _ => {}
    }
}
