//! Unpacking an archive that nobody trusts.
//!
//! The folder is the root of all names: neither `..` nor a link, from the archive or there before, leads out of it
//! (`RESOLVE_IN_ROOT`, openat2(2)). What an entry replaces is removed first, so nothing is written through a link.

use super::super::{Doing, ToolIo};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use tar::{Archive, Entry, EntryType};
use testbed_agent::agent::Report;
use testbed_agent::{Fault, FaultKind};

/// Unpacks an archive from the input below a folder.
pub(crate) fn unpack(path: &str, owners: bool, io: &mut ToolIo<'_>) -> Result<Report, Fault> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, Mode::empty()).doing_to("unpack into", path)?;
    let mut unpacker = Unpacker { root, owners, open: None, folders: Vec::new(), bytes: 0 };
    let mut input = BufReader::with_capacity(128 * 1024, io.input_file()?);
    let mut archive = Archive::new(&mut input);
    for entry in archive.entries().map_err(not_an_archive)? {
        unpacker.add(entry.map_err(not_an_archive)?)?;
    }
    unpacker.finish_folders(&[])?;
    // Whoever sends the archive may send some padding behind its end.
    std::io::copy(&mut input, &mut std::io::sink()).doing("read the archive")?;
    Ok(Report::Bytes(unpacker.bytes))
}

fn not_an_archive(error: std::io::Error) -> Fault {
    Fault::new(FaultKind::Protocol, format!("read the archive: {error}"))
}

/// A name in pieces, without empty ones, `.` and `..`.
type Name = Vec<Vec<u8>>;

struct Unpacker {
    root: OwnedFd,
    owners: bool,
    /// The folder that the last entry was put into.
    open: Option<(Name, OwnedFd)>,
    /// Folders whose times are to be set when nothing more comes into them.
    folders: Vec<(Name, OwnedFd, i64)>,
    bytes: u64,
}

impl Unpacker {
    fn add(&mut self, mut entry: Entry<'_, impl Read>) -> Result<(), Fault> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut folder = pieces(&entry.path_bytes()).map_err(|fault| fault.at(&shown))?;
        self.finish_folders(&folder)?;
        // The archive's own top folder is the one that exists.
        let Some(last) = folder.pop() else { return Ok(()) };
        let parent = self.folder(&folder).doing_to("make the folder of", &shown)?;
        let place = Place { parent: parent.as_fd(), name: OsStr::from_bytes(&last) };
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&place, &mut entry, &shown)?;
            }
            EntryType::Directory => {
                let made = place.make_folder(&self.root, &folder).doing_to("make", &shown)?;
                self.attributes(Some(made.as_fd()), &place, &entry, &shown)?;
                folder.push(last);
                self.folders.push((folder.clone(), made, modified(&entry)));
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                place.clear().doing_to("replace", &shown)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&target), place.parent, place.name)
                    .doing_to("make", &shown)?;
                self.attributes(None, &place, &entry, &shown)?;
                // A name that was resolved before may lead elsewhere now.
                self.open = None;
                return Ok(());
            }
            EntryType::Link => self.hard_link(&place, &entry, &shown)?,
            EntryType::Fifo | EntryType::Char | EntryType::Block => {
                place.clear().doing_to("replace", &shown)?;
                let (kind, device) = match kind {
                    EntryType::Char => (FileType::CharacterDevice, device(&entry)?),
                    EntryType::Block => (FileType::BlockDevice, device(&entry)?),
                    _ => (FileType::Fifo, 0),
                };
                rustix::fs::mknodat(place.parent, place.name, kind, Mode::RUSR | Mode::WUSR, device)
                    .doing_to("make", &shown)?;
                self.attributes(None, &place, &entry, &shown)?;
            }
            other => {
                let what = format!("unpack an entry of type {:?}", other.as_byte() as char);
                return Err(Fault::new(FaultKind::Unsupported, what).at(shown));
            }
        }
        self.open = Some((folder_of(&kind, folder), parent));
        Ok(())
    }

    fn file(
        &mut self,
        place: &Place<'_>,
        entry: &mut Entry<'_, impl Read>,
        shown: &str,
    ) -> Result<(), Fault> {
        place.clear().doing_to("replace", shown)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(place.parent, place.name, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(file.doing_to("make", shown)?);
        let size = entry.size();
        let copied = std::io::copy(entry, &mut file).doing_to("write", shown)?;
        if copied != size {
            return Err(Fault::new(FaultKind::Protocol, "the archive ends inside a file").at(shown));
        }
        self.bytes += copied;
        self.attributes(Some(file.as_fd()), place, entry, shown)?;
        if self.owners {
            set_time(file.as_fd(), modified(entry)).doing_to("set the time of", shown)?;
        }
        Ok(())
    }

    fn hard_link(
        &mut self,
        place: &Place<'_>,
        entry: &Entry<'_, impl Read>,
        shown: &str,
    ) -> Result<(), Fault> {
        let target = entry.link_name_bytes().unwrap_or_default().into_owned();
        let mut folder = pieces(&target).map_err(|fault| fault.at(shown))?;
        let no_target = || Fault::new(FaultKind::Protocol, "a hard link to nothing").at(shown);
        let last = folder.pop().ok_or_else(no_target)?;
        let parent = self.open_folder(&folder).doing_to("find the target of", shown)?;
        place.clear().doing_to("replace", shown)?;
        // Without AT_SYMLINK_FOLLOW a link to a symbolic link is one to the link itself.
        rustix::fs::linkat(parent, OsStr::from_bytes(&last), place.parent, place.name, AtFlags::empty())
            .doing_to("link", shown)
    }

    /// Sets owner and mode; without a descriptor, those of the name itself, and its time.
    fn attributes(
        &self,
        fd: Option<BorrowedFd<'_>>,
        place: &Place<'_>,
        entry: &Entry<'_, impl Read>,
        shown: &str,
    ) -> Result<(), Fault> {
        let header = entry.header();
        if self.owners {
            let id = |id: std::io::Result<u64>| {
                let id = id.ok().and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX);
                id.ok_or_else(|| {
                    Fault::new(FaultKind::Protocol, "an owner's number is out of range").at(shown)
                })
            };
            let (user, group) =
                (Some(Uid::from_raw(id(header.uid())?)), Some(Gid::from_raw(id(header.gid())?)));
            match fd {
                Some(fd) => rustix::fs::fchown(fd, user, group),
                None => rustix::fs::chownat(place.parent, place.name, user, group, AtFlags::SYMLINK_NOFOLLOW),
            }
            .doing_to("set the owner of", shown)?;
        }
        // After the owner: changing that takes the set-user-id bit away.
        let mode = Mode::from_raw_mode(header.mode().map_err(not_an_archive)? & 0o7777);
        match fd {
            Some(fd) => rustix::fs::fchmod(fd, mode).doing_to("set the mode of", shown),
            None if header.entry_type() == EntryType::Symlink => Ok(()),
            None => rustix::fs::chmodat(place.parent, place.name, mode, AtFlags::empty())
                .doing_to("set the mode of", shown),
        }?;
        match fd {
            None if self.owners => {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(place.parent, place.name, &times(modified(entry)), flags)
                    .doing_to("set the time of", shown)
            }
            // Those with content get their time when that is complete.
            _ => Ok(()),
        }
    }

    /// Opens a folder below the root, making what is missing.
    fn folder(&mut self, name: &Name) -> Result<OwnedFd, Errno> {
        if let Some((_, fd)) = self.open.take().filter(|(open, _)| open == name) {
            return Ok(fd);
        }
        match self.open_folder(name) {
            Err(Errno::NOENT) => {}
            opened => return opened,
        }
        let mut parent = self.open_folder(&Vec::new())?;
        for depth in 1..=name.len() {
            let part = name[..depth].to_vec();
            parent = match self.open_folder(&part) {
                Err(Errno::NOENT) => {
                    let usual = Mode::from_raw_mode(0o755);
                    rustix::fs::mkdirat(&parent, OsStr::from_bytes(&name[depth - 1]), usual)?;
                    self.open_folder(&part)?
                }
                opened => opened?,
            };
        }
        Ok(parent)
    }

    fn open_folder(&self, name: &Name) -> Result<OwnedFd, Errno> {
        open_in_root(&self.root, name, OFlags::PATH)
    }

    /// Sets the times of those folders that the entry to come is not in.
    fn finish_folders(&mut self, next: &[Vec<u8>]) -> Result<(), Fault> {
        while let Some((name, fd, time)) = self.folders.pop_if(|(name, ..)| !next.starts_with(name)) {
            if self.owners {
                let shown = String::from_utf8_lossy(&name.join(&b'/')).into_owned();
                set_time(fd.as_fd(), time).doing_to("set the time of", shown)?;
            }
        }
        Ok(())
    }
}

/// The folder that is open behind an entry: an entry that is a folder was put into `name` without its last piece.
fn folder_of(kind: &EntryType, mut name: Name) -> Name {
    if kind.is_dir() {
        name.pop();
    }
    name
}

fn open_in_root(root: &OwnedFd, name: &Name, access: OFlags) -> Result<OwnedFd, Errno> {
    let path = if name.is_empty() { b".".to_vec() } else { name.join(&b'/') };
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, OsStr::from_bytes(&path), flags, Mode::empty(), resolve)
}

/// A name in an open folder.
struct Place<'a> {
    parent: BorrowedFd<'a>,
    name: &'a OsStr,
}

impl Place<'_> {
    /// Removes what has the name, unless it is a folder.
    fn clear(&self) -> Result<(), Errno> {
        match rustix::fs::unlinkat(self.parent, self.name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            result => result,
        }
    }

    /// Makes a folder, or opens the one that is there or that a link there leads to.
    fn make_folder(&self, root: &OwnedFd, parent: &Name) -> Result<OwnedFd, Errno> {
        let name = [&parent[..], &[self.name.as_bytes().to_vec()]].concat();
        let open = || open_in_root(root, &name, OFlags::RDONLY);
        let private = Mode::RWXU;
        match rustix::fs::mkdirat(self.parent, self.name, private) {
            Err(Errno::EXIST) => match open() {
                Err(Errno::NOTDIR | Errno::NOENT | Errno::LOOP) => {
                    self.clear()?;
                    rustix::fs::mkdirat(self.parent, self.name, private)?;
                    open()
                }
                opened => opened,
            },
            made => made.and_then(|()| open()),
        }
    }
}

/// Takes a name apart. One that climbs is refused; a leading slash counts for nothing.
fn pieces(name: &[u8]) -> Result<Name, Fault> {
    let pieces = name.split(|byte| *byte == b'/').filter(|piece| !matches!(piece, [] | [b'.']));
    let pieces: Name = pieces.map(<[u8]>::to_vec).collect();
    if pieces.iter().any(|piece| piece == b"..") {
        return Err(Fault::new(FaultKind::Denied, "unpack a name that climbs out of its folder"));
    }
    Ok(pieces)
}

fn device(entry: &Entry<'_, impl Read>) -> Result<rustix::fs::Dev, Fault> {
    let header = entry.header();
    let major = header.device_major().map_err(not_an_archive)?.unwrap_or(0);
    let minor = header.device_minor().map_err(not_an_archive)?.unwrap_or(0);
    Ok(rustix::fs::makedev(major, minor))
}

fn modified(entry: &Entry<'_, impl Read>) -> i64 {
    entry.header().mtime().ok().and_then(|time| time.try_into().ok()).unwrap_or(0)
}

fn set_time(fd: BorrowedFd<'_>, seconds: i64) -> Result<(), Errno> {
    rustix::fs::futimens(fd, &times(seconds))
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
