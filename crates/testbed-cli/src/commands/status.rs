use super::output::Output;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::keepers;
use crate::place::Place;
use crate::terminal;
use testbed::control::{MachineStatus, ServiceStatus};

/// Show the machines of a testbed that is up: how they are, their addresses, services and published ports.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    output: Output,
}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let status = keepers::client(place)?.status()?;
        self.output.write(&status, || {
            terminal::table(
                &["MACHINE", "STATE", "ADDRESSES", "SERVICES", "PORTS"],
                status.machines.iter().map(|machine| {
                    vec![
                        machine.name.clone(),
                        machine.condition.as_str().to_owned(),
                        addresses(machine),
                        joined(machine.services.iter().map(service)),
                        joined(machine.ports.iter().map(|port| format!("{} at {}", port.port, port.host))),
                    ]
                }),
            )
        })?;
        Ok(Exit::Success)
    }
}

fn addresses(machine: &MachineStatus) -> String {
    joined(machine.interfaces.iter().map(|interface| {
        let all: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
        let all = if all.is_empty() { "-".to_owned() } else { all.join(",") };
        format!("{}={all}", interface.network)
    }))
}

fn service(service: &ServiceStatus) -> String {
    match (&service.fault, service.ended) {
        (Some(fault), _) => format!("{} (failed: {fault})", service.name),
        (None, Some(status)) => format!("{} (ended: {status})", service.name),
        (None, None) => service.name.clone(),
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(" ") }
}
