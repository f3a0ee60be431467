//! What the agent and its keeper speak over.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::io;
use testbed_sys::fdpass;

/// The agent's end.
pub(super) enum Line {
    /// A socket, which descriptors come through as well.
    Socket(OwnedFd),
    /// A port of the hypervisor that the machine's kernel runs on: bytes and nothing else.
    Port(OwnedFd),
}

impl Line {
    /// Takes bytes, and appends the descriptors that came with them; 0 bytes mean that the keeper is gone.
    pub(super) fn receive(&self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        match self {
            Line::Socket(socket) => fdpass::receive(socket.as_fd(), bytes, fds),
            Line::Port(port) => Ok(rustix::io::read(port, bytes)?),
        }
    }

    /// Gives bytes, and says how many were taken.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Line::Socket(socket) => fdpass::send(socket.as_fd(), bytes, &[]),
            Line::Port(port) => Ok(rustix::io::write(port, bytes)?),
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Line::Socket(fd) | Line::Port(fd) => fd.as_fd(),
        }
    }
}
