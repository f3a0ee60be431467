//! Files and folders between the host and a machine.

use super::Machine;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::path::Path;
use testbed_agent::agent::{EntryKind, Tool};
use testbed_agent::{Doing as _, Fault, FaultKind};

impl Machine {
    /// Copies a file or folder of the host to a path of the machine, making the folders above it. Modes and times
    /// stay; all of it becomes root's. If the path is a folder already, what is copied lands in it under its own name.
    ///
    /// # Errors
    /// What cannot be read here or written there.
    pub fn copy_in(&self, source: &Path, target: &str) -> Result<(), Fault> {
        let source = source.canonicalize().doing_to("copy", source.to_string_lossy())?;
        let own_name = source.file_name().and_then(|n| n.to_str()).unwrap_or("root").to_owned();
        let target = target.trim_end_matches('/');
        let into = match self.stat(if target.is_empty() { "/" } else { target }) {
            Ok(entry) => entry.kind == EntryKind::Folder,
            Err(fault) if fault.kind == FaultKind::NotFound => false,
            Err(fault) => return Err(fault),
        };
        let (folder, name) = match target.rsplit_once('/') {
            _ if into => (target, own_name.as_str()),
            Some((folder, name)) => (folder, name),
            None => {
                return Err(self
                    .fault(FaultKind::Invalid, "copy to a path that is not absolute:")
                    .at(target));
            }
        };
        let folder = if folder.is_empty() { "/" } else { folder };
        self.make_dir(folder)?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let packing = std::thread::scope(|scope| {
            let packing = scope.spawn(|| {
                let mut archive = tar::Builder::new(File::from(write));
                archive.follow_symlinks(false);
                if source.is_dir() {
                    archive.append_dir_all(name, &source)?;
                } else {
                    archive.append_path_with_name(&source, name)?;
                }
                archive.finish()
            });
            let unpacked = self.unpack(&mut File::from(read), folder, false);
            let packed = packing.join().unwrap_or_else(|_| Err(std::io::Error::other("packing ended early")));
            // Whichever failed first made the other fail; the machine knows more of its own reasons.
            unpacked.and_then(|_| packed.doing_to("copy", source.to_string_lossy()))
        });
        packing.map_err(|f| f.on(self.name()))
    }

    /// Copies a file or folder of the machine to a path of the host. Modes and times stay. If the path is a folder
    /// already, what is copied lands in it under its own name.
    ///
    /// # Errors
    /// What cannot be read there or written here.
    pub fn copy_out(&self, source: &str, target: &Path) -> Result<(), Fault> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let fault = |f: Fault| f.on(self.name());
        let (folder, rename) = if target.is_dir() {
            (target.to_owned(), None)
        } else {
            let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let missing = || self.fault(FaultKind::Invalid, "copy to").at(target.to_string_lossy());
            (parent.to_owned(), Some(target.file_name().ok_or_else(missing)?.to_owned()))
        };
        std::thread::scope(|scope| {
            let unpacking = scope.spawn(|| unpack(File::from(read), &folder, rename.as_deref()));
            let packed = self.stream_out(Tool::Pack { path: source.into() }, &mut File::from(write));
            let unpacked =
                unpacking.join().unwrap_or_else(|_| Err(std::io::Error::other("unpacking ended early")));
            packed.and_then(|_| unpacked.doing_to("write below", folder.to_string_lossy())).map_err(fault)
        })
    }
}

/// Unpacks what a machine packed. The archive is the machine's word: whatever would lie outside the folder is refused.
fn unpack(archive: File, folder: &Path, rename: Option<&std::ffi::OsStr>) -> std::io::Result<()> {
    use std::path::{Component, PathBuf};
    let mut archive = tar::Archive::new(archive);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(false);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let mut parts = path.components();
        let first = parts.next();
        let Some(Component::Normal(first)) = first else {
            return Err(std::io::Error::other(format!("an archive entry named {}", path.display())));
        };
        let mut place = PathBuf::from(rename.unwrap_or(first));
        place.extend(parts);
        if place.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(std::io::Error::other(format!("an archive entry named {}", path.display())));
        }
        if place == Path::new(rename.unwrap_or(first)) {
            // The root of the copy: nothing stands above it in the archive that could lead elsewhere.
            entry.unpack(folder.join(&place))?;
        } else {
            place = place.strip_prefix(rename.unwrap_or(first)).map(Path::to_owned).unwrap_or(place);
            unpack_below(&mut entry, &folder.join(rename.unwrap_or(first)), &place)?;
        }
    }
    Ok(())
}

/// Unpacks an entry below a folder, refusing to go through links.
fn unpack_below(entry: &mut tar::Entry<'_, File>, root: &Path, place: &Path) -> std::io::Result<()> {
    let mut above = root.to_owned();
    for part in place.parent().into_iter().flat_map(Path::components) {
        above.push(part);
        if std::fs::symlink_metadata(&above)?.file_type().is_symlink() {
            return Err(std::io::Error::other(format!(
                "an archive entry behind the link {}",
                above.display()
            )));
        }
    }
    if let Some(link) = entry.link_name()?.filter(|_| entry.header().entry_type().is_hard_link()) {
        let inside: std::path::PathBuf = link.components().skip(1).collect();
        return std::fs::hard_link(root.join(inside), root.join(place));
    }
    entry.unpack(root.join(place)).map(|_| ())
}
