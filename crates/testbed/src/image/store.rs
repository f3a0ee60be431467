//! The folder that holds the layers.
//!
//! ```text
//! format               the number of this arrangement
//! layers/KEY/root/     the tree, owners as inside: 0 to 65535
//! layers/KEY/meta.json what it is made of
//! locks/KEY            shared by who uses the layer, exclusive to who builds or removes it; its time: last use
//! images/NAME          the layers that an imported name stands for
//! tmp/KEY/             a layer that is being built; belongs to whoever holds the lock
//! tmp/import-…/        what is being taken apart; belongs to whoever holds a lock on the folder itself
//! ```
//!
//! All locks are flock(2), so they end with whoever held them, however that went. A layer appears whole or not at
//! all: it is built in `tmp` and renamed. Layers are removed from the top downwards, so that one that exists always
//! stands on what it was built on.

use super::key::{Key, NotAKey};
use super::workplace::Workplace;
use crate::engine::hands::Hands;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use testbed_agent::layers::Work;
use testbed_agent::{Doing as _, Fault, FaultKind};

/// The arrangement that this build writes.
const FORMAT: u32 = 1;

/// Layers, shared by all testbeds of a user.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) path: PathBuf,
    hands: Hands,
}

/// What is known about a layer; `meta.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Its name.
    pub key: Key,
    /// The image's base as people write it: `debian:bookworm`.
    pub base: String,
    /// What was done for it: `install openvpn`.
    pub step: String,
    /// The layers that it stands on, top first.
    pub below: Vec<Key>,
    /// Bytes on disk.
    pub size: u64,
    /// When it was built, seconds since 1970.
    pub built: u64,
}

/// A layer in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it is.
    pub meta: Meta,
    /// When it was last used.
    pub used: SystemTime,
    /// Somebody uses it now.
    pub in_use: bool,
    /// The imported images that it is the top of.
    pub names: Vec<String>,
}

/// Layers in use: none of them is removed while this, or a clone of it, lives.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    held: Vec<Arc<Held>>,
}

/// A layer and the shared lock on it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) meta: Meta,
    pub(super) root: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl Layers {
    /// The folders, top first, as overlay wants them.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.held.iter().map(|layer| layer.root.clone()).collect()
    }

    /// What the layers are, top first.
    pub fn metas(&self) -> impl Iterator<Item = &Meta> {
        self.held.iter().map(|layer| &layer.meta)
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.metas().map(|meta| meta.key.clone()).collect()
    }

    pub(super) fn top(&self) -> Option<&Meta> {
        self.metas().next()
    }

    pub(super) fn put_on_top(&mut self, layer: Held) {
        self.held.insert(0, Arc::new(layer));
    }
}

/// What a layer will be, before it is built.
pub(super) struct Wanted<'a> {
    pub(super) key: Key,
    pub(super) base: &'a str,
    pub(super) step: String,
    pub(super) below: Vec<Key>,
}

impl Store {
    /// Opens the store, making the folder (mode 0700: layers hold setuid files) if there is none, and removes what
    /// builders that died have left.
    ///
    /// # Errors
    /// The folder cannot be made or written, or its `format` is newer than this build knows.
    pub fn open(path: impl Into<PathBuf>) -> Result<Store, Fault> {
        let store = Store { path: path.into(), hands: Hands::default() };
        let shown = store.path.display().to_string();
        private_folder(&store.path).doing_to("make the layer store", &shown)?;
        for part in ["layers", "locks", "images", "tmp"] {
            private_folder(&store.path.join(part)).doing_to("make the layer store", &shown)?;
        }
        store.settle_format()?;
        store.sweep()?;
        Ok(store)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What writes, measures and removes layers.
    pub(super) fn hands(&self) -> &Hands {
        &self.hands
    }

    fn settle_format(&self) -> Result<(), Fault> {
        let path = self.path.join("format");
        let shown = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse::<u32>() {
                Ok(FORMAT) => Ok(()),
                Ok(number) if number > FORMAT => {
                    let what = format!("read a layer store of format {number}; this testbed knows {FORMAT}");
                    Err(Fault::new(FaultKind::Unsupported, what)
                        .at(shown)
                        .hint("update testbed, or give it another cache folder"))
                }
                _ => {
                    // Layers can be built again, but for those of imported images, which stay.
                    self.collect(&Collect { unused_for: Some(Duration::ZERO), ..Collect::default() })?;
                    self.write_format(&path)
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.write_format(&path),
            Err(error) => Err(Fault::system("read", &error).at(shown)),
        }
    }

    fn write_format(&self, path: &Path) -> Result<(), Fault> {
        std::fs::write(path, format!("{FORMAT}\n")).doing_to("write", path.display().to_string())
    }

    /// Removes what builders left that are no more.
    fn sweep(&self) -> Result<(), Fault> {
        for name in names(&self.path.join("tmp"))? {
            match Key::try_from(name) {
                Ok(key) => {
                    if let Some(_lock) = self.try_exclusive(&key)? {
                        self.hands.remove(&self.temporary(&key))?;
                    }
                }
                Err(NotAKey(name)) => Workplace::sweep(&self.path.join("tmp").join(name), &self.hands)?,
            }
        }
        Ok(())
    }

    fn layer(&self, key: &Key) -> PathBuf {
        self.path.join("layers").join(key.as_str())
    }

    fn temporary(&self, key: &Key) -> PathBuf {
        self.path.join("tmp").join(key.as_str())
    }

    fn lock_path(&self, key: &Key) -> PathBuf {
        self.path.join("locks").join(key.as_str())
    }

    fn open_lock(&self, key: &Key) -> Result<File, Fault> {
        let path = self.lock_path(key);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(&path).doing_to("open the lock", path.display().to_string())
    }

    fn try_exclusive(&self, key: &Key) -> Result<Option<File>, Fault> {
        let lock = self.open_lock(key)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(lock)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(Fault::system("lock a layer", &error.into())),
        }
    }

    /// The layer, if it exists, held against removal.
    pub(super) fn hold(&self, key: &Key) -> Result<Option<Held>, Fault> {
        if !self.layer(key).exists() {
            return Ok(None);
        }
        let lock = self.open_lock(key)?;
        wait_for(&lock, FlockOperation::LockShared)?;
        self.held(key, lock)
    }

    /// The layer whose lock is held, if it exists.
    fn held(&self, key: &Key, lock: File) -> Result<Option<Held>, Fault> {
        let path = self.layer(key);
        if !path.exists() {
            return Ok(None);
        }
        let meta = read_meta(&path)?;
        lock.set_modified(SystemTime::now()).doing("note the use of a layer")?;
        Ok(Some(Held { meta, root: path.join("root"), _lock: lock }))
    }

    /// The layer, built first if there is none. Whoever else wants it meanwhile waits: `build` runs once.
    ///
    /// `build` gets a folder that is empty but for `upper` and `work`; what is in `upper` afterwards is the layer.
    ///
    /// # Errors
    /// Those of `build`, after which nothing is left of the layer, and those of the file system.
    pub(super) fn hold_or_build(
        &self,
        wanted: &Wanted<'_>,
        build: &mut dyn FnMut(&Path) -> Result<(), Fault>,
    ) -> Result<Held, Fault> {
        loop {
            if let Some(held) = self.hold(&wanted.key)? {
                return Ok(held);
            }
            let lock = self.open_lock(&wanted.key)?;
            wait_for(&lock, FlockOperation::LockExclusive)?;
            if !self.layer(&wanted.key).exists() {
                self.build(wanted, build)?;
            }
            // Changing the kind of a lock may let somebody else in between: what it removed is built again.
            wait_for(&lock, FlockOperation::LockShared)?;
            if let Some(held) = self.held(&wanted.key, lock)? {
                return Ok(held);
            }
        }
    }

    /// Builds and publishes a layer whose lock is held.
    fn build(
        &self,
        wanted: &Wanted<'_>,
        build: &mut dyn FnMut(&Path) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let temporary = self.temporary(&wanted.key);
        self.hands.remove(&temporary)?;
        let shown = temporary.display().to_string();
        let work = temporary.join("work");
        let upper = temporary.join("upper");
        let prepare = || -> io::Result<()> {
            private_folder(&temporary)?;
            for folder in [&upper, &work] {
                DirBuilder::new().mode(0o755).create(folder)?;
                // Whatever the umask says: it becomes the root folder of machines.
                std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            }
            Ok(())
        };
        prepare().doing_to("make a folder for a layer", &shown)?;
        let publish = || -> Result<(), Fault> {
            self.hands.remove(&work)?;
            std::fs::rename(&upper, temporary.join("root")).doing_to("finish a layer", &shown)?;
            let meta = Meta {
                key: wanted.key.clone(),
                base: wanted.base.to_owned(),
                step: wanted.step.clone(),
                below: wanted.below.clone(),
                size: self.hands.work(Work::Seal(temporary.join("root")), Vec::new())?,
                built: SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .map_or(0, |age| age.as_secs()),
            };
            let text =
                serde_json::to_vec_pretty(&meta).map_err(io::Error::other).doing("describe a layer")?;
            std::fs::write(temporary.join("meta.json"), text).doing_to("describe a layer", &shown)?;
            std::fs::rename(&temporary, self.layer(&wanted.key)).doing_to("publish a layer", &shown)
        };
        let result = build(&temporary).and_then(|()| publish());
        if result.is_err() {
            // The first fault is the one to tell; what stays is swept by the next command.
            let _ = self.hands.remove(&temporary);
        }
        result
    }

    /// All layers, the ones used last first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, Fault> {
        let images = self.imported()?;
        let mut found = Vec::new();
        for name in names(&self.path.join("layers"))? {
            let Ok(key) = Key::try_from(name) else { continue };
            let meta = match read_meta(&self.layer(&key)) {
                Ok(meta) => meta,
                // Removed meanwhile.
                Err(fault) if fault.kind == FaultKind::NotFound => continue,
                Err(fault) => return Err(fault),
            };
            let used = self.lock_path(&key).metadata().and_then(|lock| lock.modified());
            let in_use = self.try_exclusive(&key)?.is_none();
            let names = images.iter().filter(|image| image.layers.first() == Some(&key));
            let names = names.map(|image| image.name.clone()).collect();
            found.push(Listed { meta, used: used.unwrap_or(SystemTime::UNIX_EPOCH), in_use, names });
        }
        found.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.meta.key.cmp(&b.meta.key)));
        Ok(found)
    }

    /// The one layer whose key begins so.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn find(&self, beginning: &str) -> Result<Key, Fault> {
        let mut keys: Vec<Key> = names(&self.path.join("layers"))?
            .into_iter()
            .filter(|name| !beginning.is_empty() && name.starts_with(beginning))
            .filter_map(|name| Key::try_from(name).ok())
            .collect();
        match (keys.pop(), keys.pop()) {
            (Some(key), None) => Ok(key),
            (None, _) => Err(Fault::new(FaultKind::NotFound, format!("no layer `{beginning}`"))),
            (Some(_), Some(_)) => {
                Err(Fault::new(FaultKind::Invalid, format!("`{beginning}` begins more than one layer's key")))
            }
        }
    }

    /// Removes a layer and all that stand on it.
    ///
    /// # Errors
    /// [`FaultKind::State`] if one of them is in use, or an imported image is made of it: then nothing is removed.
    pub fn remove(&self, key: &Key) -> Result<Vec<Key>, Fault> {
        let layers = self.list()?;
        if !layers.iter().any(|layer| layer.meta.key == *key) {
            return Err(Fault::new(FaultKind::NotFound, format!("no layer `{}`", key.short())));
        }
        let mut doomed = standing_on(key, &layers);
        // Who holds one of the others holds this one too.
        if let Some(image) = self.imported()?.iter().find(|image| image.layers.contains(key)) {
            let what =
                format!("remove layer {}: the imported image `{}` is made of it", key.short(), image.name);
            let hint = format!("`testbed image rm {}` removes that", image.name);
            return Err(Fault::new(FaultKind::State, what).hint(hint));
        }
        if let Some(used) = doomed.iter().find(|layer| layer.in_use) {
            let what = format!("remove layer {}: {} is in use", key.short(), used.meta.key.short());
            return Err(Fault::new(FaultKind::State, what).hint("stop the testbeds that use it"));
        }
        top_first(&mut doomed);
        let removed = self.remove_each(doomed.iter().map(|layer| &layer.meta.key))?;
        if removed.last() == Some(key) {
            Ok(removed)
        } else {
            let what = format!("remove layer {}: it has come into use", key.short());
            Err(Fault::new(FaultKind::State, what).hint("stop the testbeds that use it"))
        }
    }

    /// Removes those of these layers that nothing keeps.
    pub(super) fn remove_each<'k>(&self, keys: impl IntoIterator<Item = &'k Key>) -> Result<Vec<Key>, Fault> {
        let mut removed = Vec::new();
        for key in keys {
            if self.remove_one(key)? {
                removed.push(key.clone());
            }
        }
        Ok(removed)
    }

    /// Removes what nobody uses, longest unused first, as far as `what` says. What a layer stands on goes after it,
    /// and only with it. Imported images stay. Returns what went.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn collect(&self, what: &Collect) -> Result<Vec<Meta>, Fault> {
        let layers = self.list()?;
        let now = SystemTime::now();
        let mut bytes: u64 = layers.iter().map(|layer| layer.meta.size).sum();
        let mut left: HashSet<&Key> = layers.iter().map(|layer| &layer.meta.key).collect();
        let images = self.imported()?;
        let kept = |layer: &&Listed| images.iter().any(|image| image.layers.contains(&layer.meta.key));
        let mut order: Vec<&Listed> = layers.iter().filter(|layer| !layer.in_use && !kept(layer)).collect();
        top_first(&mut order);
        order.sort_by_key(|layer| layer.used);
        let mut removed = Vec::new();
        // Each round takes what nothing stands on any more.
        loop {
            let free = |layer: &&&Listed| {
                let key = &layer.meta.key;
                let below = |other: &Listed| left.contains(&other.meta.key) && other.meta.below.contains(key);
                left.contains(key) && !layers.iter().any(below)
            };
            let due = |layer: &&&Listed| {
                let unused = now.duration_since(layer.used).unwrap_or_default();
                let is_due = what.unused_for.is_some_and(|limit| unused >= limit)
                    || what.most_bytes.is_some_and(|most| bytes > most);
                is_due && what.step.is_none_or(|step| layer.meta.step == step)
            };
            let Some(position) = order.iter().position(|layer| free(&layer) && due(&layer)) else { break };
            let layer = order.remove(position);
            if self.remove_one(&layer.meta.key)? {
                left.remove(&layer.meta.key);
                bytes = bytes.saturating_sub(layer.meta.size);
                removed.push(layer.meta.clone());
            }
        }
        Ok(removed)
    }

    /// Removes a layer unless somebody uses it, another stands on it, or an imported image is made of it.
    fn remove_one(&self, key: &Key) -> Result<bool, Fault> {
        let Some(_lock) = self.try_exclusive(key)? else { return Ok(false) };
        // Whoever builds on a layer, or gives it a name, holds it: with the lock held, no new one can come.
        if self.imported()?.iter().any(|image| image.layers.contains(key)) {
            return Ok(false);
        }
        for name in names(&self.path.join("layers"))? {
            let Ok(other) = Key::try_from(name) else { continue };
            match read_meta(&self.layer(&other)) {
                Ok(meta) if meta.below.contains(key) => return Ok(false),
                _ => {}
            }
        }
        let temporary = self.temporary(key);
        self.hands.remove(&temporary)?;
        match std::fs::rename(self.layer(key), &temporary) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            other => other.doing_to("remove a layer", self.layer(key).display().to_string())?,
        }
        self.hands.remove(&temporary)?;
        Ok(true)
    }
}

/// What [`Store::collect`] removes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collect {
    /// What was not used for so long.
    pub unused_for: Option<Duration>,
    /// As much as keeps the store from holding more than so many bytes.
    pub most_bytes: Option<u64>,
    /// Only layers that this was done for ([`Meta::step`]).
    pub step: Option<&'static str>,
}

/// A layer and all that stand on it.
pub(super) fn standing_on<'l>(key: &Key, layers: &'l [Listed]) -> Vec<&'l Listed> {
    layers.iter().filter(|layer| layer.meta.key == *key || layer.meta.below.contains(key)).collect()
}

/// A layer that stands on another comes before it.
pub(super) fn top_first(layers: &mut [&Listed]) {
    layers.sort_by_key(|layer| std::cmp::Reverse(layer.meta.below.len()));
}

pub(super) fn wait_for(lock: &File, operation: FlockOperation) -> Result<(), Fault> {
    loop {
        match flock(lock, operation) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Fault::system("lock a layer", &error.into())),
        }
    }
}

pub(super) fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let metadata = path.metadata()?;
    if metadata.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    }
    Ok(())
}

fn read_meta(layer: &Path) -> Result<Meta, Fault> {
    let path = layer.join("meta.json");
    let shown = path.display().to_string();
    let text = std::fs::read(&path).doing_to("read", &shown)?;
    serde_json::from_slice(&text).map_err(|error| {
        Fault::new(FaultKind::Image, format!("read what a layer is: {error}"))
            .at(shown)
            .hint("remove the folder of this layer; it is built again when it is needed")
    })
}

/// The names in a folder of the store.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, Fault> {
    let shown = folder.display().to_string();
    let entries = folder.read_dir().doing_to("read", &shown)?;
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.doing_to("read", &shown)?.file_name().into_string());
    }
    Ok(names)
}

impl From<NotAKey> for Fault {
    fn from(error: NotAKey) -> Fault {
        Fault::new(FaultKind::Invalid, error.to_string())
    }
}
