use super::output::{Output, print};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::keepers;
use crate::place::Place;
use crate::terminal;
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};
use testbed::control::{Answer, Ask};
use testbed::{Fault, FaultKind};

/// Publish TCP ports of machines on the host, list them, and end that.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Arguments {
    /// Publish a port, and write where the host listens. It lasts until `rm` or the testbed's end.
    Add {
        /// The machine.
        #[arg(value_name = "MACHINE")]
        machine: String,
        /// Its port.
        #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
        /// Where the host listens: a port of 127.0.0.1, or an address with one. Port 0 is a free one.
        #[arg(long, value_name = "[ADDRESS:]PORT", default_value = "0", value_parser = host)]
        at: SocketAddr,
    },
    /// List the ports that are published, those of the file too.
    Ls {
        #[command(flatten)]
        output: Output,
    },
    /// End the publishing of a port, and the connections that came by it.
    Rm {
        /// Where the host listens: a port of 127.0.0.1, or an address with one.
        #[arg(value_name = "[ADDRESS:]PORT", value_parser = host)]
        at: SocketAddr,
    },
}

/// A published port for programs.
#[derive(Serialize)]
struct Listed {
    machine: String,
    port: u16,
    host: SocketAddr,
}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let client = keepers::client(place)?;
        match self {
            Arguments::Add { machine, port, at } => {
                let Answer::Port(host) = client.ask(&Ask::OpenPort { machine, port, host: at })? else {
                    return Err(Fault::new(FaultKind::Protocol, "understand where the host listens").into());
                };
                print(&format!("{host}\n"))?;
            }
            Arguments::Rm { at } => drop(client.ask(&Ask::ClosePort { host: at })?),
            Arguments::Ls { output } => {
                let machines = client.status()?.machines.into_iter();
                let all: Vec<Listed> = machines
                    .flat_map(|its| {
                        let ports = its.ports.into_iter();
                        ports.map(move |p| Listed { machine: its.name.clone(), port: p.port, host: p.host })
                    })
                    .collect();
                output.write(&all, || {
                    let rows =
                        all.iter().map(|p| vec![p.machine.clone(), p.port.to_string(), p.host.to_string()]);
                    terminal::table(&["MACHINE", "PORT", "HOST"], rows)
                })?;
            }
        }
        Ok(Exit::Success)
    }
}

/// `8080` is that port of 127.0.0.1.
fn host(text: &str) -> Result<SocketAddr, String> {
    let port = || text.parse().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    text.parse()
        .or_else(|_| port())
        .map_err(|_| "write a port, or an address with one: 127.0.0.1:8080".into())
}
