//! A folder of the store for what is no layer yet.

use super::store::private_folder;
use crate::engine::hands::Hands;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use testbed_agent::{Doing as _, Fault};

/// What the names of such folders begin with.
const PREFIX: &str = "import-";

/// A folder that goes with this value, or, after a killed process, when the store is opened next: the lock on it says
/// that somebody works in it.
#[derive(Debug)]
pub(super) struct Workplace {
    path: PathBuf,
    /// What removes it.
    hands: Hands,
    /// Held for its lock.
    _lock: File,
}

impl Workplace {
    /// A new one in this folder.
    pub(super) fn make(temporary: &Path, hands: &Hands) -> Result<Workplace, Fault> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let doing = "make a folder for an import";
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = temporary.join(format!("{PREFIX}{}-{number}", std::process::id()));
            let shown = path.display().to_string();
            if path.exists() {
                continue;
            }
            private_folder(&path).doing_to(doing, &shown)?;
            // One who sweeps may have been faster than the lock.
            match lock(&path) {
                Ok(Some(lock)) => return Ok(Workplace { path, hands: hands.clone(), _lock: lock }),
                Ok(None) => {}
                Err(error) => return Err(Fault::system(doing, &error).at(shown)),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes a folder in which nobody works any more, if it is one of these.
    pub(super) fn sweep(path: &Path, hands: &Hands) -> Result<(), Fault> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with(PREFIX) {
            return Ok(());
        }
        match lock(path).doing_to("lock", path.display().to_string())? {
            Some(_lock) => hands.remove(path),
            None => Ok(()),
        }
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // What stays is swept by the next command.
        let _ = self.hands.remove(&self.path);
    }
}

/// The lock of a folder; none if somebody has it, or the folder is gone.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder: File = match openat(CWD, path, flags, Mode::empty()) {
        Ok(folder) => folder.into(),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let same = |there: std::fs::Metadata, here: std::fs::Metadata| there.ino() == here.ino();
    match path.symlink_metadata() {
        Ok(there) => Ok(same(there, folder.metadata()?).then_some(folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
