//! Names in the store: what `image import` took in, and what it stands for.
//!
//! A name is a file in `images`, written whole and renamed into place. Nothing removes the layers that it lists but the
//! removal of the name: whoever removes a layer holds its lock and then looks at the names, and whoever writes a name
//! holds the layers.

use super::key::Key;
use super::resolve::Resolved;
use super::store::{Layers, Store, names, standing_on, top_first, wait_for};
use super::workplace::Workplace;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// An imported image; `images/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// What `image` and `base` call it.
    pub name: String,
    /// What it was made from, as the caller said.
    pub source: String,
    /// Its layers, top first; at least one.
    pub layers: Vec<Key>,
    /// When it was imported, seconds since 1970.
    pub imported: u64,
    /// Variables of all machines made from it.
    pub env: Vec<(String, String)>,
    /// The folder that its programs start in, if it says so.
    pub workdir: Option<String>,
    /// The user that its programs run as, if it says so.
    pub user: Option<String>,
}

/// The names that were imported to the store in a folder, sorted, without opening or making the store. They are what
/// [`crate::spec::load_with`] wants to know.
///
/// # Errors
/// The folder cannot be read. One that is not there has no names.
pub fn imported_names(store: &Path) -> Result<Vec<String>, Fault> {
    let folder = store.join("images");
    match names(&folder) {
        Ok(mut found) => {
            found.sort();
            Ok(found)
        }
        Err(fault) if fault.kind == FaultKind::NotFound => Ok(Vec::new()),
        Err(fault) => Err(fault),
    }
}

impl Store {
    fn image_path(&self, name: &str) -> PathBuf {
        self.path.join("images").join(name)
    }

    /// All imported images, by name.
    ///
    /// # Errors
    /// The store cannot be read, or what it says of an image makes no sense.
    pub fn imported(&self) -> Result<Vec<Imported>, Fault> {
        let names = imported_names(&self.path)?;
        // One may be removed meanwhile.
        names.iter().filter_map(|name| self.imported_as(name).transpose()).collect()
    }

    /// What was imported under a name.
    fn imported_as(&self, name: &str) -> Result<Option<Imported>, Fault> {
        let path = self.image_path(name);
        let shown = path.display().to_string();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Fault::system("read", &error).at(shown)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            Fault::new(FaultKind::Image, format!("read what an imported image is: {error}"))
                .at(shown)
                .hint("remove this file, and import the image again")
        })
    }

    /// The layers of an imported image.
    pub(super) fn hold_imported(&self, name: &str) -> Result<Resolved, Fault> {
        let mut before = None;
        loop {
            let Some(image) = self.imported_as(name)? else { return Err(no_image(name)) };
            let mut guard = Layers::default();
            let mut missing = None;
            for key in image.layers.iter().rev() {
                match self.hold(key)? {
                    Some(held) => guard.put_on_top(held),
                    None => missing = missing.or(Some(key)),
                }
            }
            let Some(missing) = missing else {
                let Imported { env, workdir, user, .. } = image;
                return Ok(Resolved { guard, env, workdir, user, ..Resolved::default() });
            };
            // It may have been replaced, and what it was may be gone.
            if before.as_ref() == Some(&image) {
                let what = format!("get the imported image `{name}`: its layer {} is gone", missing.short());
                let hint = format!("import it again: `testbed image import {name} SOURCE`");
                return Err(Fault::new(FaultKind::Image, what).hint(hint));
            }
            before = Some(image);
        }
    }

    /// Writes down what a name stands for, in the place of what it stood for. Its layers must be held.
    pub(super) fn name_image(&self, image: &Imported, workplace: &Workplace) -> Result<(), Fault> {
        let path = self.image_path(&image.name);
        let shown = path.display().to_string();
        let doing = "name an image";
        let text = serde_json::to_vec_pretty(image).map_err(io::Error::other).doing(doing)?;
        let written = workplace.path().join("image.json");
        std::fs::write(&written, text).doing_to(doing, &shown)?;
        let _lock = self.lock_images()?;
        std::fs::rename(&written, &path).doing_to(doing, &shown)
    }

    /// Removes an imported image: its name, and its layers with what stands on them, as far as no other image is made
    /// of them. Returns which layers went.
    ///
    /// # Errors
    /// [`FaultKind::NotFound`] for a name that is none; [`FaultKind::State`] if a layer that would go is in use: then
    /// nothing is removed.
    pub fn remove_imported(&self, name: &str) -> Result<Vec<Key>, Fault> {
        let _lock = self.lock_images()?;
        let mut images = self.imported()?;
        let position = images.iter().position(|image| image.name == name);
        let image = images.remove(position.ok_or_else(|| no_image(name))?);
        let mut doomed = Vec::new();
        let layers = self.list()?;
        if let Some(top) = image.layers.first()
            && !images.iter().any(|other| other.layers.contains(top))
        {
            doomed = standing_on(top, &layers);
            if let Some(used) = doomed.iter().find(|layer| layer.in_use) {
                let what =
                    format!("remove the image `{name}`: its layer {} is in use", used.meta.key.short());
                return Err(Fault::new(FaultKind::State, what).hint("stop the testbeds that use it"));
            }
        }
        top_first(&mut doomed);
        let path = self.image_path(name);
        std::fs::remove_file(&path).doing_to("remove", path.display().to_string())?;
        let keys = doomed.iter().map(|layer| &layer.meta.key);
        self.remove_each(keys.chain(image.layers.iter().skip(1)))
    }

    /// Keeps others from giving or taking names.
    fn lock_images(&self) -> Result<File, Fault> {
        let path = self.path.join("locks/images");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&path).doing_to("open the lock", path.display().to_string())?;
        wait_for(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    }
}

fn no_image(name: &str) -> Fault {
    Fault::new(FaultKind::NotFound, format!("no image `{name}` was imported"))
        .hint("`testbed image ls` lists those that were")
}
