//! Calls of the command on testbeds of their own.

pub(crate) use crate::folder::Folder;
use std::process::{Command, Output, Stdio};

/// A folder with a testbed in it.
impl Folder {
    /// With this `testbed.toml`.
    pub(crate) fn with(text: &str) -> Folder {
        let folder = Folder::empty();
        folder.write("testbed.toml", text);
        folder
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// The command, about to be called in the folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_testbed"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null()).env("NO_COLOR", "1");
        command
    }

    /// Calls the command in the folder.
    pub(crate) fn call(&self, arguments: &[&str]) -> Called {
        Called::from(self.command(arguments).output().unwrap())
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
