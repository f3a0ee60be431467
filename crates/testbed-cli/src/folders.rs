//! Where this user's files are (XDG base directories; root's are the system's).

use crate::failure::Failure;
use std::ffi::OsString;
use std::path::PathBuf;

/// The folder of layers.
///
/// # Errors
/// When the environment names neither it nor a home.
pub(crate) fn cache() -> Result<PathBuf, Failure> {
    folder("TESTBED_CACHE", "XDG_CACHE_HOME", ".cache", "/var/cache")
}

/// `own` names the folder itself; `base` and `below_home` the folder it is in.
fn folder(own: &str, base: &str, below_home: &str, of_root: &str) -> Result<PathBuf, Failure> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    if let Some(folder) = set(own) {
        return Ok(folder.into());
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from(of_root).join("testbed"));
    }
    let base = set(base).and_then(absolute);
    let base = base.or_else(|| Some(set("HOME").and_then(absolute)?.join(below_home)));
    base.map(|base| base.join("testbed")).ok_or_else(|| {
        Failure::call("there is no folder for files of yours: HOME is not set")
            .hint(format!("set HOME, or {own} to a folder"))
    })
}
