//! TCP connections, made and accepted.

use super::wake::{Woken, after, wait};
use super::{Doing, ToolIo, interrupted};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;
use testbed_agent::agent::{MAX_CONNECTIONS, Report};
use testbed_agent::{Fault, FaultKind};

/// How much is read at once, and how much may wait to be sent.
const CHUNK: usize = 64 * 1024;

/// Connects; the stream does not block.
pub(crate) fn open(
    to: SocketAddr,
    from: Option<IpAddr>,
    until: Instant,
    stop: Option<BorrowedFd<'_>>,
) -> Result<TcpStream, Fault> {
    let doing = || format!("connect to {to}");
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP)).doing(doing())?;
    if let Some(from) = from {
        rustix::net::bind(&socket, &SocketAddr::from((from, 0))).doing(format!("connect from {from}"))?;
    }
    match rustix::net::connect(&socket, &to) {
        Ok(()) => return Ok(socket.into()),
        Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(Fault::system(doing(), &error.into())),
    }
    match wait(stop, [(socket.as_fd(), PollFlags::OUT)], Some(until))? {
        Woken::Stop => return Err(interrupted(doing())),
        Woken::Time => {
            let fault = Fault::new(FaultKind::Timeout, format!("{}: no answer", doing()));
            return Err(fault.hint("the packets are lost or dropped on the way, or the host is down"));
        }
        Woken::Events(_) => {}
    }
    rustix::net::sockopt::socket_error(&socket).doing(doing())?.doing(doing())?;
    Ok(socket.into())
}

/// Sends the input to a peer and writes its answer to the output.
pub(crate) fn connect(
    to: SocketAddr,
    from: Option<IpAddr>,
    wait_ms: u32,
    read: Option<u64>,
    io: &mut ToolIo<'_>,
) -> Result<Report, Fault> {
    let stream = open(to, from, after(wait_ms), io.stop)?;
    let local = stream.local_addr().doing("read the own address")?;
    io.say_ready()?;
    let mut exchange = Exchange { source: Some(Source::Input), ..Exchange::new(&stream) };
    exchange.run(io, read).map_err(|error| error.fault(to))?;
    Ok(Report::Connection { local, peer: to, sent: exchange.sent, received: exchange.received })
}

/// Accepts connections, one after another.
pub(crate) fn listen(
    at: SocketAddr,
    accept: u32,
    greeting: &[u8],
    echo: bool,
    io: &mut ToolIo<'_>,
) -> Result<Report, Fault> {
    let mut listener = Listener::open(at)?;
    io.say_ready()?;
    while accept == 0 || listener.all < u64::from(accept) {
        let Some((stream, peer)) = listener.accept(io.stop)? else { break };
        let source = echo.then_some(Source::Echo);
        let mut exchange = Exchange { source, pending: greeting.to_vec(), ..Exchange::new(&stream) };
        let result = exchange.run(io, None);
        listener.note(peer, exchange.received);
        match result {
            // A client that breaks off is the test's business, and the next one may come.
            Ok(Ended::Peer) | Err(Broken::Peer(_)) => {}
            Ok(Ended::Stopped) => break,
            Err(broken @ Broken::Own(_)) => return Err(broken.fault(peer)),
        }
    }
    Ok(listener.report())
}

/// A listening socket and what came to it.
pub(crate) struct Listener {
    socket: TcpListener,
    first: Vec<(SocketAddr, u64)>,
    pub(crate) all: u64,
}

impl Listener {
    pub(crate) fn open(at: SocketAddr) -> Result<Listener, Fault> {
        let doing = || format!("listen at {at}");
        let socket = TcpListener::bind(at).doing(doing()).map_err(|fault| match fault.errno {
            Some(errno) if errno == Errno::ADDRINUSE.raw_os_error() => {
                fault.hint("something else listens there")
            }
            Some(errno) if errno == Errno::ADDRNOTAVAIL.raw_os_error() => {
                fault.hint("no interface of this machine has that address")
            }
            _ => fault,
        })?;
        socket.set_nonblocking(true).doing(doing())?;
        Ok(Listener { socket, first: Vec::new(), all: 0 })
    }

    /// The next connection, which does not block; none when the tool shall stop.
    pub(crate) fn accept(
        &mut self,
        stop: Option<BorrowedFd<'_>>,
    ) -> Result<Option<(TcpStream, SocketAddr)>, Fault> {
        loop {
            match self.socket.accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(true).doing("accept")?;
                    return Ok(Some((stream, peer)));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if wait(stop, [(self.socket.as_fd(), PollFlags::IN)], None)? == Woken::Stop {
                        return Ok(None);
                    }
                }
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(Fault::system("accept", &error)),
            }
        }
    }

    pub(crate) fn note(&mut self, peer: SocketAddr, bytes: u64) {
        self.all += 1;
        if self.first.len() < MAX_CONNECTIONS {
            self.first.push((peer, bytes));
        }
    }

    pub(crate) fn report(self) -> Report {
        Report::Connections { first: self.first, all: self.all }
    }
}

/// Where bytes for the peer come from, beside those that wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Input,
    Echo,
}

/// Why an exchange ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The peer sent all it wanted, or enough was read.
    Peer,
    Stopped,
}

/// Why an exchange failed.
#[derive(Debug)]
enum Broken {
    Peer(std::io::Error),
    Own(Fault),
}

impl Broken {
    fn fault(self, peer: SocketAddr) -> Fault {
        match self {
            Broken::Peer(error) => Fault::system(format!("exchange data with {peer}"), &error),
            Broken::Own(fault) => fault,
        }
    }
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Broken {
        Broken::Own(fault)
    }
}

/// Both directions of a connection at once, so that neither side's full buffers stop the other.
struct Exchange<'a> {
    stream: &'a TcpStream,
    /// Where more comes from; none once that has ended.
    source: Option<Source>,
    /// Bytes to be sent, and how many of them have been.
    pending: Vec<u8>,
    done: usize,
    sent: u64,
    received: u64,
}

impl<'a> Exchange<'a> {
    fn new(stream: &'a TcpStream) -> Exchange<'a> {
        Exchange { stream, source: None, pending: Vec::new(), done: 0, sent: 0, received: 0 }
    }

    fn run(&mut self, io: &ToolIo<'_>, limit: Option<u64>) -> Result<Ended, Broken> {
        let mut output = io.output_file()?;
        let mut buffer = vec![0; CHUNK];
        // An end that reads a file or has nothing to send closes its direction as soon as all is out.
        let close_when_sent = self.source == Some(Source::Input);
        let mut closed = false;
        let mut peer_ended = false;
        loop {
            let waiting = self.done < self.pending.len();
            let enough = match limit {
                Some(0) => self.source.is_none() && !waiting,
                Some(limit) => self.received >= limit,
                None => false,
            };
            if enough {
                return Ok(Ended::Peer);
            }
            if peer_ended && !(waiting && self.source != Some(Source::Input)) {
                return Ok(Ended::Peer);
            }
            if close_when_sent && self.source.is_none() && !waiting && !closed {
                let _ = self.stream.shutdown(Shutdown::Write);
                closed = true;
            }
            let want_input = self.source == Some(Source::Input) && !waiting;
            // An echo takes no more than it can give back.
            let full = self.source == Some(Source::Echo) && waiting;
            let mut on_stream = PollFlags::empty();
            on_stream.set(PollFlags::IN, !peer_ended && !full && limit != Some(0));
            on_stream.set(PollFlags::OUT, waiting);
            let on_input = if want_input { PollFlags::IN } else { PollFlags::empty() };
            let watched = [(self.stream.as_fd(), on_stream), (io.input, on_input)];
            let [stream_events, input_events] = match wait(io.stop, watched, None)? {
                Woken::Events(events) => events,
                Woken::Time | Woken::Stop => return Ok(Ended::Stopped),
            };
            if !input_events.is_empty() {
                self.take_input(io)?;
            }
            if waiting && !stream_events.is_empty() {
                self.send()?;
            }
            if on_stream.contains(PollFlags::IN) && !stream_events.is_empty() {
                match self.receive(&mut buffer, limit)? {
                    None => {}
                    Some([]) => peer_ended = true,
                    Some(bytes) => {
                        self.received += bytes.len() as u64;
                        output.write_all(bytes).doing("write the output")?;
                        if self.source == Some(Source::Echo) {
                            self.pending.extend_from_slice(bytes);
                        }
                    }
                }
            }
        }
    }

    fn take_input(&mut self, io: &ToolIo<'_>) -> Result<(), Fault> {
        self.pending.resize(CHUNK, 0);
        let length = match rustix::io::read(io.input, &mut self.pending[..]) {
            Err(Errno::INTR | Errno::AGAIN) => {
                self.pending.clear();
                return Ok(());
            }
            result => result.doing("read the input")?,
        };
        self.pending.truncate(length);
        if length == 0 {
            self.source = None;
        }
        Ok(())
    }

    /// Sends what waits, as far as it goes. A peer that takes no more may still have something to say.
    fn send(&mut self) -> Result<(), Broken> {
        match (&mut &*self.stream).write(&self.pending[self.done..]) {
            Ok(length) => {
                self.sent += length as u64;
                self.done += length;
                if self.done == self.pending.len() {
                    self.pending.clear();
                    self.done = 0;
                }
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.pending.clear();
                self.done = 0;
                self.source = None;
                Ok(())
            }
            Err(error) => Err(Broken::Peer(error)),
        }
    }

    /// The next bytes of the peer: none if there are none yet, empty at its end.
    fn receive<'b>(&mut self, buffer: &'b mut [u8], limit: Option<u64>) -> Result<Option<&'b [u8]>, Broken> {
        let room = limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.received));
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(buffer.len());
        match (&mut &*self.stream).read(&mut buffer[..room]) {
            Ok(length) => Ok(Some(&buffer[..length])),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(Broken::Peer(error)),
        }
    }
}

#[cfg(test)]
mod tests;
