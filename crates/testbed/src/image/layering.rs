//! Layers put on one another in the store, and bases that come finished: a folder, a tar, an OCI image.

use super::compression::decompressed;
use super::identity::{add_folder_versions, add_version};
use super::key::{Inputs, Key};
use super::oci::Layout;
use super::resolve::{Progress, Report, Resolved};
use super::store::{Store, Wanted};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Instant;
use testbed_agent::launch::IDS;
use testbed_agent::layers::{Whiteouts, Work};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// What puts layers on one another, for one image.
pub(super) struct Layering<'a, 'p> {
    pub(super) store: &'a Store,
    /// The image that they are for.
    pub(super) image: &'a str,
    /// Its base as people write it.
    pub(super) base: String,
    /// How many ids files in layers can have.
    pub(super) ids: u32,
    pub(super) progress: &'a mut (dyn FnMut(Progress<'_>) + 'p),
}

impl Layering<'_, '_> {
    /// What goes into the key of every layer: where fewer ids are to be had, layers are others.
    pub(super) fn inputs(&self, kind: &str, below: Option<&Key>) -> Inputs {
        let mut inputs = Inputs::of(kind, below);
        if self.ids != IDS {
            inputs.add("ids").number(u64::from(self.ids));
        }
        inputs
    }

    /// Puts a layer on top, building it first if there is none.
    pub(super) fn layer(
        &mut self,
        key: Key,
        step: &str,
        resolved: &mut Resolved,
        make: &mut dyn FnMut(&Path, &Resolved, &mut Report<'_, '_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let wanted = Wanted { key, base: &self.base, step: step.to_owned(), below: resolved.guard.keys() };
        let below = &*resolved;
        let image = self.image;
        let held = self.store.hold_or_build(&wanted, &mut |folder| {
            let started = Instant::now();
            (self.progress)(Progress::Building { image, step });
            make(folder, below, &mut Report::new(&mut *self.progress))?;
            (self.progress)(Progress::Built { image, step, took: started.elapsed() });
            Ok(())
        })?;
        resolved.guard.put_on_top(held);
        Ok(())
    }

    /// A folder that holds a root file system.
    pub(super) fn folder(&mut self, source: &Path) -> Result<Resolved, Fault> {
        let hands = self.store.hands();
        let mut inputs = self.inputs("folder", None);
        inputs.add(source.as_os_str().as_bytes());
        add_folder_versions(&mut inputs, source)?;
        let mut resolved = Resolved::default();
        let step = format!("copy {}", source.display());
        self.layer(inputs.key(), &step, &mut resolved, &mut |folder, _, _| {
            let target = hands.target(folder.join("upper"), Vec::new());
            hands.work(Work::CopyRoot(target, source.to_owned()), Vec::new()).map(drop)
        })?;
        Ok(resolved)
    }

    /// A tar file that holds one.
    pub(super) fn tar(&mut self, archive: &Path) -> Result<Resolved, Fault> {
        let shown = archive.display().to_string();
        let hands = self.store.hands();
        let mut inputs = self.inputs("tar", None);
        inputs.add(archive.as_os_str().as_bytes());
        add_version(&mut inputs, &archive.metadata().doing_to("read", &shown)?);
        let mut resolved = Resolved::default();
        let step = format!("unpack {shown}");
        self.layer(inputs.key(), &step, &mut resolved, &mut |folder, _, _| {
            let file = std::fs::File::open(archive).doing_to("open", &shown)?;
            let mut bytes = decompressed(file).doing_to("read", &shown)?;
            let target = hands.target(folder.join("upper"), Vec::new());
            hands.unpack(&mut bytes, target, Whiteouts::Plain)?;
            if Layout::is_in(&folder.join("upper")) {
                let what = "use an image of layers as a root file system";
                return Err(Fault::new(FaultKind::Image, what).at(&shown).hint(format!(
                    "`testbed image import NAME {shown}` takes it in; then `NAME` stands for it"
                )));
            }
            Ok(())
        })?;
        Ok(resolved)
    }

    /// An image of many layers.
    pub(super) fn layout(&mut self, layout: Layout) -> Result<Resolved, Fault> {
        let mut resolved = Resolved::default();
        for blob in &layout.layers {
            let hands = self.store.hands();
            let mut inputs = self.inputs("oci", resolved.guard.top().map(|meta| &meta.key));
            inputs.add(&blob.sha256);
            let step = format!("unpack layer {}", &blob.sha256[..12]);
            self.layer(inputs.key(), &step, &mut resolved, &mut |folder, below, _| {
                let target = hands.target(folder.join("upper"), below.guard.paths());
                layout.read_layer(blob, |bytes| {
                    let mut bytes = decompressed(bytes).doing("read a layer of the image")?;
                    hands.unpack(&mut bytes, target, Whiteouts::Oci)
                })
            })?;
        }
        resolved.env = layout.env;
        resolved.workdir = layout.workdir;
        resolved.user = layout.user;
        Ok(resolved)
    }
}
