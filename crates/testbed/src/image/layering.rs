//! Layers put on one another in the store, and bases that come finished: a folder, a tar, an OCI image.

use super::compression::decompressed;
use super::copy::copy_in;
use super::identity::{add_folder_versions, add_version};
use super::key::{Inputs, Key};
use super::merged::{Attributes, Merged};
use super::oci::Layout;
use super::resolve::{Progress, Report, Resolved};
use super::store::{Store, Wanted};
use super::unpack::{Whiteouts, unpack};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;
use testbed_agent::launch::IDS;
use testbed_agent::{Doing as _, Fault, FaultKind};

/// What puts layers on one another, for one image.
pub(super) struct Layering<'a, 'p> {
    pub(super) store: &'a Store,
    /// The image that they are for.
    pub(super) image: &'a str,
    /// Its base as people write it.
    pub(super) base: String,
    pub(super) progress: &'a mut (dyn FnMut(Progress<'_>) + 'p),
}

impl Layering<'_, '_> {
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
        let mut inputs = Inputs::of("folder", None);
        inputs.add(source.as_os_str().as_bytes());
        add_folder_versions(&mut inputs, source)?;
        let mut resolved = Resolved::default();
        let step = format!("copy {}", source.display());
        self.layer(inputs.key(), &step, &mut resolved, &mut |folder, _, _| {
            let shown = source.display().to_string();
            let top = source.metadata().doing_to("read", &shown)?;
            let layer = Merged::open(&folder.join("upper"), []).doing("open a layer")?;
            copy_in(source, &layer, Path::new("/"), &|metadata| inside(metadata, &top))
                .doing_to("copy", &shown)?;
            Ok(())
        })?;
        Ok(resolved)
    }

    /// A tar file that holds one.
    pub(super) fn tar(&mut self, archive: &Path) -> Result<Resolved, Fault> {
        let shown = archive.display().to_string();
        let mut inputs = Inputs::of("tar", None);
        inputs.add(archive.as_os_str().as_bytes());
        add_version(&mut inputs, &archive.metadata().doing_to("read", &shown)?);
        let mut resolved = Resolved::default();
        let step = format!("unpack {shown}");
        self.layer(inputs.key(), &step, &mut resolved, &mut |folder, _, _| {
            let file = std::fs::File::open(archive).doing_to("open", &shown)?;
            let layer = Merged::open(&folder.join("upper"), []).doing("open a layer")?;
            unpack(decompressed(file).doing_to("read", &shown)?, &layer, Whiteouts::Plain)?;
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
            let mut inputs = Inputs::of("oci", resolved.guard.top().map(|meta| &meta.key));
            inputs.add(&blob.sha256);
            let step = format!("unpack layer {}", &blob.sha256[..12]);
            self.layer(inputs.key(), &step, &mut resolved, &mut |folder, below, _| {
                let layer =
                    Merged::open(&folder.join("upper"), below.guard.paths().iter().map(PathBuf::as_path))
                        .doing("open a layer")?;
                layout.read_layer(blob, |bytes| {
                    unpack(decompressed(bytes).doing("read a layer of the image")?, &layer, Whiteouts::Oci)
                })
            })?;
        }
        resolved.env = layout.env;
        resolved.workdir = layout.workdir;
        resolved.user = layout.user;
        Ok(resolved)
    }
}

/// Whose a file of a folder is inside: root's if it belongs to whoever owns the folder itself, so that a tree that a
/// user unpacked is a system; as it is otherwise, and nobody's if machines have no such id.
fn inside(metadata: &std::fs::Metadata, top: &std::fs::Metadata) -> Attributes {
    const NOBODY: u32 = 65534;
    let id = |id: u32, top: u32| match id {
        id if id == top => 0,
        id if id < IDS => id,
        _ => NOBODY,
    };
    Attributes {
        mode: metadata.mode() & 0o7777,
        uid: id(metadata.uid(), top.uid()),
        gid: id(metadata.gid(), top.gid()),
    }
}
