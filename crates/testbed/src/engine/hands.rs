//! Who does what is to be done with layers: this process, or for an ordinary user with a range of ids a launcher, because
//! the files of layers belong to all those ids.

use super::{Engine, Pending};
use crate::host::Ranges;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;
use std::fmt;
use std::io::{BufReader, ErrorKind, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use testbed_agent::launch::{IDS, Ids, Order, Outcome};
use testbed_agent::layers::changes::{self, Touched};
use testbed_agent::layers::{self, Target, Whiteouts, Work};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// What has all rights over layers that this user can have. Cheap to clone; the last clone ends the launcher, if there is
/// one.
#[derive(Clone, Default)]
pub(crate) struct Hands {
    /// Started when something is to be done; none if this process can do all that can be done.
    launcher: Arc<OnceLock<Option<Engine>>>,
}

impl Hands {
    /// Those of an engine's user, who has the ids that its machines have.
    pub(crate) fn of(engine: &Engine) -> Hands {
        let hands = Hands::default();
        if !matches!(engine.ids(), Ids::Delegated(_)) {
            // This is the first word.
            let _ = hands.launcher.set(None);
        }
        hands
    }

    fn launcher(&self) -> Option<&Engine> {
        let start = || match rustix::process::geteuid().is_root() {
            true => None,
            // Where ids cannot be mapped, machines have one.
            false => Ranges::of_this_user().count().and_then(|_| Engine::over_files().ok()),
        };
        self.launcher.get_or_init(start).as_ref()
    }

    /// How many ids can own what is in layers.
    pub(crate) fn ids(&self) -> u32 {
        match self.launcher() {
            Some(_) => Ranges::of_this_user().count().unwrap_or(1),
            None if rustix::process::geteuid().is_root() => IDS,
            None => 1,
        }
    }

    /// A layer to be written.
    pub(crate) fn target(&self, folder: PathBuf, below: Vec<PathBuf>) -> Target {
        Target { folder, below, ids: self.ids() }
    }

    /// Does some work.
    ///
    /// # Errors
    /// Those of the work, and that the launcher is gone.
    pub(crate) fn work(&self, work: Work, fds: Vec<OwnedFd>) -> Result<u64, Fault> {
        match self.launcher() {
            None => work.carry_out(fds),
            Some(launcher) => counted(launcher.send_order(&Order::Layers(absolute(work)?), fds)?),
        }
    }

    /// Removes a folder with all in it; one that is not there is fine.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), Fault> {
        match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            _ => self.work(Work::Remove(path.to_owned()), Vec::new()).map(drop),
        }
    }

    /// Tells of all entries of an upper layer, parents first, and what an image has in their places.
    ///
    /// # Errors
    /// Those of the file system, and of `tell`.
    pub(crate) fn touched(
        &self,
        upper: OwnedFd,
        images: &[PathBuf],
        tell: &mut dyn FnMut(Touched) -> Result<(), Errno>,
    ) -> Result<(), Fault> {
        let Some(launcher) = self.launcher() else {
            return changes::touched(upper.as_fd(), images, tell);
        };
        let (ours, theirs) = UnixStream::pair().doing("make a socket")?;
        let work = absolute(Work::Touched(images.to_vec()))?;
        let telling = launcher.send_order(&Order::Layers(work), vec![theirs.into(), upper])?;
        let read = changes::read(BufReader::new(ours), tell);
        counted(telling).and(read)
    }

    /// Unpacks an archive into a layer.
    ///
    /// # Errors
    /// What the archive says cannot be, or the system refuses.
    pub(crate) fn unpack(
        &self,
        archive: &mut dyn Read,
        target: Target,
        whiteouts: Whiteouts,
    ) -> Result<(), Fault> {
        let Some(launcher) = self.launcher() else {
            return layers::unpack(archive, &target.open()?, whiteouts);
        };
        let (mut ours, theirs) = UnixStream::pair().doing("make a socket")?;
        let work = absolute(Work::Unpack(target, whiteouts))?;
        let unpacking = launcher.send_order(&Order::Layers(work), vec![theirs.into()])?;
        let mut buffer = vec![0_u8; 256 * 1024];
        let read = loop {
            match archive.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(length) => {
                    if ours.write_all(&buffer[..length]).is_err() {
                        // It has what it wants, or says itself why not.
                        break Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    break Err(Fault::new(FaultKind::Image, format!("read the archive: {error}")));
                }
            }
        };
        drop(ours);
        let unpacked = counted(unpacking);
        read.and(unpacked.map(drop))
    }
}

fn counted(pending: Pending) -> Result<u64, Fault> {
    match pending.wait()? {
        (Outcome::Counted(count), _) => Ok(count),
        _ => Err(Fault::new(FaultKind::Protocol, "understand the launcher: it did not count")),
    }
}

/// The launcher's working folder is not always this process's.
fn absolute(work: Work) -> Result<Work, Fault> {
    let path = |path: PathBuf| {
        std::path::absolute(&path).doing_to("find the working folder for", path.display().to_string())
    };
    let target = |target: Target| -> Result<Target, Fault> {
        let below = target.below.into_iter().map(path).collect::<Result<_, _>>()?;
        Ok(Target { folder: path(target.folder)?, below, ..target })
    };
    Ok(match work {
        Work::Unpack(into, whiteouts) => Work::Unpack(target(into)?, whiteouts),
        Work::CopyRoot(into, source) => Work::CopyRoot(target(into)?, path(source)?),
        Work::Put(into, mut entries) => {
            for entry in &mut entries {
                if let layers::Content::Source(source) = &mut entry.content {
                    *source = path(std::mem::take(source))?;
                }
            }
            Work::Put(target(into)?, entries)
        }
        Work::Seal(root) => Work::Seal(path(root)?),
        Work::Remove(folder) => Work::Remove(path(folder)?),
        Work::Touched(images) => Work::Touched(images.into_iter().map(path).collect::<Result<_, _>>()?),
        Work::Copy => Work::Copy,
    })
}

impl fmt::Debug for Hands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hands")
    }
}
