//! What files and hosts are, for the keys of layers, without reading more than is needed.

use super::key::Inputs;

use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use testbed_agent::layers::walk;
use testbed_agent::{Doing as _, Fault};

/// Where distributions note what is installed. What changes the host's root changes one of these.
const PACKAGE_DATABASES: [&str; 6] = [
    "/var/lib/dpkg/status",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/lib/apk/db/installed",
    "/var/lib/pacman/local",
    "/run/current-system",
];

/// Adds what the host's root is: a layer on it is worth nothing after an upgrade.
pub(super) fn add_host(inputs: &mut Inputs) -> Result<(), Fault> {
    for path in ["/etc/os-release"].iter().chain(&PACKAGE_DATABASES) {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Fault::system("read", &error).at(*path)),
        };
        inputs.add(path);
        if metadata.is_file() {
            let file = std::fs::File::open(path).doing_to("open", *path)?;
            inputs.stream(file).doing_to("read", *path)?;
        } else {
            add_version(inputs, &metadata);
        }
    }
    Ok(())
}

/// Adds which file it is and when it was changed last: what the kernel tells without reading it.
pub(super) fn add_version(inputs: &mut Inputs, metadata: &Metadata) {
    inputs
        .number(metadata.dev())
        .number(metadata.ino())
        .number(metadata.size())
        .number(metadata.mtime().cast_unsigned())
        .number(metadata.mtime_nsec().cast_unsigned())
        .number(metadata.ctime().cast_unsigned())
        .number(metadata.ctime_nsec().cast_unsigned());
}

/// Adds all that is in a folder, by its versions.
pub(super) fn add_folder_versions(inputs: &mut Inputs, folder: &Path) -> Result<(), Fault> {
    let shown = folder.display().to_string();
    let metadata = folder.metadata().doing_to("read", &shown)?;
    add_version(inputs, &metadata);
    walk::<io::Error>(folder, &mut |path, metadata| {
        inputs.add(path.as_os_str().as_bytes());
        add_version(inputs, metadata);
        Ok(())
    })
    .doing_to("read", &shown)
}

/// Adds what a file, or a folder with all in it, holds: names, kinds, permissions, content.
pub(super) fn add_content(inputs: &mut Inputs, path: &Path) -> Result<(), Fault> {
    let shown = path.display().to_string();
    let metadata = path.metadata().doing_to("read", &shown)?;
    add_one(inputs, path, &metadata).doing_to("read", &shown)?;
    if metadata.is_dir() {
        walk::<io::Error>(path, &mut |found, metadata| {
            let name = found.strip_prefix(path).map_err(io::Error::other)?;
            inputs.add(name.as_os_str().as_bytes());
            add_one(inputs, found, metadata)
        })
        .doing_to("read", &shown)?;
    }
    Ok(())
}

fn add_one(inputs: &mut Inputs, path: &Path, metadata: &Metadata) -> io::Result<()> {
    inputs.number(metadata.mode().into());
    if metadata.is_file() {
        inputs.stream(std::fs::File::open(path)?)?;
    } else if metadata.is_symlink() {
        inputs.add(path.read_link()?.as_os_str().as_bytes());
    }
    Ok(())
}
