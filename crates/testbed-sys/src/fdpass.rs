//! Descriptors through Unix sockets (unix(7), SCM_RIGHTS).

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

/// The most descriptors that one message carries here.
pub const MOST: usize = 16;

/// A connected pair of stream sockets, closed on exec.
///
/// # Errors
/// Those of socketpair(2).
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(SocketType::STREAM)
}

/// A connected pair of sockets that keep message bounds, closed on exec.
///
/// # Errors
/// Those of socketpair(2).
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(SocketType::SEQPACKET)
}

fn pair(kind: SocketType) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
}

/// Closes a descriptor, the last of its file, without waiting until the kernel has taken the file down.
///
/// Closing a packet socket waits for a grace period of the kernel: tens of milliseconds, and so many for each. So the
/// descriptor is put into the queue of a socket that nothing but its own queue refers to; the kernel collects such
/// sockets behind our back (unix(7), `net/unix/garbage.c`). Where that cannot be had it is simply closed.
pub fn close_behind(fd: OwnedFd) {
    let Ok((own, other)) = stream_pair() else { return };
    // Once both ends are closed, `own` lives by the descriptor of it that waits in its queue.
    let _ = send(other.as_fd(), &[0], &[own.as_fd(), fd.as_fd()]);
}

/// Sends bytes, the descriptors travelling with the first of them; returns how many bytes went.
///
/// # Errors
/// Those of sendmsg(2); EINVAL for more than [`MOST`] descriptors.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MOST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// Receives bytes and appends the descriptors that came with them; 0 bytes mean the other end is closed.
///
/// # Errors
/// Those of recvmsg(2).
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    Ok(message.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    #[test]
    fn what_is_closed_behind_goes() {
        let (kept, given) = stream_pair().unwrap();
        close_behind(given);
        // The other end hears of it once the file is gone.
        let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
        let mut polled = [PollFd::new(&kept, PollFlags::IN)];
        assert_eq!(poll(&mut polled, Some(&limit)).unwrap(), 1);
        assert_eq!(rustix::io::read(&kept, &mut [0_u8; 1]).unwrap(), 0);
    }
}
