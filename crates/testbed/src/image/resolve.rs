//! From an image of the checked model to folders that a machine's root is made of.

use super::build::{Builder, Job, WayOut};
use super::debian::Recipe;
use super::files;
use super::identity::add_host;
use super::layering::Layering;
use super::oci::Layout;
use super::proxy::SiteProxy;
use super::sources;
use super::store::{Layers, Store};
use crate::machine::Accelerator;
use crate::spec::{Base, Deadlines, Image, Step, Testbed};
use std::io::Write;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use testbed_agent::layers::Work;
use testbed_agent::{Doing as _, Fault, FaultKind};

/// What building depends on beside the file: the library reads no environment.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where Debian comes from, an `http` or `https` URI; the host's own apt sources if none.
    pub mirror: Option<String>,
    /// Variables of every building machine: what a mirror of the site needs.
    pub build_env: Vec<(String, String)>,
    /// The proxies that the site reaches others through.
    pub proxy: SiteProxy,
    /// Where KVM is, if not at [`KVM`](crate::host::KVM).
    pub kvm: Option<PathBuf>,
    /// How long one layer may take, if that is not what the testbed's file says.
    pub step_deadline: Option<Duration>,
}

impl Options {
    /// How long one layer may take.
    pub(super) fn deadline(&self) -> Duration {
        self.step_deadline.unwrap_or(Deadlines::default().layer_step())
    }

    /// The mirrors that this host is set to use: building machines may reach them wherever they are.
    pub(super) fn mirrors(&self) -> Result<Vec<String>, Fault> {
        let mut mirrors = sources::uris(&sources::of_host(Path::new("/"))?);
        mirrors.extend(self.mirror.clone());
        Ok(mirrors)
    }
}

/// What happens while an image is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A layer is not there, and is being built.
    Building {
        /// The image.
        image: &'a str,
        /// What is done for it: `install openvpn`.
        step: &'a str,
    },
    /// A builder wrote this.
    Output(&'a [u8]),
    /// The layer is built.
    Built {
        /// The image.
        image: &'a str,
        /// What was done for it.
        step: &'a str,
        /// How long it took.
        took: Duration,
    },
}

/// An image as a machine needs it. While it lives, its layers stay.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// The layers' folders, top first; owners in them are as inside.
    pub layers: Vec<PathBuf>,
    /// The host's own root, masked, lies below them.
    pub host: bool,
    /// Variables of all machines made from it.
    pub env: Vec<(String, String)>,
    /// The folder that its programs start in, if the image says so.
    pub workdir: Option<String>,
    /// The user that its programs run as, if the image says so.
    pub user: Option<String>,
    /// What the guest of a jail runs on.
    pub accelerator: Accelerator,
    /// Keeps the layers from being removed.
    pub guard: Layers,
}

impl Store {
    /// The image of this name, with all its layers built.
    ///
    /// # Errors
    /// [`FaultKind::Image`] with the end of the builder's output in `log` if a step failed; [`FaultKind::Timeout`];
    /// [`FaultKind::Unsupported`] where the host cannot build the base; [`FaultKind::NotFound`] for an unknown name.
    pub fn resolve(
        &self,
        testbed: &Testbed,
        image: &str,
        builder: &dyn Builder,
        options: &Options,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Resolved, Fault> {
        let found = testbed.image(image);
        let found = found.ok_or_else(|| Fault::new(FaultKind::NotFound, format!("no image `{image}`")))?;
        let step_deadline = options.step_deadline.unwrap_or(testbed.deadlines().layer_step());
        let options = &Options { step_deadline: Some(step_deadline), ..options.clone() };
        let mut resolver = Resolver { store: self, testbed, builder, options, progress };
        let mut resolved = resolver.image(found)?;
        resolved.layers = resolved.guard.paths();
        Ok(resolved)
    }
}

struct Resolver<'a, 'p> {
    store: &'a Store,
    testbed: &'a Testbed,
    builder: &'a dyn Builder,
    options: &'a Options,
    progress: &'a mut (dyn FnMut(Progress<'_>) + 'p),
}

/// Where a builder's output goes: on to whoever watches, its end kept for the fault.
pub(super) struct Report<'a, 'p> {
    progress: &'a mut (dyn FnMut(Progress<'_>) + 'p),
    tail: Vec<u8>,
}

const ONLY_SYSTEMS: &str = "machines with `agent = false` boot from it as it is";

const ONE_ID: &str = "your machines have one id: what gives files to others, as some packages do, fails in them. `testbed \
                      doctor` says how to get more; or build it as root, or take a finished image: a tar, a folder, an OCI \
                      layout";

/// How much of a failed builder's output a fault carries, in bytes.
const TAIL: usize = 16 * 1024;

impl Write for Report<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (self.progress)(Progress::Output(bytes));
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > 2 * TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a, 'p> Report<'a, 'p> {
    pub(super) fn new(progress: &'a mut (dyn FnMut(Progress<'_>) + 'p)) -> Report<'a, 'p> {
        Report { progress, tail: Vec::new() }
    }

    /// Runs a job that must succeed.
    pub(super) fn run(&mut self, builder: &dyn Builder, job: &Job<'_>, what: &str) -> Result<(), Fault> {
        let result = builder.run(job, self);
        let start = self.tail.len().saturating_sub(TAIL);
        let log = String::from_utf8_lossy(&self.tail[start..]).into_owned();
        match result {
            Ok(exit) if exit.success() => Ok(()),
            Ok(exit) => {
                let what = format!("{what}: it ended with status {}", exit.shell_code());
                let fault = Fault::new(FaultKind::Image, what).log(log);
                Err(if builder.ids() == Some(1) { fault.hint(ONE_ID) } else { fault })
            }
            Err(mut fault) => {
                fault.operation = format!("{what}: {}", fault.operation);
                Err(if log.is_empty() { fault } else { fault.log(log) })
            }
        }
    }
}

impl Resolver<'_, '_> {
    fn image(&mut self, image: &Image) -> Result<Resolved, Fault> {
        let mut resolved = match image.base() {
            Base::Host => Resolved { host: true, ..Resolved::default() },
            Base::Image(name) => {
                let missing = || Fault::new(FaultKind::NotFound, format!("no image `{name}`"));
                self.image(self.testbed.image(name).ok_or_else(missing)?)?
            }
            Base::Folder(path) => self.layering(image).folder(path)?,
            Base::Tar(path) => self.layering(image).tar(path)?,
            Base::Oci(path) => self.layering(image).layout(Layout::read(path)?)?,
            Base::Imported(name) => self.store.hold_imported(name)?,
            Base::Debian(codename) => self.debian(image, codename)?,
            Base::Disk(..) | Base::Blank => {
                let what = format!("make layers of the disk {}", image.name());
                return Err(Fault::new(FaultKind::Image, what).hint(ONLY_SYSTEMS));
            }
        };
        for (name, value) in image.env() {
            resolved.env.retain(|(known, _)| known != name);
            resolved.env.push((name.clone(), value.clone()));
        }
        for step in image.steps() {
            self.step(image, step, &mut resolved)?;
        }
        Ok(resolved)
    }

    /// What puts layers below and on this image.
    fn layering<'b>(&'b mut self, image: &'b Image) -> Layering<'b, 'b> {
        Layering {
            store: self.store,
            image: image.name(),
            base: base_name(image, self.testbed),
            ids: self.builder.ids().unwrap_or_else(|| self.store.hands().ids()),
            progress: &mut *self.progress,
        }
    }

    fn debian(&mut self, image: &Image, codename: &str) -> Result<Resolved, Fault> {
        let recipe = Recipe::find(codename, self.options)?;
        let mut inputs = self.layering(image).inputs("debian", None);
        recipe.add_inputs(&mut inputs);
        let mut resolved = Resolved::default();
        let (builder, options, hands) = (self.builder, self.options, self.store.hands());
        let step = format!("build debian:{codename}");
        self.layering(image).layer(inputs.key(), &step, &mut resolved, &mut |folder, _, report| {
            recipe.build(folder, builder, options, report, hands)
        })?;
        Ok(resolved)
    }

    fn step(&mut self, image: &Image, step: &Step, resolved: &mut Resolved) -> Result<(), Fault> {
        let kind = match step {
            Step::Packages(_) => "packages",
            Step::Files(_) => "files",
            Step::Run(_) => "run",
        };
        let mut inputs = self.layering(image).inputs(kind, resolved.guard.top().map(|meta| &meta.key));
        if resolved.host && resolved.guard.top().is_none() {
            add_host(&mut inputs)?;
        }
        let (builder, options, hands) = (self.builder, self.options, self.store.hands());
        match step {
            Step::Files(entries) => {
                files::add_inputs(&mut inputs, entries)?;
                let targets: Vec<&str> = entries.iter().map(crate::spec::FileEntry::target).collect();
                let what = format!("put {}", targets.join(", "));
                self.layering(image).layer(inputs.key(), &what, resolved, &mut |folder, below, _| {
                    let mut layers = below.guard.paths();
                    layers.extend(below.host.then(|| PathBuf::from("/")));
                    let target = hands.target(folder.join("upper"), layers);
                    // One after another: each order to a launcher has its limit.
                    for put in files::puts(entries, &folder.join("work"))? {
                        hands.work(Work::Put(target.clone(), vec![put]), Vec::new())?;
                    }
                    Ok(())
                })
            }
            Step::Packages(packages) => {
                inputs.add(STEP).add(PACKAGES);
                packages.iter().for_each(|package| {
                    inputs.add(package);
                });
                let what = format!("install {}", packages.join(", "));
                let mut program = words(&["/bin/sh", "-c", STEP, "sh", "/bin/sh", "-c", PACKAGES, "sh"]);
                program.extend(packages.iter().cloned());
                self.layering(image).layer(inputs.key(), &what, resolved, &mut |folder, below, report| {
                    run(folder, below, &program, builder, options, report, &what)?;
                    hands.remove(&folder.join("upper").join(DOWNLOADS))
                })
            }
            Step::Run(text) => {
                inputs.add(STEP).add(text);
                for (name, value) in &resolved.env {
                    inputs.add(name).add(value);
                }
                let what = format!("run {}", text.lines().next().unwrap_or_default());
                let program = words(&["/bin/sh", "-c", STEP, "sh", "/bin/sh", "-c", text]);
                self.layering(image).layer(inputs.key(), &what, resolved, &mut |folder, below, report| {
                    run(folder, below, &program, builder, options, report, &what)
                })
            }
        }
    }
}

/// How packages are installed, and what surrounds every step that runs something; both are part of keys.
const PACKAGES: &str = include_str!("packages.sh");
const STEP: &str = include_str!("step.sh");
/// What apt downloads, and nobody needs afterwards.
const DOWNLOADS: &str = "var/cache/testbed-apt";

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Runs a program in a machine whose changes are the layer.
fn run(
    folder: &Path,
    below: &Resolved,
    program: &[String],
    builder: &dyn Builder,
    options: &Options,
    report: &mut Report<'_, '_>,
    what: &str,
) -> Result<(), Fault> {
    let upper = folder.join("upper");
    inherit_root(&upper, below)?;
    let layers = below.guard.paths();
    let mut env = options.build_env.clone();
    env.extend(below.env.iter().cloned());
    let job = Job {
        layers: &layers,
        host: below.host,
        folder,
        program,
        input: None,
        env: &env,
        network: Some(WayOut { site: &options.proxy, mirrors: &options.mirrors()? }),
        deadline: options.deadline(),
    };
    report.run(builder, &job, what)
}

/// The root folder of a machine is that of its upper layer: it must be as the image has it.
pub(super) fn inherit_root(upper: &Path, below: &Resolved) -> Result<(), Fault> {
    let top = below.guard.paths().into_iter().next().unwrap_or_else(|| PathBuf::from("/"));
    let shown = top.display().to_string();
    let metadata = top.metadata().doing_to("read", &shown)?;
    let permissions = std::fs::Permissions::from_mode(metadata.mode() & 0o7777);
    std::fs::set_permissions(upper, permissions).doing_to("prepare", upper.display().to_string())
}

/// The base at the end of a chain of images, as people write it.
fn base_name(image: &Image, testbed: &Testbed) -> String {
    match image.base() {
        Base::Host => "host".to_owned(),
        Base::Debian(codename) => format!("debian:{codename}"),
        Base::Folder(path) | Base::Tar(path) | Base::Oci(path) => path.display().to_string(),
        Base::Imported(name) => name.clone(),
        Base::Disk(path, _) => path.display().to_string(),
        Base::Blank => image.name().to_owned(),
        Base::Image(name) => {
            testbed.image(name).map_or_else(|| name.clone(), |below| base_name(below, testbed))
        }
    }
}
