use super::{Draft, EventError, EventRef};
use crate::v2;

/// The events of one draft whose file is spread over several packets: see [`Draft::split`].
#[derive(Clone, Debug)]
pub struct Split<'a> {
    draft: Draft<'a>,
    piece: usize,
    state: State<'a>,
}

#[derive(Clone, Copy, Debug)]
enum State<'a> {
    First(&'a [u8]),
    Later(&'a [u8]),
    Done,
}

/// What the numbers for the packet's and the file's length can grow by when the file is no longer empty.
const NUMBERS_GROW: usize = 4;

impl<'a> Split<'a> {
    pub(super) fn new(draft: Draft<'a>, piece: usize) -> Result<Self, EventError> {
        draft.check_strings()?;
        let Some(file) = draft.file else {
            draft.check()?;
            return Ok(Self { draft, piece, state: State::First(&[]) });
        };
        let length = v2::packet_length(&draft.file(file.name, &[]));
        let room = v2::MAX_PACKET.saturating_sub(length + NUMBERS_GROW);
        if room == 0 {
            return Err(EventError::TooLong { length });
        }
        Ok(Self { draft, piece: piece.clamp(1, room), state: State::First(file.bytes) })
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = EventRef<'a>;

    fn next(&mut self) -> Option<EventRef<'a>> {
        let (bytes, first) = match self.state {
            State::First(bytes) => (bytes, true),
            State::Later(bytes) => (bytes, false),
            State::Done => return None,
        };
        let (now, later) = bytes.split_at(bytes.len().min(self.piece));
        let last = later.is_empty();
        self.state = if last { State::Done } else { State::Later(later) };
        let stands_here = |status: &super::Status| if status.is_final() { last } else { first };
        // Strings were checked, and the piece was sized to fit a packet.
        Some(EventRef(Draft {
            status: self.draft.status.filter(stands_here),
            file: self.draft.file.map(|file| super::FileRef { bytes: now, ..file }),
            eof: self.draft.eof && last,
            ..self.draft
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn statuses_stand_where_they_are_true() {
        let seen = |status| {
            let events = Draft::test("t", status).file("f", b"abcdefg").eof(true).split(3).unwrap();
            events.map(|e| (e.status(), e.file().unwrap().bytes, e.eof())).collect::<Vec<_>>()
        };
        let (fail, going) = (Some(Status::Fail), Some(Status::InProgress));
        assert_eq!(
            seen(Status::Fail),
            [(None, &b"abc"[..], false), (None, b"def", false), (fail, b"g", true)]
        );
        assert_eq!(
            seen(Status::InProgress),
            [(going, &b"abc"[..], false), (None, b"def", false), (None, b"g", true)]
        );
    }

    #[test]
    fn one_event_without_bytes_or_file() {
        assert_eq!(Draft::output("f", b"").eof(true).split(1).unwrap().count(), 1);
        assert_eq!(Draft::test("t", Status::Skip).split(0).unwrap().count(), 1);
    }

    #[test]
    fn largest_pieces_are_legal_packets() {
        let bytes = vec![7; 3 * v2::MAX_PACKET];
        let id = "i".repeat(100);
        let events = Draft::new().id(&*id).file("f", &bytes).split(usize::MAX).unwrap();
        let mut joined = 0;
        for event in events {
            assert_eq!(event.draft().check(), Ok(event));
            joined += event.file().unwrap().bytes.len();
        }
        assert_eq!(joined, bytes.len());
    }

    #[test]
    fn no_room_for_a_single_byte() {
        let id = "i".repeat(v2::MAX_PACKET);
        let error = Draft::new().id(&*id).file("f", b"x").split(1).unwrap_err();
        assert!(matches!(error, EventError::TooLong { .. }));
    }
}
