//! What bounds machines: cgroups, and the kernel's numbers.

use super::{Finding, Need, Prober, read_number};
use crate::host::{groups, keeper_name};
use rustix::process::{Resource, getrlimit};
use std::path::Path;
use testbed_agent::launch::Probe;
use testbed_agent::{Doing as _, Fault};
use testbed_sys::cgroup::Hierarchies;

const AREA: &str = "limits";
const DELEGATE: &str =
    "start testbed in a cgroup of its own: systemd-run --user --scope -p Delegate=yes testbed …";
/// Fewer machines at once than this are told as a lack.
const MANY: u64 = 1000;
/// Open files that a launcher has for each machine: process, files, and cgroups with their parents.
const FILES_PER_MACHINE: u64 = 10;

pub(super) fn examine(prober: &Prober) -> Result<Vec<Finding>, Fault> {
    let hierarchies = Hierarchies::of_this_process().doing("find cgroups")?;
    let name = keeper_name().doing("name this process")?;
    let attempt = |folder: &Path, unified| {
        let folder = folder.join(&name).display().to_string();
        prober.attempt(Probe::Cgroup { folder, unified })
    };
    let way_out = if prober.is_root() { "mount cgroup2, as systemd does" } else { DELEGATE };
    let place = groups(&hierarchies);
    let unified = place.as_ref().map(|place| place.folder.as_path()).or(hierarchies.unified.as_deref());
    let tried = unified.map(|folder| attempt(folder, true));
    let mut found = vec![match &tried {
        Some(Ok(())) => Finding::good(AREA, "cgroup v2", "a process can be started in a cgroup of its own"),
        Some(Err(fault)) => without_groups(&fault.to_string()).remedy(way_out),
        None => without_groups("no hierarchy that can be seen").remedy(way_out),
    }];
    let in_v2 = place.as_ref().filter(|_| matches!(tried, Some(Ok(())))).map(|place| &place.controllers);
    for (controller, what) in [("memory", "memory"), ("cpu", "processor time"), ("pids", "processes")] {
        let v1 = hierarchies.by_controller.iter().find(|(known, _)| known == controller);
        let v1 = v1.map(|(_, folder)| attempt(folder, false));
        let in_v2 = in_v2.is_some_and(|list| list.iter().any(|known| known == controller));
        let name = format!("limits of {what}");
        found.push(match v1 {
            Some(Ok(())) => Finding::good(AREA, name, format!("by the cgroup v1 controller {controller}")),
            _ if in_v2 => Finding::good(AREA, name, format!("by the cgroup v2 controller {controller}")),
            Some(Err(fault)) => without_controller(name, &fault.to_string()).remedy(way_out),
            None => without_controller(name, &format!("no controller {controller}")).remedy(way_out),
        });
    }
    found.extend(numbers(prober.is_root()));
    Ok(found)
}

fn without_groups(fact: &str) -> Finding {
    let effect = "machines cannot be paused; all else works";
    Finding::lacking(AREA, "cgroup v2", Need::Some, fact, effect)
}

fn without_controller(name: String, fact: &str) -> Finding {
    Finding::lacking(AREA, name, Need::Some, fact, "machines that ask for it in `limits` cannot be made")
}

fn numbers(is_root: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    for kind in ["user", "mnt", "net", "pid"] {
        let setting = format!("user.max_{kind}_namespaces");
        let Some(most) = read_number(&format!("/proc/sys/user/max_{kind}_namespaces")) else { continue };
        found.push(enough(&setting, most, most, &format!("sysctl {setting}=10000")));
    }
    if let Some(most) = read_number("/proc/sys/fs/inotify/max_user_instances") {
        let fact = format!("{most} (fs.inotify.max_user_instances)");
        let name = "inotify instances";
        found.push(if most >= 128 {
            Finding::good(AREA, name, fact)
        } else {
            let effect = "waits for files fail where many machines wait at once";
            Finding::lacking(AREA, name, Need::Some, fact, effect)
                .remedy("sysctl fs.inotify.max_user_instances=1024")
        });
    }
    let files = getrlimit(Resource::Nofile);
    let current = files.current.unwrap_or(u64::MAX);
    let remedy = match files.maximum {
        Some(most) if most <= current => "raise the hard limit in limits.conf(5)".to_owned(),
        Some(most) => format!("ulimit -n {most}"),
        None => "ulimit -n 65536".to_owned(),
    };
    found.push(enough("open files", current, current / FILES_PER_MACHINE, &remedy));
    let most = read_number(if is_root {
        "/proc/sys/kernel/keys/root_maxkeys"
    } else {
        "/proc/sys/kernel/keys/maxkeys"
    });
    if let Some(most) = most {
        found.push(keys(most));
    }
    found
}

fn enough(name: &str, value: u64, machines: u64, remedy: &str) -> Finding {
    let fact = if value == u64::MAX { "no limit".to_owned() } else { value.to_string() };
    if machines >= MANY {
        return Finding::good(AREA, name, fact);
    }
    let effect = format!("about {machines} machines at once");
    Finding::lacking(AREA, name, if machines == 0 { Need::All } else { Need::Some }, fact, effect)
        .remedy(remedy)
}

/// Each launcher has a key ring of its own.
fn keys(most: u64) -> Finding {
    let uid = rustix::process::getuid().as_raw();
    // proc_key_users(5): `uid: usage nkeys/nikeys qnkeys/maxkeys qnbytes/maxbytes`.
    let text = std::fs::read_to_string("/proc/key-users").unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{uid}:")));
    let used = line.and_then(|line| line.split_whitespace().nth(2)?.split('/').next()?.parse::<u64>().ok());
    let used = used.unwrap_or(0);
    let fact = format!("{used} of {most} in use");
    if most.saturating_sub(used) >= 10 {
        return Finding::good(AREA, "keys", fact);
    }
    Finding::lacking(AREA, "keys", Need::Some, fact, "launchers need one each, and soon cannot start")
        .remedy("sysctl kernel.keys.maxkeys=2000")
}
