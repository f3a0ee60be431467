//! TCP over one link: two network namespaces with a macvlan port each, over the same TAP device.

use super::machines::own_net;
use crate::Outcome;
use rustix::fd::AsFd as _;
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

/// Sends to a listener on the other side; gives how long it took until that had had all.
pub(super) fn round(token: SingleThreaded) -> Outcome<Duration> {
    let before = own_net()?;
    unshare_net(token)?;
    let trunk = testbed_sys::tap::make("net0")?;
    let lower = index_of("net0")?;
    let (gate, go) = pipe_with(PipeFlags::CLOEXEC)?;
    let (report, tell) = pipe_with(PipeFlags::CLOEXEC)?;
    let addresses = [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 0, 2)];
    let mut ends = Vec::new();
    for (number, address) in addresses.iter().enumerate() {
        match clone(token, Namespaces::NET, None)? {
            Cloned::Child => {
                drop(go);
                let peer = SocketAddr::from((addresses[0], PORT));
                let life = || -> Outcome<()> {
                    rustix::io::read(&gate, &mut [0_u8; 1])?;
                    configure(*address)?;
                    if number == 0 {
                        return receive_traffic();
                    }
                    let took = send_traffic(peer)?.as_nanos() as u64;
                    rustix::io::write(&tell, &took.to_ne_bytes())?;
                    Ok(())
                };
                exit_now(i32::from(life().is_err()))
            }
            Cloned::Parent { pid, pidfd } => ends.push((pid, pidfd)),
        }
    }
    let socket = Netlink::open()?;
    let mut batch = Batch::new();
    batch.lower_up(lower, LOWER_MTU, 64);
    for ((process, _), number) in ends.iter().zip(1..) {
        let mac = [2, 0, 10, 1, 0, number];
        let (process, mode) = (*process, MacvlanMode::Bridge);
        batch.macvlan(&Macvlan {
            lower,
            index: PORT_INDEX,
            name: "eth0",
            process,
            mac,
            mtu: Some(MTU),
            mode,
        });
    }
    socket.apply(batch)?;
    drop(go);
    for (_, pidfd) in &ends {
        super::reap(pidfd)?;
    }
    drop(trunk);
    enter_net(token, before.as_fd())?;
    let mut took = [0_u8; 8];
    rustix::io::read(&report, &mut took)?;
    Ok(Duration::from_nanos(u64::from_ne_bytes(took)))
}

fn configure(address: Ipv4Addr) -> io::Result<()> {
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
