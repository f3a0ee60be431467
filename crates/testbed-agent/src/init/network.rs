//! The machine's interfaces, addresses, routes and kernel parameters.

use std::net::IpAddr;
use testbed_agent::Doing as _;
use testbed_agent::Fault;
use testbed_agent::launch::Machine;
use testbed_sys::netlink::{Batch, LOOPBACK, Netlink};

use crate::launcher::FIRST_PORT;

/// Takes all interfaces up with their addresses, and sets routes and parameters.
pub(super) fn configure(spec: &Machine) -> Result<(), Fault> {
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
    for (interface, index) in spec.interfaces.iter().zip(FIRST_PORT..) {
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
    for route in &spec.routes {
        batch.route(route.to, route.via, outgoing(spec, route.via));
    }
    socket.apply(batch).map_err(|e| Fault::system(e.what, &e.error))?;
    for (name, value) in &spec.sysctls {
        set_parameter(name, value)?;
    }
    Ok(())
}

/// The interface behind which a link-local router lives; for others the kernel finds it.
fn outgoing(spec: &Machine, via: IpAddr) -> Option<u32> {
    let IpAddr::V6(v6) = via else { return None };
    (v6.is_unicast_link_local() && spec.interfaces.len() == 1).then_some(FIRST_PORT)
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
