//! Block devices.

use rustix::fd::AsFd;
use rustix::ioctl;
use std::io;

/// `BLKFLSBUF`, `_IO(0x12, 97)` of `linux/fs.h`.
const FLUSH: ioctl::Opcode = ioctl::opcode::none(0x12, 97);

/// Has the kernel forget what it knows of a block device's content, because that has changed under it. Nothing of it may
/// be mounted.
///
/// # Errors
/// Those of ioctl(2).
pub fn forget_content(device: impl AsFd) -> io::Result<()> {
    // SAFETY: `BLKFLSBUF` takes no argument.
    unsafe { ioctl::ioctl(device, ioctl::NoArg::<FLUSH>::new())? };
    Ok(())
}
