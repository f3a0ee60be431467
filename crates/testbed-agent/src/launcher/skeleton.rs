//! The host's root for the machines of an ordinary user.
//!
//! The kernel lets such a user have neither `/` as a layer nor idmapped mounts, so that in machines the host's folders
//! belong to nobody and could not be written to. The skeleton is a layer above them with what root inside should own:
//! the top of the tree, the mask, folders to write into, and the files of `/etc`.

use super::base::{Base, fill_mask, own, tmpfs};
use super::shelf::{AtShelf, Shared};
use crate::init::Part;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, chmodat, mkdirat, openat, openat2,
    readlinkat, statat, symlinkat,
};
use rustix::io::Errno;
use std::collections::HashSet;
use testbed_agent::Doing as _;
use testbed_agent::launch::{Ids, Mask, Masked};
use testbed_agent::{Fault, FaultKind};
use testbed_sys::mount::{self, Detached};
use testbed_sys::process::SingleThreaded;

/// What an ordinary user's machines see of the host beside programs and data: told by whoever still sees who owns it,
/// because in a user namespace all others than the user are nobody.
pub(super) struct Survey {
    /// Parents first.
    seen: Vec<Seen>,
}

/// A folder, link or file of the host that the skeleton has too.
struct Seen {
    /// Relative to the host's root.
    path: String,
    kind: FileType,
    mode: u32,
    owner: (u32, u32),
}

pub(super) struct Skeleton {
    /// The layer.
    pub(super) layer: Shared,
    /// The host's folders, by name; none where the host's cannot be had.
    folders: Vec<(String, Option<Shared>)>,
}

/// How many levels of a top folder can be written into; below, only what a machine makes itself.
const LEVELS: &[(&str, u32)] = &[("etc", 32), ("var", 32), ("opt", 4), ("usr", 4)];
/// Folders whose files are root's as well, and can be changed: configuration with all below it, and what is installed.
const COPIED: [&str; 2] = ["etc", "var/lib/dpkg"];
/// A larger file shows through.
const LARGEST_COPY: u64 = 1 << 20;
/// More folders than any host has that is not broken.
const MOST_FOLDERS: u32 = 50_000;

impl Survey {
    /// Looks at the host, as the user who started this process.
    pub(super) fn make(mask: &[Masked]) -> Result<Survey, Fault> {
        let hidden = mask.iter().filter(|entry| entry.with != Mask::Through).map(|entry| entry.path.as_str());
        let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let mut surveyor = Surveyor { hidden: hidden.collect(), own, seen: Vec::new(), folders: 0 };
        let root = open_folder(CWD, "/").doing("open").map_err(|f| f.at("/"))?;
        for (name, stat) in entries(&root).doing("read").map_err(|f| f.at("/"))? {
            if surveyor.hidden.contains(name.as_str()) {
                continue;
            }
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => surveyor.add(name, &stat),
                FileType::Directory => {
                    surveyor.add(name.clone(), &stat);
                    let levels = LEVELS.iter().find(|(top, _)| *top == name).map_or(0, |(_, levels)| *levels);
                    surveyor.fill(&root, &name, levels);
                }
                _ => {}
            }
        }
        Ok(Survey { seen: surveyor.seen })
    }
}

struct Surveyor<'a> {
    hidden: HashSet<&'a str>,
    /// The user and group that are root inside.
    own: (u32, u32),
    seen: Vec<Seen>,
    folders: u32,
}

impl Surveyor<'_> {
    fn add(&mut self, path: String, stat: &Stat) {
        let inside = |id: u32, own: u32| if id == own { 0 } else { id };
        self.seen.push(Seen {
            path,
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            owner: (inside(stat.st_uid, self.own.0), inside(stat.st_gid, self.own.1)),
        });
    }

    fn fill(&mut self, root: &OwnedFd, path: &str, levels: u32) {
        if levels == 0 || self.folders >= MOST_FOLDERS {
            return;
        }
        self.folders += 1;
        // What has gone meanwhile, or cannot be read after all, shows through as far as it can be seen.
        let Ok(folder) = open_folder(root, path) else { return };
        let Ok(found) = entries(&folder) else { return };
        for (name, stat) in found {
            let below = format!("{path}/{name}");
            if self.hidden.contains(below.as_str()) {
                continue;
            }
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    self.add(below.clone(), &stat);
                    self.fill(root, &below, levels - 1);
                }
                // One that others may not read has come after the mask was made.
                FileType::RegularFile
                    if (COPIED.contains(&path) || path.starts_with("etc/"))
                        && Mode::from_raw_mode(stat.st_mode).contains(Mode::ROTH)
                        && u64::try_from(stat.st_size).is_ok_and(|size| size <= LARGEST_COPY) =>
                {
                    self.add(below, &stat);
                }
                _ => {}
            }
        }
    }
}

impl Skeleton {
    pub(super) fn make(
        token: SingleThreaded,
        base: &Base,
        mask: &[Masked],
        survey: Survey,
    ) -> Result<Skeleton, Fault> {
        let layer = tmpfs("128m")?;
        let inside = |id: u32| match base.ids() {
            Ids::Delegated(count) if id < count => id,
            _ => 0,
        };
        fill_mask(layer.as_fd(), mask, inside)?;
        let root = open_folder(CWD, "/").doing("open").map_err(|f| f.at("/"))?;
        let mut folders = Vec::new();
        for seen in survey.seen {
            let path = seen.path.as_str();
            let owner = (inside(seen.owner.0), inside(seen.owner.1));
            let made = match seen.kind {
                FileType::Symlink => link(&root, layer.as_fd(), path),
                FileType::Directory => folder(layer.as_fd(), path, seen.mode, owner),
                _ => copy(&root, layer.as_fd(), path, seen.mode, owner),
            };
            made.map_err(|f| f.at(format!("/{path}")))?;
            if seen.kind == FileType::Directory && !path.contains('/') {
                folders.push((path.to_owned(), host_folder(path)?));
            }
        }
        base.shelf.visit(token, |shelf| {
            let keep = |(name, host): (String, Option<Detached>)| {
                Ok((name, host.map(|host| shelf.keep(host)).transpose()?))
            };
            let folders = folders.into_iter().map(keep).collect::<Result<_, Fault>>()?;
            Ok(Skeleton { layer: shelf.keep(layer)?, folders })
        })
    }

    pub(super) fn parts(&self, shelf: &AtShelf<'_>) -> Result<Vec<Part>, Fault> {
        let part = |(name, host): &(String, Option<Shared>)| {
            let host = host.as_ref().map(|host| shelf.copy(host, ""));
            Ok(Part { name: name.clone(), host: host.transpose()? })
        };
        self.folders.iter().map(part).collect()
    }
}

/// A mount of a top folder. One below which something else is mounted cannot be had by an ordinary user; programs are
/// missed, the rest is in the skeleton.
fn host_folder(name: &str) -> Result<Option<Detached>, Fault> {
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

fn link(root: &OwnedFd, layer: BorrowedFd<'_>, path: &str) -> Result<(), Fault> {
    let target = readlinkat(root, path, Vec::new()).doing("read a link")?;
    symlinkat(target, layer, path).doing("make a link")
}

fn folder(layer: BorrowedFd<'_>, path: &str, mode: u32, owner: (u32, u32)) -> Result<(), Fault> {
    match mkdirat(layer, path, Mode::RWXU) {
        // That of the mask.
        Err(Errno::EXIST) => return Ok(()),
        other => other.doing("make a folder")?,
    }
    chmodat(layer, path, Mode::from_raw_mode(mode), AtFlags::empty()).doing("make a folder")?;
    give(layer, path, owner)
}

fn copy(
    root: &OwnedFd,
    layer: BorrowedFd<'_>,
    path: &str,
    mode: u32,
    owner: (u32, u32),
) -> Result<(), Fault> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let Ok(source) = openat2(root, path, flags, Mode::empty(), resolve) else { return Ok(()) };
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let target = match openat(layer, path, flags, Mode::from_raw_mode(mode)) {
        Err(Errno::EXIST) => return Ok(()),
        other => other.doing("write")?,
    };
    let mut source = std::fs::File::from(source);
    std::io::copy(&mut source, &mut std::fs::File::from(target)).doing("copy")?;
    give(layer, path, owner)
}

fn give(layer: BorrowedFd<'_>, path: &str, owner: (u32, u32)) -> Result<(), Fault> {
    match owner {
        // Whoever makes it is root.
        (0, 0) => Ok(()),
        (uid, gid) => own(layer, path, uid, gid),
    }
}

fn open_folder(at: impl rustix::fd::AsFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(at, path, flags, Mode::empty())
}

/// What is in a folder.
fn entries(folder: &OwnedFd) -> rustix::io::Result<Vec<(String, Stat)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") {
            continue;
        }
        let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        found.push((name.to_owned(), stat));
    }
    Ok(found)
}
