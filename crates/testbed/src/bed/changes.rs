//! What a machine has changed in its file system since it was made.

use super::Bed;
use crate::engine::link::lock;
use crate::image::opaque;
use crate::machine::tree::{Entry, walk};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, open, openat, statat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use testbed_agent::{Doing as _, Fault};

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
        let place = lock(&self.shared.places[number]);
        let own = place.own(&self.shared.machines[number]);
        let uppers = own.iter().chain(&place.below);
        let uppers: Vec<OwnedFd> = uppers
            .map(|upper| {
                let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
                openat(upper.open()?, c"upper", flags, Mode::empty()).doing("open an upper layer")
            })
            .collect::<Result<_, _>>()?;
        let root = self.shared.roots.of(spec.image())?;
        let host = root.host.then_some(Path::new("/"));
        let images = root.layers.iter().map(PathBuf::as_path).chain(host);
        let images: Vec<OwnedFd> = images
            .map(|layer| {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                open(layer, flags, Mode::empty()).doing_to("open a layer", layer.to_string_lossy())
            })
            .collect::<Result<_, _>>()?;
        drop(place);
        let mut changes = Changes { images: &images, all: BTreeMap::new() };
        // From the oldest on, so that the last word is the newest.
        for upper in uppers.iter().rev() {
            changes.take(upper.as_fd()).doing("read what it has changed").map_err(|f| f.on(machine))?;
        }
        Ok(changes.all.into_iter().map(|(path, kind)| Change { path, kind }).collect())
    }
}

struct Changes<'a> {
    images: &'a [OwnedFd],
    all: BTreeMap<String, ChangeKind>,
}

impl Changes<'_> {
    fn take(&mut self, upper: BorrowedFd<'_>) -> Result<(), Errno> {
        walk(upper, &mut |entry| {
            let path = format!("/{}", entry.path.to_string_lossy());
            let before = self.image_entry(entry.path);
            if entry.is_whiteout() {
                self.forget_below(&path);
                match before {
                    Some(_) => self.all.insert(path, ChangeKind::Removed),
                    None => self.all.remove(&path),
                };
                return Ok(false);
            }
            let is_folder = entry.kind() == FileType::Directory;
            if is_folder && is_opaque(entry) {
                self.forget_below(&path);
            }
            match before {
                None => {
                    self.all.insert(path, ChangeKind::Added);
                }
                // A folder is in the upper layer for what is in it as well.
                Some(FileType::Directory) if is_folder && !is_opaque(entry) => {
                    if self.all.get(&path) == Some(&ChangeKind::Removed) {
                        self.all.insert(path, ChangeKind::Changed);
                    }
                }
                Some(_) => {
                    self.all.insert(path, ChangeKind::Changed);
                }
            }
            Ok(true)
        })
    }

    fn forget_below(&mut self, path: &str) {
        let prefix = format!("{path}/");
        self.all.retain(|other, _| !other.starts_with(&prefix));
    }

    /// What the image has at a path.
    fn image_entry(&self, path: &Path) -> Option<FileType> {
        for layer in self.images {
            match find(layer, path) {
                Found::Nothing => {}
                Found::Gone => return None,
                Found::Entry(kind) => return Some(kind),
            }
        }
        None
    }
}

enum Found {
    /// The layer says nothing of it: those below may.
    Nothing,
    /// The layer says that there is nothing.
    Gone,
    Entry(FileType),
}

/// Looks a path up in one layer, without following links.
fn find(layer: &OwnedFd, path: &Path) -> Found {
    let mut folder: Option<OwnedFd> = None;
    let mut hidden = false;
    let mut parts = path.components().peekable();
    while let Some(Component::Normal(part)) = parts.next() {
        let at = folder.as_ref().unwrap_or(layer);
        let Ok(stat) = statat(at, part, AtFlags::SYMLINK_NOFOLLOW) else {
            return if hidden { Found::Gone } else { Found::Nothing };
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            return Found::Gone;
        }
        if parts.peek().is_none() {
            return Found::Entry(kind);
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(next) = openat(at, part, flags, Mode::empty()) else { return Found::Gone };
        hidden |= rustix::fs::fgetxattr(&next, opaque::NAME, &mut [0_u8; 8]).is_ok();
        folder = Some(next);
    }
    Found::Nothing
}

fn is_opaque(entry: &Entry<'_>) -> bool {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(entry.folder, entry.name, flags, Mode::empty())
        .is_ok_and(|folder| rustix::fs::fgetxattr(&folder, opaque::NAME, &mut [0_u8; 8]).is_ok())
}
