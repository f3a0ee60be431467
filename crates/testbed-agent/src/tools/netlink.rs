//! What the kernel says about addresses and routes: rtnetlink(7), as far as waiting for them needs.

use super::Doing;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use testbed_agent::{Fault, FaultKind};

const GETLINK: u16 = 18;
const NEWLINK: u16 = 16;
const GETADDR: u16 = 22;
const NEWADDR: u16 = 20;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const DUMP: u16 = 0x301;
/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR`, `RTMGRP_IPV6_ROUTE`
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
const ATTRIBUTE_ADDRESS: u16 = 1;
const ATTRIBUTE_LOCAL: u16 = 2;
/// `IFLA_IFNAME`
const ATTRIBUTE_NAME: u16 = 3;
/// `RT_SCOPE_UNIVERSE`
const SCOPE_UNIVERSE: u8 = 0;
/// `IFA_F_DADFAILED | IFA_F_TENTATIVE`
const NOT_USABLE: u8 = 0x08 | 0x40;
/// `IFA_F_OPTIMISTIC`: usable although still being checked.
const OPTIMISTIC: u8 = 0x04;
const INTERFACE_UP: u32 = 1;
const HEADER: usize = 16;

/// A socket that becomes readable when links, addresses or routes change.
pub(crate) struct Changes(OwnedFd);

impl Changes {
    pub(crate) fn watch() -> Result<Changes, Fault> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let doing = "watch the network's changes";
        let fd =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None).doing(doing)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, GROUPS)).doing(doing)?;
        Ok(Changes(fd))
    }

    /// Forgets the changes so far: what they are is not looked at.
    pub(crate) fn drain(&self) -> Result<(), Fault> {
        let mut buffer = [0; 8192];
        loop {
            match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(Fault::system("watch the network's changes", &error.into())),
            }
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The address is on an interface that is up, and not being checked for duplicates.
pub(crate) fn has_address(wanted: IpAddr) -> Result<bool, Fault> {
    Ok(addresses()?.iter().any(|held| held.address == wanted))
}

/// An address that an interface has.
pub(crate) struct Held {
    /// The interface's number.
    pub(crate) index: u32,
    /// The interface's name.
    pub(crate) interface: String,
    pub(crate) address: IpAddr,
    /// Others than the machine's neighbours can be reached by it (rtnetlink(7): RT_SCOPE_UNIVERSE).
    pub(crate) global: bool,
}

/// All addresses of interfaces that are up, but for those that are being checked for duplicates.
pub(crate) fn addresses() -> Result<Vec<Held>, Fault> {
    let mut up = HashMap::new();
    dump(GETLINK, |kind, body| {
        // ifinfomsg: family, padding, type (u16), index (i32), flags, changes (u32)
        if kind == NEWLINK
            && let (Some(index), Some(flags)) = (word(body, 4), word(body, 8))
            && flags & INTERFACE_UP != 0
        {
            let name = attribute(body.get(16..).unwrap_or(&[]), ATTRIBUTE_NAME).unwrap_or(&[]);
            let name = name.split(|byte| *byte == 0).next().unwrap_or(&[]);
            up.insert(index, String::from_utf8_lossy(name).into_owned());
        }
    })?;
    let mut found = Vec::new();
    dump(GETADDR, |kind, body| {
        // ifaddrmsg: family, prefix length, flags, scope (u8 each), index (u32)
        if kind == NEWADDR
            && let (Some(&flags), Some(&scope)) = (body.get(2), body.get(3))
            && let (Some(index), Some(attributes)) = (word(body, 4), body.get(8..))
            && (flags & NOT_USABLE == 0 || flags & OPTIMISTIC != 0)
            && let (Some(interface), Some(address)) = (up.get(&index), own_address(attributes))
        {
            found.push(Held {
                index,
                interface: interface.clone(),
                address,
                global: scope == SCOPE_UNIVERSE,
            });
        }
    })?;
    Ok(found)
}

/// `IFA_LOCAL`, or `IFA_ADDRESS` where it is the same.
fn own_address(attributes: &[u8]) -> Option<IpAddr> {
    let local = attribute(attributes, ATTRIBUTE_LOCAL);
    local.or_else(|| attribute(attributes, ATTRIBUTE_ADDRESS)).and_then(ip)
}

/// The value of the first attribute of a kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some((length, kind)) = half(attributes, 0).zip(half(attributes, 2)) {
        let value = attributes.get(4..usize::from(length))?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(usize::from(length).next_multiple_of(4)..).unwrap_or(&[]);
    }
    None
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk().map(|b| IpAddr::V4(Ipv4Addr::from(*b))),
        16 => bytes.first_chunk().map(|b| IpAddr::V6(Ipv6Addr::from(*b))),
        _ => None,
    }
}

fn dump(request: u16, mut each: impl FnMut(u16, &[u8])) -> Result<(), Fault> {
    let doing = "ask the kernel for its addresses";
    let kind = SocketType::RAW;
    let fd =
        rustix::net::socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, None).doing(doing)?;
    let mut message = Vec::with_capacity(HEADER + 16);
    message.extend_from_slice(&(HEADER as u32 + 16).to_ne_bytes());
    message.extend_from_slice(&request.to_ne_bytes());
    message.extend_from_slice(&DUMP.to_ne_bytes());
    message.extend_from_slice(&[0; 8 + 16]);
    rustix::net::send(&fd, &message, SendFlags::empty()).doing(doing)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (length, _) = match rustix::net::recv(&fd, &mut buffer[..], RecvFlags::empty()) {
            Err(Errno::INTR) => continue,
            received => received.doing(doing)?,
        };
        let mut rest = &buffer[..length];
        while let (Some(length), Some(kind)) = (word(rest, 0), half(rest, 4)) {
            let broken = || Fault::new(FaultKind::Protocol, doing);
            let body = rest.get(HEADER..length as usize).ok_or_else(broken)?;
            match kind {
                DONE => return Ok(()),
                ERROR => {
                    let errno = word(body, 0).ok_or_else(broken)? as i32;
                    return Err(Fault::system(doing, &std::io::Error::from_raw_os_error(-errno)));
                }
                kind => each(kind, body),
            }
            rest = rest.get((length as usize).next_multiple_of(4)..).unwrap_or(&[]);
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_ne_bytes(*b))
}
