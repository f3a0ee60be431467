//! Trees of the host into layers.

use super::merged::{Attributes, Merged};
use super::opaque;
use super::seal::walk;
use crate::launch::IDS;
use crate::{Doing as _, Fault};
use rustix::fd::AsFd as _;
use rustix::fs::{XattrFlags, lgetxattr, llistxattr};
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Copies a file, or a folder with all in it, to a name in the layer. Links are copied as links, except that `source`
/// itself is followed. Devices and sockets are left out. `attributes` says what becomes of each.
pub(super) fn copy_in(
    source: &Path,
    layer: &Merged,
    target: &Path,
    attributes: &dyn Fn(&Metadata) -> Attributes,
) -> io::Result<()> {
    let mut copier = Copier { layer, attributes, names: HashMap::new() };
    let source = source.canonicalize()?;
    let metadata = source.metadata()?;
    copier.copy(&source, &metadata, target)?;
    if metadata.is_dir() {
        walk::<io::Error>(&source, &mut |path, metadata| {
            let name = path.strip_prefix(&source).map_err(io::Error::other)?;
            copier
                .copy(path, metadata, &target.join(name))
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        })?;
    }
    Ok(())
}

/// Copies a folder that is a whole root file system.
pub(super) fn copy_root(source: &Path, layer: &Merged) -> Result<(), Fault> {
    let shown = source.display().to_string();
    let top = source.metadata().doing_to("read", &shown)?;
    copy_in(source, layer, Path::new("/"), &|metadata| inside(metadata, &top)).doing_to("copy", &shown)
}

/// Whose a file of a folder is inside: root's if it belongs to whoever owns the folder itself, so that a tree that a
/// user unpacked is a system; as it is otherwise, and nobody's if machines have no such id.
fn inside(metadata: &Metadata, top: &Metadata) -> Attributes {
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

struct Copier<'a> {
    layer: &'a Merged,
    attributes: &'a dyn Fn(&Metadata) -> Attributes,
    /// Files with more than one name, and the first that was copied.
    names: HashMap<(u64, u64), PathBuf>,
}

impl Copier<'_> {
    fn copy(&mut self, path: &Path, metadata: &Metadata, target: &Path) -> io::Result<()> {
        let attributes = (self.attributes)(metadata);
        let Some(place) = self.layer.place(target)? else {
            return if self.layer.has_below() {
                Ok(())
            } else {
                self.layer.set(self.layer.root(), attributes)
            };
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            // One that the image has stays as it is: only what is put into it is new.
            if !self.layer.has_folder(target)? {
                self.layer.folder(&place, attributes)?;
            }
        } else if kind.is_symlink() {
            self.layer.link(&place, path.read_link()?.as_os_str(), attributes)?;
        } else if kind.is_file() {
            if metadata.nlink() > 1 {
                let first =
                    self.names.entry((metadata.dev(), metadata.ino())).or_insert_with(|| target.into());
                if first != target {
                    return self.layer.hard_link(&place, first);
                }
            }
            let mut file = self.layer.file(&place)?;
            io::copy(&mut File::open(path)?, &mut file)?;
            self.layer.set(file.as_fd(), attributes)?;
            copy_extended(path, &file)?;
            file.set_modified(metadata.modified()?)?;
        } else if kind.is_fifo() {
            self.layer.pipe(&place, attributes)?;
        }
        Ok(())
    }
}

/// Copies file capabilities and users' own extended attributes.
fn copy_extended(path: &Path, file: &File) -> io::Result<()> {
    let mut names = vec![0_u8; 64 * 1024];
    let length = match llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names[..length].split(|byte| *byte == 0) {
        let kept = name == b"security.capability"
            || (name.starts_with(b"user.") && !name.starts_with(opaque::RESERVED));
        if !kept {
            continue;
        }
        let name = std::ffi::OsStr::from_bytes(name);
        let mut value = vec![0_u8; 64 * 1024];
        let length = lgetxattr(path, name, &mut value[..])?;
        match rustix::fs::fsetxattr(file, name, &value[..length], XattrFlags::empty()) {
            Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM) => {}
            other => other?,
        }
    }
    Ok(())
}
