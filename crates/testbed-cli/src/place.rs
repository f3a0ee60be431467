//! Which testbed a command is about.

use crate::failure::Failure;
use crate::folders;
use crate::terminal;
use std::path::{Path, PathBuf};
use testbed::spec::{self, FILE_NAME, Problems, Testbed};

/// Where to look for the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Place {
    /// Act as if called in this folder.
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true)]
    pub(crate) directory: Option<PathBuf>,
    /// The testbed that is up under this name, wherever its file is. `testbed ls` has the names.
    #[arg(short = 't', long = "testbed", value_name = "NAME")]
    pub(crate) testbed: Option<String>,
}

impl Place {
    /// The nearest `testbed.toml` from the folder upwards. A path to a file is that file.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn file(&self) -> Result<PathBuf, Failure> {
        let start = self.directory.as_deref().unwrap_or(Path::new("."));
        if start.is_file() {
            return Ok(start.to_owned());
        }
        let absolute = start
            .canonicalize()
            .map_err(|e| Failure::call(format!("cannot enter {}: {e}", start.display())))?;
        // The path is shown in problems, so it stays as short as it was typed where that is possible.
        if start.join(FILE_NAME).is_file() {
            return Ok(if start == Path::new(".") { FILE_NAME.into() } else { start.join(FILE_NAME) });
        }
        let above = absolute.ancestors().skip(1).map(|folder| folder.join(FILE_NAME));
        above.into_iter().find(|file| file.is_file()).ok_or_else(|| {
            Failure::call(format!("there is no {FILE_NAME} in {} or above it", absolute.display()))
                .hint("`testbed init` writes a first one; -C DIR names another folder")
        })
    }

    /// Reads and checks the file. What comes beside the testbed are warnings.
    ///
    /// # Errors
    /// When there is no file, or it is wrong.
    pub(crate) fn load(&self) -> Result<(Testbed, Problems), Failure> {
        Ok(spec::load_with(self.file()?, folders::imported_images()?)?)
    }

    /// Reads and checks the file, and tells its warnings.
    ///
    /// # Errors
    /// When there is no file, or it is wrong.
    pub(crate) fn load_telling(&self) -> Result<Testbed, Failure> {
        let (testbed, warnings) = self.load()?;
        if !warnings.is_empty() {
            terminal::talk(&format!("{}\n\n", warnings.render(terminal::style_of_stderr().is_on())));
        }
        Ok(testbed)
    }
}
