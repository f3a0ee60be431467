//! How overlay marks a folder that hides those below it (Documentation/filesystems/overlayfs.rst, "userxattr").
//!
//! There are two marks, and an overlay knows one of them. Machines' overlays have `userxattr`, which root of a user
//! namespace can mount, but for those of root on kernels whose tmpfs has no attributes of users (before Linux 6.6).

use rustix::fd::AsFd;
use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;

const USER: &CStr = c"user.overlay.opaque";
const TRUSTED: &CStr = c"trusted.overlay.opaque";
const VALUE: &[u8] = b"y";
/// No archive may set an attribute that begins so.
pub(super) const RESERVED: &[u8] = b"user.overlay.";

/// Marks a folder for every overlay that this process may mark it for: with `userxattr`, and as the host's root without it
/// as well.
///
/// # Errors
/// Those of fsetxattr(2): ENOTSUP where the file system has no such attributes.
pub fn mark(folder: impl AsFd) -> io::Result<()> {
    let trusted = mark_as(&folder, TRUSTED);
    mark_as(&folder, USER).or_else(|error| trusted.map_err(|_| error))
}

/// Marks a folder for overlays with `userxattr`.
///
/// # Errors
/// Those of fsetxattr(2): ENOTSUP where the file system has no attributes of users.
pub fn mark_by_user(folder: impl AsFd) -> io::Result<()> {
    mark_as(folder, USER)
}

fn mark_as(folder: impl AsFd, name: &CStr) -> io::Result<()> {
    Ok(fsetxattr(folder, name, VALUE, XattrFlags::empty())?)
}

/// Whether a folder is marked for any overlay.
///
/// # Errors
/// Those of fgetxattr(2), but for a folder without the mark.
pub(super) fn is_marked(folder: impl AsFd) -> io::Result<bool> {
    for name in [USER, TRUSTED] {
        let mut value = [0_u8; 4];
        match fgetxattr(&folder, name, &mut value[..]) {
            Ok(length) if &value[..length] == VALUE => return Ok(true),
            Ok(_) | Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}
