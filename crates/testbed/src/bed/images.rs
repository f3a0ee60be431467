//! Where the root file systems of a bed's machines come from.

use crate::engine::Engine;
use crate::image::{self, EngineBuilder, Store};
use crate::machine::{Accelerator, Hardware};
use crate::plan::decide_kernels_here;
use crate::spec;
use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use testbed_agent::capsule::IMAGES;
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
    /// What the guest of a jail runs on.
    pub accelerator: Accelerator,
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

    /// The layers of the jail of a machine that has a kernel of its own: a hypervisor, the kernel, the image's root as a
    /// disk, and the state of all that once the kernel has started; built if they are not there. What programs find is as
    /// the image says.
    ///
    /// # Errors
    /// When it cannot be had.
    fn resolve_jail(&self, testbed: &spec::Testbed, machine: &spec::Machine) -> Result<ImageRoot, Fault>;

    /// The layers of the jail of a testbed's capsule, and what programs of its machines find, built if they are not there.
    ///
    /// # Errors
    /// When it cannot be had.
    fn resolve_capsule(&self, testbed: &spec::Testbed) -> Result<CapsuleRoots, Fault>;
}

/// What a capsule and its machines are made of.
#[derive(Clone)]
pub struct CapsuleRoots {
    /// The root of its jail.
    pub jail: ImageRoot,
    /// Those of machines' images, which are in the capsule, in the order of
    /// [`capsule_images`](spec::Testbed::capsule_images).
    pub images: Vec<ImageRoot>,
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

    fn resolve_jail(&self, _: &spec::Testbed, machine: &spec::Machine) -> Result<ImageRoot, Fault> {
        Err(unstored(machine.image()))
    }

    fn resolve_capsule(&self, testbed: &spec::Testbed) -> Result<CapsuleRoots, Fault> {
        Err(unstored(testbed.capsule_images().first().copied().unwrap_or_default()))
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

    fn resolve_jail(&self, testbed: &spec::Testbed, machine: &spec::Machine) -> Result<ImageRoot, Fault> {
        let builder = EngineBuilder::new(self.engine.clone());
        let progress = &mut |p: image::Progress<'_>| (self.progress)(p);
        Ok(self.store.resolve_jail(testbed, machine, &builder, &self.options, progress)?.into())
    }

    fn resolve_capsule(&self, testbed: &spec::Testbed) -> Result<CapsuleRoots, Fault> {
        let builder = EngineBuilder::new(self.engine.clone());
        let progress = &mut |p: image::Progress<'_>| (self.progress)(p);
        let (jail, images) = self.store.resolve_capsule(testbed, &builder, &self.options, progress)?;
        let inside = |(number, image): (usize, image::Resolved)| ImageRoot {
            layers: vec![PathBuf::from(format!("{IMAGES}/{number}"))],
            ..image.into()
        };
        Ok(CapsuleRoots { jail: jail.into(), images: images.into_iter().enumerate().map(inside).collect() })
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
            accelerator: found.accelerator,
            guard: Some(Arc::new(found.guard)),
        }
    }
}

/// The images of one testbed, had before its first copy is made: copies need not ask for them again.
#[derive(Clone)]
pub struct Prepared {
    testbed: Arc<spec::Testbed>,
    roots: HashMap<String, ImageRoot>,
    /// Those of machines with kernels of their own, by image and what such machines start from.
    jails: HashMap<JailOf, ImageRoot>,
    /// The jail of the capsule, if the testbed is one: `roots` are in it then.
    capsule: Option<ImageRoot>,
}

impl Prepared {
    /// Has every image that a machine of the testbed uses, on the kernel that is decided for it.
    ///
    /// # Errors
    /// The first that cannot be had, and what keeps a machine from having a kernel that will do.
    pub fn new(testbed: &Arc<spec::Testbed>, images: &dyn Images) -> Result<Prepared, Fault> {
        let testbed = &decide_kernels_here(testbed)?;
        let (roots, jails) = (HashMap::new(), HashMap::new());
        let mut prepared = Prepared { testbed: Arc::clone(testbed), roots, jails, capsule: None };
        if testbed.capsule().is_some() {
            let found = images.resolve_capsule(testbed)?;
            prepared.capsule = Some(found.jail);
            let names = testbed.capsule_images().into_iter().map(str::to_owned);
            prepared.roots = names.zip(found.images).collect();
            return Ok(prepared);
        }
        for machine in testbed.machines() {
            let image = machine.image();
            if machine.kernel() == spec::Kernel::Own {
                if let Entry::Vacant(place) = prepared.jails.entry(jail_of(machine)) {
                    place.insert(images.resolve_jail(testbed, machine)?);
                }
            } else if !prepared.roots.contains_key(image) {
                prepared.roots.insert(image.to_owned(), images.resolve(testbed, image)?);
            }
        }
        Ok(prepared)
    }

    /// The testbed, with a kernel decided for each machine.
    pub(super) fn testbed(&self) -> &Arc<spec::Testbed> {
        &self.testbed
    }

    /// The root of the capsule's jail.
    pub(super) fn capsule(&self) -> Result<&ImageRoot, Fault> {
        self.capsule.as_ref().ok_or_else(|| unprepared("of the capsule"))
    }

    /// The root of a machine, or of its jail if its kernel is its own.
    pub(super) fn of(&self, machine: &spec::Machine) -> Result<&ImageRoot, Fault> {
        let found = match machine.kernel() {
            spec::Kernel::Own => self.jails.get(&jail_of(machine)),
            _ => self.roots.get(machine.image()),
        };
        found.ok_or_else(|| unprepared(machine.image()))
    }
}

/// What machines whose jails are alike have in common: image, and what they start from.
type JailOf = (String, Hardware);

fn jail_of(machine: &spec::Machine) -> JailOf {
    (machine.image().to_owned(), Hardware::of(machine))
}

fn unprepared(image: &str) -> Fault {
    Fault::new(FaultKind::Image, format!("get the image `{image}`: it was not prepared"))
}

impl Images for Prepared {
    fn resolve(&self, _: &spec::Testbed, image: &str) -> Result<ImageRoot, Fault> {
        self.roots.get(image).cloned().ok_or_else(|| unprepared(image))
    }

    fn resolve_jail(&self, _: &spec::Testbed, machine: &spec::Machine) -> Result<ImageRoot, Fault> {
        self.jails.get(&jail_of(machine)).cloned().ok_or_else(|| unprepared(machine.image()))
    }

    fn resolve_capsule(&self, testbed: &spec::Testbed) -> Result<CapsuleRoots, Fault> {
        let its = testbed.capsule_images().into_iter().map(|image| self.resolve(testbed, image));
        Ok(CapsuleRoots { jail: self.capsule()?.clone(), images: its.collect::<Result<_, _>>()? })
    }
}
