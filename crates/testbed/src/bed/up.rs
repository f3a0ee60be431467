//! From a testbed's description straight to a running copy.

use super::{Bed, HostOnly, Images, Options, StoredImages};
use crate::engine::Engine;
use crate::engine::link::lock;
use crate::host;
use crate::image::{self, Store};
use crate::spec::Testbed;
use std::sync::{Arc, Mutex};
use testbed_agent::Fault;

/// Where root keeps layers. Others name a store of their own to [`Testbed::up_with`].
const SYSTEM_STORE: &str = "/var/cache/testbed";

/// The engine of this process for whoever brings none. It goes with the process.
static ENGINE: Mutex<Option<Engine>> = Mutex::new(None);

fn engine() -> Result<Engine, Fault> {
    let mut engine = lock(&ENGINE);
    match &*engine {
        Some(engine) if engine.is_alive() => Ok(engine.clone()),
        _ => {
            host::sweep()?;
            Ok(engine.insert(host::engine()?).clone())
        }
    }
}

impl Testbed {
    /// Makes a copy of this testbed and waits until it is ready. Its machines end when the last handle is dropped, and
    /// with this process, however that ends.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bed = testbed::Testbed::load("examples/openvpn")?.up()?;
    /// bed["client1"].succeed("ping -c 1 10.2.0.10")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the host lacks, an image that cannot be had, or a machine that does not become ready.
    pub fn up(self) -> Result<Bed, Fault> {
        let options = Options { free_ports: true, ..Options::default() };
        if HostOnly::suffices(&self) {
            return self.up_with(&HostOnly, &options);
        }
        let store = Store::open(SYSTEM_STORE)?;
        let options_of_images = image::Options::default();
        let images =
            StoredImages { store: &store, engine: engine()?, options: options_of_images, progress: &|_| {} };
        self.up_with(&images, &options)
    }

    /// As [`Testbed::up`], with images from somewhere else and other options.
    ///
    /// # Errors
    /// As for [`Testbed::up`].
    pub fn up_with(self, images: &dyn Images, options: &Options) -> Result<Bed, Fault> {
        Bed::up(&engine()?, &Arc::new(self), images, options)
    }
}
