//! Packets from the socket's own queue, one at a time: packet(7), recvmsg(2).
//!
//! To set a ring up the kernel waits until all processors have taken notice; a queue is there at once, but dearer for
//! each packet.

use super::{ClosedBehind, Direction, Packet, PacketSocket, Tag};
use crate::sockopt::set;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use std::io;
use std::mem::{size_of, zeroed};
use std::ptr::read_unaligned;
use std::time::{SystemTime, UNIX_EPOCH};

/// A packet socket whose packets wait in a queue. Poll it for input.
#[derive(Debug)]
pub struct Inbox(ClosedBehind);

/// Room for the time and for what [`libc::PACKET_AUXDATA`] adds, aligned as the kernel writes it.
#[repr(C, align(8))]
struct Control([u8; 128]);

impl Inbox {
    /// Has the socket keep packets with their times and tags: as many as fit into so many bytes of the kernel's, or into
    /// what an ordinary user is allowed. Receives nothing yet.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn new(socket: PacketSocket, room: u32) -> io::Result<Inbox> {
        set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1_i32)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
        // The kernel doubles what it is given.
        let half = i32::try_from(room / 2).unwrap_or(i32::MAX);
        set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &half)
            .or_else(|_| set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &half))?;
        Ok(Inbox(ClosedBehind::new(socket)))
    }

    /// Begins to receive: [`PacketSocket::start`].
    ///
    /// # Errors
    /// As there.
    pub fn start(&self, interface: u32) -> io::Result<()> {
        self.0.start(interface)
    }

    /// The next packet, if there is one. What does not fit into the buffer is cut off.
    ///
    /// # Errors
    /// What recvmsg(2) says: `ENETDOWN` once, if the interface goes down.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Packet<'a>>> {
        // SAFETY: all-zero bytes are a valid sockaddr_ll and a valid msghdr.
        let (mut link, mut message): (libc::sockaddr_ll, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
        let mut control = Control([0; 128]);
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        message.msg_name = (&raw mut link).cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
        // SAFETY: the message points to live values whose lengths it tells.
        let length =
            unsafe { libc::recvmsg(self.0.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        let Ok(length) = usize::try_from(length) else {
            return match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                error => Err(error),
            };
        };
        let data = buffer.get(..length).unwrap_or_default();
        let mut packet = Packet {
            time_ns: 0,
            length: length as u32,
            interface: link.sll_ifindex as u32,
            hardware: link.sll_hatype,
            protocol: u16::from_be(link.sll_protocol),
            direction: Direction::from_number(link.sll_pkttype),
            tag: None,
            network: 0,
            data,
        };
        // SAFETY: the kernel has written the control messages, and told how long they are; so it is for each below.
        let mut head = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        while !head.is_null() {
            // SAFETY: `head` is a control message of `message`.
            let (about, bytes) = unsafe { (*head, libc::CMSG_DATA(head)) };
            match (about.cmsg_level, about.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    // SAFETY: such a message holds a timespec.
                    let time = unsafe { read_unaligned(bytes.cast::<libc::timespec>()) };
                    packet.time_ns = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
                }
                (libc::SOL_PACKET, libc::PACKET_AUXDATA) => {
                    // SAFETY: such a message holds a tpacket_auxdata.
                    packet.add(unsafe { read_unaligned(bytes.cast::<libc::tpacket_auxdata>()) });
                }
                _ => {}
            }
            // SAFETY: as for the first.
            head = unsafe { libc::CMSG_NXTHDR(&raw const message, head) };
        }
        if packet.time_ns == 0 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            packet.time_ns = now.as_nanos() as u64;
        }
        Ok(Some(packet))
    }
}

impl Packet<'_> {
    fn add(&mut self, auxiliary: libc::tpacket_auxdata) {
        self.length = auxiliary.tp_len;
        self.network = usize::from(auxiliary.tp_net.saturating_sub(auxiliary.tp_mac));
        self.tag = Tag::of(auxiliary.tp_status, auxiliary.tp_vlan_tpid, auxiliary.tp_vlan_tci);
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
