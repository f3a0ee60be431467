//! Links, addresses and routes by rtnetlink(7), many in one message.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::net::IpAddr;

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_ACK: u16 = 0x004;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWQDISC: u16 = 36;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const NESTED: u16 = 0x8000;
const TCA_KIND: u16 = 1;
/// linux/pkt_sched.h: the top of an interface.
const TC_H_ROOT: u32 = 0xffff_ffff;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 0x02;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;

const IFF_UP: u32 = 1;
/// The number of `lo` in every network namespace.
pub const LOOPBACK: u32 = 1;

/// How a macvlan port reaches the other ports of its lower device (ip-link(8), macvlan).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MacvlanMode {
    /// It reaches nobody.
    Private = 1,
    /// All its frames go to the lower device.
    Vepa = 2,
    /// The kernel passes its frames to the other ports.
    Bridge = 4,
}

/// A macvlan port that is made in another process's network namespace.
#[derive(Clone, Copy, Debug)]
pub struct Macvlan<'a> {
    /// The lower device's number, in the namespace of the socket.
    pub lower: u32,
    /// The port's number there.
    pub index: u32,
    /// Its name there.
    pub name: &'a str,
    /// The process whose network namespace it is made in.
    pub process: u32,
    /// Its address.
    pub mac: [u8; 6],
    /// Its largest packet; the lower device's if none.
    pub mtu: Option<u32>,
    /// How it reaches others.
    pub mode: MacvlanMode,
}

/// A list of changes that is sent at once.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each message starts, and what it does (for errors).
    messages: Vec<(usize, String)>,
}

impl Batch {
    /// An empty list.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Makes a macvlan port.
    pub fn macvlan(&mut self, port: &Macvlan<'_>) {
        self.message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, format!("make link {}", port.name), |m| {
            m.link_header(port.index, 0, 0);
            m.text(IFLA_IFNAME, port.name);
            m.number(IFLA_LINK, port.lower);
            m.number(IFLA_NET_NS_PID, port.process);
            m.attribute(IFLA_ADDRESS, &port.mac);
            if let Some(mtu) = port.mtu {
                m.number(IFLA_MTU, mtu);
            }
            m.number(IFLA_NUM_TX_QUEUES, 1);
            m.number(IFLA_NUM_RX_QUEUES, 1);
            m.nested(IFLA_LINKINFO, |m| {
                m.text(IFLA_INFO_KIND, "macvlan");
                m.nested(IFLA_INFO_DATA, |m| m.number(IFLA_MACVLAN_MODE, port.mode as u32));
            });
        });
    }

    /// Changes the mode of a macvlan port in the socket's namespace.
    pub fn macvlan_mode(&mut self, index: u32, mode: MacvlanMode) {
        self.message(RTM_NEWLINK, 0, format!("set mode of link {index}"), |m| {
            m.link_header(index, 0, 0);
            m.nested(IFLA_LINKINFO, |m| {
                m.text(IFLA_INFO_KIND, "macvlan");
                m.nested(IFLA_INFO_DATA, |m| m.number(IFLA_MACVLAN_MODE, mode as u32));
            });
        });
    }

    /// Makes an ifb device: a lower device for macvlan ports that nobody reads.
    pub fn ifb(&mut self, index: u32, name: &str) {
        self.message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, format!("make link {name}"), |m| {
            m.link_header(index, 0, 0);
            m.text(IFLA_IFNAME, name);
            m.number(IFLA_NUM_TX_QUEUES, 1);
            m.number(IFLA_NUM_RX_QUEUES, 1);
            m.nested(IFLA_LINKINFO, |m| m.text(IFLA_INFO_KIND, "ifb"));
        });
    }

    /// Makes a link of any kind that needs to be told nothing more. A kernel that does not know the kind refuses with
    /// EOPNOTSUPP; one that knows it but wants more, with another error.
    pub fn link(&mut self, index: u32, kind: &str) {
        self.message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, format!("make a link of kind {kind}"), |m| {
            m.link_header(index, 0, 0);
            m.nested(IFLA_LINKINFO, |m| m.text(IFLA_INFO_KIND, kind));
        });
    }

    /// Puts a queueing discipline on top of a link, as it is by default (tc(8)). A kernel that does not know it refuses
    /// with ENOENT.
    pub fn discipline(&mut self, link: u32, kind: &str) {
        self.message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, format!("queue by {kind}"), |m| {
            m.bytes.extend_from_slice(&[0; 4]);
            for number in [link, 0, TC_H_ROOT, 0] {
                m.bytes.extend_from_slice(&number.to_ne_bytes());
            }
            m.text(TCA_KIND, kind);
        });
    }

    /// Sets a link's largest packet and the length of its queue, keeps it from making an IPv6 address of its own, and
    /// takes it up.
    pub fn lower_up(&mut self, index: u32, mtu: u32, queue: u32) {
        self.no_ipv6_address(index);
        self.message(RTM_NEWLINK, 0, format!("take link {index} up"), |m| {
            m.link_header(index, IFF_UP, IFF_UP);
            m.number(IFLA_MTU, mtu);
            m.number(IFLA_TXQLEN, queue);
        });
    }

    /// Gives a link that is down another name.
    pub fn name(&mut self, index: u32, name: &str) {
        self.message(RTM_NEWLINK, 0, format!("name link {index} {name}"), |m| {
            m.link_header(index, 0, 0);
            m.text(IFLA_IFNAME, name);
        });
    }

    /// Gives a link that is down another address, and its largest packet.
    pub fn adapt(&mut self, index: u32, mac: [u8; 6], mtu: Option<u32>) {
        self.message(RTM_NEWLINK, 0, format!("set the address of link {index}"), |m| {
            m.link_header(index, 0, 0);
            m.attribute(IFLA_ADDRESS, &mac);
            if let Some(mtu) = mtu {
                m.number(IFLA_MTU, mtu);
            }
        });
    }

    /// Takes a link up.
    pub fn up(&mut self, index: u32) {
        self.message(RTM_NEWLINK, 0, format!("take link {index} up"), |m| {
            m.link_header(index, IFF_UP, IFF_UP);
        });
    }

    /// Removes a link.
    pub fn remove(&mut self, index: u32) {
        self.message(RTM_DELLINK, 0, format!("remove link {index}"), |m| m.link_header(index, 0, 0));
    }

    /// Takes a link down.
    pub fn down(&mut self, index: u32) {
        self.message(RTM_NEWLINK, 0, format!("take link {index} down"), |m| {
            m.link_header(index, 0, IFF_UP);
        });
    }

    /// Takes a link up that makes no IPv6 address of its own.
    pub fn up_without_ipv6(&mut self, index: u32) {
        self.no_ipv6_address(index);
        self.up(index);
    }

    /// A message of its own: of one message the kernel takes the link up first, and the address is there.
    fn no_ipv6_address(&mut self, index: u32) {
        self.message(RTM_NEWLINK, 0, format!("keep link {index} without IPv6"), |m| {
            m.link_header(index, 0, 0);
            m.no_ipv6_address();
        });
    }

    /// Gives a link an address that is usable at once (no duplicate address detection).
    pub fn address(&mut self, index: u32, address: IpAddr, prefix: u8) {
        let what = format!("add address {address}/{prefix}");
        self.message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, what, |m| {
            m.bytes.extend_from_slice(&[family(address), prefix, IFA_F_NODAD, RT_SCOPE_UNIVERSE]);
            m.bytes.extend_from_slice(&index.to_ne_bytes());
            m.address(IFA_LOCAL, address);
            m.address(IFA_ADDRESS, address);
        });
    }

    /// Adds a route; prefix 0 makes it the default one.
    pub fn route(&mut self, to: (IpAddr, u8), via: IpAddr, out: Option<u32>) {
        let what = format!("add route to {}/{} via {via}", to.0, to.1);
        self.message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, what, |m| {
            m.bytes.extend_from_slice(&[
                family(via),
                to.1,
                0,
                0,
                RT_TABLE_MAIN,
                RTPROT_STATIC,
                RT_SCOPE_UNIVERSE,
                RTN_UNICAST,
            ]);
            m.bytes.extend_from_slice(&0_u32.to_ne_bytes());
            if to.1 > 0 {
                m.address(RTA_DST, to.0);
            }
            m.address(RTA_GATEWAY, via);
            if let Some(index) = out {
                m.number(RTA_OIF, index);
            }
        });
    }

    fn message(&mut self, kind: u16, flags: u16, what: String, body: impl FnOnce(&mut Message<'_>)) {
        let start = self.bytes.len();
        self.messages.push((start, what));
        let sequence = self.messages.len() as u32;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        body(&mut Message { bytes: &mut self.bytes });
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

/// One message under construction: a fixed header, then attributes padded to four bytes.
struct Message<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Message<'_> {
    fn link_header(&mut self, index: u32, flags: u32, change: u32) {
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&index.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&change.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, &[value.as_bytes(), b"\0"].concat());
    }

    fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(a) => self.attribute(kind, &a.octets()),
            IpAddr::V6(a) => self.attribute(kind, &a.octets()),
        }
    }

    fn nested(&mut self, kind: u16, inner: impl FnOnce(&mut Message<'_>)) {
        let start = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        inner(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn no_ipv6_address(&mut self) {
        self.nested(IFLA_AF_SPEC, |m| {
            m.nested(libc::AF_INET6 as u16, |m| m.attribute(IFLA_INET6_ADDR_GEN_MODE, &[1]));
        });
    }
}

/// Why a [`Batch`] was refused.
#[derive(Debug)]
pub struct BatchError {
    /// The change that was refused.
    pub what: String,
    /// What the kernel said.
    pub error: io::Error,
}

impl std::fmt::Display for BatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for BatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// A routing socket; it acts on the network namespace in which it was opened, wherever its owner goes later.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// Opens one in the current namespace.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> io::Result<Netlink> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None, // NETLINK_ROUTE is protocol 0
        )?;
        Ok(Netlink { socket })
    }

    /// The socket.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends all changes and waits until the kernel has made them. They are made in order; those before a refused one
    /// stay, and so do those after it.
    ///
    /// # Errors
    /// The first change that was refused.
    pub fn apply(&self, mut batch: Batch) -> Result<(), BatchError> {
        let Some((last, _)) = batch.messages.last() else { return Ok(()) };
        let flags = last + 6;
        batch.bytes[flags] |= NLM_F_ACK as u8;
        let own = |error: rustix::io::Errno| BatchError { what: "netlink".into(), error: error.into() };
        rustix::net::send(&self.socket, &batch.bytes, SendFlags::empty()).map_err(own)?;
        let mut first_error = None;
        let mut answer = [0_u8; 16384];
        loop {
            let (length, _) =
                rustix::net::recv(&self.socket, &mut answer[..], RecvFlags::empty()).map_err(own)?;
            let mut rest = &answer[..length];
            while let Some((kind, sequence, body, after)) = split_message(rest) {
                rest = after;
                let Some(code) = body.first_chunk::<4>().filter(|_| kind == NLMSG_ERROR) else { continue };
                let code = i32::from_ne_bytes(*code);
                if code != 0 && first_error.is_none() {
                    let what = batch.messages.get(sequence as usize - 1).map(|m| m.1.clone());
                    first_error = Some(BatchError {
                        what: what.unwrap_or_default(),
                        error: io::Error::from_raw_os_error(-code),
                    });
                }
                if sequence as usize == batch.messages.len() {
                    return first_error.map_or(Ok(()), Err);
                }
            }
        }
    }
}

fn split_message(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let header = bytes.first_chunk::<16>()?;
    let number = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let length = number(0) as usize;
    let body = bytes.get(16..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    Some((u16::from_ne_bytes([header[4], header[5]]), number(8), body, after))
}

/// The number of the device with this name in the current namespace.
///
/// # Errors
/// ENODEV if there is none.
pub fn index_of(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: the name ends with a NUL byte and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}
