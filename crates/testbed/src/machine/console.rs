//! The serial console of a machine with a kernel of its own: what is written there is kept, and can be answered.

use super::{Log, Machine, guest};
use crate::engine::link::lock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::fdpass;

/// A machine's console, through all its starts.
#[derive(Debug, Default)]
pub struct Console {
    log: Arc<Log>,
    /// What the hypervisor reads, of the last start.
    input: Mutex<Option<Arc<OwnedFd>>>,
}

impl Console {
    /// What the machine's kernel has written there, its programs, and its hypervisor.
    pub fn log(&self) -> Arc<Log> {
        Arc::clone(&self.log)
    }

    /// Types on it. What no program reads yet waits for one that does.
    ///
    /// # Errors
    /// [`FaultKind::Timeout`] when too much waits already, and nobody has read of it within `wait`;
    /// [`FaultKind::State`] when the machine has not started or has ended.
    pub fn write(&self, mut bytes: &[u8], wait: Duration) -> Result<(), Fault> {
        const DOING: &str = "type on the console";
        let unread = || {
            let fault = Fault::new(FaultKind::Timeout, format!("{DOING}: nobody reads it"));
            fault.hint("start a program there that does, for example `getty` or `cat /dev/ttyS0`")
        };
        let end = Instant::now() + wait;
        let input = lock(&self.input).clone();
        let input =
            input.ok_or_else(|| Fault::new(FaultKind::State, format!("{DOING} of a machine that is off")))?;
        while !bytes.is_empty() {
            match fdpass::send(input.as_fd(), bytes, &[]) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let left = end.saturating_duration_since(Instant::now());
                    let left =
                        Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
                    match poll(&mut [PollFd::new(&input, PollFlags::OUT)], Some(&left)) {
                        Ok(0) => return Err(unread()),
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(Fault::system(DOING, &error.into())),
                    }
                }
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    return Err(Fault::new(FaultKind::State, format!("{DOING} of a machine that has ended")));
                }
                Err(error) => return Err(Fault::system(DOING, &error)),
            }
        }
        Ok(())
    }

    /// A hypervisor that starts has the other end of this socket, which must not block.
    pub(super) fn connect(&self, socket: OwnedFd) -> Result<(), Fault> {
        rustix::io::ioctl_fionbio(&socket, true).doing("set up a console")?;
        *lock(&self.input) = Some(Arc::new(socket));
        Ok(())
    }
}

impl Machine {
    /// The console of a kernel of its own.
    ///
    /// # Errors
    /// [`FaultKind::Unsupported`] for a machine with the host's kernel.
    pub fn console(&self) -> Result<Arc<Console>, Fault> {
        let shared = || {
            let fault =
                self.fault(FaultKind::Unsupported, "reach the console of a machine with the host's kernel");
            fault.hint(format!("`testbed shell {}` gives a terminal there", self.name()))
        };
        self.core().guest.as_ref().map(guest::Guest::console).ok_or_else(shared)
    }
}
