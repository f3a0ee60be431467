//! The command as an ordinary user of this host calls it.

use crate::call::Called;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A user that no host has, in nobody's group, with a home and the command where everybody may read it.
pub(crate) struct User {
    id: u32,
    home: PathBuf,
}

impl User {
    /// None where this process is not root, and so cannot become another.
    pub(crate) fn new() -> Option<User> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = 3_000_000_000 + std::process::id() % 1_000_000 * 100 + number;
        let home = std::env::temp_dir().join(format!("testbed-user-{id}"));
        std::fs::create_dir_all(&home).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_testbed"), home.join("testbed")).unwrap();
        std::fs::set_permissions(home.join("testbed"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
        chown(&home, Some(id), Some(id)).unwrap();
        Some(User { id, home })
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Writes a file of the user's, in the home folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.home.join(name);
        std::fs::write(&path, text).unwrap();
        chown(&path, Some(self.id), Some(self.id)).unwrap();
    }

    /// Makes a folder of the user's, in the home folder.
    pub(crate) fn folder(&self, name: &str) {
        let path = self.home.join(name);
        std::fs::create_dir(&path).unwrap();
        chown(&path, Some(self.id), Some(self.id)).unwrap();
    }

    /// The processes of this user, in machines too: there they have no other.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let all = std::fs::read_dir("/proc").unwrap();
        let all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let mine = |pid: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next());
            uid == Some(self.id.to_string().as_str())
        };
        all.filter(mine).collect()
    }

    /// Calls the command in the home folder.
    pub(crate) fn call(&self, arguments: &[&str]) -> Called {
        Called::from(self.command(arguments).output().unwrap())
    }

    /// Runs a text for a shell in the home folder.
    pub(crate) fn shell(&self, text: &str) -> Called {
        Called::from(self.program("/bin/sh", &["-c", text]).output().unwrap())
    }

    /// The command, about to be called in the home folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.program(self.home.join("testbed"), arguments)
    }

    fn program(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).uid(self.id).gid(self.id).current_dir(&self.home).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &self.home).env("NO_COLOR", "1");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
