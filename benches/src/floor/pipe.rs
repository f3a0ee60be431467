//! A pipe that is read to its end.

use crate::Outcome;
use rustix::fd::OwnedFd;

/// Reads until nobody writes any more; gives how many bytes came.
pub(crate) fn drain(pipe: &OwnedFd) -> Outcome<u64> {
    let mut buffer = vec![0_u8; 128 * 1024];
    let mut total = 0;
    loop {
        match rustix::io::read(pipe, &mut buffer[..]) {
            Ok(0) => return Ok(total),
            Ok(n) => total += n as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
