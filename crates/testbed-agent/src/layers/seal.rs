//! Layers as they are stored.

use super::opaque;
use crate::{Doing as _, Fault};
use rustix::fs::{CWD, Mode, OFlags, XattrFlags};
use std::collections::HashSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Calls `visit` for all in a folder, not following links: parents first, names in order.
///
/// # Errors
/// Those of reading it, and of `visit`.
pub fn walk<E: From<io::Error>>(
    folder: &Path,
    visit: &mut dyn FnMut(&Path, &Metadata) -> Result<(), E>,
) -> Result<(), E> {
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let mut entries = folder.read_dir()?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let metadata = path.symlink_metadata()?;
            visit(&path, &metadata)?;
            if metadata.is_dir() {
                waiting.push(path);
            }
        }
    }
    Ok(())
}

/// Makes a tree a layer: returns its size on disk in bytes.
///
/// File capabilities that a program in a machine has set carry the id of that machine's root (vfs_cap_data version 3,
/// capabilities(7)) and would be worth nothing in a machine with other ids: they become version 2, whose root is that
/// of whatever the owners are mapped to.
pub(super) fn seal(root: &Path) -> Result<u64, Fault> {
    let mut size = 0;
    let mut seen = HashSet::new();
    walk::<io::Error>(root, &mut |path, metadata| {
        if metadata.nlink() == 1 || metadata.is_dir() || seen.insert(metadata.ino()) {
            size += metadata.blocks() * 512;
        }
        if metadata.is_dir() {
            mark_for_all(path)?;
        }
        if metadata.is_file() && metadata.mode() & 0o111 != 0 {
            unbind_capabilities(path)?;
        }
        Ok(())
    })
    .doing_to("measure a layer", root.display().to_string())?;
    Ok(size)
}

/// What a machine has marked is for machines whose overlays are of another kind as well.
fn mark_for_all(path: &Path) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match rustix::fs::open(path, flags, Mode::empty()) {
        // An ordinary user's, which nobody but that user sees.
        Err(rustix::io::Errno::ACCESS) => return Ok(()),
        other => other?,
    };
    if opaque::is_marked(&folder)? { opaque::mark(&folder) } else { Ok(()) }
}

const CAPABILITY: &str = "security.capability";
const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
/// Bytes of version 2; version 3 adds the id of root.
const LENGTH_2: usize = 20;

fn unbind_capabilities(path: &Path) -> io::Result<()> {
    let mut value = [0_u8; 64];
    let length = match rustix::fs::lgetxattr(path, CAPABILITY, &mut value[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP | rustix::io::Errno::OVERFLOW) => {
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let Some(magic) = value[..length].first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes)) else {
        return Ok(());
    };
    if magic & REVISION_MASK != REVISION_3 || length < LENGTH_2 {
        return Ok(());
    }
    value[..4].copy_from_slice(&(magic & !REVISION_MASK | REVISION_2).to_le_bytes());
    match rustix::fs::lsetxattr(path, CAPABILITY, &value[..LENGTH_2], XattrFlags::REPLACE) {
        // An ordinary user cannot; such a user's machines have one id, so it stays right.
        Err(rustix::io::Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}

/// Gives the owner the right to enter and change all folders of a tree.
pub(super) fn open_folders(folder: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, folder, flags, rustix::fs::Mode::empty())?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_has_marked_is_marked_for_overlays_of_the_hosts_root_too() {
        let layer = std::env::temp_dir().join(format!("testbed-seal-{}", std::process::id()));
        let (hides, shows) = (layer.join("in/hides"), layer.join("in/shows"));
        std::fs::create_dir_all(&hides).unwrap();
        std::fs::create_dir(&shows).unwrap();
        let marked = opaque::mark_by_user(std::fs::File::open(&hides).unwrap());
        seal(&layer).unwrap();
        let mark = |folder: &Path| {
            let mut value = [0_u8; 4];
            rustix::fs::lgetxattr(folder, "trusted.overlay.opaque", &mut value[..])
        };
        let found = (mark(&hides), mark(&shows));
        std::fs::remove_dir_all(&layer).unwrap();
        // Only root can set it, and only where a user can set the other.
        if rustix::process::getuid().is_root() && marked.is_ok() {
            assert_eq!(found, (Ok(1), Err(rustix::io::Errno::NODATA)));
        }
    }
}
