//! What there is, told to whoever asks.

use crate::bed::{self, Bed};
use crate::machine::Machine;
use crate::spec;
use testbed_agent::control::{Condition, InterfaceStatus, MachineStatus, PortStatus, ServiceStatus, Status};
use testbed_agent::frame::MAX_BODY;

/// How a testbed is, machines from this one on.
pub(super) fn of(bed: &Bed, from: u32) -> Status {
    let spec = bed.spec();
    let mut status = Status {
        testbed: spec.name().into(),
        folder: spec.folder().to_string_lossy().into_owned(),
        networks: spec.networks().iter().map(|network| network.name().to_owned()).collect(),
        machines: Vec::new(),
        more: false,
    };
    let services = bed.services();
    let size = |value: &dyn Fn() -> Option<usize>| value().unwrap_or(MAX_BODY);
    let mut room = MAX_BODY - 64;
    room = room.saturating_sub(size(&|| postcard::to_stdvec(&status).ok().map(|bytes| bytes.len())));
    for machine in bed.machines().skip(from as usize) {
        let its = of_machine(bed, machine, &services);
        let length = size(&|| postcard::to_stdvec(&its).ok().map(|bytes| bytes.len()));
        if length > room && !status.machines.is_empty() {
            status.more = true;
            break;
        }
        room = room.saturating_sub(length);
        status.machines.push(its);
    }
    status
}

fn of_machine(bed: &Bed, machine: &Machine, services: &[bed::ServiceStatus]) -> MachineStatus {
    let name = machine.name();
    let interfaces = bed.spec().machine(name).map(spec::Machine::interfaces).unwrap_or_default();
    let of_file = interfaces.iter().map(|interface| InterfaceStatus {
        name: interface.name().into(),
        network: interface.network().into(),
        addresses: interface.addresses().iter().map(|address| address.ip()).collect(),
    });
    let attached = bed.attached(name).unwrap_or_default().into_iter().map(|its| InterfaceStatus {
        name: its.name,
        network: its.network,
        addresses: its.addresses.into_iter().map(|(ip, _)| ip).collect(),
    });
    let ports = bed.ports().into_iter().filter(|published| published.machine == name);
    let services = services.iter().filter(|service| service.machine == name);
    let condition = machine.condition();
    MachineStatus {
        name: name.into(),
        condition,
        pid: if condition == Condition::Stopped { None } else { machine.pid().ok() },
        interfaces: of_file.chain(attached).collect(),
        services: services
            .map(|s| ServiceStatus { name: s.name.clone(), ended: s.ended, fault: s.fault.clone() })
            .collect(),
        ports: ports.map(|p| PortStatus { port: p.port, host: p.host }).collect(),
    }
}
