//! Packet sockets, their queues and their receive rings: packet(7), `Documentation/networking/packet_mmap.rst`.
//!
//! The order that loses and adds nothing: [`PacketSocket::open`], [`PacketSocket::select`],
//! [`PacketSocket::filter`], [`Ring::new`], [`Ring::start`]. A socket that another process has started already can be
//! turned into a ring as well.

mod inbox;

pub use inbox::Inbox;

use crate::sockopt::set;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::io;
use std::mem::{ManuallyDrop, offset_of, size_of, zeroed};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// An instruction of classic BPF: code, jump if true, jump if false, operand (`struct sock_filter`).
pub type Instruction = (u16, u8, u8, u32);

/// `ARPHRD_ETHER`: frames begin with an Ethernet header.
pub const HARDWARE_ETHERNET: u16 = 1;
/// `ARPHRD_LOOPBACK`: as Ethernet, and every packet is seen going out and coming in.
pub const HARDWARE_LOOPBACK: u16 = 772;

/// A packet socket (`AF_PACKET`, `SOCK_RAW`) that does not wait.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens one that receives nothing yet.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW in the network namespace.
    pub fn open() -> io::Result<PacketSocket> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: socket(2) takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(PacketSocket(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Chooses an interface by its index and returns its hardware type (`ARPHRD_*`); receives nothing yet.
    ///
    /// # Errors
    /// `ENODEV` if there is no such interface.
    pub fn select(&self, interface: u32) -> io::Result<u16> {
        self.bind(interface, 0)?;
        self.selected().map(|(_, hardware)| hardware)
    }

    /// The interface that was selected, by its index, and its hardware type (`ARPHRD_*`).
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn selected(&self) -> io::Result<(u32, u16)> {
        // SAFETY: all-zero bytes are a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        let pointer = (&raw mut address).cast();
        // SAFETY: both pointers are to live values; the length told is that of `address`.
        if unsafe { libc::getsockname(self.0.as_raw_fd(), pointer, &raw mut length) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((address.sll_ifindex as u32, address.sll_hatype))
    }

    /// Lets only packets pass that the program accepts, and keeps as many of their bytes as it returns.
    ///
    /// # Errors
    /// `EINVAL` if the kernel's checker refuses the program.
    pub fn filter(&self, program: &[Instruction]) -> io::Result<()> {
        let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let mut filter: Vec<libc::sock_filter> =
            program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
        // The kernel copies the program during the call; `filter` lives until after it.
        let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
        set(&self.0, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    /// Receives what is meant for others too, as long as the socket lives.
    ///
    /// # Errors
    /// `ENODEV` if there is no such interface.
    pub fn promiscuous(&self, interface: u32) -> io::Result<()> {
        let membership = libc::packet_mreq {
            mr_ifindex: interface as i32,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set(&self.0, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
    }

    /// Begins to receive every packet of the interface, or of all if 0.
    ///
    /// # Errors
    /// `ENODEV`, or `ENETDOWN` if the interface is down.
    pub fn start(&self, interface: u32) -> io::Result<()> {
        self.bind(interface, libc::ETH_P_ALL as u16)
    }

    fn bind(&self, interface: u32, protocol: u16) -> io::Result<()> {
        // SAFETY: all-zero bytes are a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = interface as i32;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` lives through the call and its length is told.
        let result = unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), length) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl From<OwnedFd> for PacketSocket {
    /// Takes a descriptor that is a packet socket; calls fail later if it is not.
    fn from(fd: OwnedFd) -> PacketSocket {
        PacketSocket(fd)
    }
}

impl From<PacketSocket> for OwnedFd {
    fn from(socket: PacketSocket) -> OwnedFd {
        socket.0
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A socket that is closed behind its owner's back, because closing it takes the kernel a while.
#[derive(Debug)]
struct ClosedBehind(ManuallyDrop<PacketSocket>);

impl ClosedBehind {
    fn new(socket: PacketSocket) -> ClosedBehind {
        ClosedBehind(ManuallyDrop::new(socket))
    }
}

impl Deref for ClosedBehind {
    type Target = PacketSocket;

    fn deref(&self) -> &PacketSocket {
        &self.0
    }
}

impl Drop for ClosedBehind {
    fn drop(&mut self) {
        // SAFETY: the socket is not used again: its owner goes.
        let socket = unsafe { ManuallyDrop::take(&mut self.0) };
        crate::fdpass::close_behind(socket.into());
    }
}

/// How much a [`Ring`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize {
    /// Bytes of a block, a power of two of at least a page. The kernel hands over whole blocks, and no packet is kept
    /// beyond a block's size.
    pub block: u32,
    /// How many blocks.
    pub blocks: u32,
    /// Hand over a block that is not full after so many milliseconds.
    pub retire_ms: u32,
}

impl Default for RingSize {
    /// 4 MiB, handed over after 4 ms at the latest.
    fn default() -> RingSize {
        RingSize { block: 256 * 1024, blocks: 16, retire_ms: 4 }
    }
}

/// A packet socket whose packets come through memory shared with the kernel (`TPACKET_V3`). Poll it for input.
#[derive(Debug)]
pub struct Ring {
    socket: ClosedBehind,
    memory: NonNull<u8>,
    size: RingSize,
    next: u32,
}

impl Ring {
    /// Shares memory with the kernel for the socket's packets.
    ///
    /// # Errors
    /// `EINVAL` for sizes that the kernel refuses, `ENOMEM`, `EBUSY` if the socket has a ring.
    pub fn new(socket: PacketSocket, size: RingSize) -> io::Result<Ring> {
        const SLOT: u32 = 2048;
        set(&socket, libc::SOL_PACKET, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V3 as i32))?;
        let request = libc::tpacket_req3 {
            tp_block_size: size.block,
            tp_block_nr: size.blocks,
            tp_frame_size: SLOT,
            tp_frame_nr: (size.block / SLOT).saturating_mul(size.blocks),
            tp_retire_blk_tov: size.retire_ms,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let length = size.block as usize * size.blocks as usize;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let fd = socket.0.as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, fd, 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Ring { socket: ClosedBehind::new(socket), memory, size, next: 0 })
    }

    /// Begins to receive: [`PacketSocket::start`].
    ///
    /// # Errors
    /// As there.
    pub fn start(&self, interface: u32) -> io::Result<()> {
        self.socket.start(interface)
    }

    /// The next block of packets, if the kernel has handed one over. Going through it once is enough: dropping it
    /// gives the memory back.
    pub fn next_block(&mut self) -> Option<Block<'_>> {
        let index = self.next;
        let size = self.size.block as usize;
        // SAFETY: `index` is below the number of blocks, so the block lies inside the mapping.
        let start = unsafe { self.memory.add(index as usize * size) };
        let block = Block { start, size, next: 0, left: 0, ring: std::marker::PhantomData };
        // Pairs with the kernel's barrier before it sets the status: the packets are written.
        if block.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            std::mem::forget(block);
            return None;
        }
        self.next = (index + 1) % self.size.blocks;
        let head = offset_of!(libc::tpacket_block_desc, hdr);
        let next = block.word(head + offset_of!(libc::tpacket_hdr_v1, offset_to_first_pkt)) as usize;
        let left = block.word(head + offset_of!(libc::tpacket_hdr_v1, num_pkts));
        Some(Block { next, left, ..block.moved() })
    }

    /// How many packets passed the filter and how many of those were dropped, since the last call.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let mut counts = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
        let mut length = size_of::<libc::tpacket_stats_v3>() as libc::socklen_t;
        // SAFETY: both pointers are to live values; the length told is that of `counts`.
        let result = unsafe {
            libc::getsockopt(
                self.socket.0.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut counts).cast(),
                &raw mut length,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Statistics { received: counts.tp_packets, dropped: counts.tp_drops })
    }
}

// SAFETY: the mapping belongs to the ring alone and is tied to no thread.
unsafe impl Send for Ring {}

impl Drop for Ring {
    fn drop(&mut self) {
        let length = self.size.block as usize * self.size.blocks as usize;
        // SAFETY: the mapping is this ring's own, and blocks borrow the ring, so none is left.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), length) };
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Counts of a [`Ring`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets that passed the filter, the dropped ones among them.
    pub received: u32,
    /// Packets for which the ring had no room.
    pub dropped: u32,
}

/// A block of packets that belongs to us until it is dropped.
#[derive(Debug)]
pub struct Block<'a> {
    start: NonNull<u8>,
    size: usize,
    next: usize,
    left: u32,
    ring: std::marker::PhantomData<&'a mut Ring>,
}

impl<'a> Block<'a> {
    /// The same block, without giving it back.
    fn moved(self) -> Block<'a> {
        let Block { start, size, next, left, ring } = self;
        std::mem::forget(self);
        Block { start, size, next, left, ring }
    }

    fn status(&self) -> &AtomicU32 {
        let at = offset_of!(libc::tpacket_block_desc, hdr) + offset_of!(libc::tpacket_hdr_v1, block_status);
        // SAFETY: the field lies inside the mapped block, which is page-aligned, so the word is aligned; kernel and
        // program only ever access it as one word.
        unsafe { AtomicU32::from_ptr(self.start.add(at).as_ptr().cast()) }
    }

    fn bytes(&self, at: usize, length: usize) -> Option<&[u8]> {
        if at.checked_add(length)? > self.size {
            return None;
        }
        // SAFETY: inside the block, as just checked; the kernel writes nothing there until the block is dropped.
        Some(unsafe { std::slice::from_raw_parts(self.start.add(at).as_ptr(), length) })
    }

    fn word(&self, at: usize) -> u32 {
        self.bytes(at, 4).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_ne_bytes(*b))
    }

    fn half(&self, at: usize) -> u16 {
        self.bytes(at, 2).and_then(<[u8]>::first_chunk).map_or(0, |b| u16::from_ne_bytes(*b))
    }

    /// The next packet.
    pub fn next_packet(&mut self) -> Option<Packet<'_>> {
        use libc::{sockaddr_ll as Link, tpacket_hdr_variant1 as Variant, tpacket3_hdr as Head};
        if self.left == 0 {
            return None;
        }
        let at = self.next;
        self.left -= 1;
        self.next = at + self.word(at + offset_of!(Head, tp_next_offset)) as usize;
        let variant = at + offset_of!(Head, hv1);
        let link = at + size_of::<Head>().next_multiple_of(libc::TPACKET_ALIGNMENT);
        let mac = usize::from(self.half(at + offset_of!(Head, tp_mac)));
        let network = usize::from(self.half(at + offset_of!(Head, tp_net)));
        let status = self.word(at + offset_of!(Head, tp_status));
        let kept = self.word(at + offset_of!(Head, tp_snaplen)) as usize;
        let seconds = u64::from(self.word(at + offset_of!(Head, tp_sec)));
        let nanoseconds = u64::from(self.word(at + offset_of!(Head, tp_nsec)));
        let tag = Tag::of(
            status,
            self.half(variant + offset_of!(Variant, tp_vlan_tpid)),
            self.word(variant + offset_of!(Variant, tp_vlan_tci)) as u16,
        );
        Some(Packet {
            time_ns: seconds * 1_000_000_000 + nanoseconds,
            length: self.word(at + offset_of!(Head, tp_len)),
            interface: self.word(link + offset_of!(Link, sll_ifindex)),
            hardware: self.half(link + offset_of!(Link, sll_hatype)),
            protocol: u16::from_be(self.half(link + offset_of!(Link, sll_protocol))),
            direction: Direction::from_number(*self.bytes(link + offset_of!(Link, sll_pkttype), 1)?.first()?),
            tag,
            network: network.saturating_sub(mac),
            data: self.bytes(at + mac, kept)?,
        })
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        // Release: our reads are done before the kernel may write again.
        self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }
}

/// A packet as the kernel saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
    /// How long it was, without a tag that was taken off.
    pub length: u32,
    /// The index of the interface.
    pub interface: u32,
    /// The interface's hardware type (`ARPHRD_*`).
    pub hardware: u16,
    /// The protocol (`ETH_P_*`).
    pub protocol: u16,
    /// Which way it went.
    pub direction: Direction,
    /// The outer VLAN tag, which the kernel had taken off the packet.
    pub tag: Option<Tag>,
    /// Where in `data` the network header begins.
    pub network: usize,
    /// Its bytes from the link header on, as many as the filter kept.
    pub data: &'a [u8],
}

/// A VLAN tag, IEEE 802.1Q clause 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The tag's own EtherType.
    pub protocol: u16,
    /// Priority, drop eligibility and VLAN number.
    pub control: u16,
}

impl Tag {
    /// The tag, as far as a packet's status (`TP_STATUS_*`) says that there is one.
    fn of(status: u32, protocol: u16, control: u16) -> Option<Tag> {
        let known = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
        let protocol = if known { protocol } else { libc::ETH_P_8021Q as u16 };
        (status & libc::TP_STATUS_VLAN_VALID != 0).then_some(Tag { protocol, control })
    }
}

/// Which way a packet went, packet(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// In, for this host.
    Host,
    /// In, for all.
    Broadcast,
    /// In, for a group.
    Multicast,
    /// In, for another host.
    Other,
    /// Out.
    Outgoing,
}

impl Direction {
    fn from_number(number: u8) -> Direction {
        match number {
            libc::PACKET_HOST => Direction::Host,
            libc::PACKET_BROADCAST => Direction::Broadcast,
            libc::PACKET_MULTICAST => Direction::Multicast,
            libc::PACKET_OUTGOING => Direction::Outgoing,
            _ => Direction::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::net::UdpSocket;
    use std::time::{SystemTime, UNIX_EPOCH};

    /// A packet socket, or none and a loud word where that takes more rights.
    fn open() -> Option<PacketSocket> {
        match PacketSocket::open() {
            Ok(socket) => Some(socket),
            Err(error) => {
                assert!(std::env::var_os("TESTBED_STRICT").is_none(), "no packet socket: {error}");
                eprintln!("SKIPPED: packet sockets need CAP_NET_RAW");
                None
            }
        }
    }

    #[test]
    fn a_datagram_on_the_loopback_is_seen_going_out_and_coming_in() {
        const KEEP: u32 = 60;
        let Some(socket) = open() else { return };
        let lo = crate::netlink::index_of("lo").unwrap();
        assert_eq!(socket.select(lo).unwrap(), HARDWARE_LOOPBACK);
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        // The destination port of an IPv4 packet without options is ours.
        let port = u32::from(to.port());
        socket.filter(&[(0x28, 0, 0, 36), (0x15, 0, 1, port), (0x06, 0, 0, KEEP), (0x06, 0, 0, 0)]).unwrap();
        let mut ring = Ring::new(socket, RingSize::default()).unwrap();
        ring.start(lo).unwrap();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let before = now();
        receiver.send_to(&[7; 100], to).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"other", ("127.0.0.1", 9)).unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&ring, PollFlags::IN)], Some(&second)).unwrap();
            assert_eq!(ready, 1, "{seen:?}");
            while let Some(mut block) = ring.next_block() {
                while let Some(packet) = block.next_packet() {
                    assert_eq!((packet.interface, packet.hardware), (lo, HARDWARE_LOOPBACK));
                    assert_eq!((packet.protocol, packet.network, packet.tag), (0x0800, 14, None));
                    assert_eq!((packet.length, packet.data.len()), (142, KEEP as usize));
                    assert_eq!(packet.data[42..], [7; 18]);
                    assert!((before..now()).contains(&packet.time_ns));
                    seen.push(packet.direction);
                }
            }
        }
        assert_eq!(seen, [Direction::Outgoing, Direction::Host]);
        assert_eq!(ring.statistics().unwrap(), Statistics { received: 2, dropped: 0 });
        assert_eq!(ring.statistics().unwrap(), Statistics::default());
    }

    #[test]
    fn a_queue_tells_of_packets_what_a_ring_does() {
        let Some(socket) = open() else { return };
        let lo = crate::netlink::index_of("lo").unwrap();
        socket.select(lo).unwrap();
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let port = u32::from(to.port());
        socket.filter(&[(0x28, 0, 0, 36), (0x15, 0, 1, port), (0x06, 0, 0, 60), (0x06, 0, 0, 0)]).unwrap();
        let inbox = Inbox::new(socket, 1 << 20).unwrap();
        inbox.start(lo).unwrap();
        let mut buffer = [0; 50];
        assert_eq!(inbox.receive(&mut buffer).unwrap(), None);
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let before = now();
        receiver.send_to(&[7; 100], to).unwrap();
        for direction in [Direction::Outgoing, Direction::Host] {
            let packet = inbox.receive(&mut buffer).unwrap().unwrap();
            assert_eq!((packet.interface, packet.hardware), (lo, HARDWARE_LOOPBACK));
            assert_eq!((packet.protocol, packet.network, packet.tag), (0x0800, 14, None));
            assert_eq!((packet.length, packet.direction), (142, direction));
            assert_eq!((packet.data.len(), &packet.data[42..]), (50, &[7; 8][..]));
            assert!((before..now()).contains(&packet.time_ns));
        }
        assert_eq!(inbox.receive(&mut buffer).unwrap(), None);
    }

    #[test]
    fn what_the_kernel_refuses_is_an_error() {
        let Some(socket) = open() else { return };
        assert!(socket.filter(&[(0x05, 0, 0, 99)]).is_err(), "a jump behind the end");
        assert!(socket.select(999_999).is_err());
        assert!(Ring::new(socket, RingSize { block: 1000, blocks: 1, retire_ms: 1 }).is_err());
    }
}
