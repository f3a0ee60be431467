//! The control socket of a machine that may drive its testbed: what its programs ask of the keeper goes over the
//! machine's own link, on channels with even numbers, and back.
//!
//! Numbers are all that changes, so credit goes from end to end. Descriptors do not travel. A program that breaks the
//! rules costs only itself, and one that goes takes with it what it asked for.

use rustix::event::epoll;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::HashMap;
use std::io;
use testbed_agent::agent::{Open, Reply, Steer};
use testbed_agent::control::{Answer, Ask, MAX_CHANNELS};
use testbed_agent::frame::{Decoder, Frame, FrameError, Hello, Kind, WINDOW, encode, encode_message};
use testbed_agent::{Fault, FaultKind};

/// Where programs find it.
pub(crate) const SOCKET: &str = "/run/testbed/control";
/// How many programs may be connected.
const MAX_CLIENTS: usize = 64;
/// How many bytes all programs together may leave unread. Beyond it, the one that leaves most is let go.
const MAX_HELD: usize = 16 << 20;
/// No program is listened to while so many bytes wait for the keeper.
const MAX_WAITING: usize = 256 * 1024;
/// Connections that wait to be taken.
const BACKLOG: i32 = 64;

/// The socket, who is connected, and their channels.
pub(super) struct Relay {
    pub(super) listener: OwnedFd,
    clients: HashMap<u32, Client>,
    next_client: u32,
    /// By the keeper's numbers.
    channels: HashMap<u32, Route>,
    next_channel: u32,
    /// Nobody is listened to.
    paused: bool,
}

/// A program that is connected.
struct Client {
    socket: OwnedFd,
    decoder: Decoder,
    greeted: bool,
    /// What it has not taken yet.
    out: Vec<u8>,
    /// From its numbers to the keeper's.
    channels: HashMap<u32, u32>,
    flags: epoll::EventFlags,
}

/// To whom a channel belongs.
struct Route {
    /// None once it has gone: the end of the channel is still to come.
    client: Option<u32>,
    /// Its number there.
    number: u32,
    /// Bytes that the client may still send.
    credit: u32,
}

impl Relay {
    /// Begins to listen. Only root may connect.
    pub(super) fn listen() -> io::Result<Relay> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&listener, &SocketAddrUnix::new(SOCKET)?)?;
        // Nobody can connect before it listens.
        rustix::fs::chmod(SOCKET, Mode::RUSR | Mode::WUSR)?;
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(Relay::at(listener))
    }

    fn at(listener: OwnedFd) -> Relay {
        Relay {
            listener,
            clients: HashMap::new(),
            next_client: 0,
            channels: HashMap::new(),
            next_channel: 2,
            paused: false,
        }
    }

    /// Takes a connection; `token` makes the token of its events from its number.
    pub(super) fn accept(&mut self, poll: &OwnedFd, token: impl Fn(u32) -> epoll::EventData) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // One that has gone again, or for which there is no descriptor, comes again or not.
        let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else { return };
        if self.clients.len() == MAX_CLIENTS {
            let fault = Fault::new(FaultKind::Exhausted, "speak to the keeper")
                .hint(format!("at most {MAX_CLIENTS} programs of a machine may at a time"));
            let mut bytes = Vec::new();
            if encode_message(&mut bytes, 0, Kind::Reply, 0, &Reply::Failed(fault)).is_ok() {
                let _ = rustix::net::send(&socket, &bytes, SendFlags::NOSIGNAL);
            }
            return;
        }
        let number = self.next_client;
        self.next_client = self.next_client.wrapping_add(1);
        let flags = if self.paused { epoll::EventFlags::empty() } else { epoll::EventFlags::IN };
        if epoll::add(poll, &socket, token(number), flags).is_ok() {
            let client = Client {
                socket,
                decoder: Decoder::new(),
                greeted: false,
                out: Vec::new(),
                channels: HashMap::new(),
                flags,
            };
            self.clients.insert(number, client);
        }
    }

    /// Lets all go that are connected: their keeper is another one now.
    pub(super) fn forget_all(&mut self) {
        self.clients.clear();
        self.channels.clear();
    }

    /// Something happened on a client's socket. `out` goes to the keeper.
    pub(super) fn event(&mut self, number: u32, flags: epoll::EventFlags, out: &mut Vec<u8>) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        if flags.contains(epoll::EventFlags::OUT) && client.flush().is_err() {
            return self.forget(number, out);
        }
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            match self.read(number, out) {
                Ok(true) => {}
                Ok(false) => self.forget(number, out),
                Err(error) => {
                    self.scold(number, &error);
                    self.forget(number, out);
                }
            }
        }
    }

    /// Reads a piece of what a client says; false if it has gone.
    fn read(&mut self, number: u32, out: &mut Vec<u8>) -> Result<bool, FrameError> {
        let Some(client) = self.clients.get_mut(&number) else { return Ok(true) };
        let mut bytes = [0_u8; 32 * 1024];
        match rustix::net::recv(&client.socket, &mut bytes, RecvFlags::empty()) {
            Ok((0, _)) => return Ok(false),
            Ok((length, _)) => client.decoder.feed(&bytes[..length]),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            Err(_) => return Ok(false),
        }
        while let Some(client) = self.clients.get_mut(&number) {
            let Some(frame) = client.decoder.next_frame()? else { break };
            self.take(number, &frame, out)?;
        }
        Ok(true)
    }

    /// A frame of a client's.
    fn take(&mut self, number: u32, frame: &Frame, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
        if frame.fds > 0 {
            return Err(FrameError::Descriptors(frame.fds));
        }
        if !client.greeted {
            if (frame.kind, frame.channel) != (Kind::Hello, 0) {
                return Err(FrameError::Body("hello"));
            }
            frame.message::<Hello>("hello")?.agree()?;
            client.greeted = true;
            return self.tell(number, 0, Kind::Hello, &Hello::ours());
        }
        if matches!(frame.kind, Kind::Open | Kind::Ask) {
            return self.open(number, frame, out);
        }
        let Some(ours) = client.channels.get(&frame.channel).copied() else {
            // The channel has just ended, and the client does not know yet.
            return match frame.kind {
                Kind::Data | Kind::End | Kind::Credit | Kind::Steer | Kind::Abort => Ok(()),
                _ => Err(FrameError::Body("direction")),
            };
        };
        match frame.kind {
            Kind::Data => {
                let (_, payload) = frame.data()?;
                let route = self.channels.get_mut(&ours).ok_or(FrameError::Body("channel number"))?;
                let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                route.credit = route.credit.checked_sub(length).ok_or(FrameError::Body("credit"))?;
            }
            Kind::End => {
                frame.end()?;
            }
            Kind::Credit => {
                frame.credit()?;
            }
            Kind::Steer => {
                frame.message::<Steer>("steering")?;
            }
            Kind::Abort => {}
            _ => return Err(FrameError::Body("direction")),
        }
        encode(out, ours, frame.kind, 0, &frame.body);
        Ok(())
    }

    fn open(&mut self, number: u32, frame: &Frame, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
        if frame.channel.is_multiple_of(2) || client.channels.contains_key(&frame.channel) {
            return Err(FrameError::Body("channel number"));
        }
        // What is no request would cost the machine its keeper.
        if frame.kind == Kind::Open {
            frame.message::<Open>("request")?;
        } else {
            frame.message::<Ask>("request")?;
        }
        if self.channels.len() >= MAX_CHANNELS {
            let fault = Fault::new(FaultKind::Exhausted, "ask the keeper")
                .hint(format!("a machine may ask for at most {MAX_CHANNELS} things at a time"));
            return match frame.kind {
                Kind::Open => self.tell(number, frame.channel, Kind::Reply, &Reply::Failed(fault)),
                _ => self.tell(number, frame.channel, Kind::Reply, &Answer::Failed(fault)),
            };
        }
        let ours = loop {
            let ours = self.next_channel;
            self.next_channel = self.next_channel.wrapping_add(2).max(2);
            if !self.channels.contains_key(&ours) {
                break ours;
            }
        };
        client.channels.insert(frame.channel, ours);
        self.channels.insert(ours, Route { client: Some(number), number: frame.channel, credit: WINDOW });
        encode(out, ours, frame.kind, 0, &frame.body);
        Ok(())
    }

    /// A frame of the keeper's, on one of our channels.
    pub(super) fn deliver(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let ours = frame.channel;
        let Some(route) = self.channels.get_mut(&ours) else { return Ok(()) };
        let (client, number) = (route.client, route.number);
        match frame.kind {
            Kind::Data | Kind::End | Kind::Note => {}
            Kind::Credit => route.credit = route.credit.saturating_add(frame.credit()?).min(WINDOW),
            Kind::Reply => {
                self.channels.remove(&ours);
                if let Some(client) = client.and_then(|client| self.clients.get_mut(&client)) {
                    client.channels.remove(&number);
                }
            }
            _ => return Err(FrameError::Body("direction")),
        }
        if let Some(client) = client.and_then(|client| self.clients.get_mut(&client)) {
            encode(&mut client.out, number, frame.kind, 0, &frame.body);
        }
        if let Some(number) = client {
            self.push(number, out);
        }
        Ok(())
    }

    /// Has a client take what it can.
    fn push(&mut self, number: u32, out: &mut Vec<u8>) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        // Whoever waits to be told that there is room is told.
        if !client.flags.contains(epoll::EventFlags::OUT) && client.flush().is_err() {
            return self.forget(number, out);
        }
        let held: usize = self.clients.values().map(|client| client.out.len()).sum();
        if held > MAX_HELD
            && let Some((greediest, _)) = self.clients.iter().max_by_key(|(_, client)| client.out.len())
        {
            self.forget(*greediest, out);
        }
    }

    fn tell<T: serde::Serialize>(
        &mut self,
        number: u32,
        channel: u32,
        kind: Kind,
        message: &T,
    ) -> Result<(), FrameError> {
        let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
        encode_message(&mut client.out, channel, kind, 0, message)?;
        // A client that has gone shows when it is read.
        let _ = client.flush();
        Ok(())
    }

    /// Tells a client why it is let go.
    fn scold(&mut self, number: u32, error: &FrameError) {
        let fault = Fault::new(FaultKind::Protocol, format!("understand this program: {error}"));
        let _ = self.tell(number, 0, Kind::Reply, &Reply::Failed(fault));
    }

    /// Lets a client go, and gives up what it asked for.
    fn forget(&mut self, number: u32, out: &mut Vec<u8>) {
        let Some(client) = self.clients.remove(&number) else { return };
        for ours in client.channels.into_values() {
            if let Some(route) = self.channels.get_mut(&ours) {
                route.client = None;
                encode(out, ours, Kind::Abort, 0, &[]);
            }
        }
    }

    /// At the end of a turn: listens to nobody while much waits for the keeper, and waits for those that have not taken
    /// all.
    pub(super) fn settle(
        &mut self,
        poll: &OwnedFd,
        waiting: usize,
        token: impl Fn(u32) -> epoll::EventData,
    ) -> io::Result<()> {
        self.paused = waiting > MAX_WAITING;
        for (number, client) in &mut self.clients {
            let mut flags = epoll::EventFlags::empty();
            flags.set(epoll::EventFlags::IN, !self.paused);
            flags.set(epoll::EventFlags::OUT, !client.out.is_empty());
            if flags != client.flags {
                client.flags = flags;
                epoll::modify(poll, client.socket.as_fd(), token(*number), flags)?;
            }
        }
        Ok(())
    }
}

impl Client {
    fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        let result = loop {
            if sent == self.out.len() {
                break Ok(());
            }
            match rustix::net::send(&self.socket, &self.out[sent..], SendFlags::NOSIGNAL) {
                Ok(length) => sent += length,
                Err(Errno::AGAIN) => break Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => break Err(error.into()),
            }
        };
        self.out.drain(..sent);
        result
    }
}

#[cfg(test)]
mod tests;
