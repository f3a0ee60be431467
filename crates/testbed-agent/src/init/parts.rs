//! Folders of the host's root that are overlays of their own, in the machines of an ordinary user.

use super::root::{ASSEMBLY, put_on};
use super::{Doing as _, Part, Pieces};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, chmodat, mkdirat, openat, openat2, statat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use testbed_agent::Fault;
use testbed_sys::mount::{self, NewFs};

/// Mounts each on the new root: what the layers have of it, and below that the host's.
///
/// What a machine changes in it lies where it would without this: in the folder of that name of the upper layer.
pub(super) fn cover(root: BorrowedFd<'_>, pieces: &Pieces) -> Result<(), Fault> {
    pieces.parts.iter().try_for_each(|part| {
        let overlay = overlay(root, pieces, part).map_err(|f| f.at(format!("/{}", part.name)))?;
        put_on(root, overlay.as_fd(), &part.name)
    })
}

fn overlay(root: BorrowedFd<'_>, pieces: &Pieces, part: &Part) -> Result<OwnedFd, Fault> {
    let name = part.name.as_str();
    let mode = Mode::from_raw_mode(statat(root, name, AtFlags::empty()).doing("find")?.st_mode);
    let upper = folder(&pieces.upper.mount, &format!("upper/{name}"), mode)?;
    let work = folder(&pieces.upper.mount, &format!("work/{name}"), Mode::RWXU)?;
    let mut overlay = NewFs::open("overlay").doing("open overlay")?;
    for lower in &pieces.lowers {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH | OFlags::NOFOLLOW;
        match openat2(lower, name, flags, Mode::empty(), ResolveFlags::BENEATH) {
            Ok(folder) => overlay = overlay.folder("lowerdir+", folder.as_fd()).doing("add a layer")?,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(Fault::system("open a layer", &error.into())),
        }
    }
    if let Some(host) = &part.host {
        mount::attach(host.as_fd(), CWD, ASSEMBLY).doing("attach a folder of the host")?;
        overlay = overlay.folder("lowerdir+", host.as_fd()).doing("add a folder of the host")?;
    }
    overlay
        .folder("upperdir", upper.as_fd())
        .and_then(|fs| fs.folder("workdir", work.as_fd()))
        .and_then(|fs| fs.flag("userxattr"))
        .and_then(|fs| fs.mount(MountAttrFlags::empty()))
        .doing("mount the host's folder")
}

/// Opens a folder, which is made if it is not there: it is, where the machine is one that ran before.
fn folder(at: &OwnedFd, path: &str, mode: Mode) -> Result<OwnedFd, Fault> {
    match mkdirat(at, path, Mode::RWXU) {
        Ok(()) => chmodat(at, path, mode, AtFlags::empty()).doing("make a folder")?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(Fault::system("make a folder", &error.into())),
    }
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH;
    openat(at, path, flags, Mode::empty()).doing("open a folder")
}
