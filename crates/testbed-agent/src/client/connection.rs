//! A connection to a keeper, and one channel of it at a time.

use crate::agent::{Note, Open, Reply, Request, Steer};
use crate::control::{Answer, Ask};
use crate::fault::{Doing as _, Fault, FaultKind};
use crate::frame::{
    Decoder, Frame, FrameError, Hello, Kind, MAX_DATA, Stream, WINDOW, encode, encode_data, encode_message,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use serde::Serialize;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long the keeper may take to greet, and to answer what is small.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// A connection to a keeper, or to what relays to it.
#[derive(Debug)]
pub struct Connection {
    socket: UnixStream,
    decoder: Decoder,
    buffer: Vec<u8>,
    next: u32,
}

impl Connection {
    /// Greets at the other end of a connected socket.
    ///
    /// # Errors
    /// When the other side goes, does not answer, or speaks another protocol.
    pub fn new(socket: UnixStream) -> Result<Connection, Fault> {
        let mut connection =
            Connection { socket, decoder: Decoder::new(), buffer: vec![0; 32 * 1024], next: 1 };
        connection.send(0, Kind::Hello, &Hello::ours())?;
        let greeting = connection.frame(Some(Instant::now() + ANSWER))?;
        let greeting =
            greeting.ok_or_else(|| Fault::new(FaultKind::Timeout, "wait for the keeper's greeting"))?;
        match (greeting.kind, greeting.channel) {
            (Kind::Hello, 0) => {
                greeting.message::<Hello>("hello").and_then(|hello| hello.agree()).map_err(broken)?;
                Ok(connection)
            }
            // It has a reason not to.
            (Kind::Reply, 0) => match greeting.message("reply").map_err(broken)? {
                Reply::Failed(fault) => Err(fault),
                _ => Err(broken(FrameError::Body("hello"))),
            },
            _ => Err(broken(FrameError::Body("hello"))),
        }
    }

    /// Opens a channel to a machine's agent.
    pub(super) fn open(&mut self, machine: &str, request: Request) -> Result<Channel<'_>, Fault> {
        self.begin(Kind::Open, &Open { machine: machine.into(), request })
    }

    /// Opens a channel to the keeper itself.
    pub(super) fn ask(&mut self, ask: &Ask) -> Result<Channel<'_>, Fault> {
        self.begin(Kind::Ask, ask)
    }

    /// Asks a machine's agent something small.
    pub(super) fn request(&mut self, machine: &str, request: Request) -> Result<Reply, Fault> {
        self.open(machine, request)?.end()?.reply()
    }

    fn begin<T: Serialize>(&mut self, kind: Kind, message: &T) -> Result<Channel<'_>, Fault> {
        let number = self.next;
        self.next = self.next.wrapping_add(2);
        self.send(number, kind, message)?;
        Ok(Channel { connection: self, number, credit: WINDOW })
    }

    fn send<T: Serialize>(&mut self, channel: u32, kind: Kind, message: &T) -> Result<(), Fault> {
        let mut bytes = Vec::with_capacity(256);
        encode_message(&mut bytes, channel, kind, 0, message)
            .map_err(|_| Fault::new(FaultKind::Exhausted, "send a request that is too long"))?;
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.socket.write_all(bytes).doing("speak to the keeper")
    }

    /// The next frame; none if there is none in time.
    fn frame(&mut self, until: Option<Instant>) -> Result<Option<Frame>, Fault> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(broken)? {
                return Ok(Some(frame));
            }
            let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
            if !wait(&mut polled, until)? {
                return Ok(None);
            }
            self.read()?;
        }
    }

    /// Takes what has come.
    fn read(&mut self) -> Result<(), Fault> {
        match self.socket.read(&mut self.buffer) {
            Ok(0) => Err(Fault::new(FaultKind::Protocol, "speak to the keeper: it has gone")
                .hint("the copy of the testbed has ended, or this program broke the protocol")),
            Ok(length) => {
                self.decoder.feed(&self.buffer[..length]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(Fault::system("speak to the keeper", &error)),
        }
    }
}

/// The signal that a signalfd has (signalfd(2): its number is the first of a signalfd_siginfo's 128 bytes).
fn signal_of(fd: BorrowedFd<'_>) -> Option<i32> {
    let mut information = [0_u8; 128];
    match rustix::io::read(fd, &mut information) {
        Ok(128) => information.first_chunk().map(|number| i32::from_ne_bytes(*number)),
        _ => None,
    }
}

fn broken(error: FrameError) -> Fault {
    Fault::new(FaultKind::Protocol, format!("understand the keeper: {error}"))
}

/// Waits for an event; false if none comes in time.
fn wait(polled: &mut [PollFd<'_>], until: Option<Instant>) -> Result<bool, Fault> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match poll(polled, left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Fault::system("wait for the keeper", &error.into())),
        }
    }
}

/// Something that came on a channel.
#[derive(Debug)]
pub(super) enum Came {
    Data(Stream, Vec<u8>),
    Note(Note),
    End(End),
    /// The own input has something, or has ended.
    Input,
    /// A signal.
    Signal(i32),
    /// Nothing came in time.
    Late,
}

/// The last frame of a channel.
#[derive(Debug)]
pub(super) struct End(Frame);

impl End {
    /// As an agent's.
    pub(super) fn reply(&self) -> Result<Reply, Fault> {
        match self.0.message("reply").map_err(broken)? {
            Reply::Failed(fault) => Err(fault),
            reply => Ok(reply),
        }
    }

    /// As the keeper's.
    pub(super) fn answer(&self) -> Result<Answer, Fault> {
        match self.0.message("answer").map_err(broken)? {
            Answer::Failed(fault) => Err(fault),
            answer => Ok(answer),
        }
    }
}

/// A channel that is open.
#[derive(Debug)]
pub(super) struct Channel<'a> {
    connection: &'a mut Connection,
    number: u32,
    /// Bytes that may still be sent.
    credit: u32,
}

impl Channel<'_> {
    /// How much may be sent at once now, in bytes.
    pub(super) fn room(&self) -> usize {
        (self.credit as usize).min(MAX_DATA)
    }

    /// What comes next; also, if an input is given, that it has something while there is room for it; and, if there is
    /// a signalfd, a signal of it.
    pub(super) fn next(
        &mut self,
        input: Option<BorrowedFd<'_>>,
        signals: Option<BorrowedFd<'_>>,
        until: Option<Instant>,
    ) -> Result<Came, Fault> {
        loop {
            while let Some(frame) = self.connection.decoder.next_frame().map_err(broken)? {
                if let Some(came) = self.take(frame)? {
                    return Ok(came);
                }
            }
            let input = input.filter(|_| self.room() > 0);
            let mut polled = vec![PollFd::from_borrowed_fd(self.connection.socket.as_fd(), PollFlags::IN)];
            polled.extend(signals.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            polled.extend(input.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            if !wait(&mut polled, until)? {
                return Ok(Came::Late);
            }
            let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
            let from_keeper = ready.next().unwrap_or(false);
            let signalled = signals.filter(|_| ready.next().unwrap_or(false));
            let from_input = input.is_some() && ready.next().unwrap_or(false);
            drop(polled);
            if let Some(signal) = signalled.and_then(signal_of) {
                return Ok(Came::Signal(signal));
            }
            if from_keeper {
                self.connection.read()?;
            } else if from_input {
                return Ok(Came::Input);
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<Option<Came>, Fault> {
        if frame.channel != self.number {
            // The rest of a channel that was given up.
            return Ok(None);
        }
        Ok(match frame.kind {
            Kind::Data => {
                let (stream, bytes) = frame.data().map_err(broken)?;
                Some(Came::Data(stream, bytes.to_vec()))
            }
            Kind::Credit => {
                let more = frame.credit().map_err(broken)?;
                self.credit = self.credit.saturating_add(more).min(WINDOW);
                None
            }
            Kind::Note => Some(Came::Note(frame.message("note").map_err(broken)?)),
            Kind::Reply => Some(Came::End(End(frame))),
            Kind::End => None,
            _ => return Err(broken(FrameError::Body("direction"))),
        })
    }

    /// Waits until something may be sent; gives what came instead, if something did.
    pub(super) fn wait_for_room(&mut self, until: Instant) -> Result<Option<Came>, Fault> {
        while self.room() == 0 {
            let Some(frame) = self.connection.frame(Some(until))? else { return Ok(Some(Came::Late)) };
            if let Some(came) = self.take(frame)? {
                return Ok(Some(came));
            }
        }
        Ok(None)
    }

    /// Waits for the end of something small that sends no data.
    pub(super) fn end(self) -> Result<End, Fault> {
        self.end_by(Instant::now() + ANSWER)
    }

    /// As [`Channel::end`], until a time.
    pub(super) fn end_by(mut self, until: Instant) -> Result<End, Fault> {
        loop {
            match self.next(None, None, Some(until))? {
                Came::End(end) => return Ok(end),
                Came::Late => {
                    return Err(
                        Fault::new(FaultKind::Timeout, "get an answer").hint("the machine may be paused")
                    );
                }
                Came::Data(_, bytes) => self.grant(bytes.len())?,
                Came::Note(_) | Came::Input | Came::Signal(_) => {}
            }
        }
    }

    /// Sends input, at most [`Channel::room`] bytes.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut frame = Vec::with_capacity(bytes.len() + 16);
        encode_data(&mut frame, self.number, Stream::Input, bytes);
        self.credit = self.credit.saturating_sub(bytes.len() as u32);
        self.connection.write(&frame)
    }

    /// No more input comes.
    pub(super) fn send_end(&mut self) -> Result<(), Fault> {
        self.send_raw(Kind::End, &[Stream::Input as u8])
    }

    /// So many bytes have been dealt with.
    pub(super) fn grant(&mut self, bytes: usize) -> Result<(), Fault> {
        self.send_raw(Kind::Credit, &(bytes as u32).to_le_bytes())
    }

    /// Sends a signal to what runs on the channel.
    pub(super) fn signal(&mut self, signal: i32) -> Result<(), Fault> {
        self.steer(&Steer::Signal(signal))
    }

    /// Does something to what runs on the channel.
    pub(super) fn steer(&mut self, steer: &Steer) -> Result<(), Fault> {
        self.connection.send(self.number, Kind::Steer, steer)
    }

    fn send_raw(&mut self, kind: Kind, body: &[u8]) -> Result<(), Fault> {
        let mut frame = Vec::with_capacity(16);
        encode(&mut frame, self.number, kind, 0, body);
        self.connection.write(&frame)
    }
}
