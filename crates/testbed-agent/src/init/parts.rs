//! Folders of the host's root that are overlays of their own, in the machines of an ordinary user.

use super::Doing as _;
use super::root::{Layers, put_on};
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, Mode, chmodat, mkdirat, statat};
use rustix::io::Errno;
use testbed_agent::Fault;
use testbed_sys::mount::{Attached, Detached, Folder, Marks, Overlay};

/// Mounts each on the new root: what the layers have of it, and below that the host's.
///
/// What a machine changes in it lies where it would without this: in the folder of that name of the upper layer.
pub(super) fn cover(
    root: BorrowedFd<'_>,
    layers: &Layers,
    parts: &[(String, Option<Attached>)],
) -> Result<(), Fault> {
    parts.iter().try_for_each(|(name, host)| {
        let overlay = overlay(root, layers, name, host.as_ref()).map_err(|f| f.at(format!("/{name}")))?;
        put_on(root, overlay, name)
    })
}

fn overlay(
    root: BorrowedFd<'_>,
    layers: &Layers,
    name: &str,
    host: Option<&Attached>,
) -> Result<Detached, Fault> {
    let mode = Mode::from_raw_mode(statat(root, name, AtFlags::empty()).doing("find")?.st_mode);
    let upper = folder(&layers.upper, &format!("upper/{name}"), mode)?;
    let work = folder(&layers.upper, &format!("work/{name}"), Mode::RWXU)?;
    let mut lowers = Vec::new();
    for lower in &layers.lowers {
        match lower.folder(name) {
            Ok(folder) => lowers.push(folder),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                _ => return Err(Fault::system("open a layer", &error)),
            },
        }
    }
    let mut overlay = Overlay::new(Marks::User);
    lowers.iter().for_each(|lower| overlay.lower(lower));
    if let Some(host) = host {
        overlay.lower(host);
    }
    overlay.upper(&upper, &work);
    overlay.mount().doing("mount the host's folder")
}

/// Opens a folder, which is made if it is not there: it is, where the machine is one that ran before.
fn folder(at: &Attached, path: &str, mode: Mode) -> Result<Folder, Fault> {
    match mkdirat(at, path, Mode::RWXU) {
        Ok(()) => chmodat(at, path, mode, AtFlags::empty()).doing("make a folder")?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(Fault::system("make a folder", &error.into())),
    }
    at.folder(path).doing("open a folder")
}
