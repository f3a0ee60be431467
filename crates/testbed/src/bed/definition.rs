//! From the checked model to what the launcher is told.

use super::{ImageRoot, Options};
use crate::machine::Hardware;
use crate::spec;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt as _;
use testbed_agent::launch::{Interface, Limits, Machine, Mount, Network, Order, Root, Route, Upper};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// How much a machine may write to its own files where the file says nothing, in bytes of memory.
const DISK: u64 = 1 << 30;
/// The memory of a machine with a kernel of its own where the file says nothing, in bytes.
const GUEST_MEMORY: u64 = 256 << 20;
/// What its hypervisor may need beside that.
const HYPERVISOR_MEMORY: u64 = 512 << 20;
/// How much a jail may write to its files.
const JAIL_FILES: u64 = 64 << 20;

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
    fabric: u32,
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
        upper: Upper::Memory(disk(machine)),
        snapshots: Vec::new(),
        replaces: None,
        fabric: Some(fabric),
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

/// A machine with a kernel of its own: its jail, itself as its agent is to know it, and what it is made of.
pub(super) fn guest(
    spec: &spec::Testbed,
    machine: &spec::Machine,
    jail: &ImageRoot,
    fabric: u32,
    options: &Options,
) -> Result<(Machine, Machine, Hardware), Fault> {
    let whole = self::machine(spec, machine, jail, fabric, options)?;
    let memory = whole.limits.memory.unwrap_or(GUEST_MEMORY);
    let processors = whole.limits.cpu_milli.map_or(1, |milli| milli.div_ceil(1000));
    let limits = Limits { memory: whole.limits.memory.map(|m| m + HYPERVISOR_MEMORY), ..whole.limits };
    let jail = Machine { limits, ..Machine::new(machine.hostname(), whole.root, Upper::Memory(JAIL_FILES)) };
    let root = Root { layers: Vec::new(), host: false };
    let guest = Machine { root, fabric: None, ..whole };
    Ok((jail, guest, Hardware { memory, processors, adapters: Vec::new() }))
}

/// How much a machine may write to its own files, in bytes.
pub(super) fn disk(machine: &spec::Machine) -> u64 {
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

fn text(path: &std::path::Path, machine: &spec::Machine) -> Result<String, Fault> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Fault::new(FaultKind::Invalid, "use a path that is not UTF-8:")
            .at(path.to_string_lossy())
            .on(machine.name())
    })
}
