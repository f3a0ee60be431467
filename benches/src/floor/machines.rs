//! Several machines as in [`super::one`], on networks of macvlan ports over ifb devices.

use super::one::{NAMESPACES, become_true};
use crate::Outcome;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use testbed_sys::netlink::{Batch, LOOPBACK, Macvlan, MacvlanMode, Netlink};
use testbed_sys::process::{Cloned, SingleThreaded, clone, enter_net, exit_now, unshare_net};

/// What stands on which networks.
pub(super) struct Plan {
    networks: u32,
    /// The interfaces of each machine: network and address.
    machines: Vec<Vec<(u32, Ipv4Addr)>>,
}

/// Two sites behind gateways and one machine between them.
pub(super) fn five() -> Plan {
    let at = |network: u8, host: u8| (u32::from(network), Ipv4Addr::new(10, network + 1, 0, host));
    let machines = vec![
        vec![at(0, 10)],
        vec![at(0, 1), at(1, 1)],
        vec![at(1, 2), at(2, 1)],
        vec![at(2, 10)],
        vec![at(1, 100)],
    ];
    Plan { networks: 3, machines }
}

/// So many machines on one network.
pub(super) fn flat(count: u32) -> Plan {
    let address = |number: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 0)) + number);
    Plan { networks: 1, machines: (1..=count).map(|number| vec![(0, address(number))]).collect() }
}

const FIRST_LOWER: u32 = 10;
const FIRST_PORT: u32 = 100;
/// Messages to the kernel go at once until they are about so many.
const BATCH: usize = 400;

/// Makes the machines and networks, runs `true` in each, and waits until all machines are gone.
pub(super) fn round(token: SingleThreaded, plan: &Plan) -> Outcome<()> {
    let before = own_net()?;
    unshare_net(token)?;
    let (gate, wired) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut machines = Vec::with_capacity(plan.machines.len());
    for interfaces in &plan.machines {
        match clone(token, NAMESPACES, None)? {
            Cloned::Child => {
                drop(wired);
                exit_now(become_true("m", || {
                    rustix::io::read(&gate, &mut [0_u8; 1])?;
                    configure(interfaces)
                }))
            }
            Cloned::Parent { pid, pidfd } => machines.push((pid, pidfd, interfaces)),
        }
    }
    let socket = Netlink::open()?;
    let mut batch = Batch::new();
    for number in 0..plan.networks {
        batch.ifb(FIRST_LOWER + number, &format!("net{number}"));
        batch.up(FIRST_LOWER + number);
    }
    let mut waiting = 0;
    for (pid, _, interfaces) in &machines {
        for ((network, address), number) in interfaces.iter().zip(0..) {
            let [a, b, c, d] = address.octets();
            batch.macvlan(&Macvlan {
                lower: FIRST_LOWER + network,
                index: FIRST_PORT + number,
                name: &format!("eth{number}"),
                process: *pid,
                mac: [2, 0, a, b, c, d],
                mtu: None,
                mode: MacvlanMode::Bridge,
            });
            waiting += 1;
        }
        if waiting >= BATCH {
            socket.apply(std::mem::take(&mut batch))?;
            waiting = 0;
        }
    }
    socket.apply(batch)?;
    drop(wired);
    for (_, pidfd, _) in &machines {
        super::reap(pidfd)?;
    }
    enter_net(token, rustix::fd::AsFd::as_fd(&before))?;
    Ok(())
}

fn configure(interfaces: &[(u32, Ipv4Addr)]) -> io::Result<()> {
    let socket = Netlink::open()?;
    let mut batch = Batch::new();
    batch.up(LOOPBACK);
    for ((_, address), index) in interfaces.iter().zip(FIRST_PORT..) {
        batch.up(index);
        batch.address(index, IpAddr::V4(*address), 16);
    }
    socket.apply(batch).map_err(|refused| refused.error)
}

pub(super) fn own_net() -> io::Result<OwnedFd> {
    Ok(open(c"/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}
