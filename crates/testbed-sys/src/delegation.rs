//! Where folders of cgroup version 2 can have limits (Documentation/admin-guide/cgroup-v2.rst).
//!
//! A folder has the files of a controller only if every folder above it passes the controller on, in its
//! `cgroup.subtree_control`. And one that passes controllers on may hold no processes itself, unless it is the root of all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where to make folders, and what has to be done for limits in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The folder to make others in.
    pub folder: PathBuf,
    /// The controllers that it passes on, or can be made to.
    pub controllers: Vec<String>,
    /// Its processes have to go into a folder of their own first: see [`clear`].
    pub occupied: bool,
}

/// Finds where this user can make folders with controllers, as many of the wanted ones as there are: this process's own
/// folder `own`, or else the nearest above it, up to the mount point `top`. None if no folder may be written.
///
/// Processes are moved out of the way only in the own folder, and only if whoever made it has given it away
/// (systemd.resource-control(5), `Delegate=`).
pub fn find(top: &Path, own: &Path, wanted: &[&str]) -> Option<Place> {
    let mut best: Option<Place> = None;
    for folder in own.ancestors().take_while(|folder| folder.starts_with(top)) {
        let Some(place) = look(folder, folder == own, wanted) else { continue };
        let (found, all) = (place.controllers.len(), place.controllers.len() == wanted.len());
        if best.as_ref().is_none_or(|best| found > best.controllers.len()) {
            best = Some(place);
        }
        if all {
            break;
        }
    }
    best
}

/// What a folder offers; none if nothing can be made in it.
fn look(folder: &Path, is_own: bool, wanted: &[&str]) -> Option<Place> {
    let may_write = |file: &Path| rustix::fs::access(file, rustix::fs::Access::WRITE_OK).is_ok();
    // Whoever is put into a folder comes from below this one, too.
    if !may_write(folder) || !may_write(&folder.join("cgroup.procs")) {
        return None;
    }
    let passed = words(&folder.join("cgroup.subtree_control"));
    let has = |list: &[String], controller: &str| list.iter().any(|word| word == controller);
    let mut place = Place { folder: folder.to_owned(), controllers: Vec::new(), occupied: false };
    place.controllers.extend(wanted.iter().filter(|c| has(&passed, c)).map(|c| (*c).to_owned()));
    if place.controllers.len() == wanted.len() || !may_write(&folder.join("cgroup.subtree_control")) {
        return Some(place);
    }
    // Only the root of all has no type.
    let is_root = !folder.join("cgroup.type").exists();
    let is_occupied = !is_root && !words(&folder.join("cgroup.procs")).is_empty();
    if is_occupied && !(is_own && is_delegated(folder)) {
        return Some(place);
    }
    let there = words(&folder.join("cgroup.controllers"));
    let more = wanted.iter().filter(|c| !has(&passed, c) && has(&there, c)).map(|c| (*c).to_owned());
    let before = place.controllers.len();
    place.controllers.extend(more);
    place.occupied = is_occupied && place.controllers.len() > before;
    Some(place)
}

/// Its maker has left it to whoever runs in it.
fn is_delegated(folder: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].into_iter().any(|name| {
        let mut value = [0_u8; 8];
        rustix::fs::getxattr(folder, name, &mut value[..]).is_ok_and(|length| value[..length] == *b"1")
    })
}

/// Has a folder pass controllers on, those that it does not yet.
///
/// # Errors
/// Those of writing `cgroup.subtree_control`: EBUSY while it holds processes, ENOENT for a controller it does not have.
pub fn pass_on(folder: &Path, controllers: &[String]) -> io::Result<()> {
    let file = folder.join("cgroup.subtree_control");
    let passed = words(&file);
    let missing = controllers.iter().filter(|controller| !passed.contains(controller));
    let text: Vec<String> = missing.map(|controller| format!("+{controller}")).collect();
    if text.is_empty() {
        return Ok(());
    }
    fs::File::options().write(true).open(&file).and_then(|mut file| {
        use io::Write as _;
        file.write_all(text.join(" ").as_bytes())
    })
}

/// Moves all processes of a folder into a new one in it, of this name.
///
/// # Errors
/// Those of making it and of moving; EBUSY if new processes come faster than they can be moved.
pub fn clear(folder: &Path, name: &str) -> io::Result<()> {
    const ATTEMPTS: u32 = 100;
    let inner = folder.join(name);
    match fs::create_dir(&inner) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for _ in 0..ATTEMPTS {
        let processes = words(&folder.join("cgroup.procs"));
        if processes.is_empty() {
            return Ok(());
        }
        for process in processes {
            match fs::write(inner.join("cgroup.procs"), &process) {
                // It has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                other => other?,
            }
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

fn words(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    const ALL: [&str; 3] = ["memory", "cpu", "pids"];

    /// Folders laid out as a hierarchy of version 2, gone with the value.
    struct Hierarchy(PathBuf);

    impl Hierarchy {
        fn new(name: &str) -> Hierarchy {
            let path = std::env::temp_dir().join(format!("testbed-groups-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            let hierarchy = Hierarchy(path);
            hierarchy.folder("", "cpu memory pids io", "", "1 2 3");
            fs::remove_file(hierarchy.0.join("cgroup.type")).unwrap();
            hierarchy
        }

        /// A folder with these controllers, those that it passes on, and its processes.
        fn folder(&self, path: &str, controllers: &str, passed: &str, processes: &str) -> PathBuf {
            let folder = if path.is_empty() { self.0.clone() } else { self.0.join(path) };
            fs::create_dir_all(&folder).unwrap();
            for (file, text) in [
                ("cgroup.controllers", controllers),
                ("cgroup.subtree_control", passed),
                ("cgroup.procs", processes),
                ("cgroup.type", "domain"),
            ] {
                fs::write(folder.join(file), text).unwrap();
            }
            folder
        }

        fn find(&self, own: &Path) -> Option<(PathBuf, String, bool)> {
            let place = find(&self.0, own, &ALL)?;
            let folder = place.folder.strip_prefix(&self.0).unwrap().to_owned();
            Some((folder, place.controllers.join(" "), place.occupied))
        }
    }

    impl Drop for Hierarchy {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_delegated_folder_is_used_and_cleared_of_its_processes() {
        let all = "cpu memory pids";
        let hierarchy = Hierarchy::new("delegated");
        hierarchy.folder("app", all, all, "");
        let own = hierarchy.folder("app/run.scope", all, "", "7\n8\n");
        // Not given away, it stays as it is; the one above passes all on already.
        assert_eq!(hierarchy.find(&own), Some(("app".into(), "memory cpu pids".into(), false)));
        rustix::fs::setxattr(&own, "user.delegate", b"1", rustix::fs::XattrFlags::empty()).unwrap();
        assert_eq!(hierarchy.find(&own), Some(("app/run.scope".into(), "memory cpu pids".into(), true)));
        // As the next launcher finds it: in a folder below, the one above cleared.
        let leaf = hierarchy.folder("app/run.scope/testbed", all, "", "7\n8\n");
        hierarchy.folder("app/run.scope", all, all, "");
        assert_eq!(hierarchy.find(&leaf), Some(("app/run.scope".into(), "memory cpu pids".into(), false)));
    }

    #[test]
    fn the_nearest_that_has_all_is_taken_and_otherwise_the_one_that_has_most() {
        let hierarchy = Hierarchy::new("nearest");
        hierarchy.folder("user", "memory pids", "memory pids", "");
        let own = hierarchy.folder("user/session", "memory pids", "", "9\n");
        // The root of all may hold processes.
        assert_eq!(hierarchy.find(&own), Some(("".into(), "memory cpu pids".into(), false)));
        hierarchy.folder("", "memory pids", "memory pids", "1");
        assert_eq!(
            hierarchy.find(&own),
            Some(("user".into(), "memory pids".into(), false)),
            "nobody has all: the nearest of those with most"
        );
        let empty = hierarchy.folder("user/empty", "memory pids", "", "");
        assert_eq!(hierarchy.find(&empty), Some(("user/empty".into(), "memory pids".into(), false)));
    }

    #[test]
    fn where_nobody_can_be_put_nothing_is_made() {
        let hierarchy = Hierarchy::new("closed");
        let own = hierarchy.folder("session", "memory", "", "");
        for folder in [own.as_path(), &hierarchy.0] {
            fs::remove_file(folder.join("cgroup.procs")).unwrap();
        }
        assert_eq!(hierarchy.find(&own), None);
    }

    #[test]
    fn only_what_is_missing_is_passed_on() {
        let hierarchy = Hierarchy::new("passed");
        let folder = hierarchy.folder("own", "cpu memory pids", "memory", "");
        let controllers = ALL.map(str::to_owned);
        pass_on(&folder, &controllers).unwrap();
        assert_eq!(words(&folder.join("cgroup.subtree_control")), ["+cpu", "+pids"]);
        fs::write(folder.join("cgroup.subtree_control"), "cpu memory pids").unwrap();
        pass_on(&folder, &controllers).unwrap();
        assert_eq!(words(&folder.join("cgroup.subtree_control")), ["cpu", "memory", "pids"]);
    }

    /// A process that waits for its end.
    struct Waiting(Child);

    impl Drop for Waiting {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn processes_of_a_real_folder_go_into_one_below() {
        let own = crate::cgroup::Hierarchies::of_this_process().ok().and_then(|found| found.unified);
        let folder = own.map(|own| own.join(format!("testbed-clear-{}", std::process::id())));
        let Some(folder) = folder.filter(|folder| fs::create_dir(folder).is_ok()) else {
            assert!(std::env::var_os("TESTBED_STRICT").is_none(), "no cgroup v2 folder can be made");
            eprintln!("SKIPPED: this test needs a folder of cgroup v2 of its own");
            return;
        };
        let sleeper = Waiting(Command::new("sleep").arg("100").stdin(Stdio::null()).spawn().unwrap());
        fs::write(folder.join("cgroup.procs"), sleeper.0.id().to_string()).unwrap();
        let cleared = clear(&folder, "inner");
        let left = words(&folder.join("cgroup.procs"));
        let moved = words(&folder.join("inner/cgroup.procs"));
        let number = sleeper.0.id().to_string();
        drop(sleeper);
        // The kernel lets go of a process a moment after its end is known.
        for gone in [folder.join("inner"), folder] {
            while fs::remove_dir(&gone).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy) {
                std::thread::yield_now();
            }
        }
        cleared.unwrap();
        assert_eq!((left, moved), (Vec::new(), vec![number]));
    }
}
