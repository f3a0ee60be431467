//! Archives into layers.

use super::merged::{Attributes, Merged, Place};
use super::opaque;
use crate::{Doing as _, Fault, FaultKind};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{Timespec, Timestamps, XattrFlags};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use tar::{Archive, Entry, EntryType};

/// The most entries of one archive.
const MOST_ENTRIES: u64 = 5_000_000;
/// The most bytes of all files of one archive: what expands to more is no root file system, but an attack.
pub const MOST_BYTES: u64 = 64 << 30;

/// Whether names that begin with `.wh.` are files or say what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whiteouts {
    /// They are files.
    Plain,
    /// They say what the layer hides (OCI image layer specification, "Whiteouts").
    Oci,
}

/// Unpacks a tar archive into a layer.
///
/// Owners, modes, times, links and file capabilities are kept. Devices are left out: machines have their own.
///
/// # Errors
/// What the archive says cannot be, or the system refuses.
pub fn unpack(archive: impl Read, layer: &Merged, whiteouts: Whiteouts) -> Result<(), Fault> {
    let mut archive = Archive::new(archive);
    let mut unpacker = Unpacker { layer, whiteouts, folders: Vec::new(), bytes: 0 };
    let entries = archive.entries().map_err(|error| damaged(&error))?;
    for (number, entry) in (0..).zip(entries) {
        if number >= MOST_ENTRIES {
            return Err(Fault::new(FaultKind::Image, format!("unpack more than {MOST_ENTRIES} entries")));
        }
        let mut entry = entry.map_err(|error| damaged(&error))?;
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        unpacker.add(&mut entry).map_err(|error| refused(&error).at(shown))?;
    }
    for (folder, time) in unpacker.folders {
        set_time(folder.as_fd(), time).doing("set the time of a folder")?;
    }
    Ok(())
}

fn damaged(error: &io::Error) -> Fault {
    Fault::new(FaultKind::Image, format!("read the archive: {error}"))
}

/// What the archive says cannot be; what the system says is the system's fault.
fn refused(error: &io::Error) -> Fault {
    match error.raw_os_error() {
        Some(_) if error.kind() == io::ErrorKind::StorageFull => Fault::system("unpack", error),
        _ => Fault::new(FaultKind::Image, format!("unpack: {error}")),
    }
}

struct Unpacker<'a> {
    layer: &'a Merged,
    whiteouts: Whiteouts,
    /// Folders whose times are to be set when nothing more comes into them. Bounded: see [`MOST_OPEN`].
    folders: Vec<(OwnedFd, u64)>,
    bytes: u64,
}

/// How many folders wait for their time; an archive with more has times of now on the others.
const MOST_OPEN: usize = 256;

impl Unpacker<'_> {
    fn add(&mut self, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(());
        }
        let name = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        let attributes = attributes(entry)?;
        let Some(place) = self.layer.place(&name)? else {
            // The root itself.
            if kind == EntryType::Directory {
                self.layer.set(self.layer.root(), attributes)?;
            }
            return Ok(());
        };
        if self.whiteouts == Whiteouts::Oci
            && let Some(hidden) = place.name.as_bytes().strip_prefix(b".wh.")
        {
            let hidden = OsStr::from_bytes(hidden).to_owned();
            return self.hide(place, &hidden);
        }
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&place, entry, attributes)
            }
            EntryType::Directory => {
                let folder = self.layer.folder(&place, attributes)?;
                if self.folders.len() < MOST_OPEN {
                    self.folders.push((folder, entry.header().mtime()?));
                }
                Ok(())
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                self.layer.link(&place, OsStr::from_bytes(&target), attributes)
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                self.layer.hard_link(&place, OsStr::from_bytes(&target).as_ref())
            }
            EntryType::Fifo => self.layer.pipe(&place, attributes),
            EntryType::Char | EntryType::Block => Ok(()),
            other => {
                let what = format!("entries of type {:?} mean nothing here", other.as_byte() as char);
                Err(io::Error::new(io::ErrorKind::InvalidData, what))
            }
        }
    }

    fn hide(&self, place: Place, hidden: &OsStr) -> io::Result<()> {
        if !self.layer.has_below() {
            return Ok(());
        }
        if hidden == ".wh..opq" {
            return opaque::mark(&place.folder);
        }
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a whiteout of no name"));
        }
        self.layer.white_out(&place.named(hidden))
    }

    fn file(
        &mut self,
        place: &Place,
        entry: &mut Entry<'_, impl Read>,
        attributes: Attributes,
    ) -> io::Result<()> {
        let size = entry.size();
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > MOST_BYTES {
            let what = format!("more than {} GiB in all", MOST_BYTES >> 30);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let time = entry.header().mtime()?;
        let mut file = self.layer.file(place)?;
        let copied = io::copy(entry, &mut file)?;
        if copied != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Owner first: a change of it clears capabilities and setuid bits.
        self.layer.set(file.as_fd(), attributes)?;
        for (name, value) in extended_attributes(entry)? {
            match rustix::fs::fsetxattr(&file, name.as_slice(), &value, XattrFlags::empty()) {
                // The store's file system has none, or an ordinary user may not.
                Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM) => {}
                other => other?,
            }
        }
        set_time(file.as_fd(), time)
    }
}

fn attributes(entry: &mut Entry<'_, impl Read>) -> io::Result<Attributes> {
    let header = entry.header();
    let id = |id: u64| {
        u32::try_from(id)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "an owner's id is too large"))
    };
    Ok(Attributes { mode: header.mode()?, uid: id(header.uid()?)?, gid: id(header.gid()?)? })
}

/// Those that programs in a machine may rely on: file capabilities and users' own (pax(1) of star, `SCHILY.xattr`).
fn extended_attributes(entry: &mut Entry<'_, impl Read>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    let Some(extensions) = entry.pax_extensions()? else { return Ok(found) };
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        let wanted = name == b"security.capability"
            || (name.starts_with(b"user.") && !name.starts_with(opaque::RESERVED));
        if wanted && !name.contains(&0) {
            found.push((name.to_vec(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

fn set_time(file: BorrowedFd<'_>, seconds: u64) -> io::Result<()> {
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?)
}
