//! TCP over one link: two network namespaces with a macvlan port each, over the same TAP device.

use super::machines::own_net;
use crate::Outcome;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use testbed_sys::netlink::{Batch, LOOPBACK, Macvlan, MacvlanMode, Netlink, index_of};
use testbed_sys::process::{Cloned, Namespaces, SingleThreaded, clone, enter_net, exit_now, unshare_net};

/// How much is sent.
pub(crate) const TRAFFIC_BYTES: u64 = 2 << 30;
const PORT: u16 = 5001;
const PORT_INDEX: u32 = 100;
const LOWER_MTU: u32 = 65521;
const MTU: u32 = 1500;

/// The kernel does not remember of a peer how fast it was: a stream that lost packets once would slow all later ones.
pub(crate) const NO_METRICS: (&str, &str) = ("net.ipv4.tcp_no_metrics_save", "1");

/// Two ends that send to each other whenever they are told to. They stay, as machines do.
struct Link {
    /// A byte begins a stream; closed, they end it all.
    gates: Vec<OwnedFd>,
    report: OwnedFd,
    _trunk: OwnedFd,
}

/// Sends from one end to the other; gives how long it took until that had had all. The first round makes the link.
pub(super) fn rounds() -> impl FnMut(SingleThreaded) -> Outcome<Duration> {
    let mut made = None;
    move |token| {
        let link = match &mut made {
            Some(link) => link,
            none => none.insert(Link::make(token)?),
        };
        for gate in &link.gates {
            rustix::io::write(gate, &[1])?;
        }
        let mut took = [0_u8; 8];
        match rustix::io::read(&link.report, &mut took)? {
            8 => Ok(Duration::from_nanos(u64::from_ne_bytes(took))),
            _ => Err("an end of the link has failed".into()),
        }
    }
}

impl Link {
    fn make(token: SingleThreaded) -> Outcome<Link> {
        let before = own_net()?;
        unshare_net(token)?;
        let trunk = testbed_sys::tap::make("net0")?;
        let lower = index_of("net0")?;
        let (report, tell) = pipe_with(PipeFlags::CLOEXEC)?;
        let addresses = [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 0, 2)];
        let (mut ends, mut gates) = (Vec::new(), Vec::new());
        for (number, address) in addresses.iter().enumerate() {
            let (gate, go) = pipe_with(PipeFlags::CLOEXEC)?;
            match clone(token, Namespaces::NET, None)? {
                Cloned::Child => {
                    gates.clear();
                    drop((go, trunk, report));
                    let life = || -> Outcome<()> {
                        let peer = SocketAddr::from((addresses[0], PORT));
                        // The first byte says that the interface is there.
                        let mut begun = false;
                        while rustix::io::read(&gate, &mut [0_u8; 1])? == 1 {
                            if !std::mem::replace(&mut begun, true) {
                                configure(*address)?;
                            } else if number == 0 {
                                receive_traffic()?;
                            } else {
                                let took = send_traffic(peer)?.as_nanos() as u64;
                                rustix::io::write(&tell, &took.to_ne_bytes())?;
                            }
                        }
                        Ok(())
                    };
                    exit_now(i32::from(life().is_err()))
                }
                Cloned::Parent { pid, .. } => ends.push(pid),
            }
            gates.push(go);
        }
        let socket = Netlink::open()?;
        let mut batch = Batch::new();
        batch.lower_up(lower, LOWER_MTU, 64);
        for (process, number) in ends.into_iter().zip(1..) {
            let (mac, mode) = ([2, 0, 10, 1, 0, number], MacvlanMode::Bridge);
            let (index, name, mtu) = (PORT_INDEX, "eth0", Some(MTU));
            batch.macvlan(&Macvlan { lower, index, name, process, mac, mtu, mode });
        }
        socket.apply(batch)?;
        enter_net(token, before.as_fd())?;
        for gate in &gates {
            rustix::io::write(gate, &[1])?;
        }
        Ok(Link { gates, report, _trunk: trunk })
    }
}

fn configure(address: Ipv4Addr) -> io::Result<()> {
    let (path, value) = NO_METRICS;
    std::fs::write(format!("/proc/sys/{}", path.replace('.', "/")), value)?;
    let mut batch = Batch::new();
    batch.up(LOOPBACK);
    batch.up_without_ipv6(PORT_INDEX);
    batch.address(PORT_INDEX, IpAddr::V4(address), 24);
    Netlink::open()?.apply(batch).map_err(|refused| refused.error)
}

/// Takes all that one sender sends.
pub(crate) fn receive_traffic() -> Outcome<()> {
    let (mut stream, _) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?.accept()?;
    let mut buffer = vec![0_u8; 256 * 1024];
    let mut total = 0;
    while total < TRAFFIC_BYTES {
        match stream.read(&mut buffer)? {
            0 => return Err("the sender ended too soon".into()),
            n => total += n as u64,
        }
    }
    Ok(stream.write_all(&[1])?)
}

/// Sends to a receiver, which may still be about to listen; gives how long it took until that had had all.
pub(crate) fn send_traffic(to: SocketAddr) -> Outcome<Duration> {
    let mut attempts = 0;
    let mut stream = loop {
        match TcpStream::connect(to) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && attempts < 2000 => {
                attempts += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            other => break other?,
        }
    };
    // The one that every kernel has, and that does nothing by the clock: a busy host would make it slow.
    rustix::net::sockopt::set_tcp_congestion(&stream, "reno")?;
    let buffer = vec![0_u8; 256 * 1024];
    let begun = Instant::now();
    let mut total = 0;
    while total < TRAFFIC_BYTES {
        stream.write_all(&buffer)?;
        total += buffer.len() as u64;
    }
    stream.read_exact(&mut [0_u8; 1])?;
    Ok(begun.elapsed())
}
