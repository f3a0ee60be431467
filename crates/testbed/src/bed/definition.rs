//! From the checked model to what the launcher is told.

use super::{ImageRoot, Options};
use crate::engine::inside::Inside;
use crate::machine::{Birth, Hardware, System};
use crate::plan::base_of;
use crate::spec;
use rustix::fd::OwnedFd;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use testbed_agent::launch::{Interface, Limits, Machine, Mount, Network, Order, Root, Route, Upper};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// How much a machine may write to its own files where the file says nothing, in bytes of memory.
const DISK: u64 = 1 << 30;
/// What the hypervisor of a machine with a kernel of its own may need beside what its guest has, in bytes.
const HYPERVISOR_MEMORY: u64 = 512 << 20;

/// The networks of a copy, and the files that all its machines see.
pub(super) fn fabric(spec: &spec::Testbed, fabric: u32) -> Order {
    let networks = spec.networks().iter().map(|n| Network { mtu: n.mtu() }).collect();
    Order::MakeFabric { fabric, networks, files: shared_files(spec).to_vec() }
}

/// The files that all machines of a copy see: path and content.
pub(super) fn shared_files(spec: &spec::Testbed) -> [(String, String); 2] {
    let resolver = spec.networks().iter().filter_map(spec::Network::uplink).flatten().next();
    let resolv_conf = match resolver {
        Some(address) => format!("nameserver {address}\n"),
        None => "# No network of this testbed has an uplink.\n".into(),
    };
    [("/etc/hosts".into(), spec.hosts_file()), ("/etc/resolv.conf".into(), resolv_conf)]
}

/// One machine.
pub(super) fn machine(
    spec: &spec::Testbed,
    machine: &spec::Machine,
    image: &ImageRoot,
    fabric: Option<u32>,
    options: &Options,
) -> Result<Machine, Fault> {
    let layers = image.layers.iter().map(|path| text(path, machine)).collect::<Result<_, _>>()?;
    let interfaces = machine.interfaces().iter().map(|i| interface(spec, i)).collect();
    let limits = machine.limits();
    let passed = machine.pass_env().iter().filter_map(|name| options.env.iter().find(|(n, _)| n == name));
    let env = image.env.iter().chain(passed).chain(machine.env()).cloned().collect();
    Ok(Machine {
        hostname: machine.hostname().into(),
        root: Root { layers, host: image.host },
        upper: Upper::Memory(changes(machine)),
        snapshots: Vec::new(),
        replaces: None,
        fabric,
        interfaces,
        routes: routes(machine),
        sysctls: machine.sysctls().to_vec(),
        mounts: machine.mounts().iter().map(|m| mount(m, machine)).collect::<Result<_, _>>()?,
        limits: Limits { memory: limits.memory(), cpu_milli: limits.cpu_milli(), pids: limits.pids() },
        env,
        workdir: image.workdir.clone(),
        user: image.user.clone(),
        control: *machine.control() != spec::Control::None,
    })
}

/// A machine with a kernel of its own, whose adapters have these links.
pub(super) fn birth(
    spec: &spec::Testbed,
    machine: &spec::Machine,
    image: &ImageRoot,
    options: &Options,
    links: Vec<OwnedFd>,
) -> Result<Birth, Fault> {
    let whole = self::machine(spec, machine, image, None, options)?;
    let hardware = Hardware::of(machine);
    let changes = changes(machine);
    let most = |memory| memory + changes + HYPERVISOR_MEMORY;
    let limits = Limits { memory: whole.limits.memory.map(most), ..whole.limits };
    let jail = Machine { limits, ..Machine::new(machine.hostname(), whole.root, Upper::Memory(changes)) };
    let root = Root { layers: Vec::new(), host: false };
    let accelerator = image.accelerator.clone();
    let open = |machine: &spec::Machine| {
        let base = base_of(machine.image(), spec).unwrap_or(&spec::Base::Blank);
        System::open(machine, base, hardware.disk).map_err(|fault| fault.on(machine.name()))
    };
    let system = Some(machine).filter(|machine| !machine.has_agent()).map(open).transpose()?;
    let machine = Machine { root, ..whole };
    Ok(Birth { jail, machine, hardware, accelerator, system, links, asleep: None, inside: None })
}

/// The machine that holds all others; `inside` hears of those.
pub(super) fn capsule(spec: &spec::Testbed, jail: &ImageRoot, inside: Arc<Inside>) -> Result<Birth, Fault> {
    let none = || Fault::new(FaultKind::State, "make a capsule of a testbed that is none");
    let hardware = Hardware::of_capsule(spec).ok_or_else(none)?;
    let accelerator = jail.accelerator.clone();
    let layers = jail.layers.iter().map(|path| utf8(path)).collect::<Result<_, _>>()?;
    let root = Root { layers, host: false };
    let jail = Machine::new(spec.name(), root.clone(), Upper::Memory(capsule_changes(spec)));
    let machine = Machine::new(spec.name(), Root { layers: Vec::new(), ..root }, Upper::Memory(0));
    let (links, inside) = (Vec::new(), Some(inside));
    Ok(Birth { jail, machine, hardware, accelerator, system: None, links, asleep: None, inside })
}

/// How much the upper layer of a capsule's jail may hold: its memory, while that is kept.
pub(super) fn capsule_changes(spec: &spec::Testbed) -> u64 {
    Hardware::of_capsule(spec).map_or(0, |hardware| hardware.jail_files())
}

/// How much the upper layer of a machine may hold, or of its jail: what it may write to its own files, in bytes.
pub(super) fn changes(machine: &spec::Machine) -> u64 {
    if machine.kernel() == spec::Kernel::Own {
        return Hardware::of(machine).jail_files();
    }
    // Files in memory count against the memory limit; beyond it the kernel would kill instead of refusing.
    machine.disk().unwrap_or_else(|| machine.limits().memory().map_or(DISK, |memory| memory / 2))
}

fn interface(spec: &spec::Testbed, interface: &spec::Interface) -> Interface {
    let network = spec.networks().iter().position(|n| n.name() == interface.network());
    Interface {
        name: interface.name().into(),
        // The model holds only interfaces on networks that are there.
        network: network.unwrap_or_default() as u32,
        mac: interface.mac().octets(),
        mtu: Some(interface.mtu()),
        addresses: interface.addresses().iter().map(|a| (a.ip(), a.prefix())).collect(),
    }
}

fn routes(machine: &spec::Machine) -> Vec<Route> {
    let defaults = machine.gateways().iter().map(|via| {
        let any = match via {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Route { to: (any, 0), via: *via }
    });
    let others =
        machine.routes().iter().map(|r| Route { to: (r.to().base(), r.to().prefix()), via: r.via() });
    defaults.chain(others).collect()
}

fn mount(mount: &spec::Mount, machine: &spec::Machine) -> Result<Mount, Fault> {
    let source = text(mount.source(), machine)?;
    let owner = match mount.owner() {
        Some(owner) => owner,
        None => {
            let found = std::fs::metadata(mount.source()).doing_to("mount", source.clone());
            found.map(|m| (m.uid(), m.gid())).map_err(|f| f.on(machine.name()))?
        }
    };
    Ok(Mount { source, target: mount.target().into(), writable: mount.writable(), owner })
}

fn text(path: &Path, machine: &spec::Machine) -> Result<String, Fault> {
    utf8(path).map_err(|fault| fault.on(machine.name()))
}

fn utf8(path: &Path) -> Result<String, Fault> {
    let odd = || Fault::new(FaultKind::Invalid, "use a path that is not UTF-8:").at(path.to_string_lossy());
    path.to_str().map(str::to_owned).ok_or_else(odd)
}
