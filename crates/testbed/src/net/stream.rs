//! An interface of a virtual machine: a port of a switch that speaks to a hypervisor.
//!
//! On the socket each frame stands behind its length, 32 bits with the most significant byte first (QEMU, `-netdev
//! socket`).

use super::switch::{Frames, MOST_FRAME, Port, Watch};
use rustix::event::epoll::EventFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A hypervisor that does not read loses frames once so many bytes wait for it.
const MOST_WAITING: usize = 1 << 20;
/// Bytes that are read before others have their turn.
const BURST: usize = 256 * 1024;
/// What stands before a frame.
const LENGTH: usize = 4;

/// Which of its two descriptors is ready: what comes is told as long as it is there, and room once it is made.
const READABLE: u32 = 0;
const WRITABLE: u32 = 1;

/// The port. It passes nothing while it is cut.
pub struct Stream {
    /// None once the other side has gone, or has sent what are no frames. Closed, it is forgotten by the poll.
    ends: Option<Ends>,
    cut: Arc<AtomicBool>,
    input: Vec<u8>,
    waiting: VecDeque<u8>,
    buffer: Vec<u8>,
}

struct Ends {
    socket: OwnedFd,
    /// The same socket, watched for room alone.
    room: OwnedFd,
}

impl Stream {
    /// The port of this socket.
    ///
    /// # Errors
    /// Limits of the system.
    pub fn new(socket: OwnedFd, cut: Arc<AtomicBool>) -> io::Result<Stream> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Stream {
            ends: Some(Ends { room: socket.try_clone()?, socket }),
            cut,
            input: Vec::new(),
            waiting: VecDeque::new(),
            buffer: vec![0; BURST],
        })
    }

    fn write(&mut self) {
        while let (Some(ends), false) = (&self.ends, self.waiting.is_empty()) {
            match rustix::io::write(&ends.socket, self.waiting.as_slices().0) {
                Ok(length) => drop(self.waiting.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.ends = None,
            }
        }
    }

    /// Passes on the frames that are whole.
    fn take_frames(&mut self, out: &mut Frames) {
        let mut rest = &self.input[..];
        while let Some((length, behind)) = rest.split_first_chunk::<LENGTH>() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > MOST_FRAME {
                self.ends = None;
                return;
            }
            let Some((frame, behind)) = behind.split_at_checked(length) else { break };
            if !self.cut.load(Ordering::Relaxed) {
                out.push(frame);
            }
            rest = behind;
        }
        let taken = self.input.len() - rest.len();
        self.input.drain(..taken);
    }
}

impl Port for Stream {
    fn begin(&mut self, watch: Watch) -> io::Result<()> {
        let Some(ends) = &self.ends else { return Ok(()) };
        watch.add(&ends.socket, READABLE, EventFlags::IN)?;
        watch.add(&ends.room, WRITABLE, EventFlags::OUT | EventFlags::ET)
    }

    fn frame(&mut self, frame: &[u8], _: &mut Frames) {
        if self.ends.is_none() || self.cut.load(Ordering::Relaxed) || self.waiting.len() > MOST_WAITING {
            return;
        }
        self.waiting.extend((frame.len() as u32).to_be_bytes());
        self.waiting.extend(frame);
        self.write();
    }

    fn is_gone(&self) -> bool {
        self.ends.is_none()
    }

    fn ready(&mut self, key: u32, _: EventFlags, out: &mut Frames) {
        if key == WRITABLE {
            return self.write();
        }
        let Some(ends) = &self.ends else { return };
        match rustix::io::read(&ends.socket, &mut self.buffer[..]) {
            Ok(length) if length > 0 => {
                self.input.extend_from_slice(&self.buffer[..length]);
                self.take_frames(out);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => self.ends = None,
        }
    }
}
