//! Where machines are cloned: a mount namespace with next to nothing in it.
//!
//! Process 1 gets a copy of the mount namespace that it is cloned in, and takes it down again as soon as it has a root
//! of its own. On a host with dozens of mounts that is a good part of a machine's cost. So the launcher has a second
//! mount namespace with three mounts, and goes there for as long as a clone takes.

use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags, mkdirat, open};
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use testbed_agent::{Doing as _, Fault};
use testbed_sys::mount::{self, NewFs};
use testbed_sys::process::{SingleThreaded, enter_mounts, unshare_mounts};

pub(super) struct Nursery {
    inside: OwnedFd,
    outside: OwnedFd,
    /// The launcher's root outside, which need not be the namespace's.
    root: OwnedFd,
}

impl Nursery {
    /// Makes it; the launcher is where it was afterwards.
    pub(super) fn make(token: SingleThreaded) -> Result<Nursery, Fault> {
        let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(c"/", path, Mode::empty()).doing("open /")?;
        let outside = own_mounts()?;
        unshare_mounts(token).doing("make a mount namespace")?;
        let inside = empty().and_then(|()| own_mounts());
        let nursery = Nursery { inside: inside?, outside, root };
        nursery.leave(token)?;
        Ok(nursery)
    }

    /// The namespace, which nobody enters any more.
    pub(super) fn into_namespace(self) -> OwnedFd {
        self.inside
    }

    /// Goes in.
    pub(super) fn enter(&self, token: SingleThreaded) -> Result<(), Fault> {
        enter_mounts(token, self.inside.as_fd()).doing("enter the mount namespace for machines")
    }

    /// Comes back.
    pub(super) fn leave(&self, token: SingleThreaded) -> Result<(), Fault> {
        enter_mounts(token, self.outside.as_fd()).doing("leave the mount namespace for machines")?;
        fchdir(&self.root).and_then(|()| chroot(c".")).doing("return to /")
    }
}

fn own_mounts() -> Result<OwnedFd, Fault> {
    open(c"/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing("open the mount namespace")
}

/// Leaves the host's mounts for a root with `/proc` and `/sys`: without them in sight the kernel would let no machine
/// mount its own (mount_namespaces(7)).
fn empty() -> Result<(), Fault> {
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    mount::make_all_private().doing("make mounts private")?;
    let root = super::base::tmpfs("1m")?;
    mount::attach(root.as_fd(), rustix::fs::CWD, c"/proc/").doing("attach the root for machines")?;
    for (name, kind) in [("proc", "proc"), ("sys", "sysfs")] {
        mkdirat(&root, name, Mode::from_raw_mode(0o755)).doing("make the root for machines")?;
        let tree = NewFs::open(kind).and_then(|fs| fs.mount(quiet)).doing("mount").map_err(|f| f.at(kind))?;
        mount::attach(tree.as_fd(), root.as_fd(), name).doing("mount").map_err(|f| f.at(kind))?;
    }
    fchdir(&root).doing("enter the root for machines")?;
    pivot_root(c".", c".").doing("change the root")?;
    unmount(c".", UnmountFlags::DETACH).doing("leave the host's root")?;
    chdir(c"/").doing("enter the root for machines")
}
