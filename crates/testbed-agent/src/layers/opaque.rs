//! How overlay marks a folder that hides those below it (Documentation/filesystems/overlayfs.rst, "userxattr").

use rustix::fd::AsFd;
use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;

const NAME: &CStr = c"user.overlay.opaque";
const VALUE: &[u8] = b"y";
/// No archive may set an attribute that begins so.
pub(super) const RESERVED: &[u8] = b"user.overlay.";

/// Marks a folder.
///
/// # Errors
/// Those of fsetxattr(2): ENOTSUP where the file system has no attributes of users.
pub fn mark(folder: impl AsFd) -> io::Result<()> {
    Ok(fsetxattr(folder, NAME, VALUE, XattrFlags::empty())?)
}

/// Whether a folder is marked.
///
/// # Errors
/// Those of fgetxattr(2), but for a folder without the mark.
pub(super) fn is_marked(folder: impl AsFd) -> io::Result<bool> {
    let mut value = [0_u8; 4];
    match fgetxattr(folder, NAME, &mut value[..]) {
        Ok(length) => Ok(&value[..length] == VALUE),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
