//! TAP devices: the end of a network that user space holds (Documentation/networking/tuntap.rst).

use crate::process::check;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::io;

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;

#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: i16,
    _rest: [u8; 22],
}

/// Makes a TAP device in the calling process's network namespace. The descriptor reads and writes whole Ethernet
/// frames. The device stays when it is closed, and goes with its namespace: closing a device that does not stay costs
/// its closer tens of milliseconds.
///
/// # Errors
/// Those of opening `/dev/net/tun`, and EBUSY if the name is taken.
pub fn make(name: &str) -> io::Result<OwnedFd> {
    let fd =
        rustix::fs::open(c"/dev/net/tun", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    let mut request = Request { name: [0; 16], flags: IFF_TAP | IFF_NO_PI, _rest: [0; 22] };
    if name.len() >= request.name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: `request` has the size and shape of struct ifreq and outlives both calls; the second takes a number.
    unsafe {
        check(libc::ioctl(fd.as_raw_fd(), TUNSETIFF, &raw mut request))?;
        check(libc::ioctl(fd.as_raw_fd(), TUNSETPERSIST, 1 as libc::c_ulong))?;
    }
    Ok(fd)
}
