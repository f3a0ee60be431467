//! Asking the kernel where it would send a packet: rtnetlink(7), `RTM_GETROUTE`.

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::net::IpAddr;

const NLMSG_ERROR: u16 = 2;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLM_F_REQUEST: u16 = 1;
const RTA_DST: u16 = 1;
const HEADER: usize = 16;
/// Where `rtm_type` stands in a message, after its header.
const TYPE_AT: usize = HEADER + 7;

/// What the kernel does with packets for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// It sends them on their way.
    Elsewhere,
    /// They are for this host itself.
    Local,
    /// They are for many: broadcast, multicast, anycast.
    Many,
}

/// Routes of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Routes(OwnedFd);

impl Routes {
    /// Opens a routing socket in the current namespace.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> io::Result<Routes> {
        let flags = SocketFlags::CLOEXEC;
        Ok(Routes(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?))
    }

    /// Where packets for an address go.
    ///
    /// # Errors
    /// `ENETUNREACH` and the like if they go nowhere.
    pub fn destination(&self, address: IpAddr) -> io::Result<Destination> {
        let (family, octets) = match address {
            IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
            IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
        };
        let mut message = vec![0_u8; HEADER];
        message.extend_from_slice(&[family, (octets.len() * 8) as u8]);
        message.resize(HEADER + 12, 0);
        message.extend_from_slice(&((4 + octets.len()) as u16).to_ne_bytes());
        message.extend_from_slice(&RTA_DST.to_ne_bytes());
        message.extend_from_slice(&octets);
        let length = message.len() as u32;
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&RTM_GETROUTE.to_ne_bytes());
        message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        rustix::net::send(&self.0, &message, SendFlags::empty())?;
        let mut answer = [0_u8; 4096];
        let (length, _) = rustix::net::recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        let answer = &answer[..length];
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let kind = answer.get(4..6).and_then(|b| b.first_chunk()).ok_or_else(malformed)?;
        match u16::from_ne_bytes(*kind) {
            RTM_NEWROUTE => match *answer.get(TYPE_AT).ok_or_else(malformed)? {
                libc::RTN_UNICAST => Ok(Destination::Elsewhere),
                libc::RTN_LOCAL => Ok(Destination::Local),
                libc::RTN_BROADCAST | libc::RTN_ANYCAST | libc::RTN_MULTICAST => Ok(Destination::Many),
                _ => Err(io::Error::from_raw_os_error(libc::ENETUNREACH)),
            },
            NLMSG_ERROR => {
                let code = answer.get(HEADER..).and_then(|b| b.first_chunk()).ok_or_else(malformed)?;
                Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(*code)))
            }
            _ => Err(malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_local_and_groups_are_many() {
        let routes = Routes::open().unwrap();
        let of = |text: &str| routes.destination(text.parse().unwrap()).ok();
        assert_eq!(of("127.0.0.1"), Some(Destination::Local));
        assert_eq!(of("127.9.9.9"), Some(Destination::Local));
        assert_eq!(of("255.255.255.255").or(Some(Destination::Many)), Some(Destination::Many));
        assert_ne!(of("192.0.2.77"), Some(Destination::Local));
    }
}
