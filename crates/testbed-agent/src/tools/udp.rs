//! UDP datagrams, one way or both.

use super::wake::{Woken, after, wait};
use super::{Doing, ToolIo};
use rustix::event::PollFlags;
use rustix::fd::AsFd;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use testbed_agent::Fault;
use testbed_agent::agent::{MAX_DATAGRAM_BYTES, Report};
use testbed_sys::sockopt::{keep_errors, receive_error};

/// No datagram is longer.
const MOST_BYTES: usize = 65536;

/// The datagrams of a report.
#[derive(Default)]
struct Datagrams {
    first: Vec<(SocketAddr, Vec<u8>)>,
    bytes: usize,
    all: u64,
}

impl Datagrams {
    fn add(&mut self, from: SocketAddr, payload: &[u8]) {
        self.all += 1;
        // Addresses count as well: empty datagrams may come without end.
        let cost = payload.len() + size_of::<SocketAddr>();
        let whole = self.first.len() as u64 + 1 == self.all;
        if whole && (self.first.is_empty() || self.bytes + cost <= MAX_DATAGRAM_BYTES) {
            self.first.push((from, payload.to_vec()));
            self.bytes += cost;
        }
    }

    fn report(self) -> Report {
        Report::Datagrams { first: self.first, all: self.all }
    }
}

/// Sends a datagram and waits for the answer to it, from whomever it comes.
pub(crate) fn send(
    to: SocketAddr,
    payload: &[u8],
    wait_ms: u32,
    io: &mut ToolIo<'_>,
) -> Result<Report, Fault> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).doing("open a UDP socket")?;
    socket.set_broadcast(true).doing("allow broadcast")?;
    socket.set_nonblocking(true).doing("open a UDP socket")?;
    keep_errors(&socket, to.ip().into()).doing("ask for the socket's errors")?;
    socket.send_to(payload, to).doing(format!("send to {to}"))?;
    let until = after(wait_ms);
    let mut datagrams = Datagrams::default();
    let mut buffer = vec![0; MOST_BYTES];
    while wait_ms > 0 && datagrams.all == 0 {
        match wait(io.stop, [(socket.as_fd(), PollFlags::IN | PollFlags::ERR)], Some(until))? {
            Woken::Time | Woken::Stop => break,
            Woken::Events(_) => {}
        }
        if let Some(error) = receive_error(&socket).doing("read the socket's errors")? {
            let refused = std::io::Error::from_raw_os_error(error.errno);
            let fault = Fault::system(format!("send to {to}"), &refused);
            return Err(match error.from {
                Some(from) => fault.hint(format!("{from} said so")),
                None => fault,
            });
        }
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => datagrams.add(from, &buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(Fault::system("receive", &error)),
        }
    }
    Ok(datagrams.report())
}

/// Receives datagrams.
pub(crate) fn listen(at: SocketAddr, count: u32, echo: bool, io: &mut ToolIo<'_>) -> Result<Report, Fault> {
    let socket = UdpSocket::bind(at).doing(format!("listen at {at}"))?;
    socket.set_nonblocking(true).doing(format!("listen at {at}"))?;
    io.say_ready()?;
    let mut datagrams = Datagrams::default();
    let mut buffer = vec![0; MOST_BYTES];
    let mut stopping = false;
    while count == 0 || datagrams.all < u64::from(count) {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                datagrams.add(from, &buffer[..length]);
                if echo {
                    // Whether the answer arrives is the other side's to see.
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
            // What had come before the word to stop still counts.
            Err(error) if error.kind() == ErrorKind::WouldBlock && stopping => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                stopping = wait(io.stop, [(socket.as_fd(), PollFlags::IN)], None)? == Woken::Stop;
            }
            // An earlier answer was refused.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(Fault::system("receive", &error)),
        }
    }
    Ok(datagrams.report())
}

#[cfg(test)]
mod tests {
    use super::super::harness::{self, Net, Streams, start};
    use super::*;
    use testbed_agent::agent::Tool;

    #[test]
    fn datagrams_go_and_come_back() {
        let Some(net) = Net::new() else { return };
        net.enter();
        for at in ["127.0.0.1:700", "[::1]:700"] {
            let at: SocketAddr = at.parse().unwrap();
            let server = start(&Tool::UdpListen { at, count: 3, echo: true }, Streams::default()).ready();
            for payload in [b"".to_vec(), b"ping".to_vec(), vec![7; 65000]] {
                let send = Tool::UdpSend { to: at, payload: payload.clone(), wait_ms: 5000 };
                let report = harness::run(&send, Streams::default()).report();
                assert_eq!(report, Report::Datagrams { first: vec![(at, payload)], all: 1 });
            }
            let Report::Datagrams { first, all } = server.end().report() else { panic!() };
            assert_eq!(all, 3);
            let sizes: Vec<_> = first.iter().map(|(from, payload)| (from.ip(), payload.len())).collect();
            assert_eq!(sizes, [(at.ip(), 0), (at.ip(), 4), (at.ip(), 65000)]);
        }
    }

    #[test]
    fn reports_stay_bounded() {
        let mut datagrams = Datagrams::default();
        let from = "127.0.0.1:1".parse().unwrap();
        for size in [60_000, 10_000, 1] {
            datagrams.add(from, &vec![0; size]);
        }
        let Report::Datagrams { first, all } = datagrams.report() else { panic!() };
        assert_eq!((first.len(), all), (1, 3), "nothing behind a gap");
    }

    #[test]
    fn a_closed_port_and_silence_are_told_apart() {
        let Some(net) = Net::new() else { return };
        net.enter();
        let to = "127.0.0.1:9".parse().unwrap();
        let refused = Tool::UdpSend { to, payload: vec![1], wait_ms: 5000 };
        let fault = harness::run(&refused, Streams::default()).fault();
        assert_eq!(fault.errno, Some(libc::ECONNREFUSED));
        assert_eq!(fault.hint.as_deref(), Some("127.0.0.1 said so"));

        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = silent.local_addr().unwrap();
        let unanswered = Tool::UdpSend { to, payload: vec![1], wait_ms: 30 };
        let report = harness::run(&unanswered, Streams::default()).report();
        assert_eq!(report, Report::Datagrams { first: vec![], all: 0 });

        let nowhere = Tool::UdpSend { to: "10.9.9.9:1".parse().unwrap(), payload: vec![1], wait_ms: 30 };
        assert_eq!(harness::run(&nowhere, Streams::default()).fault().errno, Some(libc::ENETUNREACH));
    }

    #[test]
    fn a_listener_without_end_stops_when_told() {
        let Some(net) = Net::new() else { return };
        net.enter();
        let at = "127.0.0.1:701".parse().unwrap();
        let server = start(&Tool::UdpListen { at, count: 0, echo: false }, Streams::default()).ready();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"one", at).unwrap();
        let from = sender.local_addr().unwrap();
        // Loopback has delivered before sending returns.
        let report = server.stop().report();
        assert_eq!(report, Report::Datagrams { first: vec![(from, b"one".to_vec())], all: 1 });
    }
}
