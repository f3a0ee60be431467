//! The kernel's random numbers.

use rustix::fs::{Mode, OFlags};
use rustix::ioctl;
use std::io;

/// random(4): `RNDADDENTROPY` is `_IOW('R', 0x03, int [2])`, `RNDRESEEDCRNG` is `_IO('R', 0x07)`.
const ADD: ioctl::Opcode = ioctl::opcode::write::<[i32; 2]>(b'R', 0x03);
const RESEED: ioctl::Opcode = ioctl::opcode::none(b'R', 0x07);

/// `struct rand_pool_info` with room for a seed.
#[repr(C)]
struct Pool {
    bits: i32,
    bytes: i32,
    seed: [u8; 32],
}

/// Stirs a secret seed in, and has everybody's numbers depend on it from now on. Needs the right to administer the
/// system.
///
/// # Errors
/// Those of ioctl(2).
pub fn reseed(seed: [u8; 32]) -> io::Result<()> {
    let device = rustix::fs::open(c"/dev/urandom", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let pool = Pool { bits: seed.len() as i32 * 8, bytes: seed.len() as i32, seed };
    // SAFETY: `RNDADDENTROPY` reads a `struct rand_pool_info`, whose layout `Pool` has, and no more than `bytes` behind
    // its two numbers; `RNDRESEEDCRNG` takes no argument.
    unsafe {
        ioctl::ioctl(&device, ioctl::Setter::<ADD, Pool>::new(pool))?;
        ioctl::ioctl(&device, ioctl::NoArg::<RESEED>::new())?;
    }
    Ok(())
}
