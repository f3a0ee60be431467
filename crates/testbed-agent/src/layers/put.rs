//! Single files into layers.

use super::copy::copy_in;
use super::merged::{Attributes, Merged};
use crate::{Doing as _, Fault, FaultKind};
use rustix::fd::AsFd as _;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Permission bits of a text that says none.
pub const TEXT_MODE: u32 = 0o644;
/// The longest `/etc/passwd` or `/etc/group` that is looked into, in bytes.
const LONGEST_USERS: u64 = 4 << 20;

/// A file or folder to be put into a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// Its path inside.
    pub target: String,
    /// What it holds.
    pub content: Content,
    /// Permission bits of files; those of the source if none.
    pub mode: Option<u32>,
    /// `name`, `name:group` or numbers; root if none.
    pub owner: Option<String>,
}

/// What is put into a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// What is at this path of the host.
    Source(PathBuf),
    /// This text.
    Text(String),
}

pub(super) fn put(layer: &Merged, entries: &[Put]) -> Result<(), Fault> {
    for entry in entries {
        let target = entry.target.as_str();
        let (uid, gid) = match &entry.owner {
            Some(owner) => owner_in(layer, owner)?,
            None => (0, 0),
        };
        match &entry.content {
            Content::Source(path) => {
                let attributes = |metadata: &std::fs::Metadata| {
                    let mode = entry.mode.filter(|_| metadata.is_file()).unwrap_or(metadata.mode() & 0o7777);
                    Attributes { mode, uid, gid }
                };
                copy_in(path, layer, Path::new(target), &attributes)
            }
            Content::Text(text) => write(layer, target, text, entry.mode, uid, gid),
        }
        .doing_to("put into the image", target)?;
    }
    Ok(())
}

fn write(
    layer: &Merged,
    target: &str,
    text: &str,
    mode: Option<u32>,
    uid: u32,
    gid: u32,
) -> std::io::Result<()> {
    let place = layer.place(Path::new(target))?.ok_or(rustix::io::Errno::ISDIR)?;
    let mut file = layer.file(&place)?;
    file.write_all(text.as_bytes())?;
    layer.set(file.as_fd(), Attributes { mode: mode.unwrap_or(TEXT_MODE), uid, gid })
}

/// The numbers of `name`, `name:group` or numbers, as the image's own files say (passwd(5), group(5)).
fn owner_in(layer: &Merged, owner: &str) -> Result<(u32, u32), Fault> {
    let read = |path: &str| layer.read(Path::new(path), LONGEST_USERS).doing_to("read", path);
    find_owner(owner, &read("/etc/passwd")?, &read("/etc/group")?).ok_or_else(|| {
        Fault::new(FaultKind::Image, format!("find the owner `{owner}`"))
            .hint("the image's /etc/passwd or /etc/group does not have it; numbers are always known")
    })
}

fn find_owner(owner: &str, passwd: &str, groups: &str) -> Option<(u32, u32)> {
    let (user, group) = match owner.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (owner, None),
    };
    let field = |line: &str, number: usize| line.split(':').nth(number).and_then(|f| f.parse::<u32>().ok());
    let named = |text: &'_ str, name: &str| {
        let mut lines = text.lines();
        lines.find(|line| line.split(':').next() == Some(name)).map(str::to_owned)
    };
    let by_name = named(passwd, user);
    let uid = match &by_name {
        Some(line) => field(line, 2)?,
        None => user.parse().ok()?,
    };
    let gid = match group {
        Some(group) => match named(groups, group) {
            Some(line) => field(&line, 2)?,
            None => group.parse().ok()?,
        },
        None => match by_name
            .or_else(|| passwd.lines().find(|line| field(line, 2) == Some(uid)).map(str::to_owned))
        {
            Some(line) => field(&line, 3)?,
            None => uid,
        },
    };
    Some((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_found_in_the_image() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:34::/var/www:/bin/sh\n";
        let groups = "root:x:0:\nadm:x:4:\n";
        let find = |owner| find_owner(owner, passwd, groups);
        assert_eq!(find("www-data"), Some((33, 34)));
        assert_eq!(find("33"), Some((33, 34)));
        assert_eq!(find("www-data:adm"), Some((33, 4)));
        assert_eq!(find("7:8"), Some((7, 8)));
        assert_eq!(find("7"), Some((7, 7)));
        assert_eq!(find("nobody-here"), None);
        assert_eq!(find("root:nobody-here"), None);
    }
}
