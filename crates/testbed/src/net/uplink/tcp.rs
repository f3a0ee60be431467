//! TCP through an uplink: a connection of a machine ends here, and goes on as one of the host's.
//!
//! Each connection has a TCP stack of its own that holds one socket, so that its cost does not depend on how many there
//! are. A machine's connection is answered only when the host's exists, so that a refusal reaches the machine.

use super::packet::{Ends, put_ip};
use crate::net::switch::{Frames, Mac};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, connect, send, shutdown, socket_with,
    sockopt,
};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{self, State};
use smoltcp::time::{Duration as StackDuration, Instant as StackInstant};
use smoltcp::wire::{HardwareAddress, IpCidr};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Bytes that a connection holds in each direction.
const WINDOW: usize = 64 * 1024;
/// A machine that is silent for so long is gone.
const SILENCE: StackDuration = StackDuration::from_secs(120);
const ASK_AFTER: StackDuration = StackDuration::from_secs(45);
/// How long the host tries to connect.
const CONNECTING: Duration = Duration::from_secs(30);

/// What all connections of an uplink share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    pub(super) mac: Mac,
    pub(super) mtu: usize,
    /// When the stacks' clocks began.
    pub(super) since: Instant,
}

impl Ground {
    fn stack_time(&self, now: Instant) -> StackInstant {
        StackInstant::from_micros(now.duration_since(self.since).as_micros() as i64)
    }

    fn real_time(&self, then: StackInstant) -> Instant {
        self.since + Duration::from_micros(then.total_micros().max(0) as u64)
    }
}

/// A connection.
pub(super) struct Connection {
    machine: SocketAddr,
    /// What the machine believes to speak to.
    other: SocketAddr,
    mac: Mac,
    host: OwnedFd,
    phase: Phase,
    /// When something is to be done, whatever happens.
    pub(super) due: Option<Instant>,
}

enum Phase {
    /// The host connects. The machine's first packet waits.
    Connecting(Vec<u8>),
    Open(Box<Relay>),
}

/// What an event made of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    Over,
    /// The host could not connect; not refused by the other side.
    Unreachable,
}

impl Connection {
    /// Begins to connect to `target`, which the machine calls `other`. `packet` is the machine's first.
    pub(super) fn open(
        packet: &[u8],
        (machine, other): (SocketAddr, SocketAddr),
        target: SocketAddr,
        mac: Mac,
        now: Instant,
    ) -> Result<Connection, Errno> {
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let host = socket_with(family, SocketType::STREAM, flags, None)?;
        // What machines send in small pieces is passed on in small pieces.
        sockopt::set_tcp_nodelay(&host, true)?;
        match connect(&host, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let phase = Phase::Connecting(packet.to_vec());
        Ok(Connection { machine, other, mac, host, phase, due: Some(now + CONNECTING) })
    }

    pub(super) fn host(&self) -> &OwnedFd {
        &self.host
    }

    pub(super) fn ends(&self) -> (SocketAddr, SocketAddr) {
        (self.machine, self.other)
    }

    pub(super) fn mac(&self) -> Mac {
        self.mac
    }

    /// The machine's first packet, as long as the host connects.
    pub(super) fn first_packet(&self) -> Option<&[u8]> {
        match &self.phase {
            Phase::Connecting(packet) => Some(packet),
            Phase::Open(_) => None,
        }
    }

    /// Takes a packet of the machine.
    pub(super) fn packet(
        &mut self,
        ground: &Ground,
        packet: &[u8],
        mac: Mac,
        now: Instant,
        out: &mut Frames,
    ) -> Fate {
        self.mac = mac;
        match &mut self.phase {
            // It sends its first packet again.
            Phase::Connecting(_) => Fate::Lives,
            Phase::Open(relay) => {
                let ends = Ends { from: ground.mac, to: mac };
                let fate = relay.run(ground, Some(packet), &self.host, ends, now, out);
                self.settle(ground, fate, now)
            }
        }
    }

    /// The host's socket is ready, or the time has come.
    pub(super) fn ready(&mut self, ground: &Ground, event: bool, now: Instant, out: &mut Frames) -> Fate {
        let ends = Ends { from: ground.mac, to: self.mac };
        let fate = match &mut self.phase {
            Phase::Connecting(first) => {
                let error = sockopt::socket_error(&self.host).unwrap_or_else(Err);
                let refused = match error {
                    Ok(()) if !event => return Fate::Unreachable,
                    Ok(()) if rustix::net::getpeername(&self.host).is_err() => return Fate::Lives,
                    Ok(()) => false,
                    Err(Errno::CONNREFUSED | Errno::CONNRESET) => true,
                    Err(_) => return Fate::Unreachable,
                };
                let first = std::mem::take(first);
                let mut relay = Relay::new(ground, self.other, refused, now);
                let mut fate = relay.run(ground, Some(&first), &self.host, ends, now, out);
                if refused {
                    relay.socket().abort();
                    relay.run(ground, None, &self.host, ends, now, out);
                    fate = Fate::Over;
                }
                self.phase = Phase::Open(Box::new(relay));
                fate
            }
            Phase::Open(relay) => {
                if event {
                    (relay.readable, relay.writable) = (true, true);
                }
                relay.run(ground, None, &self.host, ends, now, out)
            }
        };
        self.settle(ground, fate, now)
    }

    fn settle(&mut self, ground: &Ground, fate: Fate, now: Instant) -> Fate {
        if let Phase::Open(relay) = &mut self.phase {
            let at = relay.stack.poll_at(ground.stack_time(now), &relay.sockets);
            self.due = at.map(|at| ground.real_time(at));
            if fate == Fate::Over && !relay.orderly {
                // Closing then resets the connection instead of ending it.
                let _ = sockopt::set_socket_linger(&self.host, Some(Duration::ZERO));
            }
        }
        fate
    }
}

/// Answers a packet that belongs to no connection, as a host does to whom nobody listens (RFC 9293 section 3.10.7.1).
pub(super) fn reset(ground: &Ground, to: IpAddr, packet: &[u8], mac: Mac, now: Instant, out: &mut Frames) {
    let mut wire =
        Wire { incoming: Some(packet), out, ends: Ends { from: ground.mac, to: mac }, mtu: ground.mtu };
    let mut stack = stack(ground, to, &mut wire, now);
    let mut nothing = SocketSet::new(Vec::new());
    stack.poll(ground.stack_time(now), &mut wire, &mut nothing);
}

/// A machine's connection that ends here, and what passes between it and the host's.
struct Relay {
    stack: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// The host's socket may have bytes, or may take some, for all that we know.
    readable: bool,
    writable: bool,
    host_ended: bool,
    machine_ended: bool,
    /// Both sides said that they were done.
    orderly: bool,
}

impl Relay {
    fn new(ground: &Ground, other: SocketAddr, paused: bool, now: Instant) -> Relay {
        let buffer = || tcp::SocketBuffer::new(vec![0; WINDOW]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_timeout(Some(SILENCE));
        socket.set_keep_alive(Some(ASK_AFTER));
        socket.set_nagle_enabled(false);
        socket.pause_synack(paused);
        // It fails only for a socket in use, or port 0: the machine's packet is then answered by a reset.
        let _ = socket.listen((other.ip(), other.port()));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        let mut nowhere = Frames::default();
        let ends = Ends { from: ground.mac, to: ground.mac };
        let mut wire = Wire { incoming: None, out: &mut nowhere, ends, mtu: ground.mtu };
        let stack = stack(ground, other.ip(), &mut wire, now);
        Relay {
            stack,
            sockets,
            handle,
            readable: true,
            writable: true,
            host_ended: false,
            machine_ended: false,
            orderly: false,
        }
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Lets packets and bytes pass until nothing more can.
    fn run(
        &mut self,
        ground: &Ground,
        packet: Option<&[u8]>,
        host: &OwnedFd,
        ends: Ends,
        now: Instant,
        out: &mut Frames,
    ) -> Fate {
        let mut wire = Wire { incoming: packet, out, ends, mtu: ground.mtu };
        let time = ground.stack_time(now);
        loop {
            self.stack.poll(time, &mut wire, &mut self.sockets);
            if !self.exchange(host) {
                break;
            }
        }
        match self.socket().state() {
            State::Closed => {
                self.orderly = self.machine_ended && self.host_ended;
                Fate::Over
            }
            // The host's side has ended as well: there is nobody to be told again.
            State::TimeWait => {
                self.orderly = true;
                Fate::Over
            }
            _ => Fate::Lives,
        }
    }

    /// Moves bytes between the two sockets; returns whether that changed anything for the stack.
    fn exchange(&mut self, host: &OwnedFd) -> bool {
        let mut changed = false;
        let Relay { sockets, handle, readable, writable, host_ended, machine_ended, .. } = self;
        let socket = sockets.get_mut::<tcp::Socket<'static>>(*handle);
        while *writable && socket.can_recv() {
            let sent = socket.recv(|bytes| match send(host, bytes, SendFlags::NOSIGNAL) {
                Ok(length) => (length, Ok(())),
                Err(error) => (0, Err(error)),
            });
            match sent {
                Ok(Ok(())) => changed = true,
                Ok(Err(Errno::INTR)) => {}
                Ok(Err(Errno::AGAIN)) => *writable = false,
                Ok(Err(_)) | Err(_) => {
                    socket.abort();
                    return true;
                }
            }
        }
        while *readable && !*host_ended && socket.can_send() {
            let received = socket.send(|room| match rustix::io::read(host, &mut *room) {
                Ok(length) => (length, Ok(length)),
                Err(error) => (0, Err(error)),
            });
            match received {
                Ok(Ok(0)) => {
                    *host_ended = true;
                    socket.close();
                    changed = true;
                }
                Ok(Ok(_)) => changed = true,
                Ok(Err(Errno::INTR)) => {}
                Ok(Err(Errno::AGAIN)) => *readable = false,
                Ok(Err(_)) | Err(_) => {
                    socket.abort();
                    return true;
                }
            }
        }
        let has_ended = matches!(
            socket.state(),
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait | State::Closed
        );
        if has_ended && !*machine_ended && !socket.can_recv() && socket.state() != State::Closed {
            *machine_ended = true;
            // It fails if the other side is gone already, which reading tells.
            let _ = shutdown(host, Shutdown::Write);
        }
        changed
    }
}

/// A stack that is at `address`, whatever that is, and has everybody as its neighbour.
fn stack(ground: &Ground, address: IpAddr, wire: &mut Wire<'_>, now: Instant) -> Interface {
    use std::hash::{BuildHasher as _, Hasher as _};
    let mut config = Config::new(HardwareAddress::Ip);
    // Keyed by the system's randomness: first sequence numbers cannot be guessed.
    config.random_seed = std::hash::RandomState::new().build_hasher().finish();
    let mut stack = Interface::new(config, wire, ground.stack_time(now));
    stack.update_ip_addrs(|addresses| {
        // There is room for the first.
        let _ = addresses.push(IpCidr::new(address.into(), 0));
    });
    stack
}

/// The device of a stack: takes one packet, and gives many.
struct Wire<'a> {
    incoming: Option<&'a [u8]>,
    out: &'a mut Frames,
    ends: Ends,
    mtu: usize,
}

impl Device for Wire<'_> {
    type RxToken<'t>
        = Incoming<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outgoing<'t>
    where
        Self: 't;

    fn receive(&mut self, _: StackInstant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let packet = self.incoming.take()?;
        Some((Incoming(packet), Outgoing { out: self.out, ends: self.ends }))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Outgoing<'_>> {
        Some(Outgoing { out: self.out, ends: self.ends })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        // What comes was made by this kernel or passed its checks.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

struct Outgoing<'a> {
    out: &'a mut Frames,
    ends: Ends,
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        put_ip(self.out, self.ends, length, fill)
    }
}
