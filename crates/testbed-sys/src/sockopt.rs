//! Socket options and the error queue, as far as rustix does not have them.

use rustix::fd::{AsFd, AsRawFd};
use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The protocol whose socket options are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl From<IpAddr> for Family {
    fn from(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// Sets a socket option whose value is plain old data.
///
/// # Errors
/// What setsockopt(2) says.
pub(crate) fn set<T: Copy>(fd: impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let pointer: *const T = value;
    // SAFETY: `value` lives through the call and its length is told; the kernel copies from it.
    let result = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            level,
            name,
            pointer.cast(),
            size_of_val(value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets packets leave and arrive by this interface only: `SO_BINDTODEVICE`, socket(7).
///
/// # Errors
/// `ENODEV` if there is no such interface; `EINVAL` if the name is too long.
pub fn bind_to_device(fd: impl AsFd, interface: &str) -> io::Result<()> {
    let bytes = interface.as_bytes();
    if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut name = [0u8; libc::IFNAMSIZ];
    name[..bytes.len()].copy_from_slice(bytes);
    set(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &name)
}

/// Keeps ICMP errors about this socket's packets for [`receive_error`]: `IP_RECVERR`, ip(7), `IPV6_RECVERR`, ipv6(7).
///
/// # Errors
/// What setsockopt(2) says.
pub fn keep_errors(fd: impl AsFd, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => set(fd, libc::SOL_IP, libc::IP_RECVERR, &1i32),
        Family::V6 => set(fd, libc::SOL_IPV6, libc::IPV6_RECVERR, &1i32),
    }
}

/// An error that the network, or the kernel itself, reported about a packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedError {
    /// The error number that stands for it.
    pub errno: i32,
    /// The ICMP type and code, if a router or host sent it; none if the kernel here did.
    pub icmp: Option<(u8, u8)>,
    /// Who sent it.
    pub from: Option<IpAddr>,
}

/// Takes the oldest error from a socket's error queue (see [`keep_errors`]); none if it is empty. Never waits.
///
/// # Errors
/// What recvmsg(2) says.
pub fn receive_error(fd: impl AsFd) -> io::Result<Option<QueuedError>> {
    #[repr(C, align(8))]
    struct Control([u8; 512]);
    let mut control = Control([0; 512]);
    let mut payload = [0u8; 64];
    let mut part = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
    // SAFETY: all-zero bytes are a valid msghdr (null pointers, zero lengths).
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: every pointer in `message` is to a live buffer of the length told beside it.
    let received = unsafe {
        libc::recvmsg(fd.as_fd().as_raw_fd(), &raw mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT)
    };
    if received < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    }
    // SAFETY: the kernel filled `message`; CMSG_FIRSTHDR stays within its control buffer.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a whole header inside the aligned control buffer.
        let head = unsafe { header.read() };
        let wanted = matches!(
            (head.cmsg_level, head.cmsg_type),
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
        );
        // SAFETY: CMSG_LEN(0) only computes.
        let length = head.cmsg_len.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
        if wanted && length >= size_of::<libc::sock_extended_err>() {
            // SAFETY: CMSG_DATA points to the `length` bytes of this header's data, inside the control buffer.
            let data = unsafe { std::slice::from_raw_parts(libc::CMSG_DATA(header), length) };
            return Ok(Some(extended_error(data)));
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(None)
}

/// Reads a `struct sock_extended_err` and the socket address of the offender behind it, ip(7).
fn extended_error(data: &[u8]) -> QueuedError {
    let (error, offender) = data.split_at(size_of::<libc::sock_extended_err>());
    let word = |at: usize| error[at..at + 4].try_into().map_or(0, u32::from_ne_bytes);
    let origin = error[4];
    let icmp = matches!(origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6);
    QueuedError {
        errno: word(0) as i32,
        icmp: icmp.then_some((error[5], error[6])),
        from: if icmp { socket_ip(offender) } else { None },
    }
}

/// The IP address in the bytes of a `sockaddr_in` or `sockaddr_in6`.
fn socket_ip(bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(u16::from_ne_bytes(*bytes.first_chunk()?)) {
        libc::AF_INET => Some(IpAddr::V4(Ipv4Addr::from(*bytes.get(4..8)?.first_chunk()?))),
        libc::AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(*bytes.get(8..24)?.first_chunk()?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_closed_port_is_told_by_who_refused() {
        for (local, target) in [("127.0.0.1:0", "127.0.0.1:9"), ("[::1]:0", "[::1]:9")] {
            let Ok(socket) = UdpSocket::bind(local) else { continue };
            let target: std::net::SocketAddr = target.parse().unwrap();
            keep_errors(&socket, target.ip().into()).unwrap();
            assert_eq!(receive_error(&socket).unwrap(), None);
            socket.send_to(b"x", target).unwrap();
            let error = receive_error(&socket).unwrap().expect("loopback answers at once");
            assert_eq!(error.errno, libc::ECONNREFUSED);
            assert_eq!(error.from, Some(target.ip()));
            assert_eq!(error.icmp, Some(if target.is_ipv4() { (3, 3) } else { (1, 4) }));
        }
    }

    #[test]
    fn interface_names_are_bounded() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for name in ["", "a-name-that-is-too-long", "nul\0"] {
            assert_eq!(bind_to_device(&socket, name).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
        assert_eq!(bind_to_device(&socket, "nonesuch").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
