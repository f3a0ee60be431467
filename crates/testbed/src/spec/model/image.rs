use std::path::{Path, PathBuf};

/// What a machine's root file system is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub(in crate::spec) name: String,
    pub(in crate::spec) base: Base,
    pub(in crate::spec) steps: Vec<Step>,
    pub(in crate::spec) env: Vec<(String, String)>,
}

impl Image {
    /// Its name in the file; the base as it was written when a machine names that directly.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What lies below its layers.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// Its layers, lowest first: packages, then files, then each `run` text.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Variables of its `run` steps and of every machine made from it; those of its base images included.
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }
}

/// What lies below an image's own layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// The host's own root, read-only, with its secrets masked. Shared kernels only.
    Host,
    /// Debian of this release (`bookworm`), built from packages.
    Debian(String),
    /// A folder that holds a root file system.
    Folder(PathBuf),
    /// A tar file that holds one.
    Tar(PathBuf),
    /// A folder in OCI image layout (OCI image specification, "image layout").
    Oci(PathBuf),
    /// An image that was imported on this host, by name.
    Imported(String),
    /// Another image of the testbed, by name.
    Image(String),
    /// The disk of a system that is on its own, in this file.
    Disk(PathBuf, DiskFormat),
    /// A disk with nothing on it.
    Blank,
}

/// How a file holds a disk. Never guessed from what it holds: whoever writes to a disk could make it look like another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskFormat {
    /// QEMU's own (`qcow2`).
    Qcow2,
    /// As the disk is, byte by byte.
    Raw,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Packages of the base's distribution, by name.
    Packages(Vec<String>),
    /// Files that are put in place.
    Files(Vec<FileEntry>),
    /// Text for `/bin/sh -c`, run as root in a throwaway machine with an uplink.
    Run(String),
}

/// A file, or a folder with all in it, that is put into a machine or an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    pub(in crate::spec) target: String,
    pub(in crate::spec) content: FileContent,
    pub(in crate::spec) mode: Option<u32>,
    pub(in crate::spec) owner: Option<String>,
}

impl FileEntry {
    /// What lies at a path of the host, with the source's mode.
    pub(crate) fn of_source(target: &str, source: &Path) -> FileEntry {
        let (target, content) = (target.to_owned(), FileContent::Source(source.to_owned()));
        FileEntry { target, content, mode: None, owner: None }
    }

    /// Where it goes: absolute, without `.` and `..`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// What it holds.
    pub fn content(&self) -> &FileContent {
        &self.content
    }

    /// Permission bits; those of the source, or 0644 for text, if none.
    pub fn mode(&self) -> Option<u32> {
        self.mode
    }

    /// The user inside that owns it, `name`, `name:group` or numbers; root if none.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }
}

/// Where a [`FileEntry`]'s content comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileContent {
    /// A file or folder of the host.
    Source(PathBuf),
    /// This text.
    Text(String),
}

impl FileContent {
    /// The path on the host, if the content comes from there.
    pub fn source(&self) -> Option<&Path> {
        match self {
            FileContent::Source(path) => Some(path),
            FileContent::Text(_) => None,
        }
    }
}
