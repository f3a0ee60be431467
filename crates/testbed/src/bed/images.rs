//! Where the root file systems of a bed's machines come from.

use crate::engine::Engine;
use crate::image::{self, EngineBuilder, Store};
use crate::spec;
use std::any::Any;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use testbed_agent::{Fault, FaultKind};

/// What a machine's root file system is made of.
#[derive(Clone, Default)]
pub struct ImageRoot {
    /// Layers on disk, top first; owners in them are as inside.
    pub layers: Vec<PathBuf>,
    /// The host's own root, masked, lies below them.
    pub host: bool,
    /// What the image adds to the environment of programs.
    pub env: Vec<(String, String)>,
    /// The folder that programs start in, if the image says so.
    pub workdir: Option<String>,
    /// The user that programs run as, if the image says so.
    pub user: Option<String>,
    /// Keeps the layers from being removed.
    pub guard: Option<Arc<dyn Any + Send + Sync>>,
}

/// Where the root file systems of images come from.
pub trait Images: Send + Sync {
    /// The layers of an image of a testbed, built if they are not there.
    ///
    /// # Errors
    /// When it cannot be had.
    fn resolve(&self, testbed: &spec::Testbed, image: &str) -> Result<ImageRoot, Fault>;

    /// The layers of the jail of machines that have this image and a kernel of their own: a hypervisor, the kernel, and
    /// the image's root as a disk, built if they are not there. What programs find is as the image says.
    ///
    /// # Errors
    /// When it cannot be had.
    fn resolve_jail(&self, testbed: &spec::Testbed, image: &str) -> Result<ImageRoot, Fault>;
}

/// Images for testbeds whose machines all use the host's own root.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostOnly;

impl HostOnly {
    /// Whether it has all that a testbed's machines use.
    pub fn suffices(testbed: &spec::Testbed) -> bool {
        let mut used = testbed.machines().iter().filter_map(|machine| testbed.image(machine.image()));
        used.all(|image| *image.base() == spec::Base::Host && image.steps().is_empty())
    }
}

/// No store is there.
fn unstored(image: &str) -> Fault {
    Fault::new(FaultKind::Image, format!("get the image `{image}`: no image store is open"))
}

impl Images for HostOnly {
    fn resolve(&self, testbed: &spec::Testbed, image: &str) -> Result<ImageRoot, Fault> {
        match testbed.image(image) {
            Some(found) if *found.base() == spec::Base::Host && found.steps().is_empty() => {
                Ok(ImageRoot { host: true, env: found.env().to_vec(), ..ImageRoot::default() })
            }
            _ => Err(unstored(image)),
        }
    }

    fn resolve_jail(&self, _: &spec::Testbed, image: &str) -> Result<ImageRoot, Fault> {
        Err(unstored(image))
    }
}

/// Images from a store, built there in machines of an engine when they are missing.
pub struct StoredImages<'a> {
    /// Where layers are.
    pub store: &'a Store,
    /// What builds those that are not.
    pub engine: Engine,
    /// How.
    pub options: image::Options,
    /// Told of what is being built.
    pub progress: &'a (dyn Fn(image::Progress<'_>) + Send + Sync),
}

impl Images for StoredImages<'_> {
    fn resolve(&self, testbed: &spec::Testbed, name: &str) -> Result<ImageRoot, Fault> {
        let builder = EngineBuilder::new(self.engine.clone());
        let progress = &mut |p: image::Progress<'_>| (self.progress)(p);
        Ok(self.store.resolve(testbed, name, &builder, &self.options, progress)?.into())
    }

    fn resolve_jail(&self, testbed: &spec::Testbed, name: &str) -> Result<ImageRoot, Fault> {
        let builder = EngineBuilder::new(self.engine.clone());
        let progress = &mut |p: image::Progress<'_>| (self.progress)(p);
        Ok(self.store.resolve_jail(testbed, name, &builder, &self.options, progress)?.into())
    }
}

impl From<image::Resolved> for ImageRoot {
    fn from(found: image::Resolved) -> ImageRoot {
        ImageRoot {
            layers: found.layers,
            host: found.host,
            env: found.env,
            workdir: found.workdir,
            user: found.user,
            guard: Some(Arc::new(found.guard)),
        }
    }
}

/// The images of one testbed, had before its first copy is made: copies need not ask for them again.
#[derive(Clone, Default)]
pub struct Prepared {
    roots: HashMap<String, ImageRoot>,
    /// Those of machines with kernels of their own.
    jails: HashMap<String, ImageRoot>,
}

impl Prepared {
    /// Has every image that a machine of the testbed uses.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub fn new(testbed: &spec::Testbed, images: &dyn Images) -> Result<Prepared, Fault> {
        let mut prepared = Prepared::default();
        for machine in testbed.machines() {
            let (image, is_jail) = (machine.image(), machine.kernel() == spec::Kernel::Own);
            let known = if is_jail { &mut prepared.jails } else { &mut prepared.roots };
            if !known.contains_key(image) {
                let resolve = if is_jail { Images::resolve_jail } else { Images::resolve };
                known.insert(image.to_owned(), resolve(images, testbed, image)?);
            }
        }
        Ok(prepared)
    }

    /// The root of a machine, or of its jail if its kernel is its own.
    pub(super) fn of(&self, machine: &spec::Machine) -> Result<&ImageRoot, Fault> {
        let known = if machine.kernel() == spec::Kernel::Own { &self.jails } else { &self.roots };
        find(known, machine.image())
    }
}

fn find<'a>(known: &'a HashMap<String, ImageRoot>, image: &str) -> Result<&'a ImageRoot, Fault> {
    let unknown = || format!("get the image `{image}`: it was not prepared");
    known.get(image).ok_or_else(|| Fault::new(FaultKind::Image, unknown()))
}

impl Images for Prepared {
    fn resolve(&self, _: &spec::Testbed, image: &str) -> Result<ImageRoot, Fault> {
        find(&self.roots, image).cloned()
    }

    fn resolve_jail(&self, _: &spec::Testbed, image: &str) -> Result<ImageRoot, Fault> {
        find(&self.jails, image).cloned()
    }
}
