//! Ctrl-C and requests to end.

use crate::exit::Exit;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::process::Signal;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What is done at the first request to end. The second ends this process at once, and all that hangs on it.
pub(crate) struct Interrupts {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    handler: Option<Box<dyn FnOnce() + Send>>,
    /// Somebody waits for the next request.
    awaited: bool,
    came: u32,
}

impl Interrupts {
    /// From now on such signals (SIGINT, SIGTERM, SIGHUP) reach this process as requests. To be called before there is
    /// a second thread, because each thread inherits which signals it does not take.
    ///
    /// # Errors
    /// When the signals cannot be had as a descriptor, or the thread that reads it cannot be started.
    pub(crate) fn catch() -> io::Result<Interrupts> {
        let signals = [Signal::INT, Signal::TERM, Signal::HUP].map(Signal::as_raw);
        let fd = testbed_sys::process::signal_fd(&signals)?;
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        std::thread::Builder::new().name("testbed-signals".into()).spawn(move || listen(&fd, &its))?;
        Ok(Interrupts { shared })
    }

    /// Has the next request do this.
    pub(crate) fn on_request(&self, handler: impl FnOnce() + Send + 'static) {
        self.shared.lock().handler = Some(Box::new(handler));
    }

    /// Waits for the next request.
    pub(crate) fn wait(&self) {
        let mut state = self.shared.lock();
        state.handler = None;
        state.awaited = true;
        let before = state.came;
        while state.came == before {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.awaited = false;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A signalfd_siginfo is this long (signalfd(2)).
const SIGNAL: usize = 128;

fn listen(fd: &OwnedFd, shared: &Shared) {
    loop {
        // Interrupted or not, what counts is whether there is something to read.
        let _ = poll(&mut [PollFd::new(fd, PollFlags::IN)], None);
        if !matches!(rustix::io::read(fd, &mut [0_u8; SIGNAL]), Ok(SIGNAL)) {
            continue;
        }
        let mut state = shared.lock();
        state.came += 1;
        match state.handler.take() {
            Some(handler) => {
                drop(state);
                handler();
            }
            None if state.awaited => shared.changed.notify_all(),
            // Nothing of a testbed outlives this process, so ending it is clean-up enough.
            None => testbed_sys::process::exit_now(Exit::Interrupted.code().into()),
        }
    }
}
