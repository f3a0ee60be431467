//! Mount namespaces of the launcher's own, with next to nothing in them. They go with it.
//!
//! In the **nursery** machines are cloned. Process 1 gets a copy of the mount namespace that it is cloned in, and takes it
//! down again as soon as it has a root of its own. On a host with dozens of mounts that is a good part of a machine's
//! cost, so the launcher goes where three mounts are for as long as a clone takes.
//!
//! In the **shelf** lies what machines share: see [`super::shelf`].

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, open, openat};
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use testbed_agent::layers::opaque;
use testbed_agent::{Doing as _, Fault};
use testbed_sys::mount::{self, Detached, Marks, NewFs};
use testbed_sys::process::{Cloned, SingleThreaded, enter_mounts, unshare_mounts};

pub(super) struct Rooms {
    /// Where the launcher is otherwise.
    home: OwnedFd,
    /// Its root there, which need not be the namespace's.
    root: OwnedFd,
    /// None for an ordinary user, who cannot have one.
    nursery: Option<OwnedFd>,
    shelf: OwnedFd,
}

impl Rooms {
    /// Makes them; the launcher is where it was afterwards. An ordinary user's have no file systems of the kernel.
    ///
    /// Tells too how overlays with an upper layer in memory can mark folders.
    pub(super) fn make(token: SingleThreaded, ordinary: bool) -> Result<(Rooms, Marks), Fault> {
        let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(c"/", path, Mode::empty()).doing("open /")?;
        let home = own_mounts()?;
        unshare(token)?;
        let made = own_mounts().and_then(|first| {
            let marks = empty(if ordinary { &[] } else { KERNEL_FILES })?;
            if ordinary {
                return Ok((None, first, marks));
            }
            unshare(token)?;
            Ok((Some(first), own_mounts()?, marks))
        });
        go(token, &home, &root)?;
        let (nursery, shelf, marks) = made?;
        // Only the host's root can do otherwise.
        let marks = if ordinary { Marks::User } else { marks };
        Ok((Rooms { home, root, nursery, shelf }, marks))
    }

    pub(super) fn has_nursery(&self) -> bool {
        self.nursery.is_some()
    }

    /// Clones process 1 in the nursery, if there is one, with a root file system in sight if that is mounted already.
    ///
    /// The kernel does not let the new process take away what it finds such a mount restricted to
    /// (mount_namespaces(7)).
    pub(super) fn clone_in_nursery(
        &self,
        token: SingleThreaded,
        root: Option<Detached>,
        clone: impl FnOnce() -> Result<Cloned, Fault>,
    ) -> Result<Cloned, Fault> {
        let Some(nursery) = &self.nursery else { return clone() };
        enter(token, nursery.as_fd())?;
        let is_there = root.is_some();
        let shown = root.map(|root| root.attach(CWD, ROOT).doing("attach the root file system")).transpose();
        let cloned = shown.and_then(|_| clone());
        if !matches!(cloned, Ok(Cloned::Child)) {
            if is_there {
                // The next would cover it.
                let _ = unmount(ROOT, UnmountFlags::DETACH);
            }
            go(token, &self.home, &self.root)?;
        }
        cloned
    }

    /// Does something on the shelf.
    pub(super) fn on_shelf<T>(
        &self,
        token: SingleThreaded,
        work: impl FnOnce() -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        enter(token, self.shelf.as_fd())?;
        let done = work();
        go(token, &self.home, &self.root)?;
        done
    }

    /// The namespaces, which nobody enters any more.
    pub(super) fn into_namespaces(self) -> impl Iterator<Item = OwnedFd> {
        self.nursery.into_iter().chain([self.shelf])
    }
}

fn unshare(token: SingleThreaded) -> Result<(), Fault> {
    unshare_mounts(token).doing("make a mount namespace")
}

fn enter(token: SingleThreaded, room: BorrowedFd<'_>) -> Result<(), Fault> {
    enter_mounts(token, room).doing("enter a mount namespace")
}

fn go(token: SingleThreaded, home: &OwnedFd, root: &OwnedFd) -> Result<(), Fault> {
    enter(token, home.as_fd())?;
    fchdir(root).and_then(|()| chroot(c".")).doing("return to /")
}

fn own_mounts() -> Result<OwnedFd, Fault> {
    open(c"/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing("open the mount namespace")
}

/// Where process 1 finds a root file system that is mounted already.
pub(crate) const ROOT: &std::ffi::CStr = c"/root/";

/// Without them in sight the kernel would let no machine mount its own (mount_namespaces(7)).
const KERNEL_FILES: &[(&str, &str)] = &[("proc", "proc"), ("sys", "sysfs")];

/// Leaves the host's mounts for a root with these file systems in it.
fn empty(file_systems: &[(&str, &str)]) -> Result<Marks, Fault> {
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    mount::make_all_private().doing("make mounts private")?;
    let root = super::base::tmpfs("1m")?;
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(&root, c".", flags, Mode::empty()).doing("open a root")?;
    let marks = if opaque::mark_by_user(&folder).is_ok() { Marks::User } else { Marks::Trusted };
    for (name, _) in file_systems {
        mkdirat(&root, *name, Mode::from_raw_mode(0o755)).doing("make a root")?;
    }
    mkdirat(&root, "root", Mode::RWXU).doing("make a root")?;
    let root = root.attach(CWD, c"/proc/").doing("attach a root")?;
    for (name, kind) in file_systems {
        let tree =
            NewFs::open(kind).and_then(|fs| fs.mount(quiet)).doing("mount").map_err(|f| f.at(*kind))?;
        tree.attach(root.as_fd(), *name).doing("mount").map_err(|f| f.at(*kind))?;
    }
    fchdir(&root).doing("enter a root")?;
    pivot_root(c".", c".").doing("change the root")?;
    unmount(c".", UnmountFlags::DETACH).doing("leave the host's root")?;
    chdir(c"/").doing("enter a root")?;
    Ok(marks)
}
