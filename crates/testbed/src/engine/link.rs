//! A framed Unix socket: to the launcher, to an agent, or to whoever controls the testbed.
//!
//! Whoever has something to say writes at once, from its own thread; only the poller reads. So a request costs no
//! change of threads on its way out and one on its way back.
//!
//! The agents of machines in a capsule have no sockets here: their links go through that of the capsule's agent, and
//! share its numbers of channels.

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use testbed_agent::agent::{Open, Request};
use testbed_agent::capsule;
use testbed_agent::frame::{Decoder, Frame, FrameError, Kind, encode, encode_message};
use testbed_agent::{Fault, FaultKind};
use testbed_sys::fdpass;

/// Something that came on a channel.
#[derive(Debug)]
pub(crate) enum Event {
    /// A frame of it, with its descriptors. A [`Kind::Reply`] is the last.
    Frame(Frame, Vec<OwnedFd>),
    /// The other side is gone; nothing more comes.
    Gone(Fault),
}

/// Takes what comes on a channel, on the poller's thread: it must not wait.
pub(crate) trait Receive: Send + Sync {
    /// Something came. After a [`Kind::Reply`] or [`Event::Gone`] nothing more does.
    fn take(&self, event: Event);
}

/// What becomes of frames that belong to no channel we opened.
pub(crate) trait Handler: Send + Sync {
    /// A frame on a channel that is not ours: a greeting, a note, a channel that the other side opens.
    ///
    /// # Errors
    /// When the other side must not send it; the link is closed then.
    fn take(&self, link: &Link, frame: Frame, fds: Vec<OwnedFd>) -> Result<(), FrameError>;

    /// The link is closed.
    fn closed(&self, fault: &Fault);
}

/// The operation of the fault that a link ends with when the other side closes it.
pub(crate) const GONE: &str = "the other side has gone";

pub(crate) struct Link {
    /// Who is at the other end, for errors.
    name: String,
    way: Way,
    channels: Mutex<Channels>,
    handler: Box<dyn Handler>,
}

/// How the other end is reached.
enum Way {
    Socket {
        socket: OwnedFd,
        out: Mutex<Out>,
        input: Mutex<Input>,
    },
    /// By the agent of a capsule, which knows the other end by its machine's number.
    Through {
        outer: Arc<Link>,
        machine: u32,
    },
}

/// Passes on what an outer link hears for one that goes through it.
struct Passing {
    inner: Weak<Link>,
}

impl Receive for Passing {
    fn take(&self, event: Event) {
        let Some(inner) = self.inner.upgrade() else { return };
        match event {
            Event::Frame(frame, fds) => inner.pass(frame, fds),
            Event::Gone(fault) => inner.close(fault),
        }
    }
}

#[derive(Default)]
struct Out {
    /// What the socket did not take at once, with the descriptors that travel with each piece's first byte.
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    /// How many bytes these are.
    bytes: usize,
}

impl Out {
    fn push(&mut self, bytes: Vec<u8>, fds: Vec<OwnedFd>) {
        self.bytes += bytes.len();
        self.waiting.push_back((bytes, fds));
    }
}

struct Channels {
    next: u32,
    open: HashMap<u32, Listener>,
    gone: Option<Fault>,
}

impl Channels {
    fn new(first: u32) -> Channels {
        Channels { next: first, open: HashMap::new(), gone: None }
    }

    fn number(&mut self) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(2).max(1);
        number
    }
}

/// Who waits for what comes on a channel.
#[derive(Clone)]
enum Listener {
    Queue {
        events: Sender<Event>,
        /// Made readable with each event, for who waits for other descriptors as well.
        wake: Option<Arc<OwnedFd>>,
    },
    Direct(Arc<dyn Receive>),
}

impl Listener {
    fn tell(&self, event: Event) {
        match self {
            Listener::Queue { events, wake } => {
                // Nobody may listen any more; then it is for nobody.
                let _ = events.send(event);
                if let Some(wake) = wake {
                    let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
                }
            }
            Listener::Direct(receiver) => receiver.take(event),
        }
    }
}

struct Input {
    decoder: Decoder,
    fds: VecDeque<OwnedFd>,
    buffer: Vec<u8>,
}

/// What the poller shall do next with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Read,
    ReadAndWrite,
    /// Nothing more is read until the other side has read what waits for it.
    Write,
    Close,
}

/// The other side's frames are not read while so many bytes wait for it.
const MOST_WAITING: usize = 4 << 20;

impl Link {
    /// Wraps a connected socket. Channels that we open have odd numbers if `first` is 1, even ones if it is 2.
    ///
    /// # Errors
    /// Those of making the socket non-blocking.
    pub(crate) fn new(
        name: impl Into<String>,
        socket: OwnedFd,
        first: u32,
        handler: Box<dyn Handler>,
    ) -> io::Result<Link> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let input = Input { decoder: Decoder::new(), fds: VecDeque::new(), buffer: vec![0; 64 * 1024] };
        Ok(Link {
            name: name.into(),
            way: Way::Socket { socket, out: Mutex::default(), input: Mutex::new(input) },
            channels: Mutex::new(Channels::new(first)),
            handler,
        })
    }

    /// A link to the agent of a machine in a capsule, through the link to the capsule's own.
    pub(crate) fn through(
        name: impl Into<String>,
        outer: Arc<Link>,
        machine: u32,
        handler: Box<dyn Handler>,
    ) -> Link {
        let channels = Mutex::new(Channels::new(1));
        Link { name: name.into(), way: Way::Through { outer, machine }, channels, handler }
    }

    /// The socket, if it has one of its own.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.way {
            Way::Socket { socket, .. } => Some(socket.as_fd()),
            Way::Through { .. } => None,
        }
    }

    /// Has an agent do something: opens a channel with a request.
    ///
    /// # Errors
    /// As for [`Link::open`].
    pub(crate) fn ask(
        self: &Arc<Link>,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<(u32, Receiver<Event>), Fault> {
        self.open(Kind::Open, &self.addressed(request), fds)
    }

    /// A request as the other end is to get it.
    pub(crate) fn addressed(&self, request: Request) -> Open {
        let machine = match &self.way {
            Way::Socket { .. } => String::new(),
            Way::Through { machine, .. } => capsule::address(*machine),
        };
        Open { machine, request }
    }

    /// Opens a channel with a message and gives what will come on it.
    ///
    /// # Errors
    /// Why the other side cannot be reached, or a message that is too long.
    pub(crate) fn open<T: Serialize>(
        self: &Arc<Link>,
        kind: Kind,
        message: &T,
        fds: Vec<OwnedFd>,
    ) -> Result<(u32, Receiver<Event>), Fault> {
        self.open_waking(kind, message, fds, None)
    }

    /// Opens a channel; `wake`, an eventfd, becomes readable whenever something has come on it.
    ///
    /// # Errors
    /// As for [`Link::open`].
    pub(crate) fn open_waking<T: Serialize>(
        self: &Arc<Link>,
        kind: Kind,
        message: &T,
        fds: Vec<OwnedFd>,
        wake: Option<Arc<OwnedFd>>,
    ) -> Result<(u32, Receiver<Event>), Fault> {
        let (events, receiver) = channel();
        let number = self.begin(Listener::Queue { events, wake }, kind, message, fds)?;
        Ok((number, receiver))
    }

    /// Opens a channel; what comes on it is given to `receiver` as it comes.
    ///
    /// # Errors
    /// As for [`Link::open`].
    pub(crate) fn open_direct<T: Serialize>(
        self: &Arc<Link>,
        kind: Kind,
        message: &T,
        receiver: Arc<dyn Receive>,
    ) -> Result<u32, Fault> {
        self.begin(Listener::Direct(receiver), kind, message, Vec::new())
    }

    fn begin<T: Serialize>(
        self: &Arc<Link>,
        listener: Listener,
        kind: Kind,
        message: &T,
        fds: Vec<OwnedFd>,
    ) -> Result<u32, Fault> {
        let number = match &self.way {
            Way::Socket { .. } => lock(&self.channels).number(),
            Way::Through { outer, .. } => lock(&outer.channels).number(),
        };
        self.begin_at(number, listener, kind, message, fds)?;
        Ok(number)
    }

    fn begin_at<T: Serialize>(
        self: &Arc<Link>,
        number: u32,
        listener: Listener,
        kind: Kind,
        message: &T,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Fault> {
        let mut channels = lock(&self.channels);
        if let Some(fault) = &channels.gone {
            return Err(fault.clone());
        }
        channels.open.insert(number, listener);
        drop(channels);
        if let Way::Through { outer, .. } = &self.way {
            let passing = Listener::Direct(Arc::new(Passing { inner: Arc::downgrade(self) }));
            lock(&outer.channels).open.insert(number, passing);
        }
        self.send(number, kind, message, fds).inspect_err(|_| {
            lock(&self.channels).open.remove(&number);
            if let Way::Through { outer, .. } = &self.way {
                lock(&outer.channels).open.remove(&number);
            }
        })
    }

    /// The number of the next channel that we open.
    pub(crate) fn next_channel(&self) -> u32 {
        match &self.way {
            Way::Socket { .. } => lock(&self.channels).next,
            Way::Through { outer, .. } => outer.next_channel(),
        }
    }

    /// Opens a channel with a number of its own choice, which no other has had on this link.
    ///
    /// # Errors
    /// As for [`Link::open`].
    pub(crate) fn open_at<T: Serialize>(
        self: &Arc<Link>,
        number: u32,
        message: &T,
        fds: Vec<OwnedFd>,
    ) -> Result<Receiver<Event>, Fault> {
        let (events, receiver) = channel();
        self.begin_at(number, Listener::Queue { events, wake: None }, Kind::Open, message, fds)?;
        Ok(receiver)
    }

    /// Sends a message on a channel.
    ///
    /// # Errors
    /// As for [`Link::open`].
    pub(crate) fn send<T: Serialize>(
        &self,
        channel: u32,
        kind: Kind,
        message: &T,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Fault> {
        let mut bytes = Vec::with_capacity(256);
        encode_message(&mut bytes, channel, kind, fds.len() as u8, message)
            .map_err(|e| Fault::new(FaultKind::Invalid, format!("send a request: {e}")).on(&self.name))?;
        self.write(bytes, fds)
    }

    /// Sends bytes on a channel, as they are.
    ///
    /// # Errors
    /// Why the other side cannot be reached.
    pub(crate) fn send_raw(&self, channel: u32, kind: Kind, body: &[u8]) -> Result<(), Fault> {
        let mut bytes = Vec::with_capacity(16 + body.len());
        encode(&mut bytes, channel, kind, 0, body);
        self.write(bytes, Vec::new())
    }

    /// Sends frames that are encoded already.
    ///
    /// # Errors
    /// As for [`Link::send_raw`].
    pub(crate) fn send_frames(&self, bytes: Vec<u8>) -> Result<(), Fault> {
        self.write(bytes, Vec::new())
    }

    fn write(&self, bytes: Vec<u8>, fds: Vec<OwnedFd>) -> Result<(), Fault> {
        let (socket, out) = match &self.way {
            Way::Socket { socket, out, .. } => (socket, out),
            Way::Through { outer, .. } => return outer.write(bytes, fds),
        };
        let mut out = lock(out);
        if out.waiting.is_empty() {
            let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
            match fdpass::send(socket.as_fd(), &bytes, &borrowed) {
                Ok(sent) if sent == bytes.len() => return Ok(()),
                Ok(sent) => out.push(bytes[sent..].to_vec(), Vec::new()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => out.push(bytes, fds),
                Err(e) => return Err(self.gone().unwrap_or_else(|| self.lost(&e))),
            }
        } else {
            out.push(bytes, fds);
        }
        drop(out);
        super::poller::wants_to_write(socket.as_fd());
        Ok(())
    }

    /// Why the link is closed, if it is.
    pub(crate) fn gone(&self) -> Option<Fault> {
        lock(&self.channels).gone.clone()
    }

    fn lost(&self, error: &io::Error) -> Fault {
        Fault::system("lost the connection", error).on(&self.name)
    }

    /// How many bytes wait until the other side reads.
    pub(crate) fn waiting(&self) -> usize {
        match &self.way {
            Way::Socket { out, .. } => lock(out).bytes,
            Way::Through { outer, .. } => outer.waiting(),
        }
    }

    /// So much waits that nothing more should be asked of the other side.
    pub(crate) fn is_stuck(&self) -> bool {
        self.waiting() > MOST_WAITING
    }

    /// Writes what waits and reads what has come. For the poller only.
    pub(crate) fn turn(&self, readable: bool) -> Next {
        match self.flush().and_then(|()| {
            if readable && !self.is_stuck() {
                self.read()?;
            }
            Ok(self.waiting())
        }) {
            Ok(0) => Next::Read,
            Ok(bytes) if bytes <= MOST_WAITING => Next::ReadAndWrite,
            Ok(_) => Next::Write,
            Err(fault) => {
                self.close(fault);
                Next::Close
            }
        }
    }

    fn flush(&self) -> Result<(), Fault> {
        let Way::Socket { socket, out, .. } = &self.way else { return Ok(()) };
        let mut out = lock(out);
        while let Some((bytes, fds)) = out.waiting.front() {
            let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
            match fdpass::send(socket.as_fd(), bytes, &borrowed) {
                Ok(sent) if sent == bytes.len() => {
                    out.bytes -= sent;
                    out.waiting.pop_front();
                }
                Ok(sent) => {
                    let rest = bytes[sent..].to_vec();
                    out.bytes -= sent;
                    out.waiting[0] = (rest, Vec::new());
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // What it said before it went is still to be read.
                Err(_) => *out = Out::default(),
            }
        }
        Ok(())
    }

    fn read(&self) -> Result<(), Fault> {
        let Way::Socket { socket, input, .. } = &self.way else { return Ok(()) };
        let mut input = lock(input);
        let mut fds = Vec::new();
        let Input { decoder, buffer, .. } = &mut *input;
        match fdpass::receive(socket.as_fd(), buffer, &mut fds) {
            Ok(0) => {
                return Err(Fault::new(FaultKind::Protocol, GONE).on(&self.name));
            }
            Ok(length) => decoder.feed(&buffer[..length]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(self.lost(&e)),
        }
        input.fds.extend(fds);
        let broken = |error| self.broken(&error);
        while let Some(frame) = input.decoder.next_frame().map_err(broken)? {
            let count = usize::from(frame.fds);
            if count > input.fds.len() {
                return Err(broken(FrameError::Descriptors(frame.fds)));
            }
            let fds = input.fds.drain(..count).collect();
            self.dispatch(frame, fds).map_err(broken)?;
        }
        Ok(())
    }

    fn broken(&self, error: &FrameError) -> Fault {
        Fault::new(FaultKind::Protocol, format!("the other side broke the protocol: {error}")).on(&self.name)
    }

    /// Takes a frame that an outer link has heard.
    pub(crate) fn pass(&self, frame: Frame, fds: Vec<OwnedFd>) {
        if let Err(error) = self.dispatch(frame, fds) {
            self.close(self.broken(&error));
        }
    }

    fn dispatch(&self, frame: Frame, fds: Vec<OwnedFd>) -> Result<(), FrameError> {
        let mut channels = lock(&self.channels);
        let last = frame.kind == Kind::Reply;
        let listener = if last {
            channels.open.remove(&frame.channel)
        } else {
            channels.open.get(&frame.channel).cloned()
        };
        drop(channels);
        match listener {
            Some(listener) => {
                listener.tell(Event::Frame(frame, fds));
                Ok(())
            }
            None => self.handler.take(self, frame, fds),
        }
    }

    /// Tells everybody who waits that nothing more comes, and shuts the socket.
    pub(crate) fn close(&self, fault: Fault) {
        let mut channels = lock(&self.channels);
        let fault = channels.gone.get_or_insert(fault).clone();
        let open = std::mem::take(&mut channels.open);
        drop(channels);
        match &self.way {
            Way::Socket { socket, .. } => {
                let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
            }
            Way::Through { outer, .. } => {
                lock(&outer.channels).open.retain(|number, _| !open.contains_key(number));
            }
        }
        for listener in open.into_values() {
            listener.tell(Event::Gone(fault.clone()));
        }
        self.handler.closed(&fault);
    }
}

/// A panic elsewhere leaves these in a sound state: each is changed in one step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
