//! The routers on the way to a target: UDP probes whose time to live grows, as traceroute(8) sends them.
//!
//! The socket's error queue tells who dropped a probe and why, so no raw socket and no matching is needed.

use super::ping::{unreachable4, unreachable6};
use super::wake::{Woken, after, wait};
use super::{Doing, ToolIo, interrupted, invalid};
use rustix::event::PollFlags;
use rustix::fd::AsFd;
use rustix::net::sockopt::{set_ip_ttl, set_ipv6_unicast_hops};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Instant;
use testbed_agent::Fault;
use testbed_agent::agent::{Hop, Report};
use testbed_sys::sockopt::{QueuedError, keep_errors, receive_error};

/// Nobody should listen here: the port of the probe with time to live 1 is one above.
const FIRST_PORT: u16 = 33434;

/// Sends a probe for each hop until the target answers.
pub(crate) fn run(target: IpAddr, max_hops: u8, wait_ms: u32, io: &mut ToolIo<'_>) -> Result<Report, Fault> {
    if max_hops == 0 {
        return Err(invalid("trace with no hops").hint("1 to 255"));
    }
    let mut hops = Vec::new();
    for hop in 1..=max_hops {
        match probe(target, hop, wait_ms, io)? {
            Probe::Silence => hops.push(None),
            Probe::Router(router) => hops.push(Some(router)),
            Probe::Target(answer) => {
                hops.push(Some(answer));
                return Ok(Report::Trace { hops, reached: true, refused: None });
            }
            Probe::Refused(router, what) => {
                hops.push(Some(router));
                return Ok(Report::Trace { hops, reached: false, refused: Some(what) });
            }
        }
    }
    Ok(Report::Trace { hops, reached: false, refused: None })
}

enum Probe {
    Silence,
    Router(Hop),
    Target(Hop),
    Refused(Hop, String),
}

fn probe(target: IpAddr, hop: u8, wait_ms: u32, io: &ToolIo<'_>) -> Result<Probe, Fault> {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).doing("open a UDP socket")?;
    keep_errors(&socket, target.into()).doing("ask for the socket's errors")?;
    match target {
        IpAddr::V4(_) => set_ip_ttl(&socket, hop.into()),
        IpAddr::V6(_) => set_ipv6_unicast_hops(&socket, Some(hop)),
    }
    .doing("set the time to live")?;
    socket.set_nonblocking(true).doing("open a UDP socket")?;
    // Not connected: an answer from another address of the target counts as well.
    let start = Instant::now();
    let until = after(wait_ms);
    socket
        .send_to(&[0; 32], (target, FIRST_PORT + u16::from(hop)))
        .doing(format!("send a probe to {target}"))?;
    loop {
        let events = match wait(io.stop, [(socket.as_fd(), PollFlags::IN | PollFlags::ERR)], Some(until))? {
            Woken::Time => return Ok(Probe::Silence),
            Woken::Stop => return Err(interrupted("trace")),
            Woken::Events([events]) => events,
        };
        let time_us = start.elapsed().as_micros().try_into().unwrap_or(u32::MAX);
        if let Some(error) = receive_error(&socket).doing("read the socket's errors")? {
            if let (Some((kind, code)), Some(address)) = (error.icmp, error.from) {
                return Ok(judge(target, Hop { address, time_us }, kind, code));
            }
            return local_error(target, error);
        }
        if events.contains(PollFlags::IN)
            && let Ok((_, from)) = socket.recv_from(&mut [0; 1])
        {
            // Somebody does listen there.
            return Ok(Probe::Target(Hop { address: from.ip(), time_us }));
        }
    }
}

fn judge(target: IpAddr, hop: Hop, kind: u8, code: u8) -> Probe {
    let (exceeded, closed_port, what) = match target {
        IpAddr::V4(_) => (kind == 11, (kind, code) == (3, 3), unreachable4(kind, code)),
        IpAddr::V6(_) => (kind == 3, (kind, code) == (1, 4), unreachable6(kind, code)),
    };
    if exceeded {
        Probe::Router(hop)
    } else if closed_port || hop.address == target {
        Probe::Target(hop)
    } else {
        let what = format!("{what} from {}", hop.address);
        Probe::Refused(hop, what)
    }
}

/// This machine itself could not send the probe on: nobody answered for the target on the link, most often.
fn local_error(target: IpAddr, error: QueuedError) -> Result<Probe, Fault> {
    let error = std::io::Error::from_raw_os_error(error.errno);
    Err(Fault::system(format!("send a probe to {target}"), &error))
}

#[cfg(test)]
mod tests;
