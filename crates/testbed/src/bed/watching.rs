//! The last packets of all networks of a bed.

use crate::engine::link::lock;
use crate::engine::{Engine, Pending};
use crate::net::recent::{Depth, Watched, Watcher};
use crate::spec;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use testbed_agent::Doing as _;
use testbed_agent::Fault;
use testbed_agent::launch::Order;

type Starting = JoinHandle<Result<Watched, Fault>>;

/// Networks that are watched, or will be in a moment.
///
/// To set up a ring the kernel waits until all processors have taken notice, which takes longer than to make a machine;
/// so all networks have it do that at once, while the machines are made.
#[derive(Default)]
pub(super) struct Watching {
    starting: Mutex<Vec<(String, Starting)>>,
    started: OnceLock<Vec<(String, Watched)>>,
}

impl Watching {
    /// Begins to watch the networks of a fabric that the launcher has been told to make.
    pub(super) fn start(
        engine: &Engine,
        spec: &spec::Testbed,
        fabric: u32,
        watcher: Option<&Arc<Watcher>>,
    ) -> Result<Watching, Fault> {
        let watching = Watching::default();
        let Some(watcher) = watcher else { return Ok(watching) };
        for (number, network) in spec.networks().iter().enumerate() {
            let opening =
                engine.send_order(&Order::Capture { fabric, network: number as u32 }, Vec::new())?;
            let watcher = Arc::clone(watcher);
            let thread = std::thread::Builder::new()
                .name("testbed-watching".into())
                .spawn(move || watch(opening, &watcher))
                .doing("start a thread")?;
            lock(&watching.starting).push((network.name().to_owned(), thread));
        }
        Ok(watching)
    }

    /// Waits until all networks are watched. One that cannot be watched has no last packets.
    pub(super) fn wait(&self) -> &[(String, Watched)] {
        self.started.get_or_init(|| {
            let starting = std::mem::take(&mut *lock(&self.starting));
            let watched = |(name, thread): (_, Starting)| Some((name, thread.join().ok()?.ok()?));
            starting.into_iter().filter_map(watched).collect()
        })
    }
}

fn watch(opening: Pending, watcher: &Watcher) -> Result<Watched, Fault> {
    watcher.watch(opening.descriptor()?, Depth::default())
}
