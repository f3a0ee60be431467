//! What this host offers, and what a launcher needs to know of it.

mod accelerator;
mod doctor;
mod mask;
mod ranges;

pub(crate) use accelerator::known_accelerator;
pub use accelerator::{Choice, KVM, choose_accelerator};
pub use doctor::{Examination, Finding, Options, State, examine};
pub(crate) use ranges::Ranges;

use crate::engine::Engine;
use rustix::process::{getgid, getuid};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use testbed_agent::launch::{Controller, Ids, Masked, Setup};
use testbed_agent::{Doing as _, Fault};
use testbed_sys::cgroup::Hierarchies;
use testbed_sys::delegation::{self, Place};

/// Where the ids of machines begin on a host, unless `/etc/subuid` or `/etc/subgid` give some of them to a user: whoever
/// owns the numbers of a machine can kill its processes. Far above what `useradd` hands out.
const FIRST_IDS: u32 = 0x4000_0000;

/// Starts a launcher for this host, and looks for what is to be hidden of the host while it starts.
///
/// # Errors
/// Those of [`setup`] and [`Engine::start`]. Those of [`mask`] come with the first machine.
pub fn engine() -> Result<Engine, Fault> {
    let finding =
        std::thread::Builder::new().name("testbed-mask".into()).spawn(mask).doing("start a thread")?;
    let engine = Engine::idle()?;
    let found = || finding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    engine.begin(setup()?, Box::new(found))?;
    Ok(engine)
}

/// Lets this process have as many files open as the host allows, for keepers of hundreds of machines. What the library
/// starts finds the limit of before.
///
/// # Errors
/// When the limit cannot be changed.
pub fn raise_open_files() -> Result<(), Fault> {
    testbed_sys::open_files::raise(None).doing("raise the limit of open files")
}

/// Looks at this host.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn setup() -> Result<Setup, Fault> {
    let hierarchies = Hierarchies::of_this_process().doing("find cgroups")?;
    let name = keeper_name().doing("name this process")?;
    let usable = |path: &Path| -> Option<String> {
        let writable = rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
        let folder = path.join(&name);
        writable.then(|| folder.to_str().map(str::to_owned)).flatten()
    };
    let mut cgroup_v1 = Vec::new();
    for (controller, v1_name) in
        [(Controller::Memory, "memory"), (Controller::Cpu, "cpu"), (Controller::Pids, "pids")]
    {
        let found = hierarchies.by_controller.iter().find(|(name, _)| name == v1_name);
        cgroup_v1.extend(found.and_then(|(_, path)| usable(path)).map(|path| (controller, path)));
    }
    let place = groups(&hierarchies);
    let cgroup = place.as_ref().and_then(|place| place.folder.join(&name).to_str().map(str::to_owned));
    let (cgroup_controllers, cgroup_occupied) =
        place.map(|place| (place.controllers, place.occupied)).unwrap_or_default();
    Ok(Setup {
        ids: ids()?,
        cgroup,
        cgroup_controllers,
        cgroup_occupied,
        cgroup_v1,
        tun: rustix::fs::access(c"/dev/net/tun", rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK)
            .is_ok(),
    })
}

/// Finds what of this host a machine whose image is `host` must not see.
///
/// # Errors
/// When a folder of the host cannot be read.
pub fn mask() -> Result<Vec<Masked>, Fault> {
    mask::entries(Path::new("/"), own_home().as_deref()).doing("look for the host's secrets")
}

/// The controllers that limits need.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// Where folders of version 2 can be made, with the controllers that version 1 does not have.
fn groups(hierarchies: &Hierarchies) -> Option<Place> {
    let (top, own) = (hierarchies.top.as_deref()?, hierarchies.unified.as_deref()?);
    let in_v1 = |wanted: &str| hierarchies.by_controller.iter().any(|(name, _)| name == wanted);
    let wanted: Vec<&str> = CONTROLLERS.into_iter().filter(|wanted| !in_v1(wanted)).collect();
    delegation::find(top, own, &wanted)
}

fn is_root() -> bool {
    getuid().is_root() && getgid().is_root()
}

/// This user's line of passwd(5), taken apart.
fn own_account() -> Option<Vec<String>> {
    let uid = getuid().as_raw();
    let text = fs::read_to_string("/etc/passwd").ok()?;
    let mut accounts = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = accounts.find(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(uid))?;
    Some(found.into_iter().map(str::to_owned).collect())
}

/// The home folder of this user: an ordinary user may read what is in it, and its modes say little.
fn own_home() -> Option<String> {
    own_account()?.into_iter().nth(5)
}

/// The ids that machines get.
fn ids() -> Result<Ids, Fault> {
    Ok(match is_root() {
        true => Ids::Range(free_ids()?),
        false => Ranges::of_this_user().count().map_or(Ids::Single, Ids::Delegated),
    })
}

/// What the cgroups of a launcher are called: whoever sweeps can tell whether its keeper still lives. A keeper may have
/// several launchers.
fn keeper_name() -> io::Result<String> {
    static LAUNCHERS: AtomicU32 = AtomicU32::new(1);
    let pid = std::process::id();
    let number = LAUNCHERS.fetch_add(1, Ordering::Relaxed);
    Ok(format!("testbed-{pid}-{}-{number}", start_time(pid)?))
}

/// When a process started, in clock ticks since boot (proc_pid_stat(5), field 22).
fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' '));
    let ticks = fields.and_then(|mut fields| fields.nth(19)).and_then(|f| f.parse().ok());
    ticks.ok_or_else(|| io::Error::other("/proc/PID/stat has no start time"))
}

fn free_ids() -> Result<u32, Fault> {
    Ok(above(&taken_ids()?))
}

/// All ids that some user has been given.
fn taken_ids() -> Result<Vec<(u64, u64)>, Fault> {
    let mut taken = Vec::new();
    for file in ["/etc/subuid", "/etc/subgid"] {
        match fs::read_to_string(file) {
            Ok(text) => taken.extend(text.lines().filter_map(range)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Fault::system("read", &error).at(file)),
        }
    }
    Ok(taken)
}

fn range(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split(':').skip(1);
    let first: u64 = fields.next()?.trim().parse().ok()?;
    Some((first, first.checked_add(fields.next()?.trim().parse().ok()?)?))
}

fn above(taken: &[(u64, u64)]) -> u32 {
    let size = u64::from(testbed_agent::launch::IDS);
    let mut first = u64::from(FIRST_IDS);
    while let Some((_, end)) = taken.iter().find(|(start, end)| first < *end && *start < first + size) {
        first = end.next_multiple_of(size);
    }
    u32::try_from(first).unwrap_or(FIRST_IDS)
}

/// Removes what keepers that were killed have left in the cgroup hierarchies; gives how many folders went.
///
/// # Errors
/// When the hierarchies cannot be found.
pub fn sweep() -> Result<usize, Fault> {
    let hierarchies = Hierarchies::of_this_process().doing("find cgroups")?;
    let mut gone = 0;
    let v1 = hierarchies.by_controller.iter().map(|(_, path)| path.as_path());
    // Folders of version 2 may have been made in one above the own.
    let (own, top) = (hierarchies.unified.iter(), hierarchies.top.as_deref());
    let v2 = own
        .flat_map(|own| own.ancestors())
        .take_while(|folder| top.is_some_and(|top| folder.starts_with(top)));
    for folder in v2.chain(v1) {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let dead = entry.file_name().to_str().is_some_and(is_of_dead_keeper);
            if dead && remove_groups(&entry.path()) {
                gone += 1;
            }
        }
    }
    Ok(gone)
}

fn is_of_dead_keeper(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("testbed-") else { return false };
    let numbers: Vec<&str> = rest.split('-').collect();
    let &[pid, started, _] = &numbers[..] else { return false };
    let (Ok(pid), Ok(started)) = (pid.parse::<u32>(), started.parse::<u64>()) else { return false };
    start_time(pid).ok() != Some(started)
}

fn remove_groups(folder: &Path) -> bool {
    if let Ok(entries) = fs::read_dir(folder) {
        for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
            remove_groups(&entry.path());
        }
    }
    // One that still has processes stays; whoever has them is not ours.
    fs::remove_dir(folder).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_users_are_never_taken() {
        assert_eq!(above(&[(100_000, 165_536)]), FIRST_IDS);
        let base = u64::from(FIRST_IDS);
        assert_eq!(u64::from(above(&[(base + 5, base + 70_000)])), base + 131_072);
        assert_eq!(range("user:100000:65536"), Some((100_000, 165_536)));
        assert_eq!(range("broken"), None);
    }

    #[test]
    fn only_dead_keepers_are_swept() {
        let mine = keeper_name().unwrap();
        assert!(!is_of_dead_keeper(&mine));
        let (rest, _) = mine.rsplit_once('-').unwrap();
        assert!(is_of_dead_keeper(&format!("{rest}9-1")));
        assert!(!is_of_dead_keeper("testbed-notes"));
        assert!(!is_of_dead_keeper("user.slice"));
    }
}
