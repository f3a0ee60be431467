//! What the processors of a guest run on.

use rustix::fd::OwnedFd;
use std::fs::File;
use std::path::PathBuf;
use testbed_agent::{Doing as _, Fault};

/// What the processors of a guest run on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Accelerator {
    /// QEMU does what they would do (TCG), on any host.
    #[default]
    Emulation,
    /// The host's own, by what this device gives.
    Kvm(PathBuf),
}

/// What of a processor a guest may come to rely on (proc_cpuinfo(5)).
const PROCESSOR: [&str; 7] =
    ["vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags"];

impl Accelerator {
    /// What the hypervisor must have a descriptor of.
    pub(super) fn open(&self) -> Result<Option<OwnedFd>, Fault> {
        match self {
            Accelerator::Emulation => Ok(None),
            Accelerator::Kvm(device) => {
                let opened = File::options().read(true).write(true).open(device);
                opened.map(|file| Some(file.into())).doing_to("open", device.display().to_string())
            }
        }
    }

    /// What a guest's state is only good for. Emulated processors are alike everywhere.
    pub(super) fn only_for(&self) -> String {
        if *self == Accelerator::Emulation {
            return String::new();
        }
        let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let first = about.lines().take_while(|line| !line.is_empty());
        let is_meant =
            |line: &&str| line.split_once(':').is_some_and(|(name, _)| PROCESSOR.contains(&name.trim_end()));
        let lines: Vec<&str> = first.filter(is_meant).collect();
        format!("{}\n{}", rustix::system::uname().release().to_string_lossy(), lines.join("\n"))
    }
}
