//! Small requests about files, answered by process 1 itself.

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use testbed_agent::Doing as _;
use testbed_agent::agent::{Entry, EntryKind, Reply, TEMPORARY};
use testbed_agent::frame::MAX_BODY;
use testbed_agent::{Fault, FaultKind};

/// Leaves room in a reply for what is around its entries.
const PAGE: usize = MAX_BODY / 2;

fn absolute(path: &str) -> Result<&Path, Fault> {
    let valid = path.starts_with('/') && !path.contains('\0');
    valid
        .then(|| Path::new(path))
        .ok_or_else(|| Fault::new(FaultKind::Invalid, "use a path that is not absolute:").at(path))
}

pub(super) fn stat(path: &str) -> Result<Reply, Fault> {
    let full = absolute(path)?;
    let name = full.file_name().map_or_else(|| "/".into(), |n| n.to_string_lossy().into_owned());
    entry(CWD, path, name).doing("look at").map(Reply::Entry).map_err(|f| f.at(path))
}

fn entry(folder: rustix::fd::BorrowedFd<'_>, path: &str, name: String) -> rustix::io::Result<Entry> {
    let stat = rustix::fs::statat(folder, path, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => EntryKind::Folder,
        FileType::Symlink => EntryKind::Link,
        FileType::Fifo => EntryKind::Pipe,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice | FileType::BlockDevice => EntryKind::Device,
        _ => EntryKind::File,
    };
    let target = match kind {
        EntryKind::Link => {
            Some(rustix::fs::readlinkat(folder, path, Vec::new())?.to_string_lossy().into_owned())
        }
        _ => None,
    };
    Ok(Entry {
        name,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u64,
        modified_ns: stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64),
        target,
    })
}

pub(super) fn list(path: &str, after: &str) -> Result<Reply, Fault> {
    let full = absolute(path)?;
    let fault = |f: Fault| f.at(path);
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, full, flags, Mode::empty()).doing("list").map_err(fault)?;
    let mut names = Vec::new();
    for item in fs::read_dir(full).doing("list").map_err(fault)? {
        let name = item.doing("list").map_err(fault)?.file_name().to_string_lossy().into_owned();
        if name.as_str() > after {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut entries = Vec::new();
    let mut size = 0;
    let mut names = names.into_iter().peekable();
    while let Some(name) = names.next_if(|_| size < PAGE) {
        // One that has just gone is not there.
        if let Ok(found) = entry(rustix::fd::AsFd::as_fd(&folder), &name, name.clone()) {
            size += 64 + found.name.len() + found.target.as_ref().map_or(0, String::len);
            entries.push(found);
        }
    }
    Ok(Reply::Entries { entries, more: names.peek().is_some() })
}

pub(super) fn make_dir(path: &str, mode: u32, parents: bool) -> Result<Reply, Fault> {
    let full = absolute(path)?;
    fs::DirBuilder::new()
        .mode(mode)
        .recursive(parents)
        .create(full)
        .doing("make folder")
        .map_err(|f| f.at(path))?;
    Ok(Reply::Done)
}

/// So many names are tried: who has them all means harm.
const TRIES: u32 = 16;

pub(super) fn make_temporary(folder: bool) -> Result<Reply, Fault> {
    for _ in 0..TRIES {
        let path = format!("{TEMPORARY}/testbed-{:016x}", random()?);
        let made = if folder {
            fs::DirBuilder::new().mode(0o700).create(&path)
        } else {
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map(drop)
        };
        match made {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => return made.doing_to("make", path.clone()).and_then(|()| stat(&path)),
        }
    }
    Err(Fault::new(FaultKind::Exists, "make a file with a name that is free").at(TEMPORARY))
}

fn random() -> Result<u64, Fault> {
    let mut bytes = [0; 8];
    let length = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    // Up to 256 bytes come whole (getrandom(2)).
    length.doing("make up a name").map(|_| u64::from_ne_bytes(bytes))
}

pub(super) fn remove(path: &str, recursive: bool) -> Result<Reply, Fault> {
    let full = absolute(path)?;
    let fault = |f: Fault| f.at(path);
    let kind = fs::symlink_metadata(full).doing("remove").map_err(fault)?;
    match (kind.is_dir(), recursive) {
        (true, true) => fs::remove_dir_all(full),
        (true, false) => fs::remove_dir(full),
        (false, _) => fs::remove_file(full),
    }
    .doing("remove")
    .map_err(fault)?;
    Ok(Reply::Done)
}

pub(super) fn rename(from: &str, to: &str) -> Result<Reply, Fault> {
    fs::rename(absolute(from)?, absolute(to)?)
        .doing("rename")
        .map_err(|f| f.at(format!("{from} to {to}")))?;
    Ok(Reply::Done)
}

pub(super) fn put(path: &str, mode: u32, content: &[u8]) -> Result<Reply, Fault> {
    let full = absolute(path)?;
    let fault = |f: Fault| f.at(path);
    if let Some(parent) = full.parent() {
        fs::create_dir_all(parent).doing("make folder").map_err(|f| f.at(parent.to_string_lossy()))?;
    }
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(mode)
        // A pipe without a reader is refused instead of waited for.
        .custom_flags(libc::O_NONBLOCK)
        .open(full)
        .doing("write")
        .map_err(fault)?;
    file.write_all(content).doing("write").map_err(fault)?;
    file.set_permissions(fs::Permissions::from_mode(mode)).doing("write").map_err(fault)?;
    Ok(Reply::Done)
}
