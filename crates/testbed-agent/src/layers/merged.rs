//! Writing a layer as if it were mounted: over the layers below it, but into its own folder only.
//!
//! Names come from archives and files that nobody trusts. Each is resolved piece by piece, as chroot(2) would: links
//! lead where they lead in the machine, `..` stops at the root, and nothing outside is touched. Every look-up is made
//! by `openat2` without following links, relative to an open layer.

use super::opaque;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, RawDir, ResolveFlags, Stat, Uid, openat2};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// How many links a name may lead through (path_resolution(7)).
const MOST_LINKS: usize = 40;
/// How deep folders may lie.
const DEEPEST: usize = 512;

/// A layer that is being written, and what lies below it.
pub struct Merged {
    own: OwnedFd,
    /// Top first.
    below: Vec<OwnedFd>,
    /// So many ids can own what is in it, from 0 on. With one, all is the user's who writes it.
    ids: u32,
}

/// Who owns what is made, and what may be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// The owner, as inside.
    pub uid: u32,
    /// The group, as inside.
    pub gid: u32,
}

impl Attributes {
    pub(super) const FOLDER: Attributes = Attributes { mode: 0o755, uid: 0, gid: 0 };
}

/// Where something goes: a folder of the layer itself and a name in it.
pub(super) struct Place {
    pub(super) folder: OwnedFd,
    pub(super) name: OsString,
    /// The resolved folder, for looking into the layers below.
    path: PathBuf,
}

impl Place {
    /// Another name in the same folder.
    pub(super) fn named(self, name: &OsStr) -> Place {
        Place { name: name.to_owned(), ..self }
    }
}

impl Merged {
    /// Opens a layer's folder, and those of the layers below it, top first. `ids` is how many owners this process can give
    /// files to.
    ///
    /// # Errors
    /// Those of openat(2).
    pub fn open<'a>(own: &Path, below: impl IntoIterator<Item = &'a Path>, ids: u32) -> io::Result<Merged> {
        let open = |path: &Path| -> io::Result<OwnedFd> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
        };
        Ok(Merged { own: open(own)?, below: below.into_iter().map(open).collect::<io::Result<_>>()?, ids })
    }

    pub(super) fn has_below(&self) -> bool {
        !self.below.is_empty()
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }

    /// The place of a name, its folders made where the layer lacks them: like those below, or root's with mode 0755.
    /// None for the root itself.
    pub(super) fn place(&self, name: &Path) -> io::Result<Option<Place>> {
        let mut rest: Vec<OsString> = pieces(name)?;
        let Some(last) = rest.pop() else { return Ok(None) };
        if last == ".." {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a name ends in `..`"));
        }
        let path = self.resolve(rest)?;
        let folder = self.make_folders(&path)?;
        Ok(Some(Place { folder, name: last, path }))
    }

    /// The path without links of a folder that need not exist.
    fn resolve(&self, rest: Vec<OsString>) -> io::Result<PathBuf> {
        let mut rest: Vec<OsString> = rest.into_iter().rev().collect();
        let mut at = PathBuf::new();
        let mut links = 0;
        while let Some(piece) = rest.pop() {
            if piece == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&piece);
            if next.components().count() > DEEPEST {
                return Err(Errno::NAMETOOLONG.into());
            }
            match self.find(&next)? {
                Some((layer, stat)) if kind(&stat) == FileType::Symlink => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let link = open_beneath(layer, &next, OFlags::PATH | OFlags::NOFOLLOW)?;
                    let target = rustix::fs::readlinkat(&link, c"", Vec::new())?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.has_root() {
                        at = PathBuf::new();
                    }
                    rest.extend(pieces(&target)?.into_iter().rev());
                }
                _ => at = next,
            }
        }
        Ok(at)
    }

    /// What stands at a path without links, as the machine would see it, and in which layer.
    fn find(&self, path: &Path) -> io::Result<Option<(BorrowedFd<'_>, Stat)>> {
        for layer in std::iter::once(&self.own).chain(&self.below) {
            let layer = layer.as_fd();
            match stat_beneath(layer, path)? {
                Look::Found(stat) if is_whiteout(&stat) => return Ok(None),
                Look::Found(stat) => return Ok(Some((layer, stat))),
                Look::Covered => return Ok(None),
                Look::Absent => {}
            }
        }
        Ok(None)
    }

    /// The text of a file as the machine would see it; empty if there is none.
    pub(super) fn read(&self, name: &Path, most: u64) -> io::Result<String> {
        let path = self.resolve(pieces(name)?)?;
        let mut text = String::new();
        let Some((layer, stat)) = self.find(&path)? else { return Ok(text) };
        if kind(&stat) == FileType::RegularFile {
            let file: std::fs::File = open_beneath(layer, &path, OFlags::NOFOLLOW)?.into();
            file.take(most).read_to_string(&mut text)?;
        }
        Ok(text)
    }

    fn make_folders(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut folder = self.own.try_clone()?;
        let mut at = PathBuf::new();
        for piece in path {
            at.push(piece);
            let there = open_beneath(folder.as_fd(), Path::new(piece), OFlags::DIRECTORY | OFlags::NOFOLLOW);
            folder = match there {
                Ok(there) => there,
                Err(Errno::NOENT) => {
                    let attributes = match self.find(&at)? {
                        Some((_, stat)) if kind(&stat) == FileType::Directory => attributes_of(&stat),
                        Some(_) => return Err(Errno::NOTDIR.into()),
                        None => Attributes::FOLDER,
                    };
                    self.make_folder(folder.as_fd(), piece, attributes)?
                }
                // A whiteout of this very layer: the folder is new.
                Err(Errno::NOTDIR) => {
                    let stat = rustix::fs::statat(&folder, piece, AtFlags::SYMLINK_NOFOLLOW)?;
                    if !is_whiteout(&stat) {
                        return Err(Errno::NOTDIR.into());
                    }
                    rustix::fs::unlinkat(&folder, piece, AtFlags::empty())?;
                    let made = self.make_folder(folder.as_fd(), piece, Attributes::FOLDER)?;
                    opaque::mark(&made)?;
                    made
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(folder)
    }

    fn make_folder(
        &self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        attributes: Attributes,
    ) -> io::Result<OwnedFd> {
        rustix::fs::mkdirat(folder, name, Mode::RWXU)?;
        let made = open_beneath(folder, Path::new(name), OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        self.set(made.as_fd(), attributes)?;
        Ok(made)
    }

    /// Sets owner and mode of an open file or folder. The owner first: a change of it clears the setuid bits.
    pub(super) fn set(&self, file: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
        if self.ids > 1 {
            let (uid, gid) = owners(attributes, self.ids)?;
            rustix::fs::fchown(file, Some(uid), Some(gid))?;
        }
        Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode & 0o7777))?)
    }

    /// A folder at a place; one that is there already keeps its content and gets the attributes.
    pub(super) fn folder(&self, place: &Place, attributes: Attributes) -> io::Result<OwnedFd> {
        let existing = match rustix::fs::statat(&place.folder, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        if existing.as_ref().is_some_and(|stat| kind(stat) == FileType::Directory) {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let folder = open_beneath(place.folder.as_fd(), Path::new(&place.name), flags)?;
            self.set(folder.as_fd(), attributes)?;
            return Ok(folder);
        }
        self.clear(place)?;
        let made = self.make_folder(place.folder.as_fd(), &place.name, attributes)?;
        if existing.as_ref().is_some_and(is_whiteout) {
            opaque::mark(&made)?;
        }
        Ok(made)
    }

    /// Whether the machine would see a folder of this name, links followed.
    pub(super) fn has_folder(&self, name: &Path) -> io::Result<bool> {
        let path = self.resolve(pieces(name)?)?;
        let found = self.find(&path)?;
        Ok(path.as_os_str().is_empty() || found.is_some_and(|(_, stat)| kind(&stat) == FileType::Directory))
    }

    /// A new, empty file at a place, to be written.
    pub(super) fn file(&self, place: &Place) -> io::Result<std::fs::File> {
        self.clear(place)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&place.folder, &place.name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(file.into())
    }

    /// A symbolic link at a place.
    pub(super) fn link(&self, place: &Place, target: &OsStr, attributes: Attributes) -> io::Result<()> {
        self.clear(place)?;
        rustix::fs::symlinkat(target, &place.folder, &place.name)?;
        self.own_by_name(place, attributes)
    }

    /// A named pipe at a place.
    pub(super) fn pipe(&self, place: &Place, attributes: Attributes) -> io::Result<()> {
        self.clear(place)?;
        let mode = Mode::from_raw_mode(attributes.mode & 0o777);
        rustix::fs::mknodat(&place.folder, &place.name, FileType::Fifo, mode, 0)?;
        rustix::fs::chmodat(&place.folder, &place.name, mode, AtFlags::empty())?;
        self.own_by_name(place, attributes)
    }

    fn own_by_name(&self, place: &Place, attributes: Attributes) -> io::Result<()> {
        if self.ids == 1 {
            return Ok(());
        }
        let (uid, gid) = owners(attributes, self.ids)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::chownat(&place.folder, &place.name, Some(uid), Some(gid), flags)?)
    }

    /// A second name for a file that exists. One of a layer below is copied up first, as overlay does.
    pub(super) fn hard_link(&self, place: &Place, target: &Path) -> io::Result<()> {
        let target = self.place(target)?.ok_or(Errno::ISDIR)?;
        let shown = target.path.join(&target.name);
        let (layer, stat) = self.find(&shown)?.ok_or(Errno::NOENT)?;
        if kind(&stat) == FileType::Directory {
            return Err(Errno::ISDIR.into());
        }
        let own = rustix::fs::statat(&target.folder, &target.name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if !own {
            if kind(&stat) != FileType::RegularFile {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "a hard link to a special file below",
                ));
            }
            let mut source: std::fs::File = open_beneath(layer, &shown, OFlags::NOFOLLOW)?.into();
            let mut copy = self.file(&target)?;
            io::copy(&mut source, &mut copy)?;
            self.set(copy.as_fd(), attributes_of(&stat))?;
        }
        self.clear(place)?;
        let flags = AtFlags::empty();
        Ok(rustix::fs::linkat(&target.folder, &target.name, &place.folder, &place.name, flags)?)
    }

    /// Hides what the layers below have at a place (overlay: a character device 0/0). What this layer itself has there
    /// stays, without what is below it.
    pub(super) fn white_out(&self, place: &Place) -> io::Result<()> {
        match open_beneath(place.folder.as_fd(), Path::new(&place.name), OFlags::DIRECTORY | OFlags::NOFOLLOW)
        {
            Ok(folder) => return opaque::mark(&folder),
            Err(Errno::NOENT) => {}
            // A file hides what is below by itself.
            Err(_) => return Ok(()),
        }
        let in_layers = self.find(&place.path.join(&place.name))?.is_some();
        if in_layers {
            let kind = FileType::CharacterDevice;
            rustix::fs::mknodat(&place.folder, &place.name, kind, Mode::empty(), 0)?;
        }
        Ok(())
    }

    /// Removes what this layer has at a place.
    fn clear(&self, place: &Place) -> io::Result<()> {
        match rustix::fs::unlinkat(&place.folder, &place.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => remove_folder(place.folder.as_fd(), &place.name),
            Err(error) => Err(error.into()),
        }
    }
}

enum Look {
    Found(Stat),
    /// Nothing here, and nothing in the layers below shows through.
    Covered,
    /// Nothing here.
    Absent,
}

fn stat_beneath(layer: BorrowedFd<'_>, path: &Path) -> io::Result<Look> {
    match open_beneath(layer, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(found) => return Ok(Look::Found(rustix::fs::fstat(&found)?)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
        Err(error) => return Err(error.into()),
    }
    // Which folder above it is in this layer, and does it let the ones below show through?
    for above in path.ancestors().skip(1) {
        if above.as_os_str().is_empty() {
            break;
        }
        match open_beneath(layer, above, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(found) if kind(&rustix::fs::fstat(&found)?) != FileType::Directory => {
                return Ok(Look::Covered);
            }
            Ok(_) => {
                let folder = open_beneath(layer, above, OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
                if opaque::is_marked(&folder)? {
                    return Ok(Look::Covered);
                }
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Look::Absent)
}

fn open_beneath(folder: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // With NO_SYMLINKS a link at the end is an error too, unless only the path is opened and not followed.
    openat2(folder, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn pieces(path: &Path) -> io::Result<Vec<OsString>> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a name holds a NUL byte"));
    }
    let pieces = bytes.split(|byte| *byte == b'/').filter(|piece| !piece.is_empty() && *piece != b".");
    Ok(pieces.map(|piece| OsStr::from_bytes(piece).to_owned()).collect())
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn attributes_of(stat: &Stat) -> Attributes {
    Attributes { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid }
}

/// Owners outside of a machine's range have no name inside.
fn owners(attributes: Attributes, ids: u32) -> io::Result<(Uid, Gid)> {
    let Attributes { uid, gid, .. } = attributes;
    if uid >= ids || gid >= ids {
        let what = format!("owner {uid}:{gid}: machines have the ids 0 to {}", ids - 1);
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok((Uid::from_raw(uid), Gid::from_raw(gid)))
}

fn remove_folder(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let folder = open_beneath(parent, Path::new(name), flags)?;
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut names = Vec::new();
    let mut entries = RawDir::new(&folder, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    for name in names {
        match rustix::fs::unlinkat(&folder, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => remove_folder(folder.as_fd(), &name)?,
            other => other?,
        }
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}
