//! Who this user is, and which ids machines of this user can have.

use super::{Finding, Need, Prober};
use crate::host::range;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use testbed_agent::launch::{IDS, Ids};

const AREA: &str = "user";
/// Where distributions put programs that are run with root's rights.
const FOLDERS: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"];

pub(super) fn examine(prober: &Prober) -> Vec<Finding> {
    if let Ids::Range(first) = prober.ids {
        let fact = format!("root; machines get the ids {first} to {}", first + (IDS - 1));
        return vec![Finding::good(AREA, "ids", fact)];
    }
    let uid = rustix::process::getuid().as_raw();
    let mut found = vec![Finding::lacking(
        AREA,
        "ids",
        Need::Some,
        format!("the ordinary user {uid}; machines have one id, which is root inside and this user outside"),
        "services that change their user fail, and packages with files of other owners cannot be installed",
    )
    .remedy("run testbed as root where that matters")];
    found.push(ranges(uid));
    found
}

/// A program that runs as root whoever starts it, or has the capability to map ids.
fn helper(name: &str) -> Option<PathBuf> {
    let is_usable = |path: &Path| {
        let Ok(metadata) = path.metadata() else { return false };
        let set_user = metadata.uid() == 0 && metadata.permissions().mode() & 0o4000 != 0;
        set_user || rustix::fs::getxattr(path, "security.capability", &mut [0_u8; 64][..]).is_ok()
    };
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| is_usable(path))
}

/// What subuid(5) and subgid(5) give this user.
fn ranges(uid: u32) -> Finding {
    let name = account(uid);
    let mine = |file: &str| -> u64 {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let owned = text.lines().filter(|line| {
            let owner = line.split(':').next();
            owner == name.as_deref() || owner == Some(uid.to_string().as_str())
        });
        owned.filter_map(range).map(|(first, end)| end.saturating_sub(first)).sum()
    };
    let (users, groups) = (mine("/etc/subuid"), mine("/etc/subgid"));
    let helpers: Vec<&str> =
        ["newuidmap", "newgidmap"].into_iter().filter(|name| helper(name).is_some()).collect();
    let helpers = if helpers.is_empty() { "no newuidmap".to_owned() } else { helpers.join(", ") };
    let fact = format!(
        "{users} users in /etc/subuid, {groups} groups in /etc/subgid, {helpers}; testbed does not use them"
    );
    Finding::good(AREA, "ranges of ids", fact)
}

fn account(uid: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut accounts = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = accounts.find(|fields| fields.get(2).and_then(|f| f.parse().ok()) == Some(uid))?;
    Some((*found.first()?).to_owned())
}
