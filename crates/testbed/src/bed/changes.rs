//! What a machine has changed in its file system since it was made.

use super::Bed;
use crate::engine::hands::Hands;
use crate::engine::link::lock;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, openat};
use std::collections::BTreeMap;
use std::path::PathBuf;
use testbed_agent::layers::changes::{Before, Now, Touched};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// Something that a machine has changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Change {
    /// The path inside.
    pub path: String,
    /// How.
    pub kind: ChangeKind,
}

/// How something has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// Its content, owner or mode may be another; for a folder, which is not told of if only what is in it has changed.
    Changed,
    /// It is gone.
    Removed,
}

impl Bed {
    /// What a machine has changed in its file system since it was made, in the order of paths. Works on one that has
    /// ended, too. What is in memory (`/run`, `/tmp`, `/dev/shm`) and on live mounts is not part of it.
    ///
    /// # Errors
    /// When there is no such machine, or its layers cannot be read.
    pub fn changes(&self, machine: &str) -> Result<Vec<Change>, Fault> {
        let (number, spec) = self.numbered(machine)?;
        Self::on_layers(spec, "tell the changes of")?;
        if self.shared.capsule.is_some() {
            let fault = Fault::new(FaultKind::Unsupported, "tell the changes of a machine in a capsule");
            return Err(fault.on(machine).hint("its files are in the capsule; look at them while it runs"));
        }
        let place = lock(&self.shared.places[number]);
        let own = place.own(&self.shared.machines[number]);
        let uppers = own.iter().chain(&place.below);
        let uppers: Vec<OwnedFd> = uppers
            .map(|upper| {
                let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
                openat(upper.open()?, c"upper", flags, Mode::empty()).doing("open an upper layer")
            })
            .collect::<Result<_, _>>()?;
        let root = self.shared.roots.of(spec)?;
        let mut images = root.layers.clone();
        images.extend(root.host.then(|| PathBuf::from("/")));
        drop(place);
        let engine = self.engine();
        let hands = Hands::of(&engine);
        let mut changes = Changes::default();
        // From the oldest on, so that the last word is the newest.
        for upper in uppers.into_iter().rev() {
            let take = &mut |touched| {
                changes.take(touched);
                Ok(())
            };
            hands.touched(upper, &images, take).map_err(|f| f.on(machine))?;
        }
        Ok(changes.all.into_iter().map(|(path, kind)| Change { path, kind }).collect())
    }
}

#[derive(Default)]
struct Changes {
    all: BTreeMap<String, ChangeKind>,
}

impl Changes {
    fn take(&mut self, Touched { path, now, before }: Touched) {
        let path = format!("/{}", path.to_string_lossy());
        if matches!(now, Now::Gone | Now::Opaque) {
            self.forget_below(&path);
        }
        match (now, before) {
            (Now::Gone, Some(_)) => self.all.insert(path, ChangeKind::Removed),
            (Now::Gone, None) => self.all.remove(&path),
            (_, None) => self.all.insert(path, ChangeKind::Added),
            // A folder is in the upper layer for what is in it as well.
            (Now::Folder, Some(Before::Folder)) => match self.all.get(&path) {
                Some(ChangeKind::Removed) => self.all.insert(path, ChangeKind::Changed),
                _ => None,
            },
            (_, Some(_)) => self.all.insert(path, ChangeKind::Changed),
        };
    }

    fn forget_below(&mut self, path: &str) {
        let prefix = format!("{path}/");
        self.all.retain(|other, _| !other.starts_with(&prefix));
    }
}
