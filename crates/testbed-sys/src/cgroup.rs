//! cgroup folders of machines: limits, freezing, killing (cgroups(7), Documentation/admin-guide/cgroup-v2.rst).
//!
//! Freezing and killing always go through version 2, also on hosts whose controllers are on version 1: a process that
//! the version 1 freezer holds survives SIGKILL.

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// One cgroup, of either version. It is reached from the folder that it is in: one descriptor does for all in there.
#[derive(Debug)]
pub struct Cgroup {
    parent: Rc<OwnedFd>,
    name: String,
}

impl Cgroup {
    /// Makes a cgroup below an open one.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn make(parent: &Rc<OwnedFd>, name: &str) -> io::Result<Cgroup> {
        mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        Ok(Cgroup { parent: Rc::clone(parent), name: name.into() })
    }

    /// The folder, for [`crate::process::clone`].
    ///
    /// # Errors
    /// Those of opening it.
    pub fn folder(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH;
        Ok(openat(&self.parent, self.name.as_str(), flags, Mode::empty())?)
    }

    /// Writes one of its files.
    ///
    /// # Errors
    /// Those of opening and writing it.
    pub fn write(&self, file: &str, value: &str) -> io::Result<()> {
        rustix::io::write(&self.open(file)?, value.as_bytes())?;
        Ok(())
    }

    /// Opens one of its files for writing.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn open(&self, file: &str) -> io::Result<OwnedFd> {
        self.open_with(file, OFlags::WRONLY)
    }

    fn open_with(&self, file: &str, access: OFlags) -> io::Result<OwnedFd> {
        let path = format!("{}/{file}", self.name);
        Ok(openat(&self.parent, path, access | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Kills every process in it and below (`cgroup.kill`, Linux 5.14; version 2).
    ///
    /// # Errors
    /// Those of writing the file.
    pub fn kill(&self) -> io::Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// Stops or resumes every process in it and below (version 2). Takes effect soon after the call.
    ///
    /// # Errors
    /// Those of writing the file.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Stops every process in it, and returns once all stand still.
    ///
    /// # Errors
    /// Those of the files, and `TimedOut` if some process does not stop within `wait`.
    pub fn freeze_and_wait(&self, wait: std::time::Duration) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let events = self.open_with("cgroup.events", OFlags::RDONLY)?;
        self.freeze(true)?;
        let end = std::time::Instant::now() + wait;
        loop {
            let mut text = [0_u8; 128];
            let n = rustix::io::pread(&events, &mut text, 0)?;
            if String::from_utf8_lossy(&text[..n]).contains("frozen 1") {
                return Ok(());
            }
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left))?;
        }
    }

    /// Removes the folder; it must be empty of processes and children.
    ///
    /// # Errors
    /// Those of rmdir(2): EBUSY while a process is left.
    pub fn remove(&self) -> io::Result<()> {
        Ok(unlinkat(&self.parent, self.name.as_str(), AtFlags::REMOVEDIR)?)
    }
}

/// Where this process sits in the hierarchies of cgroups, as folders that can be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Version 2.
    pub unified: Option<PathBuf>,
    /// Where version 2 is mounted.
    pub top: Option<PathBuf>,
    /// Version 1, by controller name (`memory`, `cpu`, `pids`, …).
    pub by_controller: Vec<(String, PathBuf)>,
}

impl Hierarchies {
    /// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
    ///
    /// # Errors
    /// Those of reading them.
    pub fn of_this_process() -> io::Result<Hierarchies> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let groups = std::fs::read_to_string("/proc/self/cgroup")?;
        Ok(Hierarchies::parse(&mounts, &groups))
    }

    fn parse(mounts: &str, groups: &str) -> Hierarchies {
        let mut found = Hierarchies::default();
        for line in mounts.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            let (&[_, _, _, root, point, ..], &[kind, _, options]) = (&left[..], &right[..]) else {
                continue;
            };
            match kind {
                "cgroup2" => {
                    if let Some(path) = own_folder(groups, "", root, point) {
                        found.top.get_or_insert_with(|| point.into());
                        found.unified.get_or_insert(path);
                    }
                }
                "cgroup" => {
                    for controller in options.split(',') {
                        if let Some(path) = own_folder(groups, controller, root, point) {
                            found.by_controller.push((controller.into(), path));
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }
}

/// The folder below a hierarchy's mount point that this process is in, if it can be seen from there.
fn own_folder(groups: &str, controller: &str, mount_root: &str, point: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|c| c == controller).then_some(path)
    })?;
    let below = Path::new(path).strip_prefix(mount_root).ok()?;
    Some(Path::new(point).join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_hosts_have_both_versions() {
        let mounts = "30 20 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      31 20 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      32 20 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let groups = "4:memory:/a/b\n1:cpu:/\n0::/\n";
        let found = Hierarchies::parse(mounts, groups);
        assert_eq!(found.unified, Some("/sys/fs/cgroup/unified".into()));
        let memory = found.by_controller.iter().find(|c| c.0 == "memory");
        assert_eq!(memory.map(|c| c.1.as_path()), Some(Path::new("/sys/fs/cgroup/memory/a/b")));
    }

    #[test]
    fn a_mount_of_a_part_shows_only_that_part() {
        let groups = "0::/system.slice/x.service\n";
        let inside = "32 20 0:28 /system.slice /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(Hierarchies::parse(inside, groups).unified, Some("/sys/fs/cgroup/x.service".into()));
        let outside = "32 20 0:28 /user.slice /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(Hierarchies::parse(outside, groups).unified, None);
    }
}
