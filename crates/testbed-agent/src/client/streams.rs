//! Carries the streams of a channel until its end.

use super::connection::{ANSWER, Came, Channel, End};
use super::terminal;
use crate::agent::{Note, Steer};
use crate::fault::{Fault, FaultKind};
use crate::frame::Stream;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// Where the streams of a channel come from and go to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends<'a> {
    pub(super) input: Option<BorrowedFd<'a>>,
    pub(super) output: Option<BorrowedFd<'a>>,
    pub(super) error: Option<BorrowedFd<'a>>,
    /// Where to say what when what runs is ready.
    pub(super) ready: Option<(BorrowedFd<'a>, &'a str)>,
    /// Signals, and what they do.
    pub(super) signals: Option<(BorrowedFd<'a>, Signals<'a>)>,
    /// The byte of the input that ends the call; it is not sent.
    pub(super) leave: Option<u8>,
}

/// What signals do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signals<'a> {
    /// What runs is told to end.
    End,
    /// What runs has them; if it is on a terminal of the size of one of these, that follows them.
    PassOn(&'a [BorrowedFd<'a>]),
}

/// So many requests to end are passed on; the next ends the call, whatever becomes of what runs.
const REQUESTS: u32 = 3;

/// How a channel came to its end.
#[derive(Debug)]
pub(super) enum Carried {
    /// By itself.
    Ended(End),
    /// It was told to end, because its time was over.
    Stopped(End),
    /// Nobody reads what comes of it.
    Unread,
}

/// How long something that was told to end may take to do so.
const GRACE: Duration = Duration::from_secs(5);

/// Carries the streams until the end; after `timeout`, what runs is told to end.
pub(super) fn carry(
    mut channel: Channel<'_>,
    ends: Ends<'_>,
    timeout: Option<Duration>,
) -> Result<Carried, Fault> {
    let mut input = ends.input;
    let mut until = timeout.map(|timeout| Instant::now() + timeout);
    let mut stopped = false;
    let mut requests = 0;
    loop {
        match channel.next(input, ends.signals.map(|(fd, _)| fd), until)? {
            Came::Signal(signal) => {
                let is_request = matches!(signal, libc::SIGINT | libc::SIGTERM | libc::SIGHUP);
                requests += u32::from(is_request);
                match ends.signals.map(|(_, does)| does) {
                    _ if requests > REQUESTS => {
                        return Err(Fault::new(FaultKind::Interrupted, "interrupted"));
                    }
                    Some(Signals::PassOn(streams)) if signal == libc::SIGWINCH && !streams.is_empty() => {
                        let (rows, columns) = terminal::size(streams);
                        channel.steer(&Steer::Resize { rows, columns })?;
                    }
                    Some(Signals::PassOn(_)) => channel.signal(signal)?,
                    _ if is_request && !stopped => {
                        channel.signal(libc::SIGTERM)?;
                        stopped = true;
                        until = Some(Instant::now() + GRACE + ANSWER);
                    }
                    _ => {}
                }
            }
            Came::Data(stream, bytes) => {
                let target = if stream == Stream::Error { ends.error } else { ends.output };
                if let Some(target) = target
                    && !write_all(target, &bytes)?
                {
                    return Ok(Carried::Unread);
                }
                channel.grant(bytes.len())?;
            }
            Came::Note(Note::Ready) => {
                if let Some((target, text)) = ends.ready {
                    // Who does not want to know has closed it.
                    let _ = write_all(target, text.as_bytes());
                }
            }
            Came::Note(Note::Started { .. }) => {}
            Came::Input => {
                let mut buffer = vec![0; channel.room()];
                let length = match input.map(|fd| rustix::io::read(fd, &mut buffer)) {
                    Some(Ok(length)) => length,
                    Some(Err(Errno::INTR | Errno::AGAIN)) => continue,
                    // Standard input that cannot be read has nothing in it.
                    Some(Err(_)) | None => 0,
                };
                let left =
                    ends.leave.and_then(|leave| buffer[..length].iter().position(|byte| *byte == leave));
                if length == 0 {
                    input = None;
                    channel.send_end()?;
                } else {
                    channel.send(&buffer[..left.unwrap_or(length)])?;
                }
                if left.is_some() {
                    input = None;
                    channel.signal(libc::SIGTERM)?;
                    stopped = true;
                    until = Some(Instant::now() + GRACE + ANSWER);
                }
            }
            Came::End(end) => return Ok(if stopped { Carried::Stopped(end) } else { Carried::Ended(end) }),
            Came::Late if stopped => {
                return Err(Fault::new(FaultKind::Timeout, "end what runs").hint("the machine may be paused"));
            }
            Came::Late => {
                channel.signal(libc::SIGTERM)?;
                stopped = true;
                until = Some(Instant::now() + GRACE + ANSWER);
            }
        }
    }
}

/// False if nobody reads.
pub(super) fn write_all(target: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<bool, Fault> {
    while !bytes.is_empty() {
        match rustix::io::write(target, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut polled =
                    [rustix::event::PollFd::from_borrowed_fd(target, rustix::event::PollFlags::OUT)];
                let _ = rustix::event::poll(&mut polled, None);
            }
            Err(Errno::PIPE) => return Ok(false),
            Err(error) => return Err(Fault::system("write the output", &error.into())),
        }
    }
    Ok(true)
}
