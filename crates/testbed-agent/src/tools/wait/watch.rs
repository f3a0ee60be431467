//! Files that come into being, and lines that are written to them: inotify(7).

use super::super::wake::{Woken, after, wait};
use super::super::{Doing, ToolIo, invalid};
use super::stopped;
use rustix::event::PollFlags;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::io::Errno;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use testbed_agent::Fault;

/// Some file systems tell nothing (virtiofs, a change on the other side of NFS, a link whose target appears): look
/// again after so long even without an event.
const BACKSTOP_MS: u32 = 500;

/// Waits until something stands at the path; where a symbolic link leads does not matter.
pub(super) fn until_exists(path: &str, io: &ToolIo<'_>) -> Result<(), Fault> {
    let path = absolute(path)?;
    loop {
        // Watching comes first: what happens between the look and the wait is an event then.
        let events = watch_around(path)?;
        match path.symlink_metadata() {
            Ok(_) => return Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(Fault::system("look for", &error).at(path.display().to_string())),
        }
        sleep(&events, io)?;
    }
}

/// Waits until the file has a line with the text in it; one that is replaced or cut is read from its beginning again.
pub(super) fn until_line(path: &str, text: &str, io: &ToolIo<'_>) -> Result<(), Fault> {
    if text.is_empty() || text.contains('\n') {
        return Err(invalid("wait for a text that is empty or longer than a line"));
    }
    let path = absolute(path)?;
    let mut reader: Option<Reader> = None;
    loop {
        let events = watch_around(path)?;
        if reader.as_ref().is_none_or(|reader| reader.is_outdated(path)) {
            reader = Reader::open(path)?;
        }
        if let Some(reader) = &mut reader
            && reader.finds(text.as_bytes()).doing_to("read", path.display().to_string())?
        {
            return Ok(());
        }
        sleep(&events, io)?;
    }
}

fn absolute(path: &str) -> Result<&Path, Fault> {
    let path = Path::new(path);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(invalid("wait for a path that is not absolute").at(path.display().to_string()))
    }
}

/// Watches the path itself, if it is there, and the nearest folder above it that is.
fn watch_around(path: &Path) -> Result<OwnedFd, Fault> {
    let events = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
        .doing("watch for changes")
        .map_err(|fault| fault.hint("fs.inotify.max_user_instances of the host may be too low"))?;
    let inside = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
    let itself = WatchFlags::MODIFY | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF | WatchFlags::ATTRIB;
    let watches = path.ancestors().enumerate();
    for (above, place) in watches {
        let flags = if above == 0 { itself } else { inside };
        match add_watch(&events, place, flags) {
            Ok(_) if above > 0 => break,
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(Fault::system("watch", &error.into()).at(place.display().to_string())),
        }
    }
    Ok(events)
}

fn sleep(events: &OwnedFd, io: &ToolIo<'_>) -> Result<(), Fault> {
    match wait(io.stop, [(events.as_fd(), PollFlags::IN)], Some(after(BACKSTOP_MS)))? {
        Woken::Stop => Err(stopped()),
        Woken::Events(_) | Woken::Time => Ok(()),
    }
}

/// A file that is read as far as it goes.
struct Reader {
    file: File,
    /// The end of what was read, in which a match may begin.
    tail: Vec<u8>,
}

impl Reader {
    /// Opens the file if it is there.
    fn open(path: &Path) -> Result<Option<Reader>, Fault> {
        match File::open(path) {
            Ok(file) => Ok(Some(Reader { file, tail: Vec::new() })),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(Fault::system("open", &error).at(path.display().to_string())),
        }
    }

    /// Another file has the name now, or this one was cut.
    fn is_outdated(&self, path: &Path) -> bool {
        let (Ok(ours), Ok(named)) = (self.file.metadata(), path.metadata()) else { return true };
        let read = (&self.file).stream_position().unwrap_or(0);
        (ours.dev(), ours.ino()) != (named.dev(), named.ino()) || ours.len() < read
    }

    fn finds(&mut self, text: &[u8]) -> std::io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let length = match self.file.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                length => length?,
            };
            if length == 0 {
                return Ok(false);
            }
            self.tail.extend_from_slice(&buffer[..length]);
            // The text has no line end, so wherever it stands, it stands in one line.
            if self.tail.windows(text.len()).any(|window| window == text) {
                return Ok(true);
            }
            let keep = self.tail.len().min(text.len() - 1);
            self.tail.drain(..self.tail.len() - keep);
        }
    }
}
