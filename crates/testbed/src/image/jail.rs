//! What machines with kernels of their own run in: a hypervisor, a kernel, an image's root as a disk, and the state of all
//! that once the kernel has started.

use super::build::{Builder, Job};
use super::key::Inputs;
use super::layering::Layering;
use super::resolve::{Options, Progress, Resolved, inherit_root, words};
use super::store::{Collect, Store};
use crate::engine::AGENT;
use crate::machine::{Hardware, recipe};
use crate::spec::{self, FixedFiles, Testbed};
use std::time::Duration;
use testbed_agent::{Fault, FaultKind};

/// The image of the hypervisor and the kernel.
const KERNEL: &str = include_str!("kernel.toml");
const IMAGE: &str = "own-kernel";
/// What is done for a template.
const TEMPLATE: &str = "start a kernel";
/// Templates that nobody has used for so long go when another one comes.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);
/// What makes a disk; a part of keys.
const DISK: &str = include_str!("disk.sh");

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
        let image = machine.image();
        if !cfg!(target_arch = "x86_64") {
            let what = "make a machine with a kernel of its own on this kind of processor";
            return Err(Fault::new(FaultKind::Unsupported, what));
        }
        let step_deadline = options.step_deadline.unwrap_or(testbed.deadlines().layer_step());
        let options = &Options { step_deadline: Some(step_deadline), ..options.clone() };
        let root = self.resolve(testbed, image, builder, options, progress)?;
        if root.host {
            let fault = Fault::new(FaultKind::Image, "make a disk of the host's own root");
            return Err(fault.hint("give the machine another image, for example `debian:bookworm`"));
        }
        let kernel = spec::check(KERNEL, "kernel.toml", &FixedFiles::new("/")).0;
        let kernel = kernel.ok_or_else(|| Fault::new(FaultKind::Invalid, "read the own image of kernels"))?;
        let mut jail = self.resolve(&kernel, IMAGE, builder, options, progress)?;
        let mut inputs = Inputs::of("disk", jail.guard.top().map(|meta| &meta.key));
        inputs.add(DISK);
        for key in root.guard.keys() {
            inputs.add(key.as_str());
        }
        let what = format!("make a disk of {image}");
        let program = words(&["/bin/sh", "-c", DISK]);
        let input = root.guard.paths();
        let mut layering = Layering {
            store: self,
            image,
            base: IMAGE.to_owned(),
            ids: builder.ids().unwrap_or_else(|| self.hands().ids()),
            progress,
        };
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
        let hardware = Hardware::of(machine);
        let mut inputs = Inputs::of("template", jail.guard.top().map(|meta| &meta.key));
        inputs.add(AGENT).add(recipe(&hardware));
        let mut is_new = false;
        let booted = layering.layer(inputs.key(), TEMPLATE, &mut jail, &mut |folder, below, _| {
            is_new = true;
            inherit_root(&folder.join("upper"), below)?;
            builder.boot(&below.guard.paths(), folder, &hardware, options.deadline())
        });
        booted.map_err(|fault| fault.on(machine.name()))?;
        if is_new {
            // Each version of this program has others, which are large and soon made.
            let stale = Collect { unused_for: Some(STALE), step: Some(TEMPLATE), ..Collect::default() };
            self.collect(&stale)?;
        }
        let layers = jail.guard.paths();
        Ok(Resolved { layers, env: root.env, workdir: root.workdir, user: root.user, ..jail })
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
}
