//! Files, pipes and sockets that are read while others may still write to them.

use crate::failure::Failure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, fstat, inotify};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is read at once, at most.
pub(super) const PIECE: usize = 256 * 1024;

/// What takes the bytes of an input.
pub(super) trait Feed {
    /// Room for the next bytes: some, and better [`PIECE`].
    fn room(&mut self) -> &mut [u8];
    /// The first `length` bytes of the room came at `now`.
    fn came(&mut self, now: Duration, length: usize) -> Result<(), Failure>;
    /// Nothing came until `now`.
    fn tick(&mut self, now: Duration) -> Result<(), Failure>;
    /// How long nothing may come before [`Feed::tick`] is to be called.
    fn wait(&self, now: Duration) -> Option<Duration>;
    /// Nothing more comes.
    fn end(&mut self) -> Result<(), Failure>;
}

/// Something that can be read.
pub(super) struct Source {
    fd: OwnedFd,
    name: String,
    /// It is a regular file: all of it can be read at once.
    is_file: bool,
}

impl Source {
    /// A file, or standard input where that is `-`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn open(path: &Path) -> Result<Source, Failure> {
        let (fd, name) = if path == Path::new("-") {
            (rustix::stdio::stdin().try_clone_to_owned(), "standard input".to_owned())
        } else {
            (File::open(path).map(OwnedFd::from), path.display().to_string())
        };
        let refused = |e: io::Error| Failure::call(format!("cannot read {name}: {e}"));
        let fd = fd.map_err(refused)?;
        let stat = fstat(&fd).map_err(|e| refused(e.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Err(refused(Errno::ISDIR.into())),
            kind => Ok(Source { fd, name, is_file: kind == FileType::RegularFile }),
        }
    }

    /// Whether somebody may still be writing to it, and that shows.
    pub(super) fn is_live(&self) -> bool {
        !self.is_file
    }

    /// What a program writes.
    pub(super) fn of_pipe(fd: OwnedFd, name: String) -> Source {
        Source { fd, name, is_file: false }
    }

    /// To read it by hand.
    pub(super) fn into_file(self) -> File {
        self.fd.into()
    }
}

/// An input and what takes its bytes.
pub(super) struct Input<F> {
    pub(super) source: Source,
    pub(super) feed: F,
}

/// Reads all inputs at once, to their ends.
///
/// `idle` is called when nothing is there to be read: what was written should go out then. It says how long to wait at
/// most. With `follow`, a regular file has no end: what is appended to it is read as well.
///
/// # Errors
/// When one cannot be read, and those of feeds and `idle`.
pub(super) fn read<F: Feed>(
    mut inputs: Vec<Input<F>>,
    follow: bool,
    idle: &mut dyn FnMut() -> Result<Option<Duration>, Failure>,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut growth = if follow { Some(Growth::of(&inputs)?) } else { None };
    while !inputs.is_empty() {
        let ready = ready(&inputs, &mut growth, begun, idle)?;
        for at in (0..inputs.len()).rev() {
            let (Some(input), now) = (inputs.get_mut(at), begun.elapsed()) else { continue };
            if !ready.get(at).copied().unwrap_or(false) {
                if input.feed.wait(now) == Some(Duration::ZERO) {
                    input.feed.tick(now)?;
                }
                continue;
            }
            match rustix::io::read(&input.source.fd, input.feed.room()) {
                Ok(0) if growth.is_some() && input.source.is_file => {
                    if let Some(growth) = &mut growth {
                        growth.awaited = true;
                    }
                }
                Ok(0) => {
                    input.feed.end()?;
                    inputs.remove(at);
                }
                Ok(length) => input.feed.came(now, length)?,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(e) => return Err(Failure::io(format!("read {}", input.source.name), e.into())),
            }
        }
    }
    Ok(())
}

/// Waits until an input can be read or a feed is to be told that nothing comes. Says which can be read.
fn ready<F: Feed>(
    inputs: &[Input<F>],
    growth: &mut Option<Growth>,
    begun: Instant,
    idle: &mut dyn FnMut() -> Result<Option<Duration>, Failure>,
) -> Result<Vec<bool>, Failure> {
    let files_wait = growth.as_ref().is_some_and(|growth| growth.awaited);
    if !files_wait && inputs.iter().all(|input| input.source.is_file) {
        return Ok(vec![true; inputs.len()]);
    }
    let mut ready = poll_all(inputs, growth.as_ref(), Some(Duration::ZERO))?;
    if !ready.contains(&true) {
        let longest = idle()?;
        let now = begun.elapsed();
        let wait = inputs.iter().filter_map(|input| input.feed.wait(now)).chain(longest).min();
        ready = poll_all(inputs, growth.as_ref(), wait)?;
    }
    if let Some(growth) = growth
        && growth.awaited
        && ready.iter().zip(inputs).any(|(ready, input)| *ready && input.source.is_file)
    {
        growth.seen()?;
    }
    Ok(ready)
}

fn poll_all<F>(
    inputs: &[Input<F>],
    growth: Option<&Growth>,
    wait: Option<Duration>,
) -> Result<Vec<bool>, Failure> {
    let polled = inputs.iter().map(|input| {
        // A file that is followed, and has been read to its end, can always be read. That it grew says more.
        let growth = growth.filter(|growth| growth.awaited && input.source.is_file);
        let fd = growth.map_or(&input.source.fd, |growth| &growth.fd);
        PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)
    });
    let mut polled: Vec<PollFd<'_>> = polled.collect();
    let timeout = wait.and_then(|wait| Timespec::try_from(wait).ok());
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
        Err(e) => Err(Failure::io("wait for input", e.into())),
    }
}

/// Tells when files grow: inotify(7).
struct Growth {
    fd: OwnedFd,
    /// A file has been read to its end since something was last seen to grow.
    awaited: bool,
}

impl Growth {
    fn of<F>(inputs: &[Input<F>]) -> Result<Growth, Failure> {
        let failed = |e: Errno| Failure::io("watch files", e.into());
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK);
        let fd = fd.map_err(failed)?;
        for input in inputs.iter().filter(|input| input.source.is_file) {
            let path = own_path(input.source.fd.as_fd());
            inotify::add_watch(&fd, &*path, inotify::WatchFlags::MODIFY).map_err(failed)?;
        }
        Ok(Growth { fd, awaited: false })
    }

    /// Something grew: files are to be read on.
    fn seen(&mut self) -> Result<(), Failure> {
        let mut events = [0_u8; 4096];
        loop {
            match rustix::io::read(&self.fd, &mut events) {
                Ok(_) => {}
                Err(Errno::AGAIN) => break,
                Err(e) => return Err(Failure::io("watch files", e.into())),
            }
        }
        self.awaited = false;
        Ok(())
    }
}

fn own_path(fd: BorrowedFd<'_>) -> String {
    use rustix::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
