//! What programs of machines write: the last of it is kept, and can be followed and searched.

use crate::engine::link::lock;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;
use testbed_agent::{Doing as _, Fault};

/// So much of what a program has written last is kept, in bytes.
const KEPT: usize = 1 << 20;

/// What a program has written, the last of it.
#[derive(Debug, Default)]
pub struct Log {
    state: Mutex<LogState>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    kept: VecDeque<u8>,
    /// Bytes that were written in all.
    total: u64,
    closed: bool,
    /// How often the program was started before, and what had been written by then.
    starts: u32,
    since: u64,
}

impl Log {
    /// All that is kept.
    pub fn bytes(&self) -> Vec<u8> {
        lock(&self.state).kept.iter().copied().collect()
    }

    /// The last bytes, as text.
    pub fn tail(&self, length: usize) -> String {
        let state = lock(&self.state);
        let skip = state.kept.len().saturating_sub(length);
        let bytes: Vec<u8> = state.kept.iter().skip(skip).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where the last lines begin that are kept, as an offset for [`Log::follow`].
    pub fn last_lines(&self, count: usize) -> u64 {
        let state = lock(&self.state);
        // The end of the last line is no beginning.
        let ends = state.kept.iter().enumerate().rev().skip(1).filter(|(_, byte)| **byte == b'\n');
        let skip = ends.map(|(at, _)| at + 1).nth(count.saturating_sub(1)).unwrap_or(0);
        state.total - (state.kept.len() - skip) as u64
    }

    /// What was written from an offset on, waiting until there is something or nothing more comes: the bytes and the
    /// offset behind them. None at the end.
    pub fn follow(&self, from: u64, deadline: Option<Instant>) -> Option<(Vec<u8>, u64)> {
        self.next(from, deadline, &AtomicBool::new(false))
    }

    /// As [`Log::follow`], until `stopped`; to be followed by [`Log::wake`].
    pub(crate) fn follow_unless(&self, from: u64, stopped: &AtomicBool) -> Option<(Vec<u8>, u64)> {
        self.next(from, None, stopped)
    }

    /// Has those who follow it look again.
    pub(crate) fn wake(&self) {
        // Whoever follows is either before its look, and sees what changed, or asleep.
        drop(lock(&self.state));
        self.grown.notify_all();
    }

    fn next(&self, from: u64, deadline: Option<Instant>, stopped: &AtomicBool) -> Option<(Vec<u8>, u64)> {
        let mut state = lock(&self.state);
        loop {
            if state.total > from {
                let first = state.total - state.kept.len() as u64;
                let skip = from.saturating_sub(first) as usize;
                return Some((state.kept.iter().skip(skip).copied().collect(), state.total));
            }
            if state.closed || stopped.load(Ordering::Acquire) {
                return None;
            }
            state = match deadline {
                None => self.grown.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Some((Vec::new(), from));
                    }
                    self.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// The program starts again: what it writes comes behind what is there. Returns the number of the start.
    fn reopen(&self) -> u32 {
        let mut state = lock(&self.state);
        state.closed = false;
        state.starts += 1;
        state.since = state.total;
        state.starts
    }

    /// Waits until nothing more comes, or the deadline has passed.
    pub(crate) fn wait_closed(&self, deadline: Instant) {
        let mut from = 0;
        while let Some((_, next)) = self.follow(from, Some(deadline)).filter(|_| Instant::now() < deadline) {
            from = next;
        }
    }

    /// Nothing more comes, unless whatever writes it is started again.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    fn push(&self, bytes: &[u8]) {
        let mut state = lock(&self.state);
        state.kept.extend(bytes);
        let over = state.kept.len().saturating_sub(KEPT);
        state.kept.drain(..over);
        state.total += bytes.len() as u64;
        drop(state);
        self.grown.notify_all();
    }

    /// Nothing more comes of this start. What is left of a former one may be read late.
    fn close(&self, start: u32) {
        let mut state = lock(&self.state);
        state.closed |= state.starts == start;
        drop(state);
        self.grown.notify_all();
    }

    /// Waits until a line that was written since the program's last start contains the text. False once nothing more comes, or the deadline has passed.
    pub fn wait_for(&self, text: &str, deadline: Instant) -> bool {
        let wanted = text.as_bytes();
        let mut from = lock(&self.state).since;
        let mut carried: Vec<u8> = Vec::new();
        while let Some((bytes, next)) = self.follow(from, Some(deadline)) {
            if next == from {
                return false;
            }
            carried.extend(bytes);
            if wanted.is_empty() || carried.windows(wanted.len()).any(|w| w == wanted) {
                return true;
            }
            // A text may be cut between two pieces.
            let keep = carried.len().min(wanted.len() - 1);
            carried.drain(..carried.len() - keep);
            from = next;
        }
        false
    }
}

/// What one start of a program writes to.
struct Pipe {
    fd: OwnedFd,
    start: u32,
    log: Arc<Log>,
}

/// A thread that reads what programs write.
pub(crate) struct LogReader {
    pipes: Mutex<Vec<Pipe>>,
    wake: OwnedFd,
}

impl LogReader {
    pub(crate) fn start() -> Result<Arc<LogReader>, Fault> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).doing("make an eventfd")?;
        let reader = Arc::new(LogReader { pipes: Mutex::default(), wake });
        let weak = Arc::downgrade(&reader);
        let wake = reader.wake.try_clone().doing("copy a descriptor")?;
        std::thread::Builder::new()
            .name("testbed-logs".into())
            .spawn(move || {
                let mut pipes: Vec<Pipe> = Vec::new();
                loop {
                    match weak.upgrade() {
                        Some(reader) => pipes.append(&mut lock(&reader.pipes)),
                        // Nobody can add more, and what is there ends with the machines.
                        None if pipes.is_empty() => return,
                        None => {}
                    }
                    if read_once(&mut pipes, &wake).is_err() {
                        return;
                    }
                }
            })
            .doing("start a thread")?;
        Ok(reader)
    }

    /// What comes out of the pipe goes to the end of the log, until the pipe ends.
    pub(crate) fn add(&self, fd: OwnedFd, log: &Arc<Log>) -> Result<(), Fault> {
        rustix::io::ioctl_fionbio(&fd, true).doing("set up a pipe")?;
        lock(&self.pipes).push(Pipe { fd, start: log.reopen(), log: Arc::clone(log) });
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        // A counter that is full is awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.wake();
    }
}

fn read_once(pipes: &mut Vec<Pipe>, wake: &OwnedFd) -> Result<(), Errno> {
    let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(pipes.len() + 1);
    polled.push(PollFd::new(wake, PollFlags::IN));
    polled.extend(pipes.iter().map(|pipe| PollFd::new(&pipe.fd, PollFlags::IN)));
    match poll(&mut polled, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error),
    }
    let mut ready: Vec<bool> = polled.iter().map(|p| !p.revents().is_empty()).collect();
    drop(polled);
    if ready.remove(0) {
        let _ = rustix::io::read(wake, &mut [0_u8; 8]);
    }
    let mut buffer = [0_u8; 32 * 1024];
    let mut ready = ready.into_iter();
    pipes.retain(|Pipe { fd, start, log }| {
        if !ready.next().unwrap_or(false) {
            return true;
        }
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => {
                log.close(*start);
                false
            }
            Ok(n) => {
                log.push(&buffer[..n]);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => {
                log.close(*start);
                false
            }
        }
    });
    Ok(())
}
