//! Carries frames between a keeper, who hands descriptors over, and an agent that is reached by bytes alone: that of a
//! machine with a kernel of its own, behind a port of its hypervisor.
//!
//! Frames pass as they are, but for requests that come with descriptors. Those stay here, and the agent is asked for
//! data frames instead; what these carry is moved from and to the descriptors, with credit for each channel as between
//! an agent and its programs. A reply waits until all that came before it has been written.
//!
//! Nothing is sent to an agent that rests: it waits until the frame that wakes the agent has gone before it. That one side
//! breaks the rules ends the carrier, which says so to the keeper first.

use super::{Doing, ToolIo, interrupted};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use testbed_agent::agent::{ErrorSink, Open, Reply, Report, Request, Sink, Source, Stdio};
use testbed_agent::frame::{
    Decoder, Frame, FrameError, Kind, MAX_DATA, Stream, WINDOW, encode, encode_data, encode_message,
};
use testbed_agent::{Fault, FaultKind};
use testbed_sys::fdpass;

/// Nothing more is read for a side that so many bytes wait for.
const MOST_WAITING: usize = 1 << 20;

/// Carries until one of the sides closes. The input is the agent's stream, the output the keeper's socket; both go both
/// ways.
pub(super) fn run(io: &mut ToolIo<'_>) -> Result<Report, Fault> {
    for side in [io.input, io.output] {
        rustix::io::ioctl_fionbio(side, true).doing("set up a socket")?;
    }
    io.say_ready()?;
    let mut carrier = Carrier { held: Some(Vec::new()), ..Carrier::default() };
    let mut buffer = vec![0; MAX_DATA];
    loop {
        match carrier.turn(io, &mut buffer) {
            Ok(true) => {}
            Ok(false) => return Ok(Report::Done),
            Err(fault) => {
                // Behind all that came before it; who does not read it has gone.
                let told = Reply::Failed(fault.clone());
                let mut bytes = Vec::new();
                if encode_message(&mut bytes, 0, Kind::Reply, 0, &told).is_ok() {
                    carrier.to_keeper.extend(bytes);
                    write_waiting(io.output, &mut carrier.to_keeper);
                }
                return Err(fault);
            }
        }
    }
}

/// Bytes that a descriptor did not take yet.
type Waiting = VecDeque<u8>;

#[derive(Default)]
struct Carrier {
    from_keeper: Decoder,
    from_agent: Decoder,
    to_keeper: Waiting,
    to_agent: Waiting,
    /// Frames for an agent that rests; none if it does not.
    held: Option<Vec<u8>>,
    handed: VecDeque<OwnedFd>,
    channels: BTreeMap<u32, Channel>,
}

/// A channel whose streams are descriptors here.
#[derive(Default)]
struct Channel {
    input: Option<Feed>,
    output: Option<Drain>,
    error: Option<Drain>,
    /// What is told once all is written.
    reply: Option<Frame>,
}

/// Where a program's input comes from.
struct Feed {
    fd: OwnedFd,
    /// Bytes that the agent still takes.
    credit: usize,
}

/// Where a program's output goes.
struct Drain {
    /// None once nobody reads it any more.
    fd: Option<OwnedFd>,
    pending: Waiting,
}

/// What is waited for, in the order in which it is polled.
#[derive(Clone, Copy)]
enum Watched {
    Keeper,
    Agent,
    Stop,
    Input(u32),
    Drain(u32, Stream),
}

impl Carrier {
    /// Waits for the next event and does what is to be done. False once a side has closed.
    fn turn(&mut self, io: &ToolIo<'_>, buffer: &mut [u8]) -> Result<bool, Fault> {
        let happened = self.wait(io)?;
        for (watched, flags) in happened {
            let can_read = flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
            match watched {
                Watched::Stop => return Err(interrupted("carry frames")),
                Watched::Keeper => {
                    write_waiting(io.output, &mut self.to_keeper);
                    if can_read && !self.read_keeper(io.output, buffer)? {
                        return Ok(false);
                    }
                }
                Watched::Agent => {
                    write_waiting(io.input, &mut self.to_agent);
                    if can_read && !self.read_agent(io.input, buffer)? {
                        return Ok(false);
                    }
                }
                Watched::Input(channel) => self.feed(channel, buffer),
                Watched::Drain(channel, stream) => self.drain(channel, stream),
            }
        }
        write_waiting(io.output, &mut self.to_keeper);
        write_waiting(io.input, &mut self.to_agent);
        Ok(true)
    }

    fn wait(&self, io: &ToolIo<'_>) -> Result<Vec<(Watched, PollFlags)>, Fault> {
        let side = |in_full: bool, out: &Waiting| {
            let read = if in_full { PollFlags::empty() } else { PollFlags::IN };
            read | if out.is_empty() { PollFlags::empty() } else { PollFlags::OUT }
        };
        let (agent_is_full, keeper_is_full) =
            (self.to_agent.len() > MOST_WAITING, self.to_keeper.len() > MOST_WAITING);
        let mut all: Vec<(Watched, BorrowedFd<'_>, PollFlags)> = vec![
            (Watched::Keeper, io.output, side(agent_is_full, &self.to_keeper)),
            (Watched::Agent, io.input, side(keeper_is_full, &self.to_agent)),
        ];
        all.extend(io.stop.map(|stop| (Watched::Stop, stop, PollFlags::IN)));
        for (number, channel) in &self.channels {
            let fed = channel.input.as_ref().filter(|feed| feed.credit > 0 && !agent_is_full);
            let fed = fed.filter(|_| self.held.is_none());
            all.extend(fed.map(|feed| (Watched::Input(*number), feed.fd.as_fd(), PollFlags::IN)));
            for (stream, drain) in [(Stream::Output, &channel.output), (Stream::Error, &channel.error)] {
                let fd = drain.as_ref().filter(|d| !d.pending.is_empty()).and_then(|d| d.fd.as_ref());
                all.extend(fd.map(|fd| (Watched::Drain(*number, stream), fd.as_fd(), PollFlags::OUT)));
            }
        }
        let mut polled: Vec<PollFd<'_>> =
            all.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Fault::system("poll", &error.into())),
        }
        let happened = all.iter().zip(&polled).map(|((watched, ..), polled)| (*watched, polled.revents()));
        Ok(happened.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    /// False once the keeper has gone.
    fn read_keeper(&mut self, keeper: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<bool, Fault> {
        let mut fds = Vec::new();
        match fdpass::receive(keeper, buffer, &mut fds) {
            Ok(0) => return Ok(false),
            Ok(length) => self.from_keeper.feed(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            // It has gone without reading all that it was told.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(Fault::system("hear the keeper", &error)),
        }
        self.handed.extend(fds);
        while let Some(frame) = self.from_keeper.next_frame().map_err(|e| broken("keeper", &e))? {
            self.pass_in(frame).map_err(|e| broken("keeper", &e))?;
        }
        Ok(true)
    }

    fn pass_in(&mut self, frame: Frame) -> Result<(), FrameError> {
        let mut bytes = Vec::new();
        let (count, kind) = (usize::from(frame.fds), frame.kind);
        if count > self.handed.len() {
            return Err(FrameError::Descriptors(frame.fds));
        }
        let mut rests = false;
        if kind == Kind::Open {
            let mut open: Open = frame.message("request")?;
            rests = open.request == Request::Rest;
            let fds: Vec<OwnedFd> = self.handed.drain(..count).collect();
            if !fds.is_empty() {
                self.channels.insert(frame.channel, Channel::keep(&mut open.request, fds)?);
            }
            encode_message(&mut bytes, frame.channel, Kind::Open, 0, &open)?;
        } else {
            // Whatever else comes with descriptors has no use for them.
            self.handed.drain(..count);
            Frame { fds: 0, ..frame }.encode(&mut bytes);
        }
        if kind == Kind::Wake {
            let held = self.held.take().unwrap_or_default();
            self.send(&bytes);
            self.send(&held);
        } else {
            self.send(&bytes);
        }
        if rests && self.held.is_none() {
            self.held = Some(Vec::new());
        }
        Ok(())
    }

    /// Sends frames to the agent, once it does not rest.
    fn send(&mut self, frames: &[u8]) {
        match &mut self.held {
            Some(held) => held.extend_from_slice(frames),
            None => self.to_agent.extend(frames),
        }
    }

    /// False once the agent has gone.
    fn read_agent(&mut self, agent: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<bool, Fault> {
        match rustix::io::read(agent, &mut *buffer) {
            Ok(0) => return Ok(false),
            Ok(length) => self.from_agent.feed(&buffer[..length]),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            Err(Errno::CONNRESET) => return Ok(false),
            Err(error) => return Err(Fault::system("hear the agent", &error.into())),
        }
        while let Some(frame) = self.from_agent.next_frame().map_err(|e| broken("agent", &e))? {
            self.pass_out(frame).map_err(|e| broken("agent", &e))?;
        }
        Ok(true)
    }

    fn pass_out(&mut self, frame: Frame) -> Result<(), FrameError> {
        let number = frame.channel;
        if let Some(channel) = self.channels.get_mut(&number) {
            match frame.kind {
                Kind::Data => {
                    let (stream, payload) = frame.data()?;
                    if let Some(drain) = channel.drain_of(stream) {
                        if drain.pending.len() + payload.len() > WINDOW as usize {
                            return Err(FrameError::Body("credit"));
                        }
                        drain.pending.extend(payload);
                        self.drain(number, stream);
                        return Ok(());
                    }
                }
                Kind::Credit => {
                    if let Some(feed) = &mut channel.input {
                        feed.credit = (feed.credit + frame.credit()? as usize).min(WINDOW as usize);
                        return Ok(());
                    }
                }
                Kind::Reply => {
                    channel.input = None;
                    channel.reply = Some(frame);
                    self.conclude(number);
                    return Ok(());
                }
                _ => {}
            }
        }
        let mut bytes = Vec::new();
        // No descriptor ever comes out of a machine.
        Frame { fds: 0, ..frame }.encode(&mut bytes);
        self.to_keeper.extend(bytes);
        Ok(())
    }

    /// Moves input to the agent, as far as credit goes.
    fn feed(&mut self, number: u32, buffer: &mut [u8]) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Some(feed) = &mut channel.input else { return };
        let room = feed.credit.min(MAX_DATA).min(buffer.len());
        let mut bytes = Vec::new();
        match rustix::io::read(&feed.fd, &mut buffer[..room]) {
            Ok(length) if length > 0 => {
                feed.credit -= length;
                encode_data(&mut bytes, number, Stream::Input, &buffer[..length]);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => {
                channel.input = None;
                encode(&mut bytes, number, Kind::End, 0, &[Stream::Input as u8]);
            }
        }
        self.send(&bytes);
    }

    /// Moves output to whoever reads it, and grants the agent as much more.
    fn drain(&mut self, number: u32, stream: Stream) {
        let Some(drain) = self.channels.get_mut(&number).and_then(|channel| channel.drain_of(stream)) else {
            return;
        };
        let before = drain.pending.len();
        match &drain.fd {
            Some(fd) if !write_waiting(fd.as_fd(), &mut drain.pending) => drain.fd = None,
            _ => {}
        }
        if drain.fd.is_none() {
            drain.pending.clear();
        }
        let moved = (before - drain.pending.len()) as u32;
        if moved > 0 {
            let mut bytes = Vec::new();
            encode(&mut bytes, number, Kind::Credit, 0, &moved.to_le_bytes());
            self.send(&bytes);
        }
        self.conclude(number);
    }

    /// Tells the end of a channel once all that came before it has been written.
    fn conclude(&mut self, number: u32) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let written = |drain: &Option<Drain>| drain.as_ref().is_none_or(|drain| drain.pending.is_empty());
        if written(&channel.output)
            && written(&channel.error)
            && let Some(reply) = channel.reply.take()
        {
            self.channels.remove(&number);
            let mut bytes = Vec::new();
            Frame { fds: 0, ..reply }.encode(&mut bytes);
            self.to_keeper.extend(bytes);
        }
    }
}

impl Channel {
    /// Takes the streams of a request that came as descriptors, and makes them data frames in it.
    fn keep(request: &mut Request, fds: Vec<OwnedFd>) -> Result<Channel, FrameError> {
        let mut kept = Channel::default();
        let mut fds = fds.into_iter();
        let mut next = || {
            let fd = fds.next().ok_or(FrameError::Body("request"))?;
            rustix::io::ioctl_fionbio(&fd, true).map_err(|_| FrameError::Body("descriptor"))?;
            Ok(fd)
        };
        let drain = |fd| Some(Drain { fd: Some(fd), pending: Waiting::new() });
        let (input, output, error) = match request {
            Request::Run(run) => match &mut run.stdio {
                Stdio::Apart { input, output, error } => (input, output, Some(error)),
                Stdio::Terminal { .. } => return Ok(kept),
            },
            Request::TakeUp(Stdio::Apart { input, output, error }) => (input, output, Some(error)),
            Request::Tool(tooling) => (&mut tooling.input, &mut tooling.output, None),
            _ => return Ok(kept),
        };
        if *input == Source::Handed {
            *input = Source::Channel;
            kept.input = Some(Feed { fd: next()?, credit: WINDOW as usize });
        }
        if *output == Sink::Handed {
            *output = Sink::Channel;
            kept.output = drain(next()?);
        }
        if let Some(error) = error.filter(|error| **error == ErrorSink::Handed) {
            *error = ErrorSink::Channel;
            kept.error = drain(next()?);
        }
        Ok(kept)
    }

    fn drain_of(&mut self, stream: Stream) -> Option<&mut Drain> {
        match stream {
            Stream::Input => None,
            Stream::Output => self.output.as_mut(),
            Stream::Error => self.error.as_mut(),
        }
    }
}

/// Writes what waits, as far as it is taken. False if nobody reads there any more.
fn write_waiting(fd: BorrowedFd<'_>, waiting: &mut Waiting) -> bool {
    while !waiting.is_empty() {
        let (front, _) = waiting.as_slices();
        match rustix::io::write(fd, front) {
            Ok(length) => drop(waiting.drain(..length)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
    true
}

fn broken(who: &str, error: &FrameError) -> Fault {
    Fault::new(FaultKind::Protocol, format!("understand the {who}: {error}"))
}

#[cfg(test)]
mod tests;
