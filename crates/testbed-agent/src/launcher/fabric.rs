//! The networks of one copy of a testbed, in a network namespace of their own.
//!
//! Each network is a TAP device that nobody routes: machines are macvlan ports of it, and its descriptor (the trunk)
//! carries what is for ports that the kernel does not know. Without `/dev/net/tun` it is an ifb device, and there is no
//! trunk. No bridges: taking one down stalls every other network namespace of the host for hundreds of milliseconds.

use super::base::Base;
use super::shelf::Shared;
use super::{missing, refused};
use crate::init::interface_up;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use testbed_agent::Doing as _;
use testbed_agent::launch::{Interface, Network};
use testbed_agent::{Fault, FaultKind};
use testbed_sys::netlink::{Batch, Macvlan, MacvlanMode, Netlink};
use testbed_sys::packet::PacketSocket;
use testbed_sys::process::{SingleThreaded, enter_net, unshare_net};
use testbed_sys::tap;

/// Lower devices are numbered from here on in a fabric's namespace, so that no name needs to be looked up.
const FIRST_LOWER: u32 = 100;
/// Interfaces are numbered from here on in a machine's namespace, after those that the kernel makes by itself.
pub(crate) const FIRST_PORT: u32 = 100;
/// Those that come later are numbered from here on, beyond what a machine's own programs may have made.
const FIRST_ATTACHED: u32 = 1_000_000;
/// The largest packet of a lower device: ports may have less.
const LOWER_MTU: u32 = 65521;
/// Frames that wait in a trunk for a reader; there may be none.
const TRUNK_QUEUE: u32 = 64;
/// Frames that wait in a trunk that is read: the windows of a few dozen connections.
const READ_TRUNK_QUEUE: u32 = 2048;

pub(super) struct Fabric {
    /// None if there are no networks.
    namespace: Option<OwnedFd>,
    socket: Option<Netlink>,
    lowers: Vec<Lower>,
    mtus: Vec<u32>,
    /// A layer with the files that all machines see.
    files: Option<Shared>,
}

struct Lower {
    index: u32,
    trunk: Option<OwnedFd>,
}

impl Fabric {
    pub(super) fn make(
        token: SingleThreaded,
        base: &Base,
        networks: &[Network],
        files: &[(String, String)],
    ) -> Result<Fabric, Fault> {
        let files = if files.is_empty() { None } else { Some(base.files_layer(token, files)?) };
        let mtus = networks.iter().map(|n| n.mtu).collect();
        if networks.is_empty() {
            return Ok(Fabric { namespace: None, socket: None, lowers: Vec::new(), mtus, files });
        }
        unshare_net(token).doing("make a network namespace")?;
        let namespace = own_namespace()?;
        let socket = Netlink::open().doing("open netlink")?;
        let mut lowers = Vec::new();
        let mut batch = Batch::new();
        for number in 0..networks.len() as u32 {
            let name = format!("net{number}");
            let lower = if base.has_tun() {
                let trunk = tap::make(&name).doing("make a TAP device")?;
                let index = testbed_sys::netlink::index_of(&name).doing("find the TAP device")?;
                Lower { index, trunk: Some(trunk) }
            } else {
                batch.ifb(FIRST_LOWER + number, &name);
                Lower { index: FIRST_LOWER + number, trunk: None }
            };
            batch.lower_up(lower.index, LOWER_MTU, TRUNK_QUEUE);
            lowers.push(lower);
        }
        socket.apply(batch).map_err(refused)?;
        Ok(Fabric { namespace: Some(namespace), socket: Some(socket), lowers, mtus, files })
    }

    /// The layer with the files that all machines see.
    pub(super) fn files(&self) -> Option<&Shared> {
        self.files.as_ref()
    }

    /// Makes the interfaces of a process in its network namespace; returns their numbers there.
    pub(super) fn wire(&self, process: u32, interfaces: &[Interface]) -> Result<Vec<u32>, Fault> {
        let mut batch = Batch::new();
        let mut indexes = Vec::new();
        for (interface, index) in interfaces.iter().zip(FIRST_PORT..) {
            self.port(&mut batch, process, index, interface)?;
            indexes.push(index);
        }
        if let Some(socket) = &self.socket {
            socket.apply(batch).map_err(refused)?;
        }
        Ok(indexes)
    }

    /// Makes one more interface of a process that has some already; returns its number in its network namespace.
    pub(super) fn attach(&self, process: u32, number: u32, interface: &Interface) -> Result<u32, Fault> {
        let index = FIRST_ATTACHED.saturating_add(number);
        let mut batch = Batch::new();
        self.port(&mut batch, process, index, interface)?;
        let socket = self.socket.as_ref().ok_or_else(|| missing("network"))?;
        socket.apply(batch).map_err(refused)?;
        Ok(index)
    }

    fn port(&self, batch: &mut Batch, process: u32, index: u32, interface: &Interface) -> Result<(), Fault> {
        let network = interface.network as usize;
        let (lower, mtu) =
            self.lowers.get(network).zip(self.mtus.get(network)).ok_or_else(|| missing("network"))?;
        batch.macvlan(&Macvlan {
            lower: lower.index,
            index,
            name: &interface.name,
            process,
            mac: interface.mac,
            mtu: Some(interface.mtu.unwrap_or(*mtu)),
            mode: MacvlanMode::Bridge,
        });
        Ok(())
    }

    /// A packet socket on a network's lower device, where every frame passes once. It waits to be started.
    pub(super) fn capture(&self, token: SingleThreaded, network: u32) -> Result<OwnedFd, Fault> {
        let lower = self.lowers.get(network as usize).ok_or_else(|| missing("network"))?;
        let namespace = self.namespace.as_ref().ok_or_else(|| missing("network"))?;
        enter_net(token, namespace.as_fd()).doing("enter the fabric")?;
        let socket = PacketSocket::open().doing("open a packet socket")?;
        socket.select(lower.index).doing("open a packet socket")?;
        Ok(socket.into())
    }

    /// The trunk of a network.
    pub(super) fn trunk(&self, network: u32) -> Result<OwnedFd, Fault> {
        let lower = self.lowers.get(network as usize).ok_or_else(|| missing("network"))?;
        let trunk = lower.trunk.as_ref().ok_or_else(|| {
            Fault::new(FaultKind::Unsupported, "reach a network from user space")
                .hint("this host has no usable /dev/net/tun; see `testbed doctor`")
        })?;
        let mut batch = Batch::new();
        batch.lower_up(lower.index, LOWER_MTU, READ_TRUNK_QUEUE);
        if let Some(socket) = &self.socket {
            socket.apply(batch).map_err(refused)?;
        }
        trunk.try_clone().doing("open the trunk")
    }
}

/// A TCP socket in a network namespace, not connected; it does not wait.
pub(super) fn tcp_socket(token: SingleThreaded, network: &OwnedFd, ipv6: bool) -> Result<OwnedFd, Fault> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
    let family = if ipv6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    in_net(token, network, || {
        socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
            .doing("open a socket in the machine")
    })
}

fn own_namespace() -> Result<OwnedFd, Fault> {
    open(c"/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing("open the network namespace")
}

/// A routing socket in a network namespace.
pub(super) fn netlink(token: SingleThreaded, network: &OwnedFd) -> Result<Netlink, Fault> {
    in_net(token, network, || Netlink::open().doing("open netlink"))
}

/// A process's network namespace.
pub(super) fn namespace_of_process(pid: u32) -> Result<OwnedFd, Fault> {
    open(format!("/proc/{pid}/ns/net"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing("open the machine's network namespace")
}

/// Takes an interface of a namespace up, with its addresses.
pub(super) fn take_up(
    token: SingleThreaded,
    network: &OwnedFd,
    link: u32,
    interface: &Interface,
) -> Result<(), Fault> {
    let socket = netlink(token, network)?;
    let mut batch = Batch::new();
    interface_up(&mut batch, link, interface);
    socket.apply(batch).map_err(refused)
}

/// Removes a link of a namespace.
pub(super) fn remove(token: SingleThreaded, network: &OwnedFd, link: u32) -> Result<(), Fault> {
    let socket = netlink(token, network)?;
    let mut batch = Batch::new();
    batch.remove(link);
    socket.apply(batch).map_err(refused)
}

/// Takes links of a namespace down.
pub(super) fn take_down(token: SingleThreaded, network: &OwnedFd, links: &[u32]) -> Result<(), Fault> {
    let socket = netlink(token, network)?;
    let mut batch = Batch::new();
    links.iter().for_each(|link| batch.down(*link));
    socket.apply(batch).map_err(refused)
}

fn in_net<T>(
    token: SingleThreaded,
    network: &OwnedFd,
    work: impl FnOnce() -> Result<T, Fault>,
) -> Result<T, Fault> {
    let before = own_namespace()?;
    enter_net(token, network.as_fd()).doing("enter the machine's network namespace")?;
    let result = work();
    enter_net(token, before.as_fd()).doing("leave the machine's network namespace")?;
    result
}
