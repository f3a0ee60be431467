//! ICMP echo: RFC 792, RFC 4443 section 4.

use super::wake::{Woken, wait};
use super::{Doing, ToolIo, invalid};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};
use testbed_agent::agent::{MAX_PINGS, Report};
use testbed_agent::{Fault, FaultKind};
use testbed_sys::sockopt::bind_to_device;

/// What to send and how long to wait.
pub(crate) struct Plan<'a> {
    pub(crate) target: IpAddr,
    pub(crate) count: u32,
    pub(crate) interval_ms: u32,
    pub(crate) wait_ms: u32,
    pub(crate) size: u16,
    pub(crate) interface: Option<&'a str>,
}

/// The ICMP header of an echo message.
const HEADER: usize = 8;
/// The largest IPv4 packet less its header and the ICMP header.
const MOST_PAYLOAD: u16 = 65507;

/// Sends echo requests and collects the answers.
pub(crate) fn run(plan: &Plan<'_>, io: &mut ToolIo<'_>) -> Result<Report, Fault> {
    if plan.count == 0 || plan.count > MAX_PINGS {
        return Err(invalid(format!("send {} echo requests", plan.count)).hint(format!("1 to {MAX_PINGS}")));
    }
    if plan.size > MOST_PAYLOAD {
        return Err(
            invalid(format!("send {} payload bytes", plan.size)).hint(format!("at most {MOST_PAYLOAD}"))
        );
    }
    let socket = Socket::open(plan)?;
    let mut course = Course::new(plan.count);
    let mut next = Instant::now();
    let mut sent = 0;
    loop {
        let now = Instant::now();
        if sent < plan.count && now >= next {
            course.send(&socket, sent)?;
            sent += 1;
            next = now + Duration::from_millis(plan.interval_ms.into());
            continue;
        }
        let due = course.due(plan.wait_ms, now);
        if sent == plan.count && due.is_none() {
            break;
        }
        let next = (sent < plan.count).then_some(next);
        let until = [due, next].into_iter().flatten().min();
        match wait(io.stop, [(socket.fd.as_fd(), PollFlags::IN)], until)? {
            Woken::Events(_) => course.receive(&socket)?,
            Woken::Time => {}
            Woken::Stop => break,
        }
    }
    Ok(Report::Ping {
        sent,
        received: course.times_us.len() as u32,
        times_us: course.times_us,
        refused: course.refused,
    })
}

/// A raw ICMP socket and the echo messages that are ours on it.
struct Socket {
    fd: OwnedFd,
    to: SocketAddr,
    id: u16,
    /// In the payload where there is room: tells our answers from those to others with the same id.
    token: [u8; 8],
    size: u16,
}

impl Socket {
    fn open(plan: &Plan<'_>) -> Result<Socket, Fault> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (family, protocol) = match plan.target {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let fd = rustix::net::socket_with(family, SocketType::RAW, flags, Some(protocol))
            .doing("open a raw ICMP socket")?;
        rustix::net::sockopt::set_socket_broadcast(&fd, true).doing("allow broadcast")?;
        let mut scope = 0;
        if let Some(name) = plan.interface {
            let no_such = |error: std::io::Error| {
                let fault = Fault::system(format!("use interface {name}"), &error);
                if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) {
                    return Fault { kind: FaultKind::NotFound, ..fault };
                }
                fault
            };
            bind_to_device(&fd, name).map_err(no_such)?;
            scope = testbed_sys::netlink::index_of(name).map_err(no_such)?;
        }
        let to = match plan.target {
            IpAddr::V4(address) => SocketAddr::from((address, 0)),
            IpAddr::V6(address) => SocketAddrV6::new(address, 0, 0, scope).into(),
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let token = (now.as_nanos() as u64).to_ne_bytes();
        Ok(Socket { fd, to, id: std::process::id() as u16, token, size: plan.size })
    }

    fn request(&self, sequence: u16) -> Vec<u8> {
        let kind = if self.to.is_ipv4() { 8 } else { 128 };
        let mut message = vec![kind, 0, 0, 0];
        message.extend_from_slice(&self.id.to_be_bytes());
        message.extend_from_slice(&sequence.to_be_bytes());
        let filler = (0..self.size).map(|i| i as u8);
        message.extend(self.token.iter().copied().chain(filler.skip(8)).take(self.size.into()));
        if self.to.is_ipv4() {
            // For ICMPv6 the kernel does it.
            let sum = checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        message
    }

    /// What a packet that came in says about one of our requests.
    fn judge(&self, packet: &[u8]) -> Option<(u16, Answer)> {
        match self.to {
            SocketAddr::V4(_) => {
                let (source, message) = split_ip4(packet)?;
                match (message.first()?, message.get(1)?) {
                    (0, 0) => Some((self.ours(message, true)?, Answer::Echo)),
                    (&kind @ (3 | 11), &code) => {
                        let (_, inner) = split_ip4(message.get(HEADER..)?)?;
                        let what = unreachable4(kind, code);
                        let refusal = format!("{what} from {source}");
                        (inner.first() == Some(&8))
                            .then_some((self.ours(inner, false)?, Answer::Refused(refusal)))
                    }
                    _ => None,
                }
            }
            SocketAddr::V6(_) => match (packet.first()?, packet.get(1)?) {
                (129, 0) => Some((self.ours(packet, true)?, Answer::Echo)),
                (&kind @ (1..=3), &code) => {
                    let quoted = packet.get(HEADER..)?;
                    let inner = quoted.get(40..)?;
                    let what = unreachable6(kind, code);
                    let ours = quoted.get(6) == Some(&58) && inner.first() == Some(&128);
                    ours.then_some((self.ours(inner, false)?, Answer::Refused(what.into())))
                }
                _ => None,
            },
        }
    }

    /// The sequence number of an echo message with our id. A message that is whole must have our payload, too.
    fn ours(&self, message: &[u8], whole: bool) -> Option<u16> {
        let id = u16::from_be_bytes(*message.get(4..)?.first_chunk()?);
        let sequence = u16::from_be_bytes(*message.get(6..)?.first_chunk()?);
        let room = usize::from(self.size).min(self.token.len());
        let same = message.get(HEADER..HEADER + room).map(|token| *token == self.token[..room]);
        (id == self.id && same.unwrap_or(!whole)).then_some(sequence)
    }
}

enum Answer {
    Echo,
    Refused(String),
}

/// How far the requests have come.
struct Course {
    /// When each was sent, until its answer.
    waiting: Vec<Option<Instant>>,
    /// The first that may still wait.
    first: usize,
    times_us: Vec<u32>,
    refused: Option<String>,
    buffer: Vec<u8>,
}

impl Course {
    fn new(count: u32) -> Course {
        let waiting = Vec::with_capacity(count as usize);
        Course { waiting, first: 0, times_us: Vec::new(), refused: None, buffer: vec![0; 65536 + 128] }
    }

    fn send(&mut self, socket: &Socket, number: u32) -> Result<(), Fault> {
        use rustix::io::Errno;
        let message = socket.request(number as u16);
        let start = Instant::now();
        let result = rustix::net::sendto(&socket.fd, &message, SendFlags::empty(), &socket.to);
        let refusal = match result {
            Ok(_) => None,
            Err(Errno::NETUNREACH) => Some("network unreachable: no route"),
            Err(Errno::HOSTUNREACH) => Some("host unreachable: no route"),
            Err(Errno::ADDRNOTAVAIL) => Some("no address to send from"),
            Err(Errno::NETDOWN) => Some("the interface is down"),
            Err(Errno::ACCESS | Errno::PERM) => Some("prohibited by this machine's own rules"),
            // The queue is full: as lost as on the wire.
            Err(Errno::NOBUFS | Errno::AGAIN) => None,
            Err(error) => {
                let fault =
                    Fault::system(format!("send an echo request to {}", socket.to.ip()), &error.into());
                return Err(match error {
                    Errno::MSGSIZE => fault.hint("the payload does not fit the way there"),
                    _ => fault,
                });
            }
        };
        self.waiting.push(if refusal.is_none() { Some(start) } else { None });
        if let Some(refusal) = refusal {
            self.refused.get_or_insert_with(|| refusal.into());
        }
        Ok(())
    }

    /// Until when the earliest request that waits may wait; those whose time has passed wait no longer.
    fn due(&mut self, wait_ms: u32, now: Instant) -> Option<Instant> {
        let wait = Duration::from_millis(wait_ms.into());
        while let Some(sent) = self.waiting.get_mut(self.first) {
            match sent {
                Some(sent) if *sent + wait > now => return Some(*sent + wait),
                _ => *sent = None,
            }
            self.first += 1;
        }
        None
    }

    fn receive(&mut self, socket: &Socket) -> Result<(), Fault> {
        loop {
            let received = rustix::net::recvfrom(&socket.fd, &mut self.buffer[..], RecvFlags::empty());
            let now = Instant::now();
            let (length, from) = match received {
                Ok((length, _, from)) => (length, from),
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                // Errors about earlier packets come here as well; the packets that tell more follow.
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(Fault::system("receive", &error.into())),
            };
            let Some((sequence, answer)) = socket.judge(&self.buffer[..length]) else { continue };
            let Some(sent) = self.waiting.get_mut(usize::from(sequence)).and_then(Option::take) else {
                continue;
            };
            match answer {
                Answer::Echo => self.times_us.push((now - sent).as_micros().try_into().unwrap_or(u32::MAX)),
                Answer::Refused(what) if socket.to.is_ipv4() => {
                    self.refused.get_or_insert(what);
                }
                Answer::Refused(what) => {
                    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                    let from = from.map_or_else(|| "nobody".into(), |from| from.ip().to_string());
                    self.refused.get_or_insert(format!("{what} from {from}"));
                }
            }
        }
    }
}

/// Splits an IPv4 packet into its sender and what is behind its header.
fn split_ip4(packet: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    let source = Ipv4Addr::from(*packet.get(12..)?.first_chunk::<4>()?);
    Some((source, packet.get(header..)?))
}

/// The Internet checksum, RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// What an ICMP error says, RFC 792 and RFC 1812 section 5.2.7.1.
pub(crate) fn unreachable4(kind: u8, code: u8) -> &'static str {
    match (kind, code) {
        (11, 0) => "time to live exceeded",
        (11, _) => "fragment reassembly time exceeded",
        (_, 0) => "network unreachable",
        (_, 1) => "host unreachable",
        (_, 2) => "protocol unreachable",
        (_, 3) => "port unreachable",
        (_, 4) => "packet too big",
        (_, 5) => "source route failed",
        (_, 9) => "network prohibited",
        (_, 10) => "host prohibited",
        (_, 13) => "communication prohibited",
        _ => "destination unreachable",
    }
}

/// What an ICMPv6 error says, RFC 4443 section 3.
pub(crate) fn unreachable6(kind: u8, code: u8) -> &'static str {
    match (kind, code) {
        (2, _) => "packet too big",
        (3, 0) => "hop limit exceeded",
        (3, _) => "fragment reassembly time exceeded",
        (_, 0) => "network unreachable",
        (_, 1) => "communication prohibited",
        (_, 2) => "beyond the scope of the source address",
        (_, 3) => "host unreachable",
        (_, 4) => "port unreachable",
        (_, 5) => "source address prohibited",
        (_, 6) => "route rejected",
        _ => "destination unreachable",
    }
}

#[cfg(test)]
mod tests;
