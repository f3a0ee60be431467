//! Calls of the command on testbeds of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder with a testbed in it, gone with the value.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// With this `testbed.toml`.
    pub(crate) fn with(text: &str) -> Folder {
        let folder = Folder::empty();
        folder.write("testbed.toml", text);
        folder
    }

    pub(crate) fn empty() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bed-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path.join(name)).unwrap()
    }

    /// The command, about to be called in the folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_testbed"));
        command.args(arguments).current_dir(&self.path).stdin(Stdio::null()).env("NO_COLOR", "1");
        command
    }

    /// Calls the command in the folder.
    pub(crate) fn call(&self, arguments: &[&str]) -> Called {
        Called::from(self.command(arguments).output().unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Called {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// The word that the report has for a test: `ok`, `FAIL`, ….
    pub(crate) fn word(&self, test: &str) -> Option<String> {
        let text = self.text();
        text.lines().find_map(|line| {
            let (word, rest) = line.trim_start().split_once(' ')?;
            rest.strip_prefix(test).filter(|rest| {
                // Another test's name may begin like this one's.
                rest.is_empty() || [" (", " #", ":"].iter().any(|next| rest.starts_with(next))
            })?;
            Some(word.to_owned())
        })
    }

    /// The last line of the report.
    pub(crate) fn verdict(&self) -> String {
        self.text().lines().last().unwrap_or_default().to_owned()
    }
}

impl From<Output> for Called {
    fn from(output: Output) -> Called {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Called { code: output.status.code(), stdout: output.stdout, stderr }
    }
}
