//! Single files into layers.

use super::copy::copy_in;
use super::merged::{Attributes, Merged};
use crate::users::User;
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
    let user = User::find_in(owner, &read("/etc/passwd")?, &read("/etc/group")?).map_err(|_| {
        Fault::new(FaultKind::Image, format!("find the owner `{owner}`"))
            .hint("the image's /etc/passwd or /etc/group does not have it; numbers are always known")
    })?;
    Ok((user.uid, user.gid))
}
