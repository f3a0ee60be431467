//! What the checks ask of the host's files.

use super::name::matches_pattern;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// What stands at a path, symbolic links followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A file.
    File {
        /// Somebody may execute it.
        executable: bool,
    },
    /// A folder.
    Folder,
}

/// The files that a testbed's description refers to.
pub trait Files {
    /// The folder that relative paths start from.
    fn folder(&self) -> &Path;

    /// What stands at a path; none if nothing does. Sockets and devices count as files.
    fn kind(&self, path: &Path) -> Option<FileKind>;

    /// The names in a folder, sorted. Empty if it cannot be read.
    fn list(&self, folder: &Path) -> Vec<String>;

    /// The names of images that were imported, sorted.
    fn images(&self) -> &[String] {
        &[]
    }
}

/// The files of this computer.
#[derive(Clone, Debug)]
pub struct HostFiles {
    folder: PathBuf,
    images: Vec<String>,
}

impl HostFiles {
    /// Relative paths start from this folder.
    ///
    /// # Errors
    /// The folder has no absolute path: it is not there, or cannot be reached.
    pub fn new(folder: impl AsRef<Path>) -> io::Result<HostFiles> {
        Ok(HostFiles { folder: folder.as_ref().canonicalize()?, images: Vec::new() })
    }

    /// With these images, as [`crate::image::imported_names`] finds them: where the store is, only the caller knows.
    #[must_use]
    pub fn with_images(mut self, mut names: Vec<String>) -> HostFiles {
        names.sort();
        self.images = names;
        self
    }
}

impl Files for HostFiles {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn kind(&self, path: &Path) -> Option<FileKind> {
        let metadata = path.metadata().ok()?;
        Some(if metadata.is_dir() {
            FileKind::Folder
        } else {
            FileKind::File { executable: metadata.permissions().mode() & 0o111 != 0 }
        })
    }

    fn list(&self, folder: &Path) -> Vec<String> {
        let Ok(entries) = folder.read_dir() else { return Vec::new() };
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    fn images(&self) -> &[String] {
        &self.images
    }
}

/// A fixed set of files: for tests, and for checking a text alone.
#[derive(Clone, Debug)]
pub struct FixedFiles {
    folder: PathBuf,
    files: BTreeMap<PathBuf, FileKind>,
    images: Vec<String>,
}

impl FixedFiles {
    /// No files; relative paths start from this folder.
    pub fn new(folder: impl Into<PathBuf>) -> FixedFiles {
        let folder = folder.into();
        let files = BTreeMap::from([(folder.clone(), FileKind::Folder)]);
        FixedFiles { files, folder, images: Vec::new() }
    }

    /// With something at this path, and folders above it.
    #[must_use]
    pub fn with(mut self, path: impl AsRef<Path>, kind: FileKind) -> FixedFiles {
        let path = self.folder.join(path);
        for above in path.ancestors().skip(1) {
            self.files.entry(above.to_owned()).or_insert(FileKind::Folder);
        }
        self.files.insert(path, kind);
        self
    }

    /// With a file.
    #[must_use]
    pub fn file(self, path: impl AsRef<Path>) -> FixedFiles {
        self.with(path, FileKind::File { executable: false })
    }

    /// With an executable file.
    #[must_use]
    pub fn executable(self, path: impl AsRef<Path>) -> FixedFiles {
        self.with(path, FileKind::File { executable: true })
    }

    /// With an imported image.
    #[must_use]
    pub fn image(mut self, name: &str) -> FixedFiles {
        self.images.push(name.to_owned());
        self.images.sort();
        self
    }
}

impl Files for FixedFiles {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn kind(&self, path: &Path) -> Option<FileKind> {
        self.files.get(&plain(path)).copied()
    }

    fn list(&self, folder: &Path) -> Vec<String> {
        let folder = plain(folder);
        let inside = self.files.keys().filter(|path| path.parent() == Some(&folder));
        inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect()
    }

    fn images(&self) -> &[String] {
        &self.images
    }
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// How many folders a pattern may lead through; with `**` a link that points upwards would lead on for ever.
const DEEPEST: usize = 16;

/// The paths below `files.folder()` that match a relative pattern, sorted: `*` stands for any part of a name, `**` for
/// any number of folders. Names that begin with a point match only a pattern that does so too.
pub(super) fn expand(files: &dyn Files, pattern: &str) -> Vec<PathBuf> {
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let start = if pattern.starts_with('/') { PathBuf::from("/") } else { PathBuf::new() };
    let mut found = Vec::new();
    descend(files, &start, &parts, DEEPEST, &mut found);
    found.sort();
    found.dedup();
    found
}

fn descend(files: &dyn Files, at: &Path, parts: &[&str], depth: usize, found: &mut Vec<PathBuf>) {
    let Some((part, rest)) = parts.split_first() else {
        found.push(at.to_owned());
        return;
    };
    let Some(depth) = depth.checked_sub(1) else { return };
    let here = files.folder().join(at);
    if !part.contains('*') {
        let next = at.join(part);
        if files.kind(&files.folder().join(&next)).is_some() {
            descend(files, &next, rest, depth, found);
        }
        return;
    }
    if *part == "**" {
        descend(files, at, rest, depth, found);
    }
    for name in files.list(&here) {
        if name.starts_with('.') && !part.starts_with('.') {
            continue;
        }
        let next = at.join(&name);
        if *part == "**" {
            if files.kind(&files.folder().join(&next)) == Some(FileKind::Folder) {
                descend(files, &next, parts, depth, found);
            }
        } else if matches_pattern(part, &name) {
            descend(files, &next, rest, depth, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_lead_to_what_matches() {
        let files = FixedFiles::new("/bed")
            .file("tests/b.sh")
            .file("tests/a.sh")
            .file("tests/.hidden")
            .file("tests/deep/er/c.sh");
        let found = |pattern| {
            expand(&files, pattern).into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("tests/*.sh"), ["tests/a.sh", "tests/b.sh"]);
        assert_eq!(found("./tests/*"), ["tests/a.sh", "tests/b.sh", "tests/deep"]);
        assert_eq!(found("tests/**/*.sh"), ["tests/a.sh", "tests/b.sh", "tests/deep/er/c.sh"]);
        assert_eq!(found("tests/.*"), ["tests/.hidden"]);
        assert_eq!(found("/bed/tests/a*"), ["/bed/tests/a.sh"]);
        assert_eq!(found("none/*"), Vec::<String>::new());
    }
}
