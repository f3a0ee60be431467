//! The filter beside podman's: what it refuses by default is refused in a machine, but for what is written down.
#![cfg(target_arch = "x86_64")]

use testbed_sys::seccomp::DENIED;

/// What podman refuses, one name a line.
const PODMANS: &str = include_str!("podman/denied.txt");

/// Refused by podman and allowed in a machine; the threat model has a reason for each.
const ON_PURPOSE: &[&str] = &[
    "futex_waitv",
    "io_pgetevents",
    "kcmp",
    "process_madvise",
    "set_mempolicy_home_node",
    "setdomainname",
    "sethostname",
];

/// Numbers without a call behind them: the kernel answers ENOSYS whoever asks (syscalls(2), "unimplemented").
const UNIMPLEMENTED: &[&str] = &[
    "_sysctl",
    "afs_syscall",
    "create_module",
    "get_kernel_syms",
    "getpmsg",
    "nfsservctl",
    "putpmsg",
    "query_module",
    "security",
    "tuxcall",
    "vserver",
];

fn podmans() -> impl Iterator<Item = &'static str> {
    PODMANS.lines().filter(|line| !line.starts_with('#'))
}

#[test]
fn what_podman_refuses_is_refused_or_allowed_for_a_reason() {
    let known = |name: &str| {
        DENIED.iter().any(|(denied, _)| *denied == name)
            || ON_PURPOSE.contains(&name)
            || UNIMPLEMENTED.contains(&name)
    };
    let open: Vec<&str> = podmans().filter(|name| !known(name)).collect();
    assert_eq!(open, Vec::<&str>::new());
    assert!(podmans().count() > 40);
}

#[test]
fn each_difference_is_one_and_has_its_reason() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/threat-model.md");
    let model = std::fs::read_to_string(model).unwrap();
    for name in ON_PURPOSE {
        assert!(podmans().any(|podmans| podmans == *name), "podman allows {name}");
        assert!(!DENIED.iter().any(|(denied, _)| denied == name), "{name} is refused");
        assert!(model.contains(&format!("`{name}`")), "the threat model has no reason for {name}");
    }
}
