//! How overlay marks a folder that hides those below it (Documentation/filesystems/overlayfs.rst, "userxattr").

pub(super) const NAME: &std::ffi::CStr = c"user.overlay.opaque";
pub(super) const VALUE: &[u8] = b"y";
/// No archive may set an attribute that begins so.
pub(super) const RESERVED: &[u8] = b"user.overlay.";
