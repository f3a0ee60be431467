//! Calls that go on for a while, and what is on the host meanwhile and after them.

use crate::call::{Called, Folder};
use std::collections::BTreeSet;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A call that goes on. Dropped before its end, it is killed, so that a test that fails leaves nothing running.
pub(crate) struct Begun(Option<Child>);

impl Begun {
    /// Begins a call.
    pub(crate) fn spawn(command: &mut Command) -> Begun {
        Begun(Some(command.spawn().unwrap()))
    }

    /// Begins the command in a process group of its own, with pipes to write to.
    pub(crate) fn in_group(folder: &Folder, arguments: &[&str]) -> Begun {
        let mut command = folder.command(arguments);
        Begun::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0))
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Called {
        Called::from(self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl Deref for Begun {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().unwrap()
    }
}

impl DerefMut for Begun {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // One that has ended is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The processes of this host that have this in their command line.
pub(crate) fn processes_with(text: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).split('\0').any(|argument| argument == text)
    })
    .collect()
}

/// Where something is mounted for this program.
pub(crate) fn mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    // Without the mount's number, which a mount elsewhere may have had in between.
    text.lines().filter_map(|line| Some(line.splitn(5, ' ').nth(4)?.to_owned())).collect()
}

/// The cgroup folders of this keeper, in all hierarchies.
pub(crate) fn cgroups_of(keeper: u32) -> Vec<String> {
    fn look(folder: &Path, name: &str, depth: u32, found: &mut Vec<String>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())) {
            if entry.file_name().to_string_lossy().starts_with(name) {
                found.push(entry.path().display().to_string());
            } else if depth > 0 {
                look(&entry.path(), name, depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    look(Path::new("/sys/fs/cgroup"), &format!("testbed-{keeper}-"), 6, &mut found);
    found
}

/// Signals a process, or a group if the number is negative.
pub(crate) fn signal(target: &str, signal: &str) {
    let order = format!("kill -{signal} {target}");
    assert!(std::process::Command::new("/bin/sh").args(["-c", &order]).status().unwrap().success());
}
