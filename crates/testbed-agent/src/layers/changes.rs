//! What an upper layer says, entry by entry, and what the image had there.

use super::opaque;
use super::tree::{Entry, walk};
use crate::{Doing as _, Fault, FaultKind};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, open, openat, statat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::{BufRead, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// An entry of an upper layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Where, from the root on.
    pub path: PathBuf,
    /// What it is.
    pub now: Now,
    /// What the image has there.
    pub before: Option<Before>,
}

/// What an entry of an upper layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// It says that there is nothing.
    Gone = b'g' as isize,
    /// A folder, through which what the image has in it is seen.
    Folder = b'f' as isize,
    /// A folder that hides what the image has in it.
    Opaque = b'o' as isize,
    /// Anything else.
    Other = b'x' as isize,
}

/// What an image has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// A folder.
    Folder = b'f' as isize,
    /// Anything else.
    Other = b'x' as isize,
}

const NOTHING: u8 = b'-';

/// Tells of all entries of an upper layer, parents first. `images` are the layers of the image, top first.
///
/// # Errors
/// Those of the file system, and of `tell`.
pub fn touched(
    upper: BorrowedFd<'_>,
    images: &[PathBuf],
    tell: &mut dyn FnMut(Touched) -> Result<(), Errno>,
) -> Result<(), Fault> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |layer: &PathBuf| {
        open(layer, flags, Mode::empty()).doing_to("open a layer", layer.display().to_string())
    };
    let images = images.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let mut visit = |entry: &Entry<'_>| {
        let now = match entry.kind() {
            _ if entry.is_whiteout() => Now::Gone,
            FileType::Directory if is_opaque(entry) => Now::Opaque,
            FileType::Directory => Now::Folder,
            _ => Now::Other,
        };
        let before = image_entry(&images, entry.path).map(|kind| match kind {
            FileType::Directory => Before::Folder,
            _ => Before::Other,
        });
        tell(Touched { path: entry.path.to_owned(), now, before })?;
        Ok(now != Now::Gone)
    };
    walk(upper, &mut visit).doing("read what it has changed")
}

/// [`touched`], to another process: each as two letters, the path and a NUL byte.
pub(super) fn write(upper: BorrowedFd<'_>, images: &[PathBuf], mut to: impl Write) -> Result<(), Fault> {
    touched(upper, images, &mut |Touched { path, now, before }| {
        let mut line = vec![now as u8, before.map_or(NOTHING, |before| before as u8)];
        line.extend(path.as_os_str().as_bytes());
        line.push(0);
        to.write_all(&line).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    })?;
    to.flush().doing("tell what it has changed")
}

/// What the other process tells.
///
/// # Errors
/// That it tells something else, and those of reading and of `tell`.
pub fn read(mut from: impl BufRead, tell: &mut dyn FnMut(Touched) -> Result<(), Errno>) -> Result<(), Fault> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if from.read_until(0, &mut line).doing("read what it has changed")? == 0 {
            return Ok(());
        }
        let strange = || Fault::new(FaultKind::Protocol, "understand what it has changed");
        let [now, before, path @ .., 0] = &line[..] else { return Err(strange()) };
        let now = [Now::Gone, Now::Folder, Now::Opaque, Now::Other].into_iter().find(|n| *n as u8 == *now);
        let before = match *before {
            NOTHING => None,
            letter => {
                let found = [Before::Folder, Before::Other].into_iter().find(|b| *b as u8 == letter);
                Some(found.ok_or_else(strange)?)
            }
        };
        let path = OsStr::from_bytes(path).into();
        tell(Touched { path, now: now.ok_or_else(strange)?, before }).doing("read what it has changed")?;
    }
}

/// What the image has at a path.
fn image_entry(images: &[OwnedFd], path: &Path) -> Option<FileType> {
    for layer in images {
        match find(layer, path) {
            Found::Nothing => {}
            Found::Gone => return None,
            Found::Entry(kind) => return Some(kind),
        }
    }
    None
}

enum Found {
    /// The layer says nothing of it: those below may.
    Nothing,
    /// The layer says that there is nothing.
    Gone,
    Entry(FileType),
}

/// Looks a path up in one layer, without following links.
fn find(layer: &OwnedFd, path: &Path) -> Found {
    let mut folder: Option<OwnedFd> = None;
    let mut hidden = false;
    let mut parts = path.components().peekable();
    while let Some(Component::Normal(part)) = parts.next() {
        let at = folder.as_ref().unwrap_or(layer);
        let Ok(stat) = statat(at, part, AtFlags::SYMLINK_NOFOLLOW) else {
            return if hidden { Found::Gone } else { Found::Nothing };
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            return Found::Gone;
        }
        if parts.peek().is_none() {
            return Found::Entry(kind);
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(next) = openat(at, part, flags, Mode::empty()) else { return Found::Gone };
        hidden |= opaque::is_marked(&next).unwrap_or(false);
        folder = Some(next);
    }
    Found::Nothing
}

fn is_opaque(entry: &Entry<'_>) -> bool {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(entry.folder, entry.name, flags, Mode::empty())
        .is_ok_and(|folder| opaque::is_marked(folder).unwrap_or(false))
}
