//! Where this user's files are (XDG base directories; root's are the system's).

use crate::failure::Failure;
use crate::settings::{Origin, Setting};
use std::ffi::OsString;
use std::path::PathBuf;
use testbed::image;

/// The folder of layers.
///
/// # Errors
/// When the environment names neither it nor a home.
pub(crate) fn cache() -> Result<PathBuf, Failure> {
    folder("TESTBED_CACHE", "XDG_CACHE_HOME", ".cache", "/var/cache").map(|(path, _)| path)
}

/// The names of the images that this user has imported. None where there is no folder for them.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn imported_images() -> Result<Vec<String>, Failure> {
    match cache() {
        Ok(folder) => Ok(image::imported_names(&folder)?),
        Err(_) => Ok(Vec::new()),
    }
}

/// The folder of layers, and who says so.
pub(crate) fn cache_setting() -> Setting {
    let found = folder("TESTBED_CACHE", "XDG_CACHE_HOME", ".cache", "/var/cache");
    let (value, origin) = match found {
        Ok((path, origin)) => (Some(path.display().to_string()), origin),
        Err(_) => (None, Origin::Default),
    };
    Setting { name: "folder of images".into(), value, origin }
}

/// The folder of what is known of testbeds that stay.
///
/// # Errors
/// As for [`cache`].
pub(crate) fn state() -> Result<PathBuf, Failure> {
    folder("TESTBED_STATE", "XDG_STATE_HOME", ".local/state", "/var/lib").map(|(path, _)| path)
}

/// The folder of control sockets. It is short, because a socket's path may have 107 bytes (unix(7)).
///
/// # Errors
/// As for [`cache`].
pub(crate) fn runtime() -> Result<PathBuf, Failure> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(folder) = set("TESTBED_RUNTIME") {
        return Ok(folder);
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/run/testbed".into());
    }
    match set("XDG_RUNTIME_DIR") {
        Some(folder) => Ok(folder.join("testbed")),
        None => state().map(|folder| folder.join("run")),
    }
}

/// `own` names the folder itself; `base` and `below_home` the folder it is in.
fn folder(own: &str, base: &str, below_home: &str, of_root: &str) -> Result<(PathBuf, Origin), Failure> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    if let Some(folder) = set(own) {
        return Ok((folder.into(), Origin::Variable(own.into())));
    }
    if rustix::process::geteuid().is_root() {
        return Ok((PathBuf::from(of_root).join("testbed"), Origin::Default));
    }
    if let Some(base_folder) = set(base).and_then(absolute) {
        return Ok((base_folder.join("testbed"), Origin::Variable(base.into())));
    }
    let home = set("HOME").and_then(absolute);
    home.map(|home| (home.join(below_home).join("testbed"), Origin::Default)).ok_or_else(|| {
        Failure::call("there is no folder for files of yours: HOME is not set")
            .hint(format!("set HOME, or {own} to a folder"))
    })
}
