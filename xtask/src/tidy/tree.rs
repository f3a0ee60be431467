//! The repository as a map from paths to texts.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Folders that hold nothing of the repository, by their last name.
const SKIPPED: &[&str] = &[".git", "target", "__pycache__", "artifacts", "corpus"];

/// What stands in the repository. Paths are relative, with `/`.
#[derive(Default)]
pub(super) struct Tree {
    /// A file that is not UTF-8 has no text.
    files: BTreeMap<String, Option<String>>,
    /// Absolute paths that mean something on this computer only.
    pub(super) local_paths: Vec<String>,
}

impl Tree {
    pub(super) fn read(root: &Path) -> io::Result<Tree> {
        let mut tree = Tree { files: BTreeMap::new(), local_paths: local_paths(root)? };
        tree.add(root, "")?;
        Ok(tree)
    }

    fn add(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in folder.read_dir()? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                self.add(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file() {
                self.files.insert(path, String::from_utf8(std::fs::read(entry.path())?).ok());
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Tree {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), Some((*text).to_owned()))).collect();
        Tree { files, local_paths: Vec::new() }
    }

    /// All files that are text.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// A file or a folder with something in it stands at this path.
    pub(super) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self.files.range(folder.clone()..).next().is_some_and(|(p, _)| p.starts_with(&folder))
    }
}

/// Where the repository lies, the folder around it if that is not one that every computer has, and where cargo builds.
fn local_paths(root: &Path) -> io::Result<Vec<String>> {
    let root = root.canonicalize()?;
    let around = root.parent().filter(|parent| parent.components().count() > 2);
    let target = std::env::var("CARGO_TARGET_DIR").ok().filter(|t| t.matches('/').count() > 1);
    let own = Some(&*root).filter(|root| root.components().count() > 2);
    Ok([own, around].into_iter().flatten().map(|p| p.display().to_string()).chain(target).collect())
}
