//! The machine's root file system.

use super::{Birth, Doing as _, parts};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, symlinkat};
use rustix::mount::{MountAttrFlags, UnmountFlags};
use testbed_agent::launch::Mount;
use testbed_agent::{Fault, FaultKind};
use testbed_sys::mount::{self, NewFs};

/// Where a piece is attached for a moment: a folder that every host has. It must be in this mount namespace to become
/// a layer; what covers it goes with the host's root.
pub(super) const ASSEMBLY: &std::ffi::CStr = c"/sys/";
const NEW_ROOT: &std::ffi::CStr = c"/proc/";

const QUIET: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
const NO_PROGRAMS: MountAttrFlags = QUIET.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Builds the root from its layers, mounts what belongs in it, and leaves the host's root for it.
pub(super) fn enter(birth: &Birth<'_>) -> Result<(), Fault> {
    let pieces = &birth.pieces;
    mount::make_all_private().doing("make mounts private")?;
    mount::attach(pieces.upper.mount.as_fd(), CWD, ASSEMBLY).doing("attach the upper layer")?;
    make_folders(pieces.upper.mount.as_fd(), &[("upper", 0o755), ("work", 0o755)])?;
    let part = |name: &str| {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH;
        openat(&pieces.upper.mount, name, flags, Mode::empty()).doing("open the upper layer")
    };
    let (upper, work) = (part("upper")?, part("work")?);
    let mut overlay = NewFs::open("overlay").doing("open overlay")?;
    for lower in &pieces.lowers {
        mount::attach(lower.as_fd(), CWD, ASSEMBLY).doing("attach a layer")?;
        overlay = overlay.folder("lowerdir+", lower.as_fd()).doing("add a layer")?;
    }
    let root = overlay
        .folder("upperdir", upper.as_fd())
        .and_then(|fs| fs.folder("workdir", work.as_fd()))
        .and_then(|fs| fs.flag("userxattr"))
        .and_then(|fs| fs.mount(MountAttrFlags::empty()))
        .doing("mount the root file system")?;
    drop((upper, work));
    mount::attach(root.as_fd(), CWD, NEW_ROOT).doing("attach the root file system")?;
    rustix::process::fchdir(&root).doing("enter the root file system")?;
    parts::cover(root.as_fd(), pieces)?;
    furnish(&root, birth)?;
    rustix::process::pivot_root(c".", c".").doing("change the root")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH).doing("leave the host's root")?;
    rustix::process::chdir(c"/").doing("enter the root")?;
    // Only now do links in the image that lead to absolute paths lead to where they should.
    for (spec, tree) in birth.spec.mounts.iter().zip(&pieces.mounts) {
        live_mount(root.as_fd(), spec, tree.as_fd())?;
    }
    Ok(())
}

/// Mounts the kernel's file systems, devices, and the host's live folders.
fn furnish(root: &OwnedFd, birth: &Birth<'_>) -> Result<(), Fault> {
    let put = |fs: std::io::Result<OwnedFd>, path: &str| -> Result<(), Fault> {
        let fs = fs.doing("mount").map_err(|f| f.at(format!("/{path}")))?;
        put_on(root.as_fd(), fs.as_fd(), path)
    };
    put(NewFs::open("proc").and_then(|fs| fs.mount(NO_PROGRAMS)), "proc")?;
    let sys =
        NewFs::open("sysfs").and_then(|fs| fs.mount(NO_PROGRAMS)).doing("mount").map_err(|f| f.at("/sys"))?;
    put_on(root.as_fd(), sys.as_fd(), "sys")?;
    let volatile = birth.pieces.volatile.as_fd();
    make_folders(volatile, FORGOTTEN)?;
    for (name, target) in LINKS {
        symlinkat(*target, volatile, *name).doing("make /dev")?;
    }
    mount::attach(volatile, CWD, ASSEMBLY).doing("attach memory")?;
    for (name, attributes) in [("dev", None), ("run", Some(QUIET)), ("tmp", Some(QUIET))] {
        let part = mount::copy_of(volatile, name, false).doing("open memory")?;
        if let Some(attributes) = attributes {
            mount::restrict(part.as_fd(), attributes)
                .doing("restrict memory")
                .map_err(|f| f.at(format!("/{name}")))?;
        }
        put_on(root.as_fd(), part.as_fd(), name)?;
    }
    for (name, device) in &birth.pieces.devices {
        mount::attach(device.as_fd(), root.as_fd(), *name)
            .doing("mount")
            .map_err(|f| f.at(format!("/{name}")))?;
    }
    let terminals = NewFs::open("devpts")
        .and_then(|fs| fs.flag("newinstance"))
        .and_then(|fs| fs.set("ptmxmode", "666"))
        .and_then(|fs| fs.set("mode", "620"));
    // Group 5 (tty) does not exist where only one id is mapped.
    let terminals = terminals.and_then(|fs| match fs.set("gid", "5") {
        Ok(fs) => Ok(fs),
        Err(_) => NewFs::open("devpts")?.flag("newinstance")?.set("ptmxmode", "666")?.set("mode", "620"),
    });
    let no_programs = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    put(terminals.and_then(|fs| fs.mount(no_programs)), "dev/pts")?;
    put(NewFs::open("mqueue").and_then(|fs| fs.mount(NO_PROGRAMS)), "dev/mqueue")?;
    if let Some(client) = &birth.pieces.client {
        mkdirat(root, "run/testbed", Mode::from_raw_mode(0o755)).doing("make /run/testbed")?;
        put_on(root.as_fd(), client.as_fd(), super::run::CLIENT_FOLDER)?;
    }
    Ok(())
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
pub(super) fn put_on(root: BorrowedFd<'_>, tree: BorrowedFd<'_>, path: &str) -> Result<(), Fault> {
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
    mount::attach_on(tree, place.as_fd()).doing("mount").map_err(|f| f.at(format!("/{path}")))
}

fn live_mount(root: BorrowedFd<'_>, spec: &Mount, tree: BorrowedFd<'_>) -> Result<(), Fault> {
    let target = spec.target.trim_matches('/');
    if target.is_empty() {
        return Err(Fault::new(FaultKind::Invalid, "mount on").at("/"));
    }
    let fault = |e: rustix::io::Errno| Fault::system("mount on", &e.into()).at(format!("/{target}"));
    let is_folder = rustix::fs::fstat(tree)
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
    mount::attach_on(tree, place.as_fd()).doing("mount on").map_err(|f| f.at(format!("/{target}")))
}
