//! Frames of a hostile machine and of a hostile client on a channel that is relayed: nothing passes that the other could
//! not read, and nobody gets more than there was room for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use testbed_agent::agent::{Note, Reply, Steer};
use testbed_agent::frame::{Decoder, Frame, Kind, WINDOW};
use testbed_agent::relay::{Passage, Verdict};

/// What one side has sent, and has been promised.
#[derive(Default)]
struct Side {
    decoder: Decoder,
    sent: u64,
    granted: u64,
}

fuzz_target!(|pieces: Vec<(bool, &[u8])>| {
    let mut passage = Passage::default();
    let (mut agent, mut client) = (Side::default(), Side::default());
    for (is_agents, bytes) in pieces {
        let (side, other) = if is_agents { (&mut agent, &mut client) } else { (&mut client, &mut agent) };
        side.decoder.feed(bytes);
        while let Ok(Some(frame)) = side.decoder.next_frame() {
            let verdict = if is_agents { passage.from_agent(&frame) } else { passage.from_client(&frame) };
            // Whoever breaks the rules is let go.
            let Ok(verdict) = verdict else { return };
            match verdict {
                Verdict::Pass => passes(&frame, side, other),
                Verdict::Drop => assert!(!is_agents && frame.kind == Kind::Credit),
                Verdict::Failed(fault) => assert!(is_agents && !fault.to_string().contains('\x1b')),
            }
        }
    }
});

fn passes(frame: &Frame, side: &mut Side, other: &mut Side) {
    match frame.kind {
        Kind::Data => {
            side.sent += frame.data().unwrap().1.len() as u64;
            assert!(side.sent <= u64::from(WINDOW) + side.granted, "more than there is room for");
        }
        Kind::Credit => other.granted += u64::from(frame.credit().unwrap()),
        Kind::End => drop(frame.end().unwrap()),
        Kind::Note => drop(frame.message::<Note>("note").unwrap()),
        Kind::Steer => drop(frame.message::<Steer>("steering").unwrap()),
        Kind::Reply => assert!(!matches!(frame.message("reply").unwrap(), Reply::Failed(_))),
        Kind::Abort => {}
        kind => panic!("{kind:?} has passed"),
    }
}
