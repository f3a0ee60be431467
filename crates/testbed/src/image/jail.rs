//! What machines with kernels of their own run in: a hypervisor, a kernel, an image's root as a disk, and the state of all
//! that once the kernel has started.

use super::build::{Builder, Job};
use super::files;
use super::key::Inputs;
use super::layering::Layering;
use super::resolve::{Options, Progress, Resolved, inherit_root, words};
use super::store::{Collect, Store};
use crate::engine::AGENT;
use crate::host::{Choice, KVM, choose_accelerator, known_accelerator};
use crate::machine::{Accelerator, Hardware, image_root, recipe};
use crate::spec::{self, FileEntry, FixedFiles, GuestKernel, Testbed};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testbed_agent::agent::Exit;
use testbed_agent::layers::Work;
use testbed_agent::{Fault, FaultKind};

/// The image of the hypervisor and the kernel.
const KERNEL: &str = include_str!("kernel.toml");
const IMAGE: &str = "own-kernel";
/// What is done for a template.
const TEMPLATE: &str = "start a kernel";
/// Templates that nobody has used for so long go when another one comes.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);
/// Where the store keeps what was found out about this host.
const MEMORY: &str = "host.json";
/// How long a guest may take to start on processors of the host's own.
const PROBE: Duration = Duration::from_secs(5);
/// What takes another kernel; a part of keys.
const GUEST_KERNEL: &str = include_str!("guest_kernel.sh");
/// What makes a disk; a part of keys.
const DISK: &str = include_str!("disk.sh");

/// Where an image says which packages it has (dpkg-query(1)), and the one of the hypervisor.
const PACKAGES: &str = "var/lib/dpkg/status";
const HYPERVISOR: &str = "qemu-system-x86";

/// What machines with kernels of their own run in here.
pub(crate) struct OwnKernels {
    /// The hypervisor's version.
    pub(crate) hypervisor: String,
    /// What guests run on, if that was found out.
    pub(crate) choice: Option<Choice>,
}

/// Puts the kernel that a machine is to have on a jail that has ours.
fn guest_kernel(
    layering: &mut Layering<'_, '_>,
    kernel: &GuestKernel,
    root: &Resolved,
    jail: &mut Resolved,
    builder: &dyn Builder,
    options: &Options,
) -> Result<(), Fault> {
    let mut inputs = Inputs::of("kernel", jail.guard.top().map(|meta| &meta.key));
    inputs.add(GUEST_KERNEL);
    let paths = root.guard.paths();
    let (from, what, input) = match kernel {
        GuestKernel::Ours => return Ok(()),
        GuestKernel::OfImage => {
            root.guard.keys().iter().for_each(|key| {
                inputs.add(key.as_str());
            });
            ("image", format!("take the kernel of {}", layering.image), Some(&*paths))
        }
        GuestKernel::File { path, modules } => {
            let entry = |target: &str, source: &Path| FileEntry::of_source(target, source);
            let modules = modules.iter().map(|modules| entry("/usr/lib/testbed/given/modules", modules));
            let entries: Vec<FileEntry> =
                std::iter::once(entry("/usr/lib/testbed/given/kernel", path)).chain(modules).collect();
            let mut given = Inputs::of("given kernel", jail.guard.top().map(|meta| &meta.key));
            files::add_inputs(&mut given, &entries)?;
            files::add_inputs(&mut inputs, &entries)?;
            let hands = layering.store.hands();
            let step = format!("copy {}", path.display());
            layering.layer(given.key(), &step, jail, &mut |folder, below, _| {
                let target = hands.target(folder.join("upper"), below.guard.paths());
                for put in files::puts(&entries, &folder.join("work"))? {
                    hands.work(Work::Put(target.clone(), vec![put]), Vec::new())?;
                }
                Ok(())
            })?;
            ("file", format!("take the kernel {}", path.display()), None)
        }
    };
    let program = words(&["/bin/sh", "-c", GUEST_KERNEL, "sh", from]);
    layering.layer(inputs.key(), &what, jail, &mut |folder, below, report| {
        inherit_root(&folder.join("upper"), below)?;
        let job = Job {
            layers: &below.guard.paths(),
            host: false,
            folder,
            program: &program,
            input,
            env: &[],
            network: None,
            deadline: options.deadline(),
        };
        report.run(builder, &job, &what)
    })
}

/// Builds nothing.
struct OnlyLooks;

const NOT_THERE: &str = "it is not there";

impl Builder for OnlyLooks {
    fn run(&self, _: &Job<'_>, _: &mut dyn Write) -> Result<Exit, Fault> {
        Err(Fault::new(FaultKind::NotFound, NOT_THERE))
    }

    fn boot(
        &self,
        _: &[PathBuf],
        _: Option<&Path>,
        _: &Hardware,
        _: &Accelerator,
        _: Duration,
    ) -> Result<(), Fault> {
        Err(Fault::new(FaultKind::NotFound, NOT_THERE))
    }
}

/// The version of a package, by a list in the form of `dpkg`.
fn version(list: &str, package: &str) -> Option<String> {
    let entry =
        list.split("\n\n").find(|entry| entry.lines().next() == Some(&format!("Package: {package}")))?;
    entry.lines().find_map(|line| line.strip_prefix("Version: ")).map(str::to_owned)
}

fn own_image() -> Result<Testbed, Fault> {
    let kernel = spec::check(KERNEL, "kernel.toml", &FixedFiles::new("/")).0;
    kernel.ok_or_else(|| Fault::new(FaultKind::Invalid, "read the own image of kernels"))
}

impl Store {
    /// The root of the jail of a machine that has a kernel of its own, with all its layers built. What programs find is as
    /// its image says.
    ///
    /// # Errors
    /// As for [`Store::resolve`]; [`FaultKind::Image`] for the host's own root.
    pub fn resolve_jail(
        &self,
        testbed: &Testbed,
        machine: &spec::Machine,
        builder: &dyn Builder,
        options: &Options,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Resolved, Fault> {
        if !machine.has_agent() {
            return self.resolve_system(builder, options, progress);
        }
        let (images, hardware) = (&[machine.image()], Hardware::of(machine));
        let made = self.jail(testbed, images, &hardware, builder, options, progress);
        let (jail, mut roots) = made.map_err(|fault| fault.on(machine.name()))?;
        let unmade = || Fault::new(FaultKind::Image, "make a disk of no image");
        let root = roots.pop().ok_or_else(unmade)?;
        Ok(Resolved { env: root.env, workdir: root.workdir, user: root.user, ..jail })
    }

    /// The root of the jail of a testbed's capsule, with all its layers built, and the images of its machines, in the order
    /// in which the capsule has them.
    ///
    /// # Errors
    /// As for [`Store::resolve_jail`]; [`FaultKind::State`] for a testbed that is none.
    pub fn resolve_capsule(
        &self,
        testbed: &Testbed,
        builder: &dyn Builder,
        options: &Options,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(Resolved, Vec<Resolved>), Fault> {
        let none = || Fault::new(FaultKind::State, "make a capsule of a testbed that is none");
        let hardware = Hardware::of_capsule(testbed).ok_or_else(none)?;
        self.jail(testbed, &testbed.capsule_images(), &hardware, builder, options, progress)
    }

    /// A jail for this hardware, in which a kernel has started with these images as disks.
    fn jail(
        &self,
        testbed: &Testbed,
        images: &[&str],
        hardware: &Hardware,
        builder: &dyn Builder,
        options: &Options,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(Resolved, Vec<Resolved>), Fault> {
        if !cfg!(target_arch = "x86_64") {
            let what = "make a machine with a kernel of its own on this kind of processor";
            return Err(Fault::new(FaultKind::Unsupported, what));
        }
        let step_deadline = options.step_deadline.unwrap_or(testbed.deadlines().layer_step());
        let options = &Options { step_deadline: Some(step_deadline), ..options.clone() };
        let mut roots = Vec::new();
        for image in images {
            let root = self.resolve(testbed, image, builder, options, progress)?;
            if root.host {
                let fault = Fault::new(FaultKind::Image, "make a disk of the host's own root");
                return Err(fault.hint("give the machine another image, for example `debian:bookworm`"));
            }
            roots.push(root);
        }
        let mut jail = self.resolve(&own_image()?, IMAGE, builder, options, progress)?;
        let mut layering = Layering {
            store: self,
            image: images.first().copied().unwrap_or_default(),
            base: IMAGE.to_owned(),
            ids: builder.ids().unwrap_or_else(|| self.hands().ids()),
            progress,
        };
        if let Some(root) = roots.first() {
            guest_kernel(&mut layering, &hardware.kernel, root, &mut jail, builder, options)?;
        }
        let accelerator = self.accelerator(&jail, builder, options).accelerator;
        for ((image, root), number) in images.iter().zip(&roots).zip(0..) {
            let path = image_root(number);
            let mut inputs = Inputs::of("disk", jail.guard.top().map(|meta| &meta.key));
            inputs.add(DISK).add(&path);
            for key in root.guard.keys() {
                inputs.add(key.as_str());
            }
            let what = format!("make a disk of {image}");
            let program = words(&["/bin/sh", "-c", DISK, "sh", &path]);
            let input = root.guard.paths();
            layering.layer(inputs.key(), &what, &mut jail, &mut |folder, below, report| {
                inherit_root(&folder.join("upper"), below)?;
                let job = Job {
                    layers: &below.guard.paths(),
                    host: false,
                    folder,
                    program: &program,
                    input: Some(&input),
                    env: &[],
                    network: None,
                    deadline: options.deadline(),
                };
                report.run(builder, &job, &what)
            })?;
        }
        let mut inputs = Inputs::of("template", jail.guard.top().map(|meta| &meta.key));
        inputs.add(AGENT).add(recipe(hardware, &accelerator));
        let mut is_new = false;
        layering.layer(inputs.key(), TEMPLATE, &mut jail, &mut |folder, below, _| {
            is_new = true;
            inherit_root(&folder.join("upper"), below)?;
            builder.boot(&below.guard.paths(), Some(folder), hardware, &accelerator, options.deadline())
        })?;
        if is_new {
            // Each version of this program has others, which are large and soon made.
            let stale = Collect { unused_for: Some(STALE), step: Some(TEMPLATE), ..Collect::default() };
            self.collect(&stale)?;
        }
        let layers = jail.guard.paths();
        Ok((Resolved { layers, accelerator, ..jail }, roots))
    }

    /// The root of the jail of a system that boots by itself.
    fn resolve_system(
        &self,
        builder: &dyn Builder,
        options: &Options,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Resolved, Fault> {
        let jail = self.resolve(&own_image()?, IMAGE, builder, options, progress)?;
        let accelerator = self.accelerator(&jail, builder, options).accelerator;
        Ok(Resolved { accelerator, ..jail })
    }

    /// What machines with kernels of their own run in, if it was built here.
    ///
    /// # Errors
    /// As for [`Store::resolve`].
    pub(crate) fn own_kernels(&self, options: &Options) -> Result<Option<OwnKernels>, Fault> {
        let testbed = own_image()?;
        let jail = match self.resolve(&testbed, IMAGE, &OnlyLooks, options, &mut |_| {}) {
            Ok(jail) => jail,
            Err(fault) if fault.operation.ends_with(NOT_THERE) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let packages =
            jail.layers.iter().find_map(|layer| std::fs::read_to_string(layer.join(PACKAGES)).ok());
        let hypervisor = packages.as_deref().and_then(|list| version(list, HYPERVISOR)).unwrap_or_default();
        let kernel = jail.guard.top().map_or("", |meta| meta.key.as_str());
        let device = options.kvm.as_deref().unwrap_or(Path::new(KVM));
        let choice = known_accelerator(device, &self.path().join(MEMORY), kernel);
        Ok(Some(OwnKernels { hypervisor, choice }))
    }

    /// What guests run on in this jail, which has a kernel.
    fn accelerator(&self, jail: &Resolved, builder: &dyn Builder, options: &Options) -> Choice {
        let device = options.kvm.as_deref().unwrap_or(Path::new(KVM));
        let kernel = jail.guard.top().map_or("", |meta| meta.key.as_str());
        let memory = self.path().join(MEMORY);
        choose_accelerator(device, &memory, kernel, &mut |accelerator| {
            builder.boot(&jail.guard.paths(), None, &Hardware::least(), accelerator, PROBE)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_image_can_be_read() {
        let (testbed, problems) = spec::check(KERNEL, "kernel.toml", &FixedFiles::new("/"));
        assert!(testbed.is_some_and(|testbed| testbed.image(IMAGE).is_some()), "{problems}");
    }

    #[test]
    fn versions_are_found_by_whole_names() {
        let list = "Package: qemu-system-x86-more\nVersion: 1\n\nPackage: qemu-system-x86\nStatus: ok\nVersion: 1:2.0-3\n";
        assert_eq!(version(list, HYPERVISOR).as_deref(), Some("1:2.0-3"));
        assert_eq!(version("", HYPERVISOR), None);
    }
}
