//! A network's trunk, carried to where no descriptor of it can go.

use super::wake::{Woken, wait};
use super::{Doing, ToolIo, interrupted, invalid};
use rustix::event::PollFlags;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::collections::VecDeque;
use testbed_agent::agent::Report;
use testbed_agent::{Fault, FaultKind};

/// The largest frame: no interface of a network has a larger MTU than 65,521 bytes.
const MOST_FRAME: usize = 65_536;
/// What stands before a frame.
const LENGTH: usize = 4;
/// Frames are lost once so many bytes wait for a reader.
const MOST_WAITING: usize = 1 << 20;

/// Passes frames until the stream ends.
pub(super) fn run(io: &mut ToolIo<'_>) -> Result<Report, Fault> {
    let trunk = io.device.ok_or_else(|| invalid("carry a trunk that is none"))?;
    rustix::io::ioctl_fionbio(io.output, true).doing("set up a stream")?;
    io.say_ready()?;
    let (mut input, mut waiting) = (Vec::new(), VecDeque::new());
    let mut buffer = vec![0; LENGTH + MOST_FRAME];
    loop {
        let room = if waiting.is_empty() { PollFlags::ERR } else { PollFlags::OUT };
        let watched = [(io.input, PollFlags::IN), (trunk, PollFlags::IN), (io.output, room)];
        let Woken::Events([heard, came, writable]) = wait(io.stop, watched, None)? else {
            return Err(interrupted("carry a trunk"));
        };
        if !came.is_empty() {
            take_frames(trunk, &mut buffer, &mut waiting)?;
        }
        if !waiting.is_empty() && !write(io.output, &mut waiting)? {
            return Ok(Report::Done);
        }
        if writable.contains(PollFlags::ERR) {
            return Ok(Report::Done);
        }
        if !heard.is_empty() {
            match rustix::io::read(io.input, &mut buffer) {
                Ok(0) => return Ok(Report::Done),
                Ok(length) => input.extend_from_slice(&buffer[..length]),
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(error) => return Err(Fault::system("read frames", &error.into())),
            }
            give_frames(trunk, &mut input)?;
        }
    }
}

/// Takes the frames that wait in the trunk, as far as there is room for them.
fn take_frames(trunk: BorrowedFd<'_>, buffer: &mut [u8], waiting: &mut VecDeque<u8>) -> Result<(), Fault> {
    loop {
        match rustix::io::read(trunk, &mut buffer[LENGTH..]) {
            Ok(length) if waiting.len() < MOST_WAITING => {
                buffer[..LENGTH].copy_from_slice(&(length as u32).to_be_bytes());
                waiting.extend(&buffer[..LENGTH + length]);
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(Fault::system("read a trunk", &error.into())),
        }
    }
}

/// Gives the trunk those frames of the input that are whole.
fn give_frames(trunk: BorrowedFd<'_>, input: &mut Vec<u8>) -> Result<(), Fault> {
    let mut rest = &input[..];
    while let Some((length, behind)) = rest.split_first_chunk::<LENGTH>() {
        let length = u32::from_be_bytes(*length) as usize;
        if length > MOST_FRAME {
            return Err(Fault::new(FaultKind::Protocol, "read frames: one is too long"));
        }
        let Some((frame, behind)) = behind.split_at_checked(length) else { break };
        // One that no trunk takes is lost, as on any network.
        let _ = rustix::io::write(trunk, frame);
        rest = behind;
    }
    let taken = input.len() - rest.len();
    input.drain(..taken);
    Ok(())
}

/// Writes what waits, as far as it is taken; false if nobody reads it any more.
fn write(output: BorrowedFd<'_>, waiting: &mut VecDeque<u8>) -> Result<bool, Fault> {
    while !waiting.is_empty() {
        match rustix::io::write(output, waiting.as_slices().0) {
            Ok(length) => drop(waiting.drain(..length)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(true),
            Err(Errno::PIPE) => return Ok(false),
            Err(error) => return Err(Fault::system("write frames", &error.into())),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::{AsFd as _, OwnedFd};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use rustix::pipe::pipe;

    /// A socket that keeps packets apart, as a trunk does.
    fn trunk() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    #[test]
    fn frames_keep_their_boundaries_both_ways_and_the_end_of_the_stream_is_the_end() {
        let (network, device) = trunk();
        let ((input, to), (from, output)) = (pipe().unwrap(), pipe().unwrap());
        let tool = std::thread::spawn(move || {
            let mut ready = || Ok(());
            run(&mut ToolIo {
                input: input.as_fd(),
                output: output.as_fd(),
                device: Some(device.as_fd()),
                stop: None,
                env: &[],
                ready: &mut ready,
            })
        });
        // In pieces that are no frames.
        for piece in [&[0, 0, 0, 3, 1, 2][..], &[3, 0, 0], &[0, 1, 9]] {
            rustix::io::write(&to, piece).unwrap();
        }
        for frame in [&[1, 2, 3][..], &[9]] {
            let mut buffer = [0; 16];
            wait(None, [(network.as_fd(), PollFlags::IN)], Some(super::super::wake::after(5000))).unwrap();
            let length = rustix::io::read(&network, &mut buffer).unwrap();
            assert_eq!(&buffer[..length], frame);
        }
        rustix::io::write(&network, &[7; 300]).unwrap();
        let mut came = vec![0; 304];
        let mut length = 0;
        while length < came.len() {
            length += rustix::io::read(&from, &mut came[length..]).unwrap();
        }
        assert_eq!((&came[..4], &came[4..]), (&[0, 0, 1, 44][..], &[7; 300][..]));
        drop(to);
        assert_eq!(tool.join().unwrap().unwrap(), Report::Done);
    }

    #[test]
    fn what_is_too_long_is_a_fault() {
        let (_network, device) = trunk();
        let mut input = vec![0, 2, 0, 0, 1];
        assert_eq!(give_frames(device.as_fd(), &mut input).unwrap_err().kind, FaultKind::Protocol);
    }
}
