//! Whether guests can run on KVM here: found out by having one start, and remembered while the host's kernel runs.

use crate::machine::Accelerator;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use testbed_agent::Fault;

/// Where KVM is.
pub const KVM: &str = "/dev/kvm";

/// What guests run on, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What they run on.
    pub accelerator: Accelerator,
    /// Why not on KVM: what was tried and how that ended. Empty if they do.
    pub why_not: String,
}

/// What was found out: `host.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Memory {
    /// Which start of the host it holds for (`/proc/sys/kernel/random/boot_id`), and the release of its kernel.
    boot: String,
    kernel: String,
    /// By the device and by what the guest is made of: why none starts there, empty if one has.
    found: BTreeMap<String, String>,
}

/// Chooses what guests run on, with what is remembered in a file. `guest` names what they are made of; `probe` has one start
/// on what it is given.
pub fn choose_accelerator(
    device: &Path,
    memory: &Path,
    guest: &str,
    probe: &mut dyn FnMut(&Accelerator) -> Result<(), Fault>,
) -> Choice {
    if let Some(choice) = known_accelerator(device, memory, guest) {
        return choice;
    }
    let kvm = Accelerator::Kvm(device.to_owned());
    let why_not = match probe(&kvm) {
        Ok(()) => String::new(),
        Err(fault) => {
            let said = fault.log.iter().flat_map(|log| log.lines()).map(str::trim);
            let first = said.filter(|line| !line.is_empty()).find(|line| line.contains("qemu"));
            let more = first.map_or(String::new(), |line| format!(" ({line})"));
            format!("no guest starts with {}: {}{more}", device.display(), fault.operation)
        }
    };
    let mut remembered = Memory::of_this_start(memory);
    remembered.found.insert(name(device, guest), why_not.clone());
    // It is found out again if it cannot be kept.
    let _ = remembered.keep(memory);
    Choice::new(kvm, why_not)
}

/// What guests run on, if nothing must be tried for it.
pub(crate) fn known_accelerator(device: &Path, memory: &Path, guest: &str) -> Option<Choice> {
    let kvm = Accelerator::Kvm(device.to_owned());
    // Rights to it may change at any time, and this takes no time.
    if let Err(error) = File::options().read(true).write(true).open(device) {
        return Some(Choice::new(kvm, format!("{}: {}", device.display(), describe(&error))));
    }
    let why_not = Memory::of_this_start(memory).found.remove(&name(device, guest))?;
    Some(Choice::new(kvm, why_not))
}

/// What an answer is remembered by.
fn name(device: &Path, guest: &str) -> String {
    format!("{} {guest}", device.display())
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is none".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not open it".to_owned(),
        _ => error.to_string(),
    }
}

impl Choice {
    fn new(kvm: Accelerator, why_not: String) -> Choice {
        let accelerator = if why_not.is_empty() { kvm } else { Accelerator::Emulation };
        Choice { accelerator, why_not }
    }
}

impl Memory {
    /// What is remembered, if that is of this start of the host.
    fn of_this_start(path: &Path) -> Memory {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot = boot.trim_end().to_owned();
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let kept = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Memory>(&bytes).ok());
        match kept {
            Some(kept) if kept.boot == boot && kept.kernel == kernel => kept,
            _ => Memory { boot, kernel, found: BTreeMap::new() },
        }
    }

    fn keep(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_extension(format!("{}.new", std::process::id()));
        std::fs::write(&beside, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(&beside, path)
    }
}
