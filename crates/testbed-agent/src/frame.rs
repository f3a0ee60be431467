//! The frame that every message travels in.
//!
//! ```text
//! u32 LE   length of all that follows
//! u32 LE   channel
//! u8       kind
//! u8       how many descriptors travel with the frame (Unix sockets only, host to machine only)
//! [u8]     body
//! ```
//!
//! A stream of frames may be cut anywhere: [`Decoder`] takes any chunks. The first frame both ways is a
//! [`Kind::Hello`] with a [`Hello`].

use serde::{Deserialize, Serialize};

/// The protocol's version, told in [`Hello`].
pub const PROTOCOL: u16 = 1;
/// The oldest version that this build still speaks.
pub const OLDEST: u16 = 1;
/// The longest body that a frame may carry, in bytes.
pub const MAX_BODY: usize = 128 * 1024;
/// The most payload bytes that a [`Kind::Data`] frame carries.
pub const MAX_DATA: usize = 64 * 1024;
/// How many payload bytes may be under way on a channel, per direction, before [`Kind::Credit`] has come back.
pub const WINDOW: u32 = 256 * 1024;
/// The most descriptors that one frame may carry.
pub const MAX_FDS: usize = 8;

const HEADER: usize = 10;
const AFTER_LENGTH: usize = 6;

/// What a frame means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Who speaks: [`Hello`], on channel 0, once.
    Hello = 0,
    /// Opens a channel with a request for a machine's agent: [`agent::Open`](crate::agent::Open).
    Open = 1,
    /// Opens a channel with a request for the keeper itself: [`control::Ask`](crate::control::Ask).
    Ask = 2,
    /// Payload: one byte that names the [stream](Stream), then the bytes.
    Data = 3,
    /// A stream has ended: one byte that names the [stream](Stream).
    End = 4,
    /// So many more payload bytes may be sent on the channel: u32 LE.
    Credit = 5,
    /// Something to do to what runs on the channel: [`agent::Steer`](crate::agent::Steer).
    Steer = 6,
    /// Something happened on the channel, and more will: [`agent::Note`](crate::agent::Note).
    Note = 7,
    /// The end of the channel, with its result: [`agent::Reply`](crate::agent::Reply) or
    /// [`control::Answer`](crate::control::Answer).
    Reply = 8,
    /// Whoever opened the channel has lost interest: what runs on it is killed. A reply still comes.
    Abort = 9,
    /// An agent that rests shall go on: [`agent::Wake`](crate::agent::Wake), on channel 0. It answers by a greeting.
    Wake = 10,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::*;
        [Hello, Open, Ask, Data, End, Credit, Steer, Note, Reply, Abort, Wake].get(usize::from(byte)).copied()
    }
}

/// Which stream of a channel a [`Kind::Data`] frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Stream {
    /// Towards the program.
    Input = 0,
    /// From the program's standard output (or its terminal).
    Output = 1,
    /// From the program's standard error.
    Error = 2,
}

impl Stream {
    /// The stream with this number on the wire.
    pub fn from_byte(byte: u8) -> Option<Stream> {
        [Stream::Input, Stream::Output, Stream::Error].get(usize::from(byte)).copied()
    }
}

/// The first message in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The newest protocol that the speaker knows.
    pub protocol: u16,
    /// The oldest protocol that the speaker knows.
    pub oldest: u16,
    /// Name and version of the speaker's program.
    pub software: String,
    /// What the speaker can do beyond the protocol's version.
    pub features: Vec<String>,
}

impl Hello {
    /// This build's own greeting.
    pub fn ours() -> Hello {
        Hello {
            protocol: PROTOCOL,
            oldest: OLDEST,
            software: concat!("testbed ", env!("CARGO_PKG_VERSION")).into(),
            features: Vec::new(),
        }
    }

    /// The protocol version both sides speak.
    ///
    /// # Errors
    /// Says both ranges when they do not overlap.
    pub fn agree(&self) -> Result<u16, FrameError> {
        let version = self.protocol.min(PROTOCOL);
        if version < self.oldest || version < OLDEST || self.oldest > self.protocol {
            return Err(FrameError::Version {
                theirs: (self.oldest, self.protocol),
                ours: (OLDEST, PROTOCOL),
            });
        }
        Ok(version)
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The conversation that it belongs to. Odd numbers are opened by the host side, even ones by the machine's.
    pub channel: u32,
    /// What it means.
    pub kind: Kind,
    /// How many descriptors travel with it.
    pub fds: u8,
    /// Its content.
    pub body: Vec<u8>,
}

/// Why bytes are not frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The length says more than [`MAX_BODY`] or less than the header.
    Length(u32),
    /// No such kind.
    Kind(u8),
    /// More than [`MAX_FDS`] descriptors announced.
    Descriptors(u8),
    /// The body is not what the kind promises.
    Body(&'static str),
    /// No common version.
    Version {
        /// Oldest and newest that the other side speaks.
        theirs: (u16, u16),
        /// Oldest and newest that this side speaks.
        ours: (u16, u16),
    },
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FrameError::Length(n) => write!(f, "frame length {n} is out of range"),
            FrameError::Kind(k) => write!(f, "unknown frame kind {k}"),
            FrameError::Descriptors(n) => {
                write!(f, "frame announces {n} descriptors, at most {MAX_FDS} may travel")
            }
            FrameError::Body(what) => write!(f, "malformed {what}"),
            FrameError::Version { theirs, ours } => write!(
                f,
                "no common protocol version: the other side speaks {} to {}, this one {} to {}",
                theirs.0, theirs.1, ours.0, ours.1
            ),
        }
    }
}

impl std::error::Error for FrameError {}

/// Appends a frame with a body of raw bytes to `out`.
///
/// # Panics
/// If the body is longer than [`MAX_BODY`]; callers split payload at [`MAX_DATA`].
pub fn encode(out: &mut Vec<u8>, channel: u32, kind: Kind, fds: u8, body: &[u8]) {
    assert!(body.len() <= MAX_BODY, "frame body of {} bytes", body.len());
    out.reserve(HEADER + body.len());
    out.extend_from_slice(&((AFTER_LENGTH + body.len()) as u32).to_le_bytes());
    out.extend_from_slice(&channel.to_le_bytes());
    out.extend_from_slice(&[kind as u8, fds]);
    out.extend_from_slice(body);
}

/// Appends a frame whose body is a serialised message.
///
/// # Errors
/// If the message is longer than [`MAX_BODY`].
pub fn encode_message<T: Serialize>(
    out: &mut Vec<u8>,
    channel: u32,
    kind: Kind,
    fds: u8,
    message: &T,
) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    let written = postcard::to_io(message, &mut *out).map(|_| ());
    let body = out.len() - start - HEADER;
    if written.is_err() || body > MAX_BODY {
        out.truncate(start);
        return Err(FrameError::Length(body as u32));
    }
    out[start..start + 4].copy_from_slice(&((AFTER_LENGTH + body) as u32).to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&channel.to_le_bytes());
    out[start + 8..start + HEADER].copy_from_slice(&[kind as u8, fds]);
    Ok(())
}

/// Appends payload of a stream as one [`Kind::Data`] frame.
pub fn encode_data(out: &mut Vec<u8>, channel: u32, stream: Stream, payload: &[u8]) {
    assert!(payload.len() <= MAX_DATA, "payload of {} bytes", payload.len());
    out.extend_from_slice(&((AFTER_LENGTH + 1 + payload.len()) as u32).to_le_bytes());
    out.extend_from_slice(&channel.to_le_bytes());
    out.extend_from_slice(&[Kind::Data as u8, 0, stream as u8]);
    out.extend_from_slice(payload);
}

impl Frame {
    /// Reads the body as a message of type `T`.
    ///
    /// # Errors
    /// If the bytes are not such a message, or bytes are left over.
    pub fn message<'a, T: Deserialize<'a>>(&'a self, what: &'static str) -> Result<T, FrameError> {
        match postcard::take_from_bytes(&self.body) {
            Ok((message, [])) => Ok(message),
            _ => Err(FrameError::Body(what)),
        }
    }

    /// Splits the body of a [`Kind::Data`] frame into its stream and payload.
    ///
    /// # Errors
    /// If the body is empty, names no stream or is longer than [`MAX_DATA`].
    pub fn data(&self) -> Result<(Stream, &[u8]), FrameError> {
        let (first, payload) = self.body.split_first().ok_or(FrameError::Body("data"))?;
        let stream = Stream::from_byte(*first).ok_or(FrameError::Body("data"))?;
        if payload.len() > MAX_DATA {
            return Err(FrameError::Body("data"));
        }
        Ok((stream, payload))
    }

    /// The stream that a [`Kind::End`] frame ends.
    ///
    /// # Errors
    /// If the body names no stream.
    pub fn end(&self) -> Result<Stream, FrameError> {
        match self.body[..] {
            [byte] => Stream::from_byte(byte).ok_or(FrameError::Body("end")),
            _ => Err(FrameError::Body("end")),
        }
    }

    /// The number of bytes that a [`Kind::Credit`] frame grants.
    ///
    /// # Errors
    /// If the body is not four bytes.
    pub fn credit(&self) -> Result<u32, FrameError> {
        let bytes: [u8; 4] = self.body[..].try_into().map_err(|_| FrameError::Body("credit"))?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Appends this frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode(out, self.channel, self.kind, self.fds, &self.body);
    }
}

/// Cuts a stream of bytes into frames. Holds at most one frame's bytes plus what was fed last.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// When the stream is not made of frames; it cannot be read further then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.buffer[self.start..];
        let Some(header) = rest.first_chunk::<HEADER>() else {
            if let Some(length) = rest.first_chunk::<4>() {
                check_length(u32::from_le_bytes(*length))?;
            }
            return Ok(None);
        };
        let [l0, l1, l2, l3, c0, c1, c2, c3, kind, fds] = *header;
        let total = 4 + check_length(u32::from_le_bytes([l0, l1, l2, l3]))?;
        let kind = Kind::from_byte(kind).ok_or(FrameError::Kind(kind))?;
        if usize::from(fds) > MAX_FDS {
            return Err(FrameError::Descriptors(fds));
        }
        let Some(body) = rest.get(HEADER..total) else { return Ok(None) };
        let frame = Frame { channel: u32::from_le_bytes([c0, c1, c2, c3]), kind, fds, body: body.to_vec() };
        self.start += total;
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        Ok(Some(frame))
    }
}

fn check_length(length: u32) -> Result<usize, FrameError> {
    let n = length as usize;
    if (AFTER_LENGTH..=AFTER_LENGTH + MAX_BODY).contains(&n) {
        Ok(n)
    } else {
        Err(FrameError::Length(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame() -> impl Strategy<Value = Frame> {
        (any::<u32>(), 0u8..10, 0u8..=MAX_FDS as u8, prop::collection::vec(any::<u8>(), 0..300)).prop_map(
            |(channel, kind, fds, body)| Frame { channel, kind: Kind::from_byte(kind).unwrap(), fds, body },
        )
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(frames in prop::collection::vec(frame(), 0..8), cut in 1usize..40) {
            let mut bytes = Vec::new();
            frames.iter().for_each(|f| f.encode(&mut bytes));
            let mut decoder = Decoder::new();
            let mut seen = Vec::new();
            for chunk in bytes.chunks(cut) {
                decoder.feed(chunk);
                while let Some(f) = decoder.next_frame().unwrap() { seen.push(f); }
            }
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn garbage_never_panics_and_never_grows(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut decoder = Decoder::new();
            decoder.feed(&bytes);
            while let Ok(Some(f)) = decoder.next_frame() {
                let _ = (f.data().is_ok(), f.end().is_ok(), f.credit().is_ok());
                let _ = f.message::<Hello>("hello");
            }
            prop_assert!(decoder.buffer.len() <= bytes.len());
        }
    }

    #[test]
    fn absurd_lengths_are_refused_at_once() {
        let mut decoder = Decoder::new();
        decoder.feed(&u32::MAX.to_le_bytes());
        assert_eq!(decoder.next_frame(), Err(FrameError::Length(u32::MAX)));
    }

    #[test]
    fn versions_must_overlap() {
        let mut hello = Hello::ours();
        assert_eq!(hello.agree(), Ok(PROTOCOL));
        hello.oldest = PROTOCOL + 1;
        hello.protocol = PROTOCOL + 2;
        assert!(hello.agree().is_err());
        hello.oldest = 1;
        assert_eq!(hello.agree(), Ok(PROTOCOL));
    }
}
