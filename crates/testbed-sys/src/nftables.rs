//! Packet filters by nfnetlink, as far as finding out whether there are any (linux/netfilter/nfnetlink.h, nf_tables.h).

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

const NETLINK_NETFILTER: u32 = 12;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFTA_TABLE_NAME: u16 = 1;
const NFPROTO_INET: u8 = 1;
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_ACK: u16 = 0x004;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
/// The kernel answers a batch before sending it returns, or not at all.
const ANSWER: Duration = Duration::from_secs(2);

/// Makes an empty table of packet filters in the current network namespace.
///
/// # Errors
/// What the kernel says: EPROTONOSUPPORT or EOPNOTSUPP where it has no nftables.
pub fn make_table(name: &str) -> io::Result<()> {
    let protocol = NonZeroU32::new(NETLINK_NETFILTER).map(Protocol::from_raw);
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER))?;
    let mut attribute = Vec::new();
    attribute.extend_from_slice(&((4 + name.len() + 1) as u16).to_ne_bytes());
    attribute.extend_from_slice(&NFTA_TABLE_NAME.to_ne_bytes());
    attribute.extend_from_slice(name.as_bytes());
    attribute.resize((attribute.len() + 1).next_multiple_of(4), 0);
    let table = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE;
    let mut batch = Vec::new();
    message(&mut batch, NFNL_MSG_BATCH_BEGIN, 0, (0, NFNL_SUBSYS_NFTABLES), &[]);
    message(&mut batch, table, NLM_F_CREATE | NLM_F_ACK, (NFPROTO_INET, 0), &attribute);
    message(&mut batch, NFNL_MSG_BATCH_END, 0, (0, NFNL_SUBSYS_NFTABLES), &[]);
    rustix::net::send(&socket, &batch, SendFlags::empty())?;
    let mut answer = [0_u8; 4096];
    let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    match answer[..length].first_chunk::<20>() {
        Some(head) if u16::from_ne_bytes([head[4], head[5]]) == NLMSG_ERROR => {
            match i32::from_ne_bytes([head[16], head[17], head[18], head[19]]) {
                0 => Ok(()),
                code => Err(io::Error::from_raw_os_error(-code)),
            }
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn message(bytes: &mut Vec<u8>, kind: u16, flags: u16, (family, resource): (u8, u16), body: &[u8]) {
    bytes.extend_from_slice(&((20 + body.len()) as u32).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    // Sequence number, then the port: the kernel knows who asks.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, 0]);
    bytes.extend_from_slice(&resource.to_be_bytes());
    bytes.extend_from_slice(body);
}
