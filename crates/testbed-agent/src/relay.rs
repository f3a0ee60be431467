//! What may pass between a client and the agent of a machine on one channel. Both are strangers: each frame is read
//! before the other gets it, and neither can send more than the other has room for.

use crate::agent::{Note, Reply, Steer};
use crate::fault::Fault;
use crate::frame::{Frame, FrameError, Kind, WINDOW};

/// What is known of a channel that is relayed.
#[derive(Debug)]
pub struct Passage {
    /// Payload bytes that may still go to the agent.
    to_agent: u32,
    /// Payload bytes that may still go to the client.
    to_client: u32,
}

/// What becomes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it came.
    Pass,
    /// It says nothing new.
    Drop,
    /// The agent says that it failed. It may say so of itself only.
    Failed(Fault),
}

impl Default for Passage {
    fn default() -> Passage {
        Passage { to_agent: WINDOW, to_client: WINDOW }
    }
}

impl Passage {
    /// Takes a frame of the client's.
    ///
    /// # Errors
    /// When it is none that may come now.
    pub fn from_client(&mut self, frame: &Frame) -> Result<Verdict, FrameError> {
        match frame.kind {
            Kind::Data => spend(&mut self.to_agent, frame)?,
            Kind::End => frame.end().map(|_| ())?,
            Kind::Credit => {
                let before = self.to_client;
                grant(&mut self.to_client, frame)?;
                if self.to_client == before {
                    return Ok(Verdict::Drop);
                }
            }
            Kind::Steer => frame.message::<Steer>("steering").map(|_| ())?,
            Kind::Abort => {}
            _ => return Err(FrameError::Body("direction")),
        }
        Ok(Verdict::Pass)
    }

    /// Takes a frame of the agent's.
    ///
    /// # Errors
    /// When it is none that may come now.
    pub fn from_agent(&mut self, frame: &Frame) -> Result<Verdict, FrameError> {
        match frame.kind {
            Kind::Data => spend(&mut self.to_client, frame)?,
            Kind::End => frame.end().map(|_| ())?,
            Kind::Credit => grant(&mut self.to_agent, frame)?,
            Kind::Note => frame.message::<Note>("note").map(|_| ())?,
            Kind::Reply => {
                if let Reply::Failed(fault) = frame.message("reply")? {
                    return Ok(Verdict::Failed(fault));
                }
            }
            _ => return Err(FrameError::Body("direction")),
        }
        Ok(Verdict::Pass)
    }
}

fn spend(left: &mut u32, frame: &Frame) -> Result<(), FrameError> {
    let (_, payload) = frame.data()?;
    let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    *left = left.checked_sub(bytes).ok_or(FrameError::Body("credit"))?;
    Ok(())
}

fn grant(left: &mut u32, frame: &Frame) -> Result<(), FrameError> {
    *left = left.saturating_add(frame.credit()?).min(WINDOW);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;
    use crate::frame::{Decoder, MAX_DATA, Stream, encode, encode_data, encode_message};

    fn frame(encoded: impl FnOnce(&mut Vec<u8>)) -> Frame {
        let mut bytes = Vec::new();
        encoded(&mut bytes);
        let mut decoder = Decoder::new();
        decoder.feed(&bytes);
        decoder.next_frame().unwrap().unwrap()
    }

    fn data(length: usize) -> Frame {
        frame(|out| encode_data(out, 1, Stream::Input, &vec![0; length]))
    }

    fn credit(bytes: u32) -> Frame {
        frame(|out| encode(out, 1, Kind::Credit, 0, &bytes.to_le_bytes()))
    }

    #[test]
    fn nobody_sends_more_than_the_other_has_room_for() {
        let whole = WINDOW as usize / MAX_DATA;
        let mut passage = Passage::default();
        for _ in 0..whole {
            assert_eq!(passage.from_agent(&data(MAX_DATA)), Ok(Verdict::Pass));
            assert_eq!(passage.from_client(&data(MAX_DATA)), Ok(Verdict::Pass));
        }
        assert_eq!(passage.from_agent(&data(MAX_DATA)), Err(FrameError::Body("credit")));
        assert_eq!(passage.from_client(&data(MAX_DATA)), Err(FrameError::Body("credit")));
        assert_eq!(passage.from_client(&credit(MAX_DATA as u32)), Ok(Verdict::Pass));
        assert_eq!(passage.from_agent(&data(MAX_DATA)), Ok(Verdict::Pass));
        // More room than there can be is no news.
        assert_eq!(passage.from_client(&credit(u32::MAX)), Ok(Verdict::Pass));
        assert_eq!(passage.from_client(&credit(u32::MAX)), Ok(Verdict::Drop));
    }

    #[test]
    fn each_side_says_what_is_its_own_to_say() {
        let message = |kind, body: &Reply| frame(|out| encode_message(out, 1, kind, 0, body).unwrap());
        let mut passage = Passage::default();
        let failed = Fault::new(FaultKind::State, "do it");
        let reply = message(Kind::Reply, &Reply::Failed(failed.clone()));
        assert_eq!(passage.from_agent(&reply), Ok(Verdict::Failed(failed)));
        assert_eq!(passage.from_client(&reply), Err(FrameError::Body("direction")));
        for kind in [Kind::Open, Kind::Ask, Kind::Hello, Kind::Abort, Kind::Steer] {
            let frame = frame(|out| encode(out, 1, kind, 0, &[]));
            assert_eq!(passage.from_agent(&frame), Err(FrameError::Body("direction")), "{kind:?}");
        }
        let unread = frame(|out| encode(out, 1, Kind::Reply, 0, &[0xff; 9]));
        assert!(passage.from_agent(&unread).is_err());
    }
}
