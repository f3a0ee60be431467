//! Layers on disk and in memory: written, copied, measured and removed.
//!
//! Root does that in any process. The files of an ordinary user who has a range of ids belong to those ids, and only a
//! process in a user namespace with the range can deal with them: that is a launcher, and what it is told is [`Work`].
//! So all of this is here, where both have it.

pub mod changes;
mod copy;
mod merged;
pub mod opaque;
mod put;
mod seal;
pub mod tree;
mod unpack;

pub use merged::{Attributes, Merged};
pub use put::{Content, Put, TEXT_MODE};
pub use seal::walk;
pub use unpack::{MOST_BYTES, Whiteouts, unpack};

use crate::{Doing as _, Fault, FaultKind};
use rustix::fd::{AsFd as _, OwnedFd};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A layer to be written into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its folder.
    pub folder: PathBuf,
    /// Those of the layers below it, top first.
    pub below: Vec<PathBuf>,
    /// How many ids can own what is in it; with one, all is the user's.
    pub ids: u32,
}

impl Target {
    /// Opens it.
    ///
    /// # Errors
    /// Those of openat(2).
    pub fn open(&self) -> Result<Merged, Fault> {
        Merged::open(&self.folder, self.below.iter().map(PathBuf::as_path), self.ids)
            .doing_to("open a layer", self.folder.display().to_string())
    }
}

/// Something to be done with layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Unpacks the archive that can be read from the descriptor handed in.
    Unpack(Target, Whiteouts),
    /// Copies this folder as a whole root file system.
    CopyRoot(Target, PathBuf),
    /// Puts files in.
    Put(Target, Vec<Put>),
    /// Makes a finished tree a layer, and measures it: the answer is how many bytes it takes.
    Seal(PathBuf),
    /// Removes a folder with all in it; one that is not there is fine.
    Remove(PathBuf),
    /// Tells, into the first descriptor that is handed in, what the upper layer in the second says over these layers of an
    /// image: for [`changes::read`].
    Touched(Vec<PathBuf>),
    /// Copies all that is in the first folder that is handed in to the second, which is empty.
    Copy,
}

impl Work {
    /// Does it, in this process.
    ///
    /// # Errors
    /// Those of the file system, and what is wrong with the input.
    pub fn carry_out(&self, handed: Vec<OwnedFd>) -> Result<u64, Fault> {
        let mut handed = handed.into_iter();
        let mut next = || {
            let missing = || Fault::new(FaultKind::Protocol, "work on a layer: a descriptor is missing");
            handed.next().ok_or_else(missing)
        };
        match self {
            Work::Unpack(target, whiteouts) => {
                unpack(std::fs::File::from(next()?), &target.open()?, *whiteouts)?;
            }
            Work::CopyRoot(target, source) => copy::copy_root(source, &target.open()?)?,
            Work::Put(target, entries) => put::put(&target.open()?, entries)?,
            Work::Seal(root) => return seal::seal(root),
            Work::Remove(path) => remove(path)?,
            Work::Touched(images) => {
                let (to, upper) = (std::io::BufWriter::new(std::fs::File::from(next()?)), next()?);
                changes::write(upper.as_fd(), images, to)?;
            }
            Work::Copy => {
                let (from, to) = (next()?, next()?);
                tree::copy(from.as_fd(), to.as_fd()).doing("copy what the machine has changed")?;
            }
        }
        Ok(0)
    }
}

fn remove(path: &Path) -> Result<(), Fault> {
    use std::io::ErrorKind;
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            // An ordinary user must open folders first that overlay or the image has closed.
            seal::open_folders(path).and_then(|()| std::fs::remove_dir_all(path))
        }
        other => other,
    }
    .or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
    .doing_to("remove", path.display().to_string())
}
