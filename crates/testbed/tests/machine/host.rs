//! What these tests need of the host, and what they see of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use testbed::{Engine, Machine};
use testbed_agent::launch;

/// Longer than anything here takes when it works.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// An engine, or none where the host cannot make machines as root; then the reason has been told.
pub(crate) fn engine() -> Option<Engine> {
    if !rustix::process::getuid().is_root() {
        missing("root");
        return None;
    }
    Some(testbed::host::engine().unwrap())
}

/// Tells that a test cannot run here. With `TESTBED_STRICT=1` that is a failure.
pub(crate) fn missing(what: &str) {
    assert!(std::env::var_os("TESTBED_STRICT").is_none(), "this test needs {what}");
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    eprintln!("SKIPPED {test}: it needs {what}");
}

/// A machine on the host's own files, with no network and no limits.
pub(crate) fn spec() -> launch::Machine {
    let root = launch::Root { layers: Vec::new(), host: true };
    launch::Machine::new("m", root, launch::Upper::Memory(256 << 20))
}

pub(crate) fn machine(engine: &Engine) -> Machine {
    engine.machine("m", spec()).unwrap()
}

/// What a shell in a machine prints, its errors with it.
pub(crate) fn shell(machine: &Machine, script: &str) -> String {
    let output = machine.shell(format!("exec 2>&1; {script}")).deadline(SOON).output().unwrap();
    assert!(!output.timed_out, "{script}: {}", output.text());
    output.text()
}

/// A process of this host that belongs to machines or to a launcher.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Leftover {
    pub(crate) pid: u32,
    pub(crate) command: String,
    pub(crate) cgroup: String,
    pub(crate) namespaces: Vec<String>,
}

/// The processes that a keeper has left: its launcher, whatever sits in its cgroups or carries its mark among the
/// arguments, and orphans that run as a machine's user or are the agent. Those of keepers that live are theirs.
pub(crate) fn leftovers(keeper: u32, launcher: Option<u32>, mark: &str) -> Vec<Leftover> {
    let own_groups = format!("testbed-{keeper}-");
    let mut found = Vec::new();
    for pid in processes() {
        let folder = format!("/proc/{pid}");
        let read = |name: &str| fs::read(format!("{folder}/{name}")).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let cgroup = String::from_utf8_lossy(&read("cgroup")).into_owned();
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u32>().ok()
        };
        let orphan = field("PPid:") == Some(1);
        // It is gone; that the host's process 1 reaps late is not ours to help.
        if orphan && status.contains("State:\tZ") {
            continue;
        }
        let is_agent = fs::read_link(format!("{folder}/exe"))
            .is_ok_and(|exe| exe.to_string_lossy().contains("memfd:testbed-agent"));
        let of_machine = field("Uid:").is_some_and(|uid| uid >= 0x4000_0000);
        let ours = Some(pid) == launcher && is_agent
            || cgroup.contains(&own_groups)
            || command.contains(mark)
            || orphan && (is_agent || of_machine);
        if ours && pid != std::process::id() {
            let cgroup = cgroup.lines().filter(|l| l.contains("testbed-")).collect();
            found.push(Leftover { pid, command, cgroup, namespaces: namespaces(pid) });
        }
    }
    found
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

pub(crate) fn namespaces(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/ns")) else { return Vec::new() };
    let link = |entry: fs::DirEntry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned());
    entries.filter_map(|e| link(e.ok()?)).collect()
}

/// All that a testbed could leave on this host and that is no process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HostState {
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    named_namespaces: BTreeSet<String>,
    rules: String,
    forwarding: String,
}

impl HostState {
    pub(crate) fn look() -> HostState {
        let names = |folder: &str| -> BTreeSet<String> {
            let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
            entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect()
        };
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        HostState {
            mounts: mounts.lines().map(str::to_owned).collect(),
            links: names("/sys/class/net"),
            named_namespaces: names("/run/netns").union(&names("/var/run/netns")).cloned().collect(),
            rules: fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default(),
            forwarding: fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default(),
        }
    }

    /// What is there now and was not before, or the other way round; none once all is as it was.
    pub(crate) fn changes_since(&self, before: &HostState) -> Option<String> {
        (self != before).then(|| format!("before: {before:#?}\nnow: {self:#?}"))
    }
}

/// Which of these namespaces something still holds: a process that is in them, or a descriptor.
pub(crate) fn held(wanted: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for pid in processes() {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        let links = descriptors.filter_map(|e| fs::read_link(e.ok()?.path()).ok());
        let links = links.map(|l| l.to_string_lossy().into_owned()).chain(namespaces(pid));
        found.extend(links.filter(|l| wanted.contains(l)).map(|l| format!("{l} by process {pid}")));
    }
    found
}

/// Waits until a condition gives nothing to complain about, and says how long it took.
pub(crate) fn settle<T: std::fmt::Debug>(what: &str, mut complaint: impl FnMut() -> Option<T>) -> Duration {
    let start = Instant::now();
    loop {
        match complaint() {
            None => return start.elapsed(),
            Some(c) if start.elapsed() > SOON => panic!("{what}: after {SOON:?} still {c:#?}"),
            Some(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The folders of a keeper in all cgroup hierarchies.
pub(crate) fn cgroup_folders(keeper: u32) -> Vec<String> {
    let prefix = format!("testbed-{keeper}-");
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found = Vec::new();
    for line in mounts.lines().filter(|l| l.contains(" - cgroup")) {
        let Some(point) = line.split(' ').nth(4) else { continue };
        for own in groups.lines().filter_map(|l| l.splitn(3, ':').nth(2)) {
            let folder = Path::new(point).join(own.trim_start_matches('/'));
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
            found.extend(
                names.filter(|n| n.starts_with(&prefix)).map(|n| format!("{}/{n}", folder.display())),
            );
        }
    }
    found
}
