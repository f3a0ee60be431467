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

    /// Calls the command in the home folder.
    pub(crate) fn call(&self, arguments: &[&str]) -> Called {
        let mut command = Command::new(self.home.join("testbed"));
        command.args(arguments).uid(self.id).gid(self.id).current_dir(&self.home).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &self.home).env("NO_COLOR", "1");
        Called::from(command.output().unwrap())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
