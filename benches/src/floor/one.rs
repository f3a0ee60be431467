//! One machine that is isolated as containers are: namespaces, an overlay over the host's root, its own /proc.

use crate::Outcome;
use rustix::fs::Mode;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use std::io;
use testbed_sys::process::{Cloned, Namespaces, SingleThreaded, clone, execute, exit_now};

/// All namespaces but the user namespace, which costs nothing that can be measured.
pub(super) const NAMESPACES: Namespaces =
    Namespaces::MACHINE.without(Namespaces::USER).and(Namespaces::CGROUP);

/// Makes a machine, runs `true` in it as its process 1, and waits until it is gone.
pub(super) fn round(token: SingleThreaded) -> Outcome<()> {
    match clone(token, NAMESPACES, None)? {
        Cloned::Child => exit_now(become_true("m", || Ok(()))),
        Cloned::Parent { pidfd, .. } => super::reap(&pidfd),
    }
}

/// The life of a machine's process 1. Comes back only if something failed.
pub(super) fn become_true(name: &str, wire: impl FnOnce() -> io::Result<()>) -> i32 {
    match isolate().and_then(|()| {
        rustix::system::sethostname(name.as_bytes())?;
        wire()
    }) {
        Ok(()) => {
            let _ = execute(c"/bin/true", &[c"true"]);
            112
        }
        Err(_) => 111,
    }
}

fn isolate() -> io::Result<()> {
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let none = MountFlags::empty();
    mount(c"t", c"/mnt", c"tmpfs", none, c"mode=755")?;
    for folder in [c"/mnt/u", c"/mnt/w", c"/mnt/m"] {
        rustix::fs::mkdir(folder, Mode::from_raw_mode(0o755))?;
    }
    let layers = c"lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w";
    mount(c"o", c"/mnt/m", c"overlay", none, layers)?;
    rustix::process::chdir(c"/mnt/m")?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(c"proc", c"proc", c"proc", quiet, None)?;
    rustix::process::pivot_root(c".", c".")?;
    unmount(c".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir(c"/")?)
}
