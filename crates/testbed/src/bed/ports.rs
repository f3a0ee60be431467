//! The ports of machines that the host publishes.

use super::Bed;
use crate::engine::link::lock;
use crate::net::Published;
use crate::net::forward::Forward;
use crate::spec;
use rustix::io::Errno;
use std::net::SocketAddr;
use std::sync::Mutex;
use testbed_agent::{Fault, FaultKind};

/// The most ports that a bed publishes beside those of its file: each has a thread.
const MOST: usize = 1024;

/// All that are published, in the order in which they came.
#[derive(Default)]
pub(super) struct Ports {
    open: Mutex<Vec<(Published, Forward)>>,
}

impl Ports {
    /// Closes all.
    pub(super) fn clear(&self) {
        lock(&self.open).clear();
    }
}

impl Bed {
    /// The ports of machines that the host publishes, and where.
    pub fn ports(&self) -> Vec<Published> {
        lock(&self.shared.ports.open).iter().map(|(published, _)| published.clone()).collect()
    }

    /// Publishes the ports of all machines on the host, for as long as the bed lasts, each at the address that
    /// `place` chooses. Returns where each listens.
    ///
    /// # Errors
    /// When an address is taken.
    pub fn publish_ports(
        &self,
        place: impl Fn(&spec::Machine, &spec::Port) -> SocketAddr,
    ) -> Result<Vec<Published>, Fault> {
        let machines = self.spec().machines().iter();
        let ports = machines.flat_map(|machine| machine.ports().iter().map(move |port| (machine, port)));
        ports
            .map(|(machine, port)| self.keep_port(machine.name(), port.machine(), place(machine, port)))
            .collect()
    }

    /// Publishes a port of a machine on the host until [`Bed::close_port`], through all starts of the machine. Port 0 of
    /// the host is a free one.
    ///
    /// # Errors
    /// [`FaultKind::NotFound`] without such a machine, [`FaultKind::Exists`] if the host's port is taken, and
    /// [`FaultKind::Exhausted`] for too many.
    pub fn open_port(&self, machine: &str, port: u16, host: SocketAddr) -> Result<Published, Fault> {
        if lock(&self.shared.ports.open).len() >= MOST {
            let fault = Fault::new(FaultKind::Exhausted, format!("publish more than {MOST} ports"));
            return Err(fault.hint("close one first"));
        }
        self.keep_port(machine, port, host)
    }

    fn keep_port(&self, machine: &str, port: u16, host: SocketAddr) -> Result<Published, Fault> {
        let forward = self.publish(machine, port, host).map_err(|fault| {
            let taken = fault.errno == Some(Errno::ADDRINUSE.raw_os_error());
            if taken {
                Fault { kind: FaultKind::Exists, ..fault }.hint("port 0 takes a free one")
            } else {
                fault
            }
        })?;
        let published = Published { machine: machine.to_owned(), port, host: forward.local_addr() };
        lock(&self.shared.ports.open).push((published.clone(), forward));
        Ok(published)
    }

    /// Ends the publishing of a port at this address of the host, and the connections that came by it.
    ///
    /// # Errors
    /// [`FaultKind::NotFound`] if none is published there.
    pub fn close_port(&self, host: SocketAddr) -> Result<(), Fault> {
        let mut open = lock(&self.shared.ports.open);
        let Some(place) = open.iter().position(|(published, _)| published.host == host) else {
            let places: Vec<String> = open.iter().map(|(published, _)| published.host.to_string()).collect();
            let fault = Fault::new(FaultKind::NotFound, format!("no port is published at {host}"));
            return Err(match places.is_empty() {
                true => fault.hint("none is published at all"),
                false => fault.hint(format!("there are: {}", places.join(", "))),
            });
        };
        let closed = open.remove(place);
        // Ending it takes a moment, for which others need not wait.
        drop(open);
        drop(closed);
        Ok(())
    }
}
