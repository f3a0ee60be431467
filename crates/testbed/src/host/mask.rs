//! What of the host a machine with the image `host` must not see.
//!
//! At the top level only folders that hold programs, libraries, configuration and their data show through; all else is
//! empty or absent. Below `/etc`, `/var` and `/opt`, whatever not everybody may read is hidden as well: machine root
//! sees the host's root as its own, so permissions alone would hide nothing.

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat, openat, statat};
use std::io;
use std::path::Path;
use testbed_agent::launch::{Mask, Masked};

/// Top folders that show through.
const SHOWN: &[&str] = &["bin", "sbin", "usr", "etc", "opt", "var"];
/// Of these, those that may hold what is private.
const SEARCHED: &[&str] = &["etc", "opt", "var"];
/// Folders that are emptied by name: logs, spools and other engines' images, whatever their modes.
const EMPTIED: &[&str] = &[
    "var/log",
    "var/tmp",
    "var/mail",
    "var/spool/mail",
    "var/backups",
    "var/cache",
    "var/crash",
    "var/lib/containers",
    "var/lib/docker",
    "var/lib/containerd",
    "var/lib/kubelet",
    "var/lib/lxc",
    "var/lib/lxd",
    "var/lib/incus",
    "var/lib/machines",
    "var/lib/libvirt",
    "var/lib/testbed",
    "var/lib/private",
    "var/lib/cloud",
    "etc/systemd/system",
    "etc/NetworkManager/system-connections",
    "etc/wireguard",
    "etc/testbed",
];
/// Folders that show through with all that is in them, unless they themselves are not for everybody: thousands of files
/// that come with packages, and would make up most of what there is to look through.
const PUBLIC: &[&str] = &["var/lib/dpkg/info"];
/// Files that are absent by name: they name this host, or a network that is not the machine's.
const ABSENT: &[&str] = &["etc/hostname", "etc/machine-id", "etc/resolv.conf", "etc/mtab"];

/// Lists what is masked of the root at `root`; folders come before what is in them.
///
/// `home` is the home folder of who asks. It is emptied if it is below a folder that is searched, as those of services
/// are.
pub(super) fn entries(root: &Path, home: Option<&str>) -> io::Result<Vec<Masked>> {
    let home = home.map(|home| home.trim_matches('/')).filter(|home| home.contains('/'));
    let home = home.map(str::to_owned);
    let mut found = Finder { entries: Vec::new(), above: Vec::new(), home };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let top = openat(CWD, root, flags, Mode::empty())?;
    let unnamed = || io::Error::other("the host's root folder holds a name that is not UTF-8");
    for (name, _) in read(top.as_fd())?.ok_or_else(unnamed)? {
        let Some(stat) = stat(top.as_fd(), &name)? else { continue };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_shown = SHOWN.contains(&name.as_str()) || name.starts_with("lib");
        match kind {
            FileType::Directory if is_shown && !SEARCHED.contains(&name.as_str()) => {}
            FileType::Directory if is_shown => found.search(top.as_fd(), &name, &stat)?,
            FileType::Directory => found.hide(&name, &stat),
            // `/bin` and `/lib` are links on hosts with a merged `/usr`.
            FileType::Symlink if is_shown => {}
            _ => found.hide(&name, &stat),
        }
    }
    Ok(found.entries)
}

struct Finder {
    entries: Vec<Masked>,
    /// The folders that are looked through just now, outermost first.
    above: Vec<Above>,
    home: Option<String>,
}

/// A folder that shows through.
struct Above {
    path: String,
    stat: Stat,
    /// Something below it is hidden, so it is among the entries already.
    is_entry: bool,
}

impl Finder {
    /// Looks through a folder.
    fn search(&mut self, top: BorrowedFd<'_>, path: &str, stat: &Stat) -> io::Result<()> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let folder: OwnedFd = match openat(top, path, flags, Mode::empty()) {
            Ok(folder) => folder,
            // It has just gone.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(()),
            // Not everybody may read it, whatever its mode says.
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
                self.hide(path, stat);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let Some(entries) = read(folder.as_fd())? else {
            // What cannot be told apart is hidden as a whole.
            self.hide(path, stat);
            return Ok(());
        };
        self.above.push(Above { path: path.to_owned(), stat: *stat, is_entry: false });
        for (name, kind) in entries {
            let below = format!("{path}/{name}");
            let by_name = EMPTIED.contains(&below.as_str())
                || ABSENT.contains(&below.as_str())
                || self.home.as_deref() == Some(below.as_str());
            if kind == FileType::Symlink && !by_name {
                continue;
            }
            let Some(stat) = self::stat(folder.as_fd(), &name)? else { continue };
            let kind = FileType::from_raw_mode(stat.st_mode);
            let mode = Mode::from_raw_mode(stat.st_mode);
            let open = match kind {
                FileType::Directory => mode.contains(Mode::ROTH | Mode::XOTH),
                FileType::RegularFile => mode.contains(Mode::ROTH),
                FileType::Symlink => true,
                // Sockets and pipes lead to daemons of the host.
                _ => false,
            };
            if by_name || !open {
                self.hide(&below, &stat);
            } else if kind == FileType::Directory && !PUBLIC.contains(&below.as_str()) {
                self.search(top, &below, &stat)?;
            }
        }
        self.above.pop();
        Ok(())
    }

    fn hide(&mut self, path: &str, stat: &Stat) {
        for folder in self.above.iter_mut().filter(|folder| !folder.is_entry) {
            folder.is_entry = true;
            self.entries.push(masked(&folder.path, Mask::Through, &folder.stat));
        }
        let with = match path {
            "etc/shadow" => accounts("/etc/passwd", "*:20000:0:99999:7:::"),
            "etc/gshadow" => accounts("/etc/group", "*::"),
            _ if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Mask::Empty,
            _ => Mask::Absent,
        };
        self.entries.push(masked(path, with, stat));
    }
}

fn masked(path: &str, with: Mask, stat: &Stat) -> Masked {
    Masked { path: path.into(), with, mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid }
}

/// Bytes of a shadow file: a frame of the launcher's has room for them. Two thousand accounts.
const MOST_ACCOUNTS: usize = 60_000;

/// A shadow file in which every account is locked; without one, programs that make users do not work.
fn accounts(names: &str, rest: &str) -> Mask {
    let names = std::fs::read_to_string(names).unwrap_or_default();
    let mut content = String::new();
    for (name, _) in names.lines().filter_map(|line| line.split_once(':')) {
        if content.len() + name.len() + rest.len() + 2 > MOST_ACCOUNTS {
            break;
        }
        content += &format!("{name}:{rest}\n");
    }
    Mask::File(content)
}

/// The entries of a folder with what they are, as far as the folder itself tells; none if a name in it is not UTF-8 and so
/// cannot be told.
fn read(folder: BorrowedFd<'_>) -> io::Result<Option<Vec<(String, FileType)>>> {
    let mut found = Vec::new();
    let mut buffer = Vec::with_capacity(16 * 1024);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(text) = name.to_str() else { return Ok(None) };
        found.push((text.to_owned(), entry.file_type()));
    }
    Ok(Some(found))
}

/// What stands in a folder under a name; none if it has just gone.
fn stat(folder: BorrowedFd<'_>, name: &str) -> io::Result<Option<Stat>> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
