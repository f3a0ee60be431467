//! Upper layers as they lie on disk: walked and copied, with all that overlay reads out of them (whiteouts and
//! attributes; Documentation/filesystems/overlayfs.rst). What is in them is a machine's word: nothing follows a link.

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, fgetxattr, flistxattr, fsetxattr, futimens, lgetxattr, linkat, mkdirat, mknodat, openat,
    readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A machine may nest folders as deep as it likes; the walk holds one descriptor for each that it is in.
const DEEPEST: usize = 400;

/// The longest list of attributes, and the longest value (xattr(7)).
const LONGEST_ATTRIBUTE: usize = 64 * 1024;

/// How much of a file is copied at once, in bytes. The kernel copies no ranges between file systems in memory.
const PIECE: usize = 256 * 1024;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Something in a tree.
pub struct Entry<'a> {
    /// Where, from the tree's root.
    pub path: &'a Path,
    /// The folder that it is in.
    pub folder: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a CStr,
    /// What it is.
    pub stat: Stat,
}

impl Entry<'_> {
    /// Its kind.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    fn open_folder(&self) -> Result<OwnedFd, Errno> {
        openat(self.folder, self.name, FOLDER, Mode::empty())
    }

    /// It says that a lower layer's entry of this name is gone.
    pub fn is_whiteout(&self) -> bool {
        self.kind() == FileType::CharacterDevice && self.stat.st_rdev == 0
    }
}

/// Calls `visit` for all in a folder, parents first. It returns whether to go into a folder.
///
/// # Errors
/// Those of the file system and of `visit`.
pub fn walk(
    root: BorrowedFd<'_>,
    visit: &mut dyn FnMut(&Entry<'_>) -> Result<bool, Errno>,
) -> Result<(), Errno> {
    go(openat(root, c".", FOLDER, Mode::empty())?, Path::new(""), DEEPEST, visit)
}

fn go(
    folder: OwnedFd,
    path: &Path,
    deeper: usize,
    visit: &mut dyn FnMut(&Entry<'_>) -> Result<bool, Errno>,
) -> Result<(), Errno> {
    each(folder.as_fd(), path, deeper, &mut |entry, deeper| {
        if visit(entry)? && entry.kind() == FileType::Directory {
            go(entry.open_folder()?, entry.path, deeper, visit)?;
        }
        Ok(())
    })
}

/// Calls `visit` for all in one folder, in order, with how much deeper it may go.
fn each(
    folder: BorrowedFd<'_>,
    path: &Path,
    deeper: usize,
    visit: &mut dyn FnMut(&Entry<'_>, usize) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let deeper = deeper.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
    for name in names(folder)? {
        let stat = statat(folder, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
        let path = path.join(OsStr::from_bytes(name.to_bytes()));
        visit(&Entry { path: &path, folder, name: &name, stat }, deeper)?;
    }
    Ok(())
}

/// What is in a folder, in order.
fn names(folder: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names: Vec<CString> = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Copies all that is in a folder to another one, which is empty: owners, modes, times, links, attributes, holes.
/// Nothing may change it meanwhile.
///
/// # Errors
/// Those of the file system; `ENOSPC` when the target is too small.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let source = openat(from, c".", FOLDER, Mode::empty())?;
    let target = openat(to, c".", FOLDER, Mode::empty())?;
    let stat = rustix::fs::fstat(&source)?;
    copy_attributes(source.as_fd(), target.as_fd())?;
    rustix::fs::fchown(&target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let mut copier = Copier { root: target.as_fd(), names: HashMap::new() };
    copier.folder(source, target.as_fd(), &stat, Path::new(""), DEEPEST)
}

struct Copier<'a> {
    root: BorrowedFd<'a>,
    /// Files with several names, and the first that was copied.
    names: HashMap<u64, PathBuf>,
}

impl Copier<'_> {
    /// Copies what is in a folder; its time comes last, because what is put into it changes that.
    fn folder(
        &mut self,
        source: OwnedFd,
        target: BorrowedFd<'_>,
        stat: &Stat,
        path: &Path,
        deeper: usize,
    ) -> Result<(), Errno> {
        each(source.as_fd(), path, deeper, &mut |entry, deeper| {
            if entry.kind() != FileType::Directory && entry.stat.st_nlink > 1 {
                if let Some(first) = self.names.get(&entry.stat.st_ino) {
                    return linkat(self.root, first, target, entry.name, AtFlags::empty());
                }
                self.names.insert(entry.stat.st_ino, entry.path.to_owned());
            }
            if let Some(new) = copy_entry(entry, target)? {
                self.folder(entry.open_folder()?, new.as_fd(), &entry.stat, entry.path, deeper)?;
            }
            Ok(())
        })?;
        futimens(target, &times(stat))
    }
}

/// Copies one entry; a folder without what is in it, opened.
fn copy_entry(entry: &Entry<'_>, target: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    let Entry { folder, name, stat, .. } = *entry;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let made = match entry.kind() {
        FileType::Directory => {
            mkdirat(target, name, Mode::RWXU)?;
            let new = openat(target, name, FOLDER, Mode::empty())?;
            copy_attributes(entry.open_folder()?.as_fd(), new.as_fd())?;
            Some(new)
        }
        FileType::RegularFile => {
            let source = openat(folder, name, OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let new = openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
            copy_content(source.as_fd(), new.as_fd(), stat.st_size)?;
            own(target, name, &stat)?;
            // Writing and changing the owner would take capabilities away again.
            copy_attributes(source.as_fd(), new.as_fd())?;
            fchmod(&new, mode)?;
            futimens(&new, &times(&stat))?;
            return Ok(None);
        }
        FileType::Symlink => {
            symlinkat(&*readlinkat(folder, name, Vec::new())?, target, name)?;
            copy_link_attributes(folder, target, name)?;
            None
        }
        kind => {
            mknodat(target, name, kind, mode, stat.st_rdev)?;
            None
        }
    };
    own(target, name, &stat)?;
    if let Some(folder) = &made {
        fchmod(folder, mode)?;
    }
    utimensat(target, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(made)
}

fn own(target: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(target, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(stat: &Stat) -> Timestamps {
    let at = |sec, nsec| Timespec { tv_sec: sec, tv_nsec: nsec as _ };
    Timestamps {
        last_access: at(stat.st_atime, stat.st_atime_nsec),
        last_modification: at(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Copies what was written to a file, and leaves its holes.
fn copy_content(source: BorrowedFd<'_>, target: BorrowedFd<'_>, size: i64) -> Result<(), Errno> {
    rustix::fs::ftruncate(target, size as u64)?;
    let mut piece = vec![0_u8; PIECE];
    let mut at = 0;
    loop {
        let begin = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error),
        };
        let end = rustix::fs::seek(source, SeekFrom::Hole(begin))?;
        at = begin;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let length = rustix::io::pread(source, &mut piece[..most], at)?;
            if length == 0 {
                return Ok(());
            }
            let mut written = 0;
            while written < length {
                written += rustix::io::pwrite(target, &piece[written..length], at + written as u64)?;
            }
            at += length as u64;
        }
    }
}

fn copy_attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut list = vec![0_u8; LONGEST_ATTRIBUTE];
    let length = match flistxattr(source, &mut list[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        other => other?,
    };
    let mut value = vec![0_u8; LONGEST_ATTRIBUTE];
    for name in attributes(&list[..length]) {
        let length = fgetxattr(source, name, &mut value[..])?;
        fsetxattr(target, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}

/// A symbolic link has no descriptor that attributes can be read by; its path is short.
fn copy_link_attributes(folder: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let path = |folder: BorrowedFd<'_>| {
        Path::new("/proc/self/fd")
            .join(folder.as_raw_fd().to_string())
            .join(OsStr::from_bytes(name.to_bytes()))
    };
    let (source, target) = (path(folder), path(target));
    let mut list = vec![0_u8; LONGEST_ATTRIBUTE];
    let length = match rustix::fs::llistxattr(&source, &mut list[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        other => other?,
    };
    let mut value = vec![0_u8; LONGEST_ATTRIBUTE];
    for name in attributes(&list[..length]) {
        let length = lgetxattr(&source, name, &mut value[..])?;
        rustix::fs::lsetxattr(&target, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}

/// The names in a list as the kernel gives it. Those that a security module keeps for itself are not ours to copy.
fn attributes(list: &[u8]) -> impl Iterator<Item = &OsStr> {
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let kept = |name: &&[u8]| !name.starts_with(b"security.") || *name == b"security.capability";
    names.filter(kept).map(OsStr::from_bytes)
}
