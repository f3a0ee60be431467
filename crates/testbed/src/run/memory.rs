//! How many copies fit into memory.

use crate::machine::Hardware;
use crate::spec::{Kernel, Machine, Testbed};

/// What a machine without a limit is taken to need, in bytes: its processes and the files they write.
const MACHINE: u64 = 64 << 20;
/// What the hypervisor of a machine with a kernel of its own takes beside the machine's memory.
const HYPERVISOR: u64 = 128 << 20;

/// How many copies may be alive at once; one always may.
pub(super) fn copies(testbed: &Testbed) -> usize {
    let copy = match Hardware::of_capsule(testbed) {
        Some(capsule) => capsule.memory.saturating_add(HYPERVISOR),
        None => testbed.machines().iter().map(needed).fold(0, u64::saturating_add),
    };
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
    match available {
        Some(available) if copy > 0 => usize::try_from(available / copy).unwrap_or(usize::MAX).max(1),
        _ => usize::MAX,
    }
}

fn needed(machine: &Machine) -> u64 {
    match machine.kernel() {
        Kernel::Own => Hardware::of(machine).memory.saturating_add(HYPERVISOR),
        Kernel::Any | Kernel::Shared => machine.limits().memory().unwrap_or(MACHINE),
    }
}

/// What can be had without swapping, in bytes (proc_meminfo(5), MemAvailable).
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, FixedFiles};

    #[test]
    fn reads_what_the_kernel_says() {
        assert_eq!(available("MemTotal: 8 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemTotal: 8 kB\n"), None);
    }

    #[test]
    fn one_copy_may_always_be_made() {
        let text = "[machines.big]\nlimits = { memory = \"900G\" }";
        let (testbed, _) = spec::check(text, "testbed.toml", &FixedFiles::new("/bed"));
        assert_eq!(copies(&testbed.unwrap()), 1);
    }
}
