//! Files and folders between here and a machine, as tar archives on the way.

use super::connection::{ANSWER, Came, Channel, End};
use super::run::tooling;
use super::words::Place;
use super::{Connection, status};
use crate::agent::{EntryKind, Reply, Request, Source, Tool};
use crate::control::Ask;
use crate::fault::{Doing as _, Fault, FaultKind};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

/// How long a machine may take nothing, or give nothing, in the middle of a copy.
const STALLED: std::time::Duration = std::time::Duration::from_secs(60);

/// Copies; the status that the call ends with.
pub(super) fn copy(connection: &mut Connection, from: &Place, to: &Place) -> Result<u8, Fault> {
    if let (Some(machine), None) | (None, Some(machine)) = (&from.machine, &to.machine) {
        match connection.request(machine, Request::Stat { path: "/".into() }) {
            // One that has ended has files all the same.
            Err(fault) if fault.kind == FaultKind::State => {
                connection.ask(&Ask::Files { machine: machine.clone() })?.end()?.answer()?;
            }
            other => drop(other?),
        }
    }
    match (&from.machine, &to.machine) {
        (None, Some(machine)) => copy_in(connection, &from.path, machine, &to.path),
        (Some(machine), None) => copy_out(connection, machine, &from.path, &to.path),
        _ => Err(Fault::new(FaultKind::Invalid, "copy between two machines, or none")
            .hint("one of the two places is MACHINE:PATH, the other a path here")),
    }
    .map(|()| status::DONE)
}

fn copy_in(connection: &mut Connection, source: &str, machine: &str, target: &str) -> Result<(), Fault> {
    let source = Path::new(source).canonicalize().doing_to("copy", source)?;
    let own_name = source.file_name().and_then(|name| name.to_str()).unwrap_or("root");
    let trimmed = target.trim_end_matches('/');
    let path = if trimmed.is_empty() { "/" } else { trimmed };
    let into = match connection.request(machine, Request::Stat { path: path.into() }) {
        Ok(Reply::Entry(entry)) => entry.kind == EntryKind::Folder,
        Ok(_) => return Err(Fault::new(FaultKind::Protocol, "understand what stands there").on(machine)),
        Err(fault) if fault.kind == FaultKind::NotFound => false,
        Err(fault) => return Err(fault),
    };
    let (folder, name) = match trimmed.rsplit_once('/') {
        _ if into => (path, own_name),
        Some((folder, name)) => (if folder.is_empty() { "/" } else { folder }, name),
        None => return Err(Fault::new(FaultKind::Invalid, "copy to").at(target).on(machine)),
    };
    let parents = Request::MakeDir { path: folder.into(), mode: 0o755, parents: true };
    connection.request(machine, parents)?;
    let unpack = Tool::Unpack { path: folder.into(), owners: false };
    let channel = connection.open(machine, tooling(unpack, Source::Channel, None))?;
    let mut carrier = Carrier::new(channel);
    let packed = pack(&mut carrier, &source, name);
    // Whichever failed first made the other fail; the machine knows more of its own reasons.
    let end = match packed {
        Ok(()) => carrier.finish(),
        Err(error) => match carrier.end.take() {
            Some(end) => Ok(end),
            None => return Err(Fault::system("copy", &error).at(source.to_string_lossy())),
        },
    }?;
    match end.reply()? {
        Reply::Ended { report: Some(_), .. } => Ok(()),
        other => Err(super::run::strange(machine, &other)),
    }
}

fn pack(target: &mut Carrier<'_>, source: &Path, name: &str) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(32 * 1024, target));
    archive.follow_symlinks(false);
    if source.is_dir() {
        archive.append_dir_all(name, source)?;
    } else {
        archive.append_path_with_name(source, name)?;
    }
    archive.into_inner()?.flush()
}

fn copy_out(connection: &mut Connection, machine: &str, source: &str, target: &str) -> Result<(), Fault> {
    let target = Path::new(target);
    let (folder, rename) = if target.is_dir() {
        (target, None)
    } else {
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let name = target.file_name();
        let name =
            name.ok_or_else(|| Fault::new(FaultKind::Invalid, "copy to").at(target.to_string_lossy()))?;
        (parent.unwrap_or(Path::new(".")), Some(Path::new(name)))
    };
    let pack = Tool::Pack { path: source.into() };
    let mut carrier = Carrier::new(connection.open(machine, tooling(pack, Source::Null, None))?);
    let unpacked = unpack(&mut carrier, folder, rename);
    let end = match (&unpacked, carrier.end.take()) {
        (_, Some(end)) => end,
        (Ok(()), None) => carrier.finish()?,
        (Err(error), None) => return Err(Fault::system("write below", error).at(folder.to_string_lossy())),
    };
    match end.reply()? {
        Reply::Ended { report: Some(_), .. } => unpacked.doing_to("write below", folder.to_string_lossy()),
        other => Err(super::run::strange(machine, &other)),
    }
}

/// Unpacks what a machine packed. The archive is the machine's word: all of it lands below one name, and nothing goes
/// through a link of it.
fn unpack(source: &mut impl Read, folder: &Path, rename: Option<&Path>) -> io::Result<()> {
    let mut archive = tar::Archive::new(source);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(false);
    let mut root: Option<PathBuf> = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let strange = || io::Error::other(format!("an archive entry named {}", path.display()));
        let mut parts = path.components();
        let Some(Component::Normal(first)) = parts.next() else { return Err(strange()) };
        let below = parts.as_path();
        if below.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(strange());
        }
        let place = folder.join(rename.unwrap_or(Path::new(first)));
        match &root {
            None if below.as_os_str().is_empty() => root = Some(place.clone()),
            Some(root) if *root == place && !below.as_os_str().is_empty() => {}
            _ => return Err(strange()),
        }
        let target = if below.as_os_str().is_empty() { place.clone() } else { place.join(below) };
        for above in target.ancestors().skip(1).take(below.components().count()) {
            if !std::fs::symlink_metadata(above)?.is_dir() {
                return Err(strange());
            }
        }
        match entry.link_name()?.filter(|_| entry.header().entry_type().is_hard_link()) {
            Some(link) => {
                let inside: PathBuf = link.components().skip(1).collect();
                if inside.components().any(|part| !matches!(part, Component::Normal(_))) {
                    return Err(strange());
                }
                std::fs::hard_link(place.join(inside), &target)?;
            }
            None => {
                entry.unpack(&target)?;
            }
        }
    }
    Ok(())
}

/// A channel as something to read from and write to.
struct Carrier<'a> {
    channel: Channel<'a>,
    /// What has come and was not read yet, and how much of it was.
    come: (Vec<u8>, usize),
    end: Option<End>,
}

impl<'a> Carrier<'a> {
    fn new(channel: Channel<'a>) -> Carrier<'a> {
        Carrier { channel, come: (Vec::new(), 0), end: None }
    }

    fn next(&mut self) -> io::Result<Came> {
        self.channel.next(None, None, Some(Instant::now() + STALLED)).map_err(io::Error::other)
    }

    /// Ends the input, and waits for the end.
    fn finish(mut self) -> Result<End, Fault> {
        if let Some(end) = self.end {
            return Ok(end);
        }
        self.channel.send_end()?;
        loop {
            match self.channel.next(None, None, Some(Instant::now() + STALLED + ANSWER))? {
                Came::End(end) => return Ok(end),
                Came::Late => return Err(Fault::new(FaultKind::Timeout, "copy")),
                Came::Data(_, bytes) => self.channel.grant(bytes.len())?,
                Came::Note(_) | Came::Input | Came::Signal(_) => {}
            }
        }
    }
}

impl Write for Carrier<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.end.is_none() && self.channel.room() == 0 {
            match self.channel.wait_for_room(Instant::now() + STALLED).map_err(io::Error::other)? {
                Some(Came::End(end)) => self.end = Some(end),
                Some(Came::Late) => return Err(io::ErrorKind::TimedOut.into()),
                Some(_) | None => {}
            }
        }
        if self.end.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let length = bytes.len().min(self.channel.room());
        self.channel.send(&bytes[..length]).map_err(io::Error::other)?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Carrier<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.come.1 == self.come.0.len() {
            if self.end.is_some() {
                return Ok(0);
            }
            match self.next()? {
                Came::Data(_, bytes) => {
                    self.channel.grant(bytes.len()).map_err(io::Error::other)?;
                    self.come = (bytes, 0);
                }
                Came::End(end) => self.end = Some(end),
                Came::Late => return Err(io::ErrorKind::TimedOut.into()),
                Came::Note(_) | Came::Input | Came::Signal(_) => {}
            }
        }
        let (bytes, done) = &mut self.come;
        let length = buffer.len().min(bytes.len() - *done);
        buffer[..length].copy_from_slice(&bytes[*done..*done + length]);
        *done += length;
        Ok(length)
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
            unpack(&mut &archive(entries)[..], &self.0.join("in"), rename.map(Path::new))
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
        let crimes: [&[(EntryType, &str, &str)]; 10] = [
            &[(FILE, "../secret", "x")],
            &[(FILE, "/tmp/testbed-copy-crime", "x")],
            &[(DIR, "t", ""), (FILE, "t/../../secret", "x")],
            &[(DIR, "t", ""), (FILE, "other", "x")],
            &[(FILE, "t/below", "x")],
            &[(LINK, "t", ".."), (FILE, "t/secret", "x")],
            &[(DIR, "t", ""), (LINK, "t/up", "../.."), (FILE, "t/up/secret", "x")],
            &[(DIR, "t", ""), (LINK, "t/up", "../.."), (DIR, "t/up", "")],
            &[(DIR, "t", ""), (HARD, "t/hard", "t/../../secret")],
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
}
