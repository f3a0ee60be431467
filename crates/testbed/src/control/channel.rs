//! The keeper's side of a channel that it serves itself.

use crate::engine::link::{Link, lock};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use testbed_agent::agent::{Note, Steer};
use testbed_agent::control::Answer;
use testbed_agent::frame::{Frame, FrameError, Kind, MAX_DATA, Stream, WINDOW, encode_data};

/// A channel, and the thread that serves it waits on.
pub(super) struct Channel {
    link: Arc<Link>,
    number: u32,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Bytes that may still be sent.
    credit: u32,
    /// What has come and was not taken yet, at most [`WINDOW`] bytes.
    input: VecDeque<Vec<u8>>,
    waiting: usize,
    input_ended: bool,
    /// The client wants no more of it, but an answer.
    stopped: bool,
    /// The client has given it up, or is gone.
    over: bool,
    /// What stops whatever the thread waits for elsewhere.
    stop: Option<Box<dyn Fn() + Send>>,
}

impl Channel {
    pub(super) fn new(link: Arc<Link>, number: u32) -> Channel {
        let state = State {
            credit: WINDOW,
            input: VecDeque::new(),
            waiting: 0,
            input_ended: false,
            stopped: false,
            over: false,
            stop: None,
        };
        Channel { link, number, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// A frame of the client's.
    ///
    /// # Errors
    /// When it is none that may come now.
    pub(super) fn take(&self, frame: &Frame) -> Result<(), FrameError> {
        match frame.kind {
            Kind::Data => {
                let (stream, payload) = frame.data()?;
                let mut state = lock(&self.state);
                if stream != Stream::Input || state.waiting + payload.len() > WINDOW as usize {
                    return Err(FrameError::Body("credit"));
                }
                if !state.input_ended && !payload.is_empty() {
                    state.waiting += payload.len();
                    state.input.push_back(payload.to_vec());
                }
            }
            Kind::End => {
                frame.end()?;
                lock(&self.state).input_ended = true;
            }
            Kind::Credit => {
                let more = frame.credit()?;
                let mut state = lock(&self.state);
                state.credit = state.credit.saturating_add(more).min(WINDOW);
            }
            Kind::Steer => match frame.message("steering")? {
                // SIGINT and SIGTERM (signal(7)).
                Steer::Signal(2 | 15) => self.stop(false),
                Steer::Signal(_) | Steer::Resize { .. } => {}
            },
            Kind::Abort => self.stop(true),
            _ => return Err(FrameError::Body("direction")),
        }
        self.changed.notify_all();
        Ok(())
    }

    /// The client wants no more of it; `over`: not even an answer.
    pub(super) fn stop(&self, over: bool) {
        let mut state = lock(&self.state);
        state.stopped = true;
        state.over |= over;
        if let Some(stop) = &state.stop {
            stop();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Whether the client wants no more.
    pub(super) fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }

    /// Has this called when the client wants no more; at once if that is so already.
    pub(super) fn on_stop(&self, stop: impl Fn() + Send + 'static) {
        let mut state = lock(&self.state);
        if state.stopped {
            stop();
        }
        state.stop = Some(Box::new(stop));
    }

    /// Waits until the client wants no more, or `done` says that there is no more.
    pub(super) fn wait_stopped(&self, mut done: impl FnMut() -> bool) {
        let mut state = lock(&self.state);
        while !state.stopped && !done() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has [`Channel::wait_stopped`] look again.
    pub(super) fn wake(&self) {
        // Whoever waits is either before its look, and sees what changed, or asleep.
        drop(lock(&self.state));
        self.changed.notify_all();
    }

    pub(super) fn note(&self, note: &Note) {
        // A client that is gone needs no notes.
        let _ = self.link.send(self.number, Kind::Note, note, Vec::new());
    }

    /// Sends bytes to the client, as it gives credit.
    ///
    /// # Errors
    /// EPIPE once it wants no more.
    pub(super) fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut state = lock(&self.state);
            while state.credit == 0 && !state.over {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.over {
                return Err(rustix::io::Errno::PIPE.into());
            }
            let length = bytes.len().min(MAX_DATA).min(state.credit as usize);
            state.credit -= length as u32;
            drop(state);
            let mut frame = Vec::with_capacity(length + 16);
            encode_data(&mut frame, self.number, Stream::Output, &bytes[..length]);
            self.link.send_frames(frame).map_err(|_| io::Error::from(rustix::io::Errno::PIPE))?;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    /// The next bytes of the client; none when there are no more.
    pub(super) fn receive(&self) -> Option<Vec<u8>> {
        let mut state = lock(&self.state);
        loop {
            if state.stopped {
                return None;
            }
            if let Some(bytes) = state.input.pop_front() {
                state.waiting -= bytes.len();
                drop(state);
                let credit = (bytes.len() as u32).to_le_bytes();
                // A client that is gone needs no credit.
                let _ = self.link.send_raw(self.number, Kind::Credit, &credit);
                return Some(bytes);
            }
            if state.input_ended {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The end of the channel.
    pub(super) fn answer(&self, answer: &Answer) {
        // A client that is gone needs no answer.
        let _ = self.link.send(self.number, Kind::Reply, answer, Vec::new());
    }
}
