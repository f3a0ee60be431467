//! Waiting for descriptors, a time and the word to stop, all at once.

use super::Doing;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::BorrowedFd;
use std::time::{Duration, Instant};
use testbed_agent::Fault;

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken<const N: usize> {
    /// Something happened on the descriptors: what, in their order.
    Events([PollFlags; N]),
    /// The time has come.
    Time,
    /// The tool shall stop.
    Stop,
}

/// So many milliseconds from now.
pub(crate) fn after(ms: u32) -> Instant {
    Instant::now() + Duration::from_millis(ms.into())
}

/// Waits until something happens on a descriptor, `until` has come, or `stop` is readable. Descriptors with no flags
/// are left out.
pub(crate) fn wait<const N: usize>(
    stop: Option<BorrowedFd<'_>>,
    watched: [(BorrowedFd<'_>, PollFlags); N],
    until: Option<Instant>,
) -> Result<Woken<N>, Fault> {
    let wanted = watched.iter().filter(|(_, flags)| !flags.is_empty());
    let mut polled: Vec<PollFd<'_>> =
        wanted.map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
    polled.extend(stop.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout =
            left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => return Ok(Woken::Time),
            result => {
                result.doing("poll")?;
                break;
            }
        }
    }
    if stop.is_some() && polled.last().is_some_and(|last| !last.revents().is_empty()) {
        return Ok(Woken::Stop);
    }
    let mut happened = polled.iter().map(PollFd::revents);
    Ok(Woken::Events(watched.map(|(_, flags)| {
        if flags.is_empty() { flags } else { happened.next().unwrap_or(PollFlags::empty()) }
    })))
}
