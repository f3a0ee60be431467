//! Copies between a folder here and a machine: where they land, and the tar archives that they travel as.

use crate::fault::{Fault, FaultKind};
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

/// The most that may stand between the contents of two entries, in bytes: headers, long names, padding. It bounds the
/// memory that an archive can cost.
const LONGEST_HEADERS: u64 = 256 * 1024;

/// Set-user-id and set-group-id. What a machine packed belongs to whoever unpacks it, and shall not run as them for
/// everybody else.
const SET_ID: u32 = 0o6000;

/// Where in a machine a copy lands: the folder, which may have to be made, and the name in it. If there is a folder at
/// `target`, what is copied lands in it under its own name.
///
/// # Errors
/// The path is not absolute; what `is_folder` says.
pub fn place_inside<'a>(
    source: &'a Path,
    target: &'a str,
    is_folder: impl FnOnce(&str) -> Result<bool, Fault>,
) -> Result<(&'a str, &'a str), Fault> {
    let trimmed = target.trim_end_matches('/');
    let path = if trimmed.is_empty() { "/" } else { trimmed };
    if !path.starts_with('/') {
        return Err(Fault::new(FaultKind::Invalid, "copy to a path that is not absolute:").at(target));
    }
    if is_folder(path)? {
        return Ok((path, source.file_name().and_then(OsStr::to_str).unwrap_or("root")));
    }
    let (folder, name) = trimmed.rsplit_once('/').unwrap_or_default();
    Ok((if folder.is_empty() { "/" } else { folder }, name))
}

/// Where here a copy of a machine lands: the folder, and the name in it if it is another than that in the machine. If
/// `target` is a folder, what is copied lands in it under its own name.
///
/// # Errors
/// The path has no last part, as `..` has none.
pub fn place_here(target: &Path) -> Result<(PathBuf, Option<OsString>), Fault> {
    if target.is_dir() {
        return Ok((target.to_owned(), None));
    }
    let no_name = || Fault::new(FaultKind::Invalid, "copy to").at(target.to_string_lossy());
    let name = target.file_name().ok_or_else(no_name)?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")).to_owned(), Some(name.to_owned())))
}

/// Writes a file or folder as an archive whose top is `name`. Links are kept as links.
///
/// # Errors
/// What cannot be read, or not be written.
pub fn pack(archive: &mut dyn Write, source: &Path, name: &str) -> io::Result<()> {
    let mut archive = tar::Builder::new(archive);
    archive.follow_symlinks(false);
    if source.is_dir() {
        archive.append_dir_all(name, source)?;
    } else {
        archive.append_path_with_name(source, name)?;
    }
    archive.into_inner()?.flush()
}

/// Unpacks what a machine packed. The archive is the machine's word: all of it lands below one name in the folder, and
/// nothing goes through a link of it, nor links to what is outside. Modes and times stay, but for set-user-id and
/// set-group-id bits; owners do not.
///
/// # Errors
/// What cannot be read, or not be written; an archive that breaks these rules.
pub fn unpack(archive: impl Read, folder: &Path, rename: Option<&OsStr>) -> io::Result<()> {
    let left = Cell::new(Some(LONGEST_HEADERS));
    let mut archive = tar::Archive::new(Rationed { archive, left: &left });
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(false);
    archive.set_mask(SET_ID);
    let mut root: Option<PathBuf> = None;
    let mut entries = archive.entries()?;
    loop {
        left.set(Some(LONGEST_HEADERS));
        let Some(entry) = entries.next() else { return Ok(()) };
        left.set(None);
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let strange = || io::Error::other(format!("an archive entry named {}", path.display()));
        let mut parts = path.components();
        let Some(Component::Normal(first)) = parts.next() else { return Err(strange()) };
        let below = parts.as_path();
        let top = folder.join(rename.unwrap_or(first));
        match &root {
            None if below.as_os_str().is_empty() => root = Some(top.clone()),
            Some(root) if *root == top && !below.as_os_str().is_empty() => {}
            _ => return Err(strange()),
        }
        let target = inside(&top, below)?.ok_or_else(strange)?;
        match entry.link_name()?.filter(|_| entry.header().entry_type().is_hard_link()) {
            Some(link) => {
                let mut parts = link.components();
                let Some(Component::Normal(_)) = parts.next() else { return Err(strange()) };
                let source = inside(&top, parts.as_path())?.ok_or_else(strange)?;
                std::fs::hard_link(source, &target)?;
            }
            None => {
                entry.unpack(&target)?;
            }
        }
    }
}

/// A path below a folder, if it does not climb, and nothing on the way to its last part is anything but a folder.
fn inside(top: &Path, below: &Path) -> io::Result<Option<PathBuf>> {
    if below.as_os_str().is_empty() {
        return Ok(Some(top.to_owned()));
    }
    let mut path = top.to_owned();
    for part in below.components() {
        if !matches!(part, Component::Normal(_)) || !std::fs::symlink_metadata(&path)?.is_dir() {
            return Ok(None);
        }
        path.push(part);
    }
    Ok(Some(path))
}

/// Reads no more than what is left, if there is a limit.
struct Rationed<'a, R> {
    archive: R,
    left: &'a Cell<Option<u64>>,
}

impl<R: Read> Read for Rationed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.left.get() else { return self.archive.read(buffer) };
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other("an archive whose headers do not end"));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.archive.read(&mut buffer[..most])?;
        self.left.set(Some(left - read as u64));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::sync::atomic::{AtomicU32, Ordering};
    use tar::{EntryType, Header};

    /// A folder with a folder in it to unpack into; what lands beside that has got out.
    struct Cage(PathBuf);

    impl Cage {
        fn new() -> Cage {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name =
                format!("testbed-copy-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(path.join("in")).unwrap();
            std::fs::write(path.join("secret"), "untouched").unwrap();
            Cage(path)
        }

        fn unpack(&self, entries: &[(EntryType, &str, &str)], rename: Option<&str>) -> io::Result<()> {
            unpack(&mut &archive(entries)[..], &self.0.join("in"), rename.map(OsStr::new))
        }
    }

    impl Drop for Cage {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Entries with a content, or where they link to. Names go in as they are.
    fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (kind, name, more) in entries {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(if *kind == EntryType::Directory { 0o711 } else { 0o640 });
            let content = if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.as_old_mut().linkname[..more.len()].copy_from_slice(more.as_bytes());
                ""
            } else {
                more
            };
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append(&header, content.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    const DIR: EntryType = EntryType::Directory;
    const FILE: EntryType = EntryType::Regular;
    const LINK: EntryType = EntryType::Symlink;
    const HARD: EntryType = EntryType::Link;

    #[test]
    fn a_tree_lands_as_it_was() {
        let cage = Cage::new();
        let tree = [
            (DIR, "tree", ""),
            (DIR, "tree/deep", ""),
            (FILE, "tree/deep/file", "content"),
            (LINK, "tree/link", "deep/file"),
            (HARD, "tree/same", "tree/deep/file"),
        ];
        cage.unpack(&tree, Some("new")).unwrap();
        let at = |name: &str| cage.0.join("in/new").join(name);
        assert_eq!(std::fs::read_to_string(at("link")).unwrap(), "content");
        let file = std::fs::metadata(at("same")).unwrap();
        assert_eq!((file.nlink(), file.permissions().mode() & 0o7777), (2, 0o640));
    }

    #[test]
    fn nothing_gets_out_of_the_folder() {
        let crimes: [&[(EntryType, &str, &str)]; 13] = [
            &[(FILE, "../secret", "x")],
            &[(FILE, "/tmp/testbed-copy-crime", "x")],
            &[(DIR, "t", ""), (FILE, "t/../../secret", "x")],
            &[(DIR, "t", ""), (FILE, "other", "x")],
            &[(FILE, "t/below", "x")],
            &[(LINK, "t", ".."), (FILE, "t/secret", "x")],
            &[(DIR, "t", ""), (LINK, "t/up", "../.."), (FILE, "t/up/secret", "x")],
            &[(DIR, "t", ""), (LINK, "t/up", "../.."), (DIR, "t/up", "")],
            &[(DIR, "t", ""), (HARD, "t/hard", "t/../../secret")],
            &[(DIR, "t", ""), (HARD, "t/hard", "../secret/x")],
            &[(DIR, "t", ""), (LINK, "t/up", "../.."), (HARD, "t/hard", "t/up/secret")],
            &[(HARD, "t", "../../secret")],
            &[(DIR, "t", ""), (LINK, "t/up", "../../secret"), (HARD, "t/hard", "/secret/x")],
        ];
        for crime in crimes {
            let cage = Cage::new();
            assert!(cage.unpack(crime, None).is_err(), "{crime:?}");
            assert_eq!(std::fs::read_to_string(cage.0.join("secret")).unwrap(), "untouched", "{crime:?}");
            assert_eq!(std::fs::metadata(cage.0.join("secret")).unwrap().nlink(), 1, "{crime:?}");
            let mode = std::fs::metadata(&cage.0).unwrap().permissions().mode();
            assert_ne!(mode & 0o777, 0o711, "{crime:?}");
            assert!(!cage.0.join("in/other").exists() && !Path::new("/tmp/testbed-copy-crime").exists());
        }
    }

    #[test]
    fn nothing_runs_as_who_unpacks_it() {
        let cage = Cage::new();
        let mut header = Header::new_gnu();
        header.set_mode(0o6755);
        header.set_size(0);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, "tool", io::empty()).unwrap();
        unpack(&archive.into_inner().unwrap()[..], &cage.0.join("in"), None).unwrap();
        let mode = std::fs::metadata(cage.0.join("in/tool")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
    }

    #[test]
    fn names_cost_no_memory_without_end() {
        let cage = Cage::new();
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(1 << 40);
            header.set_cksum();
            let endless = header.as_bytes().chain(io::repeat(b'x'));
            let error = unpack(endless, &cage.0.join("in"), None).unwrap_err();
            assert!(error.to_string().contains("do not end"), "{error}");
        }
        // A name may be as long as a path can be.
        let long = format!("tree/{}name", "folder/".repeat(500));
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(0);
        archive.append_data(&mut header, &long, io::empty()).unwrap();
        let error = unpack(&archive.into_inner().unwrap()[..], &cage.0.join("in"), None).unwrap_err();
        assert_eq!(error.to_string(), format!("an archive entry named {long}"));
    }

    #[test]
    fn a_copy_lands_in_a_folder_or_under_a_name() {
        let folders = |path: &str| Ok(matches!(path, "/" | "/etc"));
        let inside = |target| place_inside(Path::new("/home/x.conf"), target, folders);
        assert_eq!(inside("/"), Ok(("/", "x.conf")));
        assert_eq!(inside("/etc/"), Ok(("/etc", "x.conf")));
        assert_eq!(inside("/etc/y"), Ok(("/etc", "y")));
        assert_eq!(inside("/y"), Ok(("/", "y")));
        assert_eq!(inside("/new/y/"), Ok(("/new", "y")));
        assert_eq!(inside("etc/y").unwrap_err().kind, FaultKind::Invalid);
        let fault = Fault::new(FaultKind::State, "look");
        assert_eq!(place_inside(Path::new("x"), "/y", |_| Err(fault.clone())), Err(fault));

        let cage = Cage::new();
        assert_eq!(place_here(&cage.0), Ok((cage.0.clone(), None)));
        assert_eq!(place_here(&cage.0.join("new")), Ok((cage.0.clone(), Some("new".into()))));
        assert_eq!(place_here(Path::new("new")), Ok((".".into(), Some("new".into()))));
        assert_eq!(place_here(&cage.0.join("none/..")).unwrap_err().kind, FaultKind::Invalid);
    }
}
