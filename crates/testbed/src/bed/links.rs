//! Which machines are on which networks, while they run.

use super::Bed;
use crate::engine::link::lock;
use crate::machine::{Condition, Machine};
use crate::spec::{self, Mac};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use testbed_agent::launch::{Interface, LinkMode, Order};
use testbed_agent::{Fault, FaultKind};

/// The longest name of an interface, in bytes (netdevice(7): IFNAMSIZ and the NUL).
const LONGEST_NAME: usize = 15;
/// The most interfaces that a machine may have beside those of its file.
const MOST: u32 = 64;

/// An interface that a machine is to have beside those of its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewInterface {
    /// The network.
    pub network: String,
    /// Its name inside; the next free `ethN` if none.
    pub name: Option<String>,
    /// Its addresses. The prefix length is that of the network's subnet, where none is given.
    pub addresses: Vec<(IpAddr, Option<u8>)>,
}

/// An interface that a machine has beside those of its file, until it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The network.
    pub network: String,
    /// Its name inside.
    pub name: String,
    /// Its address on the link.
    pub mac: Mac,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The number that the machine has at its launcher: another one with each start.
    machine: u32,
    /// The number that the interface has there.
    number: u32,
}

impl Bed {
    /// The interfaces that a machine has beside those of its file.
    ///
    /// # Errors
    /// [`FaultKind::NotFound`] without such a machine.
    pub fn attached(&self, machine: &str) -> Result<Vec<Attached>, Fault> {
        let machine = self.find(machine)?;
        if machine.condition() == Condition::Stopped {
            return Ok(Vec::new());
        }
        let number = machine.number();
        Ok(lock(&self.shared.attached).iter().filter(|its| its.machine == number).cloned().collect())
    }

    /// Puts a machine that runs on a network that it is not on, until it ends or [`Bed::detach`]. Names that programs look
    /// up do not know these addresses.
    ///
    /// # Errors
    /// [`FaultKind::NotFound`] without such a machine or network, [`FaultKind::Exists`] if it is there already or an address
    /// is taken, [`FaultKind::State`] if it does not run, [`FaultKind::Unsupported`] for a kernel of its own, and
    /// [`FaultKind::Invalid`] for a name or a prefix that cannot be.
    pub fn attach(&self, machine: &str, wanted: &NewInterface) -> Result<Attached, Fault> {
        let (number, spec) = self.numbered(machine)?;
        let network = self.network_number(&wanted.network).ok_or_else(|| {
            let names: Vec<&str> = self.spec().networks().iter().map(spec::Network::name).collect();
            let fault = Fault::new(FaultKind::NotFound, format!("no network `{}`", wanted.network));
            fault.hint(format!("there are: {}", names.join(", ")))
        })?;
        let _place = lock(&self.shared.places[number]);
        let its = self.find(machine)?;
        let others = self.attached(machine)?;
        let first = spec.interfaces().len() as u32;
        let link = (first..first + MOST).find(|number| others.iter().all(|its| its.number != *number));
        let fault =
            |kind, why| Fault::new(kind, format!("attach it to `{}`: {why}", wanted.network)).on(machine);
        if spec.kernel() == spec::Kernel::Own {
            let fault = fault(FaultKind::Unsupported, "it has a kernel of its own");
            return Err(fault.hint("give it the interface in the file, and cut it until it is wanted"));
        }
        if its.condition() == Condition::Stopped {
            return Err(fault(FaultKind::State, "it does not run"));
        }
        let of_file = spec.interfaces().iter().map(spec::Interface::network);
        if of_file.chain(others.iter().map(|its| its.network.as_str())).any(|on| on == wanted.network) {
            return Err(fault(FaultKind::Exists, "it is on it").hint("`net heal` undoes a cut"));
        }
        let link = link.ok_or_else(|| fault(FaultKind::Exhausted, "it has too many interfaces"))?;
        let attached = Attached {
            network: wanted.network.clone(),
            name: name_inside(spec, &others, wanted.name.as_deref())?,
            mac: self.free_mac(machine, &wanted.network),
            addresses: self.free_addresses(machine, wanted)?,
            machine: its.number(),
            number: link,
        };
        let interface = Interface {
            name: attached.name.clone(),
            network,
            mac: attached.mac.octets(),
            mtu: None,
            addresses: attached.addresses.clone(),
        };
        let (machine_number, fabric) = (attached.machine, self.fabric());
        let order = Order::Attach { machine: machine_number, fabric, number: link, interface };
        self.engine().order(&order).map_err(|fault| fault.on(machine))?;
        let numbers: Vec<u32> = self.machines().map(Machine::number).collect();
        let mut all = lock(&self.shared.attached);
        all.retain(|its| numbers.contains(&its.machine));
        all.push(attached.clone());
        Ok(attached)
    }

    /// Takes away an interface that [`Bed::attach`] has made, with its addresses and routes.
    ///
    /// # Errors
    /// [`FaultKind::NotFound`] if the machine is not on that network, and [`FaultKind::State`] for an interface of the file.
    pub fn detach(&self, machine: &str, network: &str) -> Result<(), Fault> {
        let (number, spec) = self.numbered(machine)?;
        let _place = lock(&self.shared.places[number]);
        let Some(its) = self.attached(machine)?.into_iter().find(|its| its.network == network) else {
            let fault =
                |kind, why| Fault::new(kind, format!("detach it from `{network}`: {why}")).on(machine);
            return Err(if spec.interfaces().iter().any(|its| its.network() == network) {
                fault(FaultKind::State, "it is on it by its file").hint("`net cut` takes it off")
            } else {
                fault(FaultKind::NotFound, "it is not on it")
            });
        };
        let order = Order::Detach { machine: its.machine, interface: its.number };
        self.engine().order(&order).map_err(|fault| fault.on(machine))?;
        lock(&self.shared.attached).retain(|other| *other != its);
        Ok(())
    }

    /// As for an interface of the file: the same for the same machine and network.
    fn free_mac(&self, machine: &str, network: &str) -> Mac {
        let of_file = self.spec().machines().iter().flat_map(spec::Machine::interfaces);
        let mut taken: Vec<Mac> = of_file.map(spec::Interface::mac).collect();
        taken.extend(lock(&self.shared.attached).iter().map(|its| its.mac));
        let derive = |attempt| Mac::derive(self.spec().name(), machine, network, attempt);
        (0..u8::MAX).map(derive).find(|mac| !taken.contains(mac)).unwrap_or_else(|| derive(u8::MAX))
    }

    /// The addresses that are wanted, if nobody on the network has them.
    fn free_addresses(&self, machine: &str, wanted: &NewInterface) -> Result<Vec<(IpAddr, u8)>, Fault> {
        let network = self.spec().networks().iter().find(|network| network.name() == wanted.network);
        let subnets = network.map(spec::Network::subnets).unwrap_or_default();
        let mut taken: Vec<IpAddr> = network.and_then(spec::Network::uplink).unwrap_or_default().to_vec();
        for machine in self.spec().machines() {
            let its = machine.interfaces().iter().filter(|its| its.network() == wanted.network);
            taken.extend(its.flat_map(spec::Interface::addresses).map(spec::Address::ip));
            let its = self.attached(machine.name())?.into_iter().filter(|its| its.network == wanted.network);
            taken.extend(its.flat_map(|its| its.addresses).map(|(ip, _)| ip));
        }
        let mut addresses = Vec::new();
        for (ip, prefix) in &wanted.addresses {
            let fault =
                |kind, why: &str| Fault::new(kind, format!("give it the address {ip}: {why}")).on(machine);
            let of_subnet = || subnets.iter().find(|subnet| subnet.contains(*ip)).map(spec::Subnet::prefix);
            let (usual, most) = if ip.is_ipv4() { (24, 32) } else { (64, 128) };
            let prefix = prefix.or_else(of_subnet).ok_or_else(|| {
                let fault = fault(FaultKind::Invalid, "it is in no subnet of the network");
                fault.hint(format!("say how long its prefix is: {ip}/{usual}"))
            })?;
            if prefix > most {
                return Err(fault(FaultKind::Invalid, "its prefix is longer than it"));
            }
            if taken.contains(ip) {
                return Err(fault(FaultKind::Exists, "it is taken"));
            }
            taken.push(*ip);
            addresses.push((*ip, prefix));
        }
        Ok(addresses)
    }

    /// Takes a machine off one of its networks, or off all of them, in both directions. Addresses and routes stay.
    ///
    /// # Errors
    /// When there is no such machine or it is not on that network.
    pub fn cut(&self, machine: &str, network: Option<&str>) -> Result<(), Fault> {
        self.set_links(machine, network, LinkMode::Cut)
    }

    /// Undoes [`Bed::cut`].
    ///
    /// # Errors
    /// As for [`Bed::cut`].
    pub fn heal(&self, machine: &str, network: Option<&str>) -> Result<(), Fault> {
        self.set_links(machine, network, LinkMode::Whole)
    }

    fn set_links(&self, name: &str, network: Option<&str>, mode: LinkMode) -> Result<(), Fault> {
        let (number, spec) = self.numbered(name)?;
        let of_file = spec.interfaces().len() as u32;
        let interfaces = (0..).zip(spec.interfaces().iter().map(|its| its.network().to_owned()));
        let attached = self.attached(name)?.into_iter().map(|its| (its.number, its.network));
        let all = interfaces.chain(attached);
        let wanted: Vec<u32> =
            all.filter(|(_, its)| network.is_none_or(|n| n == its)).map(|(number, _)| number).collect();
        if wanted.is_empty() {
            let what = network.map_or("any network".into(), |n| format!("the network `{n}`"));
            return Err(Fault::new(FaultKind::NotFound, format!("not on {what}")).on(name));
        }
        let mut place = lock(&self.shared.places[number]);
        for interface in wanted {
            self.set_link(number, interface, mode)?;
            if interface >= of_file {
                // It ends with this start of the machine, and that it is cut ends with it.
                continue;
            }
            match mode {
                LinkMode::Cut => place.cut.insert(interface),
                LinkMode::Whole | LinkMode::Trunk => place.cut.remove(&interface),
            };
        }
        Ok(())
    }

    pub(super) fn set_link(&self, number: usize, interface: u32, mode: LinkMode) -> Result<(), Fault> {
        let machine = &self.shared.machines[number];
        machine.wait_made()?;
        if let Some(cut) = self.shared.adapters.get(&(number, interface)) {
            cut.store(mode == LinkMode::Cut, Ordering::Relaxed);
            return Ok(());
        }
        let order = Order::SetLink { machine: machine.number(), interface, mode };
        self.engine().order(&order).map_err(|f| f.on(machine.name()))
    }
}

/// The name of a new interface: the wanted one if it can be had, or the next free `ethN`.
fn name_inside(spec: &spec::Machine, others: &[Attached], wanted: Option<&str>) -> Result<String, Fault> {
    let of_file = spec.interfaces().iter().map(spec::Interface::name);
    let taken: Vec<&str> = of_file.chain(others.iter().map(|its| its.name.as_str())).chain(["lo"]).collect();
    let Some(name) = wanted else {
        let mut names = (0..).map(|number| format!("eth{number}"));
        let free = names.find(|name| !taken.contains(&name.as_str()));
        return Ok(free.unwrap_or_default());
    };
    let fault = |kind| Fault::new(kind, format!("name an interface `{name}`")).on(spec.name());
    let legal = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
    if name.is_empty() || name.len() > LONGEST_NAME || name.starts_with('.') || !name.chars().all(legal) {
        let hint = format!("1 to {LONGEST_NAME} letters, digits and signs, without `/`, `:` and `%`");
        return Err(fault(FaultKind::Invalid).hint(hint));
    }
    if taken.contains(&name) {
        return Err(fault(FaultKind::Exists));
    }
    Ok(name.to_owned())
}
