//! The machine's interfaces, addresses, routes and kernel parameters.

use std::collections::HashMap;
use std::net::IpAddr;
use testbed_agent::Doing as _;
use testbed_agent::launch::{Interface, Machine, adapter_mac, mac_text};
use testbed_agent::{Fault, FaultKind};
use testbed_sys::netlink::{Batch, LOOPBACK, Netlink};

use crate::launcher::FIRST_PORT;

const LINKS: &str = "/sys/class/net";

/// Takes all interfaces up with their addresses, and sets routes and parameters.
pub(super) fn configure(spec: &Machine) -> Result<(), Fault> {
    let ports: Vec<u32> = (FIRST_PORT..).take(spec.interfaces.len()).collect();
    configure_links(spec, &ports)
}

/// Finds the adapters that a hypervisor gave to the machine, in their order, makes them what the interfaces are to be,
/// and does the rest as for any machine.
pub(super) fn configure_adapters(spec: &Machine) -> Result<(), Fault> {
    let mut found = HashMap::new();
    for entry in std::fs::read_dir(LINKS).doing_to("list", LINKS)?.filter_map(Result::ok) {
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        if let Ok(index) = read("ifindex").trim().parse::<u32>() {
            found.insert(read("address").trim().to_owned(), (index, entry.file_name()));
        }
    }
    let (mut links, mut away, mut back) = (Vec::new(), Batch::new(), Batch::new());
    for (number, interface) in (0..).zip(&spec.interfaces) {
        let missing =
            || Fault::new(FaultKind::State, format!("find the adapter {number} of {}", interface.name));
        let address = mac_text(adapter_mac(number));
        let (index, name) = found.get(&address).ok_or_else(missing)?;
        if name.as_encoded_bytes() != interface.name.as_bytes() {
            // Another adapter may still have its name.
            away.name(*index, &format!("adapter{index}"));
            back.name(*index, &interface.name);
        }
        back.adapt(*index, interface.mac, interface.mtu);
        links.push(*index);
    }
    let socket = Netlink::open().doing("open netlink")?;
    for batch in [away, back].into_iter().filter(|batch| !batch.is_empty()) {
        socket.apply(batch).map_err(|e| Fault::system(e.what, &e.error))?;
    }
    configure_links(spec, &links)
}

/// `links` are the numbers of the interfaces.
fn configure_links(spec: &Machine, links: &[u32]) -> Result<(), Fault> {
    set_parameter("net.ipv4.ping_group_range", "0 65535").or_else(only_one_id)?;
    for (index, interface) in spec.interfaces.iter().enumerate() {
        if interface.addresses.iter().any(|(a, _)| a.is_ipv6()) {
            let name = &interface.name;
            set_at(&format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0")
                .map_err(|f| f.at(format!("interface {index}")))?;
        }
    }
    let socket = Netlink::open().doing("open netlink")?;
    let mut batch = Batch::new();
    batch.up(LOOPBACK);
    for (interface, index) in spec.interfaces.iter().zip(links.iter().copied()) {
        interface_up(&mut batch, index, interface);
    }
    for route in &spec.routes {
        batch.route(route.to, route.via, outgoing(links, route.via));
    }
    socket.apply(batch).map_err(|e| Fault::system(e.what, &e.error))?;
    for (name, value) in &spec.sysctls {
        set_parameter(name, value)?;
    }
    Ok(())
}

/// Takes one interface up with its addresses.
pub(crate) fn interface_up(batch: &mut Batch, index: u32, interface: &Interface) {
    let only_v4 = !interface.addresses.is_empty() && interface.addresses.iter().all(|(a, _)| a.is_ipv4());
    if only_v4 {
        batch.up_without_ipv6(index)
    } else {
        batch.up(index)
    }
    for (address, prefix) in &interface.addresses {
        batch.address(index, *address, *prefix);
    }
}

/// The interface behind which a link-local router lives; for others the kernel finds it.
fn outgoing(links: &[u32], via: IpAddr) -> Option<u32> {
    match (via, links) {
        (IpAddr::V6(v6), [only]) if v6.is_unicast_link_local() => Some(*only),
        _ => None,
    }
}

fn set_parameter(name: &str, value: &str) -> Result<(), Fault> {
    // As in sysctl(8): the dots separate, and a slash stands for a dot in a name.
    let path: String = name
        .chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect();
    set_at(&format!("/proc/sys/{path}"), value).map_err(|f| {
        f.hint(format!("kernel parameter `{name}` cannot be set in a machine that shares the host's kernel"))
    })
}

fn set_at(path: &str, value: &str) -> Result<(), Fault> {
    std::fs::write(path, value).doing("set").map_err(|f| f.at(path))
}

/// With a single id there are no groups to let ping.
fn only_one_id(fault: Fault) -> Result<(), Fault> {
    if fault.errno == Some(libc::EINVAL) { Ok(()) } else { Err(fault) }
}
