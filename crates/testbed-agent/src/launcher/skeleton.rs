//! The host's root for the machines of an ordinary user.
//!
//! The kernel lets such a user have neither `/` as a layer nor idmapped mounts, so that in machines the host's folders
//! belong to nobody and could not be written to. The skeleton is a layer above them with what root inside should own:
//! the top of the tree, the mask, folders to write into, and the files of `/etc`.

use super::base::{fill_mask, tmpfs};
use crate::init::Part;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, chmodat, mkdirat, openat, readlinkat, statat, symlinkat,
};
use rustix::io::Errno;
use std::collections::HashSet;
use testbed_agent::Doing as _;
use testbed_agent::launch::{Mask, Masked};
use testbed_agent::{Fault, FaultKind};
use testbed_sys::mount;

pub(super) struct Skeleton {
    /// The layer, attached nowhere.
    pub(super) layer: OwnedFd,
    /// The host's folders, by name; none where the host's cannot be had.
    folders: Vec<(String, Option<OwnedFd>)>,
}

/// How many levels of a top folder can be written into; below, only what a machine makes itself.
const LEVELS: &[(&str, u32)] = &[("etc", 32), ("var", 32), ("opt", 4), ("usr", 4)];
/// Folders whose files are root's as well, and can be changed: configuration with all below it, and what is installed.
const COPIED: [&str; 2] = ["etc", "var/lib/dpkg"];
/// A larger file shows through.
const LARGEST_COPY: u64 = 1 << 20;
/// More folders than any host has that is not broken.
const MOST_FOLDERS: u32 = 50_000;

impl Skeleton {
    pub(super) fn make(mask: &[Masked]) -> Result<Skeleton, Fault> {
        let layer = tmpfs("128m")?;
        fill_mask(layer.as_fd(), mask, |_| 0)?;
        let hidden = mask.iter().filter(|entry| entry.with != Mask::Through).map(|entry| entry.path.as_str());
        let mut copier = Copier { layer: layer.as_fd(), hidden: hidden.collect(), made: 0 };
        let mut folders = Vec::new();
        let root = open_folder(CWD, "/").doing("open").map_err(|f| f.at("/"))?;
        for (name, kind, mode) in entries(&root).doing("read").map_err(|f| f.at("/"))? {
            if copier.hidden.contains(name.as_str()) {
                continue;
            }
            match kind {
                FileType::Symlink => {
                    let target = readlinkat(&root, &name, Vec::new()).doing("read a link")?;
                    symlinkat(target, &layer, &name).doing("make a link")?;
                }
                FileType::Directory => {
                    copier.folder(&name, mode)?;
                    let levels = LEVELS.iter().find(|(top, _)| *top == name).map_or(0, |(_, levels)| *levels);
                    copier.fill(&root, &name, levels)?;
                    folders.push((name.clone(), host_folder(&name)?));
                }
                _ => {}
            }
        }
        Ok(Skeleton { layer, folders })
    }

    pub(super) fn parts(&self) -> Result<Vec<Part>, Fault> {
        let part = |(name, host): &(String, Option<OwnedFd>)| {
            let host = host.as_ref().map(|host| mount::copy_of(host.as_fd(), c"", false));
            Ok(Part { name: name.clone(), host: host.transpose().doing("open the host's folder")? })
        };
        self.folders.iter().map(part).collect()
    }
}

/// A mount of a top folder. One below which something else is mounted cannot be had by an ordinary user; programs are
/// missed, the rest is in the skeleton.
fn host_folder(name: &str) -> Result<Option<OwnedFd>, Fault> {
    let path = format!("/{name}");
    match mount::copy_of_path(path.as_str(), false) {
        Ok(tree) => Ok(Some(tree)),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => match name {
            "etc" | "var" | "opt" => Ok(None),
            _ => Err(Fault::new(FaultKind::Unsupported, "use the image `host` as an ordinary user")
                .at(path)
                .hint("other file systems are mounted below this folder; use an image of its own, or root")),
        },
        Err(error) => Err(Fault::system("open", &error).at(path)),
    }
}

struct Copier<'a> {
    layer: BorrowedFd<'a>,
    hidden: HashSet<&'a str>,
    made: u32,
}

impl Copier<'_> {
    fn folder(&mut self, path: &str, mode: u32) -> Result<(), Fault> {
        let fault = |f: Fault| f.at(format!("/{path}"));
        self.made += 1;
        match mkdirat(self.layer, path, Mode::RWXU) {
            // That of the mask.
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(fault(Fault::system("make a folder", &error.into()))),
            Ok(()) => chmodat(self.layer, path, Mode::from_raw_mode(mode), AtFlags::empty())
                .doing("make a folder")
                .map_err(fault),
        }
    }

    fn fill(&mut self, root: &OwnedFd, path: &str, levels: u32) -> Result<(), Fault> {
        if levels == 0 || self.made >= MOST_FOLDERS {
            return Ok(());
        }
        // What has gone meanwhile, or cannot be read after all, shows through as far as it can be seen.
        let Ok(folder) = open_folder(root, path) else { return Ok(()) };
        let Ok(found) = entries(&folder) else { return Ok(()) };
        for (name, kind, mode) in found {
            let below = format!("{path}/{name}");
            if self.hidden.contains(below.as_str()) {
                continue;
            }
            match kind {
                FileType::Directory => {
                    self.folder(&below, mode)?;
                    self.fill(root, &below, levels - 1)?;
                }
                FileType::RegularFile if COPIED.contains(&path) || path.starts_with("etc/") => {
                    self.copy(&folder, &name, &below, mode)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn copy(&self, folder: &OwnedFd, name: &str, path: &str, mode: u32) -> Result<(), Fault> {
        if !Mode::from_raw_mode(mode).contains(Mode::ROTH) {
            // One that has come after the mask was made.
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let Ok(source) = openat(folder, name, flags, Mode::empty()) else { return Ok(()) };
        let mut source = std::fs::File::from(source);
        if source.metadata().is_ok_and(|metadata| metadata.len() > LARGEST_COPY) {
            return Ok(());
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let target = match openat(self.layer, path, flags, Mode::from_raw_mode(mode)) {
            Err(Errno::EXIST) => return Ok(()),
            other => other.doing("write").map_err(|f| f.at(format!("/{path}")))?,
        };
        std::io::copy(&mut source, &mut std::fs::File::from(target))
            .map(drop)
            .doing("copy")
            .map_err(|f| f.at(format!("/{path}")))
    }
}

fn open_folder(at: impl rustix::fd::AsFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(at, path, flags, Mode::empty())
}

/// Names, kinds and permission bits of what is in a folder.
fn entries(folder: &OwnedFd) -> rustix::io::Result<Vec<(String, FileType, u32)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") {
            continue;
        }
        let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        found.push((name.to_owned(), FileType::from_raw_mode(stat.st_mode), stat.st_mode & 0o7777));
    }
    Ok(found)
}
