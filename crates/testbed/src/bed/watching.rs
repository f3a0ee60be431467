//! The last packets of all networks of a bed.

use crate::engine::{Engine, Pending};
use crate::net::recent::{Depth, Watched, Watcher};
use crate::spec;
use testbed_agent::Fault;
use testbed_agent::launch::Order;

/// The sockets by which networks will be watched, as far as the launcher has sent them yet.
pub(super) struct Watching<'a> {
    watcher: Option<&'a Watcher>,
    opening: Vec<(String, Pending)>,
}

impl Watching<'_> {
    /// Asks to watch the networks of a fabric that the launcher has been told to make.
    pub(super) fn ask<'a>(
        engine: &Engine,
        spec: &spec::Testbed,
        fabric: u32,
        watcher: Option<&'a Watcher>,
    ) -> Result<Watching<'a>, Fault> {
        let networks = if watcher.is_some() { spec.networks() } else { &[] };
        let ask = |(number, network): (usize, &spec::Network)| {
            let order = Order::Capture { fabric, network: number as u32 };
            Ok((network.name().to_owned(), engine.send_order(&order, Vec::new())?))
        };
        let opening = networks.iter().enumerate().map(ask).collect::<Result<_, Fault>>()?;
        Ok(Watching { watcher, opening })
    }

    /// Begins to watch them. One that cannot be watched has no last packets.
    pub(super) fn start(self) -> Vec<(String, Watched)> {
        let Some(watcher) = self.watcher else { return Vec::new() };
        let watch = |(name, socket): (String, Pending)| {
            Some((name, watcher.watch(socket.descriptor().ok()?, Depth::default()).ok()?))
        };
        self.opening.into_iter().filter_map(watch).collect()
    }
}
