//! Mounts by descriptor: made, mapped and attached without paths that others could change (fsopen(2), open_tree(2),
//! mount_setattr(2)).

mod overlay;

pub use overlay::{Layer, Marks, Overlay};

use crate::process::check_long;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick, move_mount,
    open_tree,
};
use rustix::path::Arg;
use std::io;

/// A file system that is being configured.
#[derive(Debug)]
pub struct NewFs {
    context: OwnedFd,
}

impl NewFs {
    /// Begins with a type: `tmpfs`, `overlay`, `proc`, …
    ///
    /// # Errors
    /// Those of fsopen(2).
    pub fn open(kind: &str) -> io::Result<NewFs> {
        Ok(NewFs { context: fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)? })
    }

    /// Sets a parameter to a text.
    ///
    /// # Errors
    /// Those of fsconfig(2), with what the kernel logged about it.
    pub fn set(self, key: &str, value: &str) -> io::Result<NewFs> {
        self.explain(fsconfig_set_string(&self.context, key, value))?;
        Ok(self)
    }

    /// Sets a parameter that has no value.
    ///
    /// # Errors
    /// As for [`NewFs::set`].
    pub fn flag(self, key: &str) -> io::Result<NewFs> {
        self.explain(fsconfig_set_flag(&self.context, key))?;
        Ok(self)
    }

    /// Makes the file system and a mount of it that is attached nowhere yet.
    ///
    /// # Errors
    /// Those of fsconfig(2) and fsmount(2), with what the kernel logged about it.
    pub fn mount(self, attributes: MountAttrFlags) -> io::Result<Detached> {
        self.explain(fsconfig_create(&self.context))?;
        Ok(Detached(fsmount(&self.context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
    }

    fn explain(&self, result: rustix::io::Result<()>) -> io::Result<()> {
        let Err(errno) = result else { return Ok(()) };
        let mut text = [0_u8; 512];
        let mut said = String::new();
        while let Ok(n) = rustix::io::read(&self.context, &mut text) {
            if n == 0 {
                break;
            }
            let line = String::from_utf8_lossy(&text[..n]);
            said = format!("{said}{}{}", if said.is_empty() { "" } else { "; " }, line.trim_end());
        }
        let error = io::Error::from(errno);
        Err(if said.is_empty() { error } else { io::Error::new(error.kind(), format!("{error} ({said})")) })
    }
}

/// Makes a whole file system read-only, by whatever mount of it one comes. Only who may configure it can undo that, which
/// root of a user namespace below ours cannot. Nothing of it may be open for writing.
///
/// # Errors
/// Those of fspick(2) and fsconfig(2); EBUSY if a file of it is open for writing.
pub fn seal(mount: BorrowedFd<'_>) -> io::Result<()> {
    let context = fspick(mount, c"", FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH)?;
    fsconfig_set_flag(&context, "ro")?;
    Ok(fsconfig_reconfigure(&context)?)
}

/// A mount that is attached nowhere yet.
///
/// Before Linux 6.15 such a mount can be attached and nothing else: it cannot be copied, nor be a layer of an overlay.
/// So there is nothing else to be had of it here.
///
/// ```compile_fail
/// # use testbed_sys::mount::Detached;
/// fn copied(mount: &Detached) -> std::io::Result<Detached> {
///     mount.copy(c"")
/// }
/// ```
#[derive(Debug)]
pub struct Detached(OwnedFd);

/// A mount that is attached in some mount namespace. Whoever is in that namespace can copy it, and make it a layer.
///
/// ```
/// # use testbed_sys::mount::{Attached, Detached};
/// fn copied(mount: &Attached) -> std::io::Result<Detached> {
///     mount.copy(c"")
/// }
/// ```
#[derive(Debug)]
pub struct Attached(OwnedFd);

/// A folder of an [`Attached`] mount.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Detached {
    /// Attaches it on what stands at a path (which may itself be covered by a mount).
    ///
    /// # Errors
    /// Those of move_mount(2).
    pub fn attach(self, folder: BorrowedFd<'_>, path: impl Arg) -> io::Result<Attached> {
        move_mount(&self.0, c"", folder, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(Attached(self.0))
    }

    /// Attaches it on what an open descriptor names.
    ///
    /// # Errors
    /// Those of move_mount(2).
    pub fn attach_on(self, place: BorrowedFd<'_>) -> io::Result<Attached> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&self.0, c"", place, c"", flags)?;
        Ok(Attached(self.0))
    }
}

impl Attached {
    /// A copy of it that shows what stands at a path in it. Mounts below it are left out.
    ///
    /// # Errors
    /// Those of open_tree(2).
    pub fn copy(&self, path: impl Arg) -> io::Result<Detached> {
        copy_of(self.0.as_fd(), path, false)
    }

    /// A folder in it.
    ///
    /// # Errors
    /// Those of openat2(2), which follows no link here.
    pub fn folder(&self, path: impl Arg) -> io::Result<Folder> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH | OFlags::NOFOLLOW;
        Ok(Folder(openat2(&self.0, path, flags, Mode::empty(), ResolveFlags::BENEATH)?))
    }
}

/// A mount of what stands at a path of this mount namespace: a copy of one mount, or of all below it too.
///
/// # Errors
/// Those of open_tree(2).
pub fn copy_of_path(path: impl Arg, recursive: bool) -> io::Result<Detached> {
    copy_of(CWD, path, recursive)
}

fn copy_of(folder: BorrowedFd<'_>, path: impl Arg, recursive: bool) -> io::Result<Detached> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(Detached(open_tree(folder, path, flags)?))
}

/// What [`alter`] changes about a mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alteration<'a> {
    /// Show owners as this user namespace maps them.
    pub ids: Option<BorrowedFd<'a>>,
    /// Nothing can be written through it.
    pub read_only: bool,
    /// Nothing that happens to it is seen elsewhere, and the other way round.
    pub private: bool,
}

/// Adds attributes to a mount: nothing can be executed through it, and the like (mount_setattr(2)).
///
/// # Errors
/// Those of mount_setattr(2).
pub fn restrict(mount: &Detached, to: MountAttrFlags) -> io::Result<()> {
    // SAFETY: plain numbers, for which all zeroes is a value: nothing changes.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = u64::from(to.bits());
    set_attributes(mount, &attributes, false)
}

/// Changes attributes of a mount that is attached nowhere yet (mount_setattr(2)).
///
/// # Errors
/// Those of mount_setattr(2): EINVAL where the file system cannot be idmapped.
pub fn alter(mount: &Detached, alteration: Alteration<'_>, recursive: bool) -> io::Result<()> {
    // SAFETY: plain numbers, for which all zeroes is a value: nothing changes.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    if let Some(namespace) = alteration.ids {
        attributes.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attributes.userns_fd = namespace.as_raw_fd() as u64;
    }
    if alteration.read_only {
        attributes.attr_set |= libc::MOUNT_ATTR_RDONLY;
    }
    if alteration.private {
        attributes.propagation = libc::MS_PRIVATE;
    }
    set_attributes(mount, &attributes, recursive)
}

fn set_attributes(mount: &Detached, attributes: &libc::mount_attr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `attributes` outlives the call, and its size is told.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.0.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    })
}

/// Makes every mount of this mount namespace private, so that nothing done here is seen elsewhere.
///
/// # Errors
/// Those of mount(2).
pub fn make_all_private() -> io::Result<()> {
    use rustix::mount::{MountPropagationFlags, mount_change};
    Ok(mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}
