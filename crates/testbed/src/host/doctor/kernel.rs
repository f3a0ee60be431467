//! What the kernel lets this user do.

use super::{Finding, Need, Prober, read_number};
use testbed_agent::Fault;
use testbed_agent::launch::Probe;

const AREA: &str = "kernel";

pub(super) fn examine(prober: &Prober) -> Vec<Finding> {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let machine = name.machine().to_string_lossy();
    let mut found = vec![Finding::good(AREA, "release", format!("Linux {release} on {machine}"))];
    let namespaces = prober.attempt(Probe::Namespaces);
    let namespaces_work = namespaces.is_ok();
    found.push(user_namespaces(namespaces, prober.is_root()));
    if !namespaces_work {
        // All else is tried in them.
        return found;
    }
    let attempt = |name: &str, probe: Probe, need: Need, works: &str, effect: &str| {
        Finding::of(AREA, name, prober.attempt(probe), need, works, effect)
    };
    let proc = "its own proc and sysfs can be mounted";
    let unmask = "something covers parts of /proc or /sys, as container engines do: run testbed outside of the container, \
                  or start that with both unmasked (podman: --security-opt unmask=ALL)";
    found.push(with_remedy(
        attempt("proc and sysfs", Probe::KernelFiles, Need::All, proc, "no machine can be made"),
        unmask,
    ));
    let overlay = "works in user namespaces, with user.* attributes";
    found.push(with_remedy(
        attempt("overlay", Probe::Overlay, Need::All, overlay, "no machine can be made"),
        "use a kernel with overlayfs (CONFIG_OVERLAY_FS) from Linux 6.1 on",
    ));
    if !prober.is_root() {
        found.push(with_remedy(
            attempt(
                "attributes on tmpfs",
                Probe::MemoryAttributes,
                Need::All,
                "files in memory can have user.* attributes",
                "no machine can be made by this user",
            ),
            "use Linux 6.6 or newer with CONFIG_TMPFS_XATTR, or be root",
        ));
    }
    if prober.is_root() {
        found.push(with_remedy(
            attempt(
                "idmapped mounts",
                Probe::IdMap("/".into()),
                Need::All,
                "the host's root can be shown with other owners",
                "`image = \"host\"` cannot be used",
            ),
            "the file system of / does not support them: use ext4, xfs or btrfs, or an image of its own",
        ));
    }
    found.push(with_remedy(
        attempt(
            "seccomp",
            Probe::Seccomp,
            Need::All,
            "system calls can be filtered",
            "no machine can be made: none runs without its filter",
        ),
        "use a kernel with CONFIG_SECCOMP_FILTER",
    ));
    found
}

fn with_remedy(found: Finding, remedy: &str) -> Finding {
    if found.effect.is_some() { found.remedy(remedy) } else { found }
}

fn user_namespaces(attempt: Result<(), Fault>, is_root: bool) -> Finding {
    let works = if is_root { "root can make them" } else { "this user can make them" };
    let found = Finding::of(
        AREA,
        "user namespaces",
        attempt,
        Need::All,
        works,
        "no machine can be made by this user",
    );
    if found.effect.is_none() {
        return found;
    }
    let switches = [
        ("/proc/sys/kernel/unprivileged_userns_clone", 0, "sysctl kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            1,
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or give testbed an AppArmor profile with `userns,`",
        ),
        ("/proc/sys/user/max_user_namespaces", 0, "sysctl user.max_user_namespaces=10000"),
    ];
    let closed = switches.into_iter().find(|(path, closed, _)| read_number(path) == Some(*closed));
    match closed {
        Some((_, _, command)) => found.remedy(command),
        None => found.remedy("run testbed as root, or outside of the container that forbids them"),
    }
}
