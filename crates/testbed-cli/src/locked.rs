//! Folders that say whether who made them still lives: each has a file that is locked for just so long.

use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, open, stat};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LOCK: &str = "lock";

/// Who only looks whether a maker lives, or sweeps, holds a lock no longer than this.
const MOMENT: Duration = Duration::from_millis(200);

/// A folder of this process. Dropped, it is removed with all in it.
#[derive(Debug)]
pub(crate) struct LockedFolder {
    path: PathBuf,
    _lock: OwnedFd,
}

impl LockedFolder {
    /// Makes the folder, or takes over what is left of one. None if its maker lives.
    ///
    /// # Errors
    /// Those of making it.
    pub(crate) fn claim(path: &Path) -> io::Result<Option<LockedFolder>> {
        let end = Instant::now() + MOMENT;
        loop {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            let lock = match lock(path, true) {
                Ok(Some(lock)) => lock,
                Ok(None) if Instant::now() >= end => return Ok(None),
                Ok(None) => {
                    std::thread::sleep(MOMENT / 20);
                    continue;
                }
                // Somebody swept it in between.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            clear(path)?;
            return Ok(Some(LockedFolder { path: path.to_owned(), _lock: lock }));
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LockedFolder {
    fn drop(&mut self) {
        // What cannot be removed now is swept later.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Whether the folder's maker lives.
pub(crate) fn is_alive(path: &Path) -> bool {
    matches!(lock(path, false), Ok(None))
}

/// Removes the folders below this one whose makers have gone.
pub(crate) fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        // Held until the folder is gone, so that nobody claims it in between.
        if let Ok(Some(_lock)) = lock(&path, false) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Locks a folder. None if somebody else has.
fn lock(path: &Path, create: bool) -> Result<Option<OwnedFd>, Errno> {
    let file = path.join(LOCK);
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let flags = if create { flags | OFlags::CREATE } else { flags };
    let lock = open(&file, flags, Mode::RUSR | Mode::WUSR)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error),
    }
    let (ours, there) = (fstat(&lock)?, stat(&file)?);
    if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino) {
        Ok(Some(lock))
    } else {
        Err(Errno::NOENT)
    }
}

/// Removes what whoever had the folder before has left.
fn clear(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten().filter(|entry| entry.file_name() != LOCK) {
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
