//! What connects the adapters of machines with kernels of their own to networks.

use crate::net::stream::Stream;
use crate::spec;
use rustix::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use testbed_agent::{Doing as _, Fault};
use testbed_sys::fdpass;

/// The two ends of each of a machine's wires, in the order of its interfaces.
pub(super) struct Wires {
    /// What the hypervisor gets.
    pub(super) links: Vec<OwnedFd>,
    /// What a switch gets, with the name of its network.
    pub(super) streams: Vec<(String, Stream)>,
}

impl Wires {
    /// Wires for all interfaces of a machine, each of which passes nothing while its flag is set.
    pub(super) fn make(machine: &spec::Machine, cuts: &[Arc<AtomicBool>]) -> Result<Wires, Fault> {
        let mut wires = Wires { links: Vec::new(), streams: Vec::new() };
        for (interface, cut) in machine.interfaces().iter().zip(cuts) {
            let (ours, link) = fdpass::stream_pair().doing("make a socket")?;
            let stream = Stream::new(ours, Arc::clone(cut)).doing("make a port")?;
            wires.links.push(link);
            wires.streams.push((interface.network().to_owned(), stream));
        }
        Ok(wires)
    }
}
