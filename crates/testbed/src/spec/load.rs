use super::files::{Files, HostFiles};
use super::keys::TESTBED;
use super::model::Testbed;
use super::problem::{Place, Problem, ProblemKind, Problems, Source};
use super::{lower, raw, shape};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What the file is called.
pub const FILE_NAME: &str = "testbed.toml";

/// No description is longer, in bytes.
const LONGEST: usize = 1 << 20;

/// Why a file gives no testbed.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not UTF-8, as TOML has to be.
    #[error("{} is not UTF-8 text from byte {at} on", path.display())]
    NotText {
        /// Which file.
        path: PathBuf,
        /// The first byte that is not.
        at: usize,
    },
    /// It is wrong.
    #[error("{} is wrong", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong in it; at least one is an error.
        #[source]
        problems: Problems,
    },
}

/// Reads and checks a file. `path` is the file, or the folder that holds a `testbed.toml`. What comes back beside the
/// testbed are warnings. No image is known to be imported: [`load_with`] is told of them.
///
/// # Errors
/// The file cannot be read, or is wrong.
pub fn load(path: impl AsRef<Path>) -> Result<(Testbed, Problems), LoadError> {
    load_with(path, Vec::new())
}

/// As [`load`], where `images` names what was imported ([`crate::image::imported_names`]): `image` and `base` may stand
/// for these, unless the file declares an image of that name.
///
/// # Errors
/// As for [`load`].
pub fn load_with(path: impl AsRef<Path>, images: Vec<String>) -> Result<(Testbed, Problems), LoadError> {
    let path = path.as_ref();
    let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
    let read = |source| LoadError::Read { path: path.clone(), source };
    let mut bytes = Vec::new();
    File::open(&path).map_err(read)?.take(LONGEST as u64 + 1).read_to_end(&mut bytes).map_err(read)?;
    let text = String::from_utf8(bytes)
        .map_err(|error| LoadError::NotText { path: path.clone(), at: error.utf8_error().valid_up_to() })?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = HostFiles::new(folder).map_err(read)?.with_images(images);
    match check(&text, &path.display().to_string(), &files) {
        (Some(testbed), problems) => Ok((testbed, problems)),
        (None, problems) => Err(LoadError::Wrong { path, problems }),
    }
}

/// Checks the text of a `testbed.toml`. `name` is what the file is called where problems are shown. There is a testbed
/// if no problem is an error.
///
/// No text makes this panic.
pub fn check(text: &str, name: &str, files: &dyn Files) -> (Option<Testbed>, Problems) {
    let shown = if text.len() > LONGEST { "" } else { text };
    let mut problems = Problems::of(Some(Source { name: name.to_owned(), text: shown.to_owned() }));
    if text.len() > LONGEST {
        let place = Place { path: String::new(), span: Some(0..0) };
        let message = format!("the file is longer than {} KiB", LONGEST >> 10);
        problems.push(Problem::error(ProblemKind::BadValue, &place, message));
        return (None, problems);
    }
    let root = raw::parse(text, &mut problems);
    check_tree(root, files, problems)
}

/// Checks a raw tree, wherever it comes from.
pub(super) fn check_tree(
    mut root: raw::Node,
    files: &dyn Files,
    mut problems: Problems,
) -> (Option<Testbed>, Problems) {
    shape::fit_table(&mut root, &TESTBED, &mut problems);
    let testbed = lower::lower(&root, files, &mut problems);
    problems.settle();
    (Some(testbed).filter(|_| !problems.has_errors()), problems)
}

impl Testbed {
    /// Reads and checks a file, or the `testbed.toml` in a folder. [`load`] tells the warnings too, and [`load_with`]
    /// knows of imported images.
    ///
    /// # Errors
    /// The file cannot be read, or is wrong.
    pub fn load(path: impl AsRef<Path>) -> Result<Testbed, LoadError> {
        load(path).map(|(testbed, _)| testbed)
    }
}
