//! The machine's root file system.

use super::{Doing as _, Part, Pieces, Root, parts};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2, symlinkat};
use rustix::mount::{MountAttrFlags, UnmountFlags};
use testbed_agent::launch::{Machine, Mount};
use testbed_agent::{Fault, FaultKind};
use testbed_sys::mount::{self, Attached, Detached, Marks, NewFs, Overlay};

/// Where a piece is attached for a moment: a folder that every host has. It must be in this mount namespace to become
/// a layer; what covers it goes with the host's root. `/proc` stays, where overlays may have to find their layers.
const ASSEMBLY: &std::ffi::CStr = c"/sys/";

const QUIET: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
const NO_PROGRAMS: MountAttrFlags = QUIET.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Pieces that are attached in this mount namespace, for overlays to be made of them.
pub(super) struct Layers {
    /// Top first.
    pub(super) lowers: Vec<Attached>,
    /// Holds `upper` and `work`.
    pub(super) upper: Attached,
}

fn attach(piece: Detached) -> Result<Attached, Fault> {
    piece.attach(CWD, ASSEMBLY).doing("attach a piece of the root file system")
}

/// Builds the root from its layers, mounts what belongs in it, and leaves the host's root for it.
pub(super) fn enter(spec: &Machine, pieces: Pieces) -> Result<(), Fault> {
    let Pieces { root, volatile, devices, mounts, client } = pieces;
    mount::make_all_private().doing("make mounts private")?;
    let volatile = attach(volatile)?;
    let root = match root {
        Root::Layers { lowers, parts, upper } => from_layers(lowers, parts, upper)?,
        Root::Mounted => {
            let root = mount::copy_of_path(crate::launcher::ROOT, false);
            enter_root(root.doing("open the root file system")?)?
        }
    };
    furnish(root.as_fd(), &volatile, devices, client)?;
    rustix::process::pivot_root(c".", c".").doing("change the root")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH).doing("leave the host's root")?;
    rustix::process::chdir(c"/").doing("enter the root")?;
    // Only now do links in the image that lead to absolute paths lead to where they should.
    for (spec, tree) in spec.mounts.iter().zip(mounts) {
        live_mount(root.as_fd(), spec, tree)?;
    }
    Ok(())
}

fn from_layers(lowers: Vec<Detached>, parts: Vec<Part>, upper: Detached) -> Result<Attached, Fault> {
    let upper = attach(upper)?;
    make_folders(upper.as_fd(), &[("upper", 0o755), ("work", 0o755)])?;
    let lowers = lowers.into_iter().map(attach).collect::<Result<Vec<_>, _>>()?;
    let layers = Layers { lowers, upper };
    let part = |name: &str| layers.upper.folder(name).doing("open the upper layer");
    let (changes, work) = (part("upper")?, part("work")?);
    let mut overlay = Overlay::new(Marks::User);
    layers.lowers.iter().for_each(|lower| overlay.lower(lower));
    overlay.upper(&changes, &work);
    let root = overlay.mount().doing("mount the root file system")?;
    let parts = parts
        .into_iter()
        .map(|part| Ok((part.name, part.host.map(attach).transpose()?)))
        .collect::<Result<Vec<_>, Fault>>()?;
    let root = enter_root(root)?;
    parts::cover(root.as_fd(), &layers, &parts)?;
    Ok(root)
}

fn enter_root(root: Detached) -> Result<Attached, Fault> {
    let root = root.attach(CWD, ASSEMBLY).doing("attach the root file system")?;
    rustix::process::fchdir(&root).doing("enter the root file system")?;
    Ok(root)
}

/// Mounts the kernel's file systems, devices, and what a machine forgets when it ends.
fn furnish(
    root: BorrowedFd<'_>,
    volatile: &Attached,
    devices: Vec<(&'static str, Detached)>,
    client: Option<Detached>,
) -> Result<(), Fault> {
    let put = |fs: std::io::Result<Detached>, path: &str| -> Result<(), Fault> {
        let fs = fs.doing("mount").map_err(|f| f.at(format!("/{path}")))?;
        put_on(root, fs, path)
    };
    put(NewFs::open("proc").and_then(|fs| fs.mount(NO_PROGRAMS)), "proc")?;
    put(NewFs::open("sysfs").and_then(|fs| fs.mount(NO_PROGRAMS)), "sys")?;
    make_folders(volatile.as_fd(), FORGOTTEN)?;
    for (name, target) in LINKS {
        symlinkat(*target, volatile, *name).doing("make /dev")?;
    }
    for (name, attributes) in [("dev", None), ("run", Some(QUIET)), ("tmp", Some(QUIET))] {
        let part = volatile.copy(name).doing("open memory")?;
        if let Some(attributes) = attributes {
            mount::restrict(&part, attributes)
                .doing("restrict memory")
                .map_err(|f| f.at(format!("/{name}")))?;
        }
        put_on(root, part, name)?;
    }
    for (name, device) in devices {
        device.attach(root, name).doing("mount").map_err(|f| f.at(format!("/{name}")))?;
    }
    // Group 5 (tty) does not exist where only one id is mapped. Some kernels say so when it is set, some when it is mounted.
    put(terminals(Some("5")).or_else(|_| terminals(None)), "dev/pts")?;
    put(NewFs::open("mqueue").and_then(|fs| fs.mount(NO_PROGRAMS)), "dev/mqueue")?;
    if let Some(client) = client {
        mkdirat(root, "run/testbed", Mode::from_raw_mode(0o755)).doing("make /run/testbed")?;
        put_on(root, client, super::run::CLIENT_FOLDER)?;
    }
    Ok(())
}

fn terminals(group: Option<&str>) -> std::io::Result<Detached> {
    let fs = NewFs::open("devpts")?.flag("newinstance")?.set("ptmxmode", "666")?.set("mode", "620")?;
    let fs = match group {
        Some(group) => fs.set("gid", group)?,
        None => fs,
    };
    fs.mount(MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC)
}

/// Folders of all that a machine forgets when it ends, but for those that the launcher makes.
const FORGOTTEN: &[(&str, u32)] =
    &[("run", 0o755), ("tmp", 0o1777), ("dev/pts", 0o755), ("dev/mqueue", 0o755), ("dev/shm", 0o1777)];
const LINKS: &[(&str, &str)] = &[
    ("dev/ptmx", "pts/ptmx"),
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
];

/// Makes folders that may be there already.
fn make_folders(at: BorrowedFd<'_>, folders: &[(&str, u32)]) -> Result<(), Fault> {
    for (name, mode) in folders {
        match mkdirat(at, *name, Mode::from_raw_mode(*mode)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(Fault::system("make a folder", &error.into()).at(*name)),
        }
    }
    Ok(())
}

/// Attaches a mount on a folder of the new root, making the folder if the image has none.
pub(super) fn put_on(root: BorrowedFd<'_>, tree: Detached, path: &str) -> Result<(), Fault> {
    let fault = |e: rustix::io::Errno| Fault::system("mount", &e.into()).at(format!("/{path}"));
    let open = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    };
    let place = match open() {
        Err(rustix::io::Errno::NOENT) => {
            mkdirat(root, path, Mode::from_raw_mode(0o755)).map_err(fault)?;
            open().map_err(fault)?
        }
        other => other.map_err(fault)?,
    };
    tree.attach_on(place.as_fd()).doing("mount").map_err(|f| f.at(format!("/{path}"))).map(drop)
}

fn live_mount(root: BorrowedFd<'_>, spec: &Mount, tree: Detached) -> Result<(), Fault> {
    let target = spec.target.trim_matches('/');
    if target.is_empty() {
        return Err(Fault::new(FaultKind::Invalid, "mount on").at("/"));
    }
    let fault = |e: rustix::io::Errno| Fault::system("mount on", &e.into()).at(format!("/{target}"));
    let is_folder = rustix::fs::fstat(&tree)
        .map(|s| rustix::fs::FileType::from_raw_mode(s.st_mode) == rustix::fs::FileType::Directory)
        .map_err(fault)?;
    let parents = target.match_indices('/').map(|(end, _)| &target[..end]);
    let folders = parents.chain(is_folder.then_some(target));
    for folder in folders {
        match mkdirat(root, folder, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(fault(error)),
        }
    }
    let flags = if is_folder { OFlags::PATH | OFlags::DIRECTORY } else { OFlags::CREATE | OFlags::RDONLY };
    let mode = if is_folder { Mode::empty() } else { Mode::from_raw_mode(0o644) };
    let place = openat2(root, target, flags | OFlags::CLOEXEC, mode, ResolveFlags::IN_ROOT).map_err(fault)?;
    tree.attach_on(place.as_fd()).doing("mount on").map_err(|f| f.at(format!("/{target}"))).map(drop)
}
