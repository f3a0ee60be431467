//! Connections from the host into a machine that has no route to it: published ports, and proxies on standard streams.
//!
//! The launcher opens a socket in the machine's network
//! ([`Order::OpenSocket`](testbed_agent::launch::Order::OpenSocket)); connected here, it reaches what listens in the
//! machine, on its loopback too.

use super::wake::Bell;
use rustix::event::epoll::{self, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, connect, send, shutdown, sockopt};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use testbed_agent::{Doing as _, Fault, FaultKind};

/// Bytes that a connection holds in each direction.
const BUFFER: usize = 64 * 1024;
/// The most connections of a published port at a time; each costs two descriptors. Further ones wait.
const MOST: usize = 256;

/// A published port. Dropping it closes the port and its connections.
#[derive(Debug)]
pub struct Forward {
    local: SocketAddr,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl Forward {
    /// Listens at `at` on the host (port 0 for a free one) and relays each connection. `dial` opens one to the machine,
    /// that may still be under way.
    ///
    /// # Errors
    /// `at` is taken, and limits of the system.
    pub fn start<D>(at: SocketAddr, dial: D) -> Result<Forward, Fault>
    where
        D: Fn() -> Result<OwnedFd, Fault> + Send + 'static,
    {
        let listener = TcpListener::bind(at).doing(format!("listen at {at}"))?;
        listener.set_nonblocking(true).doing("listen")?;
        let local = listener.local_addr().doing("listen")?;
        let bell = Arc::new(Bell::new().doing("make a bell")?);
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).doing("make a poll")?;
        let data = |number| epoll::EventData::new_u64(number);
        epoll::add(&poll, &listener, data(LISTENER), EventFlags::IN).doing("watch the port")?;
        epoll::add(&poll, &*bell, data(BELL), EventFlags::IN).doing("watch the bell")?;
        let relays = Relays { poll, listener, full: false, dial, all: HashMap::new(), next: 0 };
        let thread = std::thread::Builder::new()
            .name("testbed-forward".into())
            .spawn(move || relays.live())
            .doing("publish a port")?;
        Ok(Forward { local, bell, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was told when it happened.
            let _ = thread.join();
        }
    }
}

const LISTENER: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;

struct Relays<D> {
    poll: OwnedFd,
    listener: TcpListener,
    /// No further connection is accepted for now.
    full: bool,
    dial: D,
    all: HashMap<u64, Relay>,
    next: u64,
}

impl<D: Fn() -> Result<OwnedFd, Fault>> Relays<D> {
    fn live(mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            for event in &events {
                match event.data.u64() {
                    BELL => return,
                    LISTENER => self.accept(),
                    number => self.run(number / 2, (number % 2) as usize),
                }
            }
        }
    }

    fn accept(&mut self) {
        while self.all.len() < MOST {
            let client = match self.listener.accept() {
                Ok((client, _)) => client,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Nobody any more, or too many descriptors: the others wait in the kernel's queue.
                Err(error) => {
                    let waits = matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE));
                    return self.pause(waits && !self.all.is_empty());
                }
            };
            // A client that cannot be served finds its connection closed.
            let _ = self.begin(client.into());
        }
        self.pause(true);
    }

    /// Stops accepting, or goes on with it.
    fn pause(&mut self, full: bool) {
        if full != self.full {
            let flags = if full { EventFlags::empty() } else { EventFlags::IN };
            let done = epoll::modify(&self.poll, &self.listener, epoll::EventData::new_u64(LISTENER), flags);
            self.full = full && done.is_ok();
        }
    }

    fn begin(&mut self, client: OwnedFd) -> Result<(), Fault> {
        let machine = (self.dial)()?;
        rustix::io::ioctl_fionbio(&client, true).doing("relay")?;
        rustix::io::ioctl_fionbio(&machine, true).doing("relay")?;
        sockopt::set_tcp_nodelay(&client, true).doing("relay")?;
        let number = self.next;
        self.next += 1;
        let edges = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        for (side, socket) in [&client, &machine].into_iter().enumerate() {
            let data = epoll::EventData::new_u64(number * 2 + side as u64);
            epoll::add(&self.poll, socket, data, edges).doing("relay")?;
        }
        self.all
            .insert(number, Relay { sockets: [client, machine], ways: Default::default(), connected: false });
        Ok(())
    }

    fn run(&mut self, number: u64, side: usize) {
        let Some(relay) = self.all.get_mut(&number) else { return };
        if !relay.run(side) {
            self.all.remove(&number);
            if self.full {
                self.pause(false);
                self.accept();
            }
        }
    }
}

/// Two connections that are one: the client's and the machine's.
struct Relay {
    sockets: [OwnedFd; 2],
    /// From the client, and from the machine.
    ways: [Way; 2],
    /// The machine's side is connected.
    connected: bool,
}

const MACHINE: usize = 1;

impl Relay {
    /// Passes on what it can; returns whether the relay lives.
    fn run(&mut self, side: usize) -> bool {
        if !self.connected {
            if side == MACHINE {
                match sockopt::socket_error(&self.sockets[MACHINE]) {
                    Ok(Ok(())) => {
                        self.connected = rustix::net::getpeername(&self.sockets[MACHINE]).is_ok();
                    }
                    _ => return self.reset(),
                }
            }
            if !self.connected {
                return true;
            }
        }
        let [a, b] = &self.sockets;
        let [from_client, from_machine] = &mut self.ways;
        if from_client.pass(a, b).is_err() || from_machine.pass(b, a).is_err() {
            return self.reset();
        }
        !self.ways.iter().all(|way| way.over)
    }

    /// Lets both sides know that it did not end well.
    fn reset(&self) -> bool {
        for socket in &self.sockets {
            // Closing resets then.
            let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
        false
    }
}

/// One direction.
#[derive(Default)]
struct Way {
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
    /// The end has been passed on.
    over: bool,
}

impl Way {
    /// Passes on until one side has nothing or takes nothing.
    fn pass(&mut self, from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
        while !self.over {
            while self.start < self.buffer.len() {
                match send(to, &self.buffer[self.start..], SendFlags::NOSIGNAL) {
                    Ok(length) => self.start += length,
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
            if self.ended {
                self.over = true;
                // It fails only if the other side is gone, which reading from it tells.
                let _ = shutdown(to, Shutdown::Write);
                return Ok(());
            }
            self.start = 0;
            self.buffer.resize(BUFFER, 0);
            let received = rustix::io::read(from, &mut self.buffer[..]);
            self.buffer.truncate(*received.as_ref().unwrap_or(&0));
            match received {
                Ok(0) => self.ended = true,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // Idle connections hold no memory.
                    self.buffer = Vec::new();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Begins to connect to the first of a machine's own addresses that does not refuse; `open` opens a socket in the
/// machine's network, for IPv6 or not. The connection may still be under way: see [`wait_connected`].
///
/// # Errors
/// What the last address answered, and those of `open`.
pub fn dial(
    addresses: &[SocketAddr],
    open: impl Fn(bool) -> Result<OwnedFd, Fault>,
) -> Result<OwnedFd, Fault> {
    /// Within a machine an answer comes at once; who is too busy to give one is the right one.
    const AT_ONCE: Duration = Duration::from_millis(5);
    let mut last = Fault::new(FaultKind::Invalid, "connect to no address");
    for address in addresses {
        let socket = open(address.is_ipv6())?;
        rustix::io::ioctl_fionbio(&socket, true).doing("connect")?;
        sockopt::set_tcp_nodelay(&socket, true).doing("connect")?;
        let begun = match connect(&socket, address) {
            Ok(()) | Err(Errno::INPROGRESS) => wait_connected(&socket, AT_ONCE),
            Err(error) => Err(Fault::system("connect", &error.into())),
        };
        match begun {
            Err(fault) if fault.kind != FaultKind::Timeout => last = fault,
            _ => return Ok(socket),
        }
    }
    Err(last)
}

/// Waits until a connection is there.
///
/// # Errors
/// What the other side answers, and [`FaultKind::Timeout`] if it does not within `wait`.
pub fn wait_connected(socket: &OwnedFd, wait: Duration) -> Result<(), Fault> {
    let time = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
    match poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&time)).doing("connect")? {
        0 => Err(Fault::new(FaultKind::Timeout, "connect")),
        _ => sockopt::socket_error(socket).and_then(|inner| inner).doing("connect"),
    }
}

/// Passes `input` to a connected socket, and what comes back to `output`, until the machine's side ends: a proxy command
/// as of ssh_config(5). The end of `input` is passed on.
///
/// # Errors
/// Those of the socket and of `output`.
pub fn join<R, W>(socket: OwnedFd, mut input: R, mut output: W) -> Result<(), Fault>
where
    R: Read + Send + 'static,
    W: Write,
{
    rustix::io::ioctl_fionbio(&socket, false).doing("relay")?;
    let socket = std::net::TcpStream::from(socket);
    let towards = socket.try_clone().doing("relay")?;
    // It may wait for input for ever; when the machine's side has ended, nobody waits for it.
    std::thread::Builder::new()
        .name("testbed-join".into())
        .spawn(move || {
            // Whatever fails here shows at the other direction.
            let _ = io::copy(&mut input, &mut &towards);
            let _ = shutdown(towards.as_fd(), Shutdown::Write);
        })
        .doing("relay")?;
    io::copy(&mut &socket, &mut output).doing("relay")?;
    output.flush().doing("relay")
}
