//! UDP through an uplink: one socket of the host for each pair of ends.

use super::packet::{Ends, IpPacket, MOST_DATAGRAM, Unreachable, put_udp, put_unreachable};
use crate::net::switch::{Frames, Mac};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long nothing may pass before a pair of ends is forgotten; a minute less than RFC 4787 section 4.3 asks of routers
/// for people's homes.
const IDLE: Duration = Duration::from_secs(60);
/// Datagrams that are taken at once.
const BURST: usize = 32;

/// A socket of the host that stands for a pair of ends.
#[derive(Debug)]
pub(super) struct Talk {
    socket: OwnedFd,
    machine: SocketAddr,
    /// What the machine believes to speak to.
    other: SocketAddr,
    mac: Mac,
    pub(super) used: Instant,
    /// When somebody looks whether it is idle.
    pub(super) due: Instant,
    /// Since when the machine has had no answer.
    asked: Option<Instant>,
    /// The first datagram, to be quoted if there is no one.
    first: Vec<u8>,
}

impl Talk {
    /// Opens one from `machine` to `other`, which is in truth at `target`.
    pub(super) fn open(
        packet: &IpPacket<'_>,
        (machine, other): (SocketAddr, SocketAddr),
        target: SocketAddr,
        mac: Mac,
        now: Instant,
    ) -> Result<Talk, Errno> {
        const QUOTED: usize = 64;
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
        connect(&socket, &target)?;
        let first = packet.bytes[..packet.bytes.len().min(QUOTED)].to_vec();
        Ok(Talk { socket, machine, other, mac, used: now, due: now + IDLE, asked: None, first })
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn ends(&self) -> (SocketAddr, SocketAddr) {
        (self.machine, self.other)
    }

    pub(super) fn is_idle(&self, now: Instant) -> bool {
        now.duration_since(self.used) >= IDLE
    }

    /// Looks again when it may be idle.
    pub(super) fn put_off(&mut self) -> Instant {
        self.due = self.used + IDLE;
        self.due
    }

    /// The machine has asked, and waited.
    pub(super) fn is_unanswered(&self, now: Instant) -> bool {
        const PATIENCE: Duration = Duration::from_secs(2);
        self.asked.is_some_and(|asked| now.duration_since(asked) >= PATIENCE)
    }

    /// Passes on a datagram of the machine.
    pub(super) fn send(&mut self, payload: &[u8], mac: Mac, now: Instant) {
        (self.used, self.mac) = (now, mac);
        self.asked.get_or_insert(now);
        // What the host cannot send now is lost, as on any network; a lasting error is told by the socket's event.
        let _ = send(&self.socket, payload, SendFlags::NOSIGNAL);
    }

    /// Passes on what came back. Returns whether the other end turned out to be nowhere.
    pub(super) fn receive(
        &mut self,
        gateway: Mac,
        buffer: &mut [u8],
        now: Instant,
        out: &mut Frames,
    ) -> bool {
        let ends = Ends { from: gateway, to: self.mac };
        for _ in 0..BURST {
            match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => {
                    (self.used, self.asked) = (now, None);
                    let payload = &buffer[..length.min(MOST_DATAGRAM)];
                    put_udp(out, ends, self.other, self.machine, payload);
                }
                Err(Errno::AGAIN) => return false,
                Err(Errno::INTR) => {}
                Err(error) => {
                    let why = match error {
                        Errno::CONNREFUSED => Unreachable::Port,
                        _ => Unreachable::Host,
                    };
                    self.tell_unreachable(ends, why, out);
                    return true;
                }
            }
        }
        false
    }

    fn tell_unreachable(&self, ends: Ends, why: Unreachable, out: &mut Frames) {
        use smoltcp::wire::IpProtocol::Udp;
        let (from, to) = (self.machine.ip(), self.other.ip());
        let quoted = IpPacket { from, to, protocol: Udp, payload: &[], bytes: &self.first };
        put_unreachable(out, ends, to, &quoted, why);
    }
}
