//! What a copy of a testbed offers of all this.

use super::capture::{self, Capture};
use super::forward::{self, Forward};
use super::recent::{Depth, Watched, Watcher};
use super::stream::Stream;
use super::switch::{Mac, Port, Switch};
use super::uplink::{self, Gateway};
use crate::bed::Bed;
use crate::{Machine, spec};
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use testbed_agent::launch::Order;
use testbed_agent::{Fault, FaultKind};

impl Bed {
    /// Captures a network as pcapng, as it comes.
    ///
    /// # Errors
    /// When there is no such network, and those of [`Capture::start`].
    pub fn capture<W: Write + Send + 'static>(
        &self,
        options: capture::Options,
        output: W,
    ) -> Result<Capture, Fault> {
        match self.capture_inside(&options)? {
            Some((tool, packets)) => Capture::pass_on(tool, packets, options.deadline, output),
            None => Capture::start(self.packet_socket(&options.name)?, options, output),
        }
    }

    /// Keeps the last packets of a network from now on.
    ///
    /// # Errors
    /// When there is no such network, and those of [`Watcher::watch`].
    pub fn watch(&self, watcher: &Watcher, network: &str, depth: Depth) -> Result<Watched, Fault> {
        watcher.watch(self.packet_socket(network)?, depth)
    }

    /// Gives each network that has more than the kernel's ports a switch: for its way out, if the file asks for one, and
    /// for the interfaces of virtual machines, each with the name of its network. `options` hold for all ways out, but for
    /// the MTU, which is the network's.
    ///
    /// # Errors
    /// Where the host has no `/dev/net/tun` that can be used, and what keeps a port from working.
    pub(crate) fn start_switches(
        &self,
        options: &uplink::Options,
        streams: Vec<(String, Stream)>,
    ) -> Result<HashMap<String, Switch>, Fault> {
        let mut switches = HashMap::new();
        let mut ports: HashMap<String, Vec<Box<dyn Port>>> = HashMap::new();
        for (network, stream) in streams {
            ports.entry(network).or_default().push(Box::new(stream));
        }
        for (number, network) in (0..).zip(self.spec().networks()) {
            let mut ports = ports.remove(network.name()).unwrap_or_default();
            if network.uplink().is_some() {
                ports.push(Box::new(gateway(network, number, options)?));
            }
            if ports.is_empty() {
                continue;
            }
            let order = Order::OpenTrunk { fabric: self.fabric(), network: number };
            let switch = match self.trunk_inside(&order)? {
                None => Switch::start(Some(self.engine().open(&order)?))?,
                Some(trunk) => {
                    let switch = Switch::start(None)?;
                    switch.attach(Box::new(trunk))?;
                    switch
                }
            };
            for port in ports {
                switch.attach(port)?;
            }
            switches.insert(network.name().to_owned(), switch);
        }
        Ok(switches)
    }

    /// Publishes a port of a machine on the host for as long as the [`Forward`] lives.
    ///
    /// # Errors
    /// When there is no such machine, or the address is taken.
    pub fn publish(&self, machine: &str, port: u16, at: SocketAddr) -> Result<Forward, Fault> {
        let dial = self.dialler(machine, port)?;
        Forward::start(at, dial)
    }

    /// Connects to a TCP port of a machine, as its neighbour process: also to what listens on its loopback only.
    ///
    /// # Errors
    /// What the machine answers, and [`FaultKind::Timeout`] if it does not within `wait`.
    pub fn connect(&self, machine: &str, port: u16, wait: Duration) -> Result<OwnedFd, Fault> {
        let what = |fault: Fault| {
            let operation = format!("connect to port {port}");
            Fault { operation, ..fault }.on(machine)
        };
        let socket = self.dialler(machine, port)?().map_err(what)?;
        forward::wait_connected(&socket, wait).map_err(what)?;
        Ok(socket)
    }

    /// What connects to a port of a machine: by its loopback, where what listens on all addresses listens too, and then
    /// by each of its addresses.
    fn dialler(&self, machine: &str, port: u16) -> Result<Dial, Fault> {
        let machine = self.find(machine)?.clone();
        let spec = self.spec().machine(machine.name());
        let interfaces = spec.map(spec::Machine::interfaces).unwrap_or_default().iter();
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let own = interfaces.flat_map(|i| i.addresses()).map(|a| a.ip());
        let addresses: Vec<SocketAddr> =
            loopback.into_iter().chain(own).map(|ip| SocketAddr::new(ip, port)).collect();
        if spec.is_some_and(|spec| spec.kernel() == spec::Kernel::Own) || self.spec().capsule().is_some() {
            return Ok(Box::new(move || reach(&machine, &addresses)));
        }
        Ok(Box::new(move || {
            let number = started(&machine)?.number();
            let open = |ipv6| machine.engine().open(&Order::OpenSocket { machine: number, ipv6 });
            forward::dial(&addresses, open)
        }))
    }
}

/// Opens a connection to a machine.
type Dial = Box<dyn Fn() -> Result<OwnedFd, Fault> + Send>;

/// How long the agent of a machine may wait for an answer from the machine itself.
const NEAR: Duration = Duration::from_secs(2);

/// Connects to the first address of a machine that does not refuse, by its agent: no socket of a kernel of its own can be
/// had from outside.
fn reach(machine: &Machine, addresses: &[SocketAddr]) -> Result<OwnedFd, Fault> {
    let mut last = machine.fault(FaultKind::Invalid, "connect to no address");
    for address in addresses {
        match machine.reach(*address, NEAR) {
            Ok(socket) => return Ok(socket),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

/// A port of a machine that the host publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The machine.
    pub machine: String,
    /// Its port.
    pub port: u16,
    /// Where the host listens.
    pub host: SocketAddr,
}

/// A machine that its launcher has made.
fn started(machine: &Machine) -> Result<&Machine, Fault> {
    machine.wait_made().map(|()| machine)
}

/// The way out of a network.
fn gateway(network: &spec::Network, number: u32, options: &uplink::Options) -> Result<Gateway, Fault> {
    let addresses: Vec<(IpAddr, u8)> = network
        .uplink()
        .unwrap_or_default()
        .iter()
        .filter_map(|ip| {
            let subnet = network.subnets().iter().find(|subnet| subnet.contains(*ip))?;
            Some((*ip, subnet.prefix()))
        })
        .collect();
    let options = uplink::Options { mtu: network.mtu(), ..options.clone() };
    Gateway::new(&addresses, gateway_mac(number), options)
}

/// The uplink's address on a network: locally administered, and not of those that machines are given.
fn gateway_mac(network: u32) -> Mac {
    let [_, b, c, d] = network.to_be_bytes();
    [0x06, 0x75, 0x70, b, c, d]
}
