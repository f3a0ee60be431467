//! What a machine with a kernel of its own is made of, beside its files.

use crate::spec;

/// Memory where the file says nothing, in bytes.
const MEMORY: u64 = 256 << 20;
/// How much the disk holds where the file says nothing, in bytes.
const DISK: u64 = 1 << 30;
/// The least that a file system with a journal fits on.
const LEAST_DISK: u64 = 16 << 20;

/// What machines must have in common to start from the same template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hardware {
    /// Bytes of memory.
    pub memory: u64,
    /// How many processors.
    pub processors: u32,
    /// How many network adapters.
    pub adapters: u32,
    /// How many bytes its disk of changes holds.
    pub disk: u64,
    /// They have a screen.
    pub screen: bool,
    /// Modules that their kernel has loaded, sorted.
    pub modules: Vec<String>,
    /// Of a capsule: how many images its machines have. None of any other machine.
    pub images: u32,
    /// Which kernel it is.
    pub kernel: spec::GuestKernel,
    /// What is process 1.
    pub init: spec::Init,
}

/// How much a jail may write to its files beside its guest's disk and a copy of its memory, in bytes.
const JAIL_FILES: u64 = 64 << 20;

impl Hardware {
    /// The least that a kernel starts on.
    pub(crate) fn least() -> Hardware {
        Hardware {
            memory: MEMORY,
            processors: 1,
            adapters: 0,
            disk: LEAST_DISK,
            screen: false,
            modules: Vec::new(),
            images: 0,
            kernel: spec::GuestKernel::Ours,
            init: spec::Init::Agent,
        }
    }

    /// How much the files of a jail may hold, in bytes.
    pub(crate) fn jail_files(&self) -> u64 {
        self.disk + self.memory + JAIL_FILES
    }

    /// What a file asks for.
    pub(crate) fn of(machine: &spec::Machine) -> Hardware {
        let limits = machine.limits();
        Hardware {
            memory: limits.memory().unwrap_or(MEMORY),
            processors: limits.cpu_milli().map_or(1, |milli| milli.div_ceil(1000)),
            adapters: machine.interfaces().len() as u32,
            disk: machine.disk().unwrap_or(DISK).max(LEAST_DISK),
            screen: machine.has_screen(),
            modules: modules(machine.needs()),
            images: 0,
            kernel: machine.guest_kernel().clone(),
            init: machine.init(),
        }
    }

    /// What the capsule of a testbed has, if that is one.
    pub(crate) fn of_capsule(testbed: &spec::Testbed) -> Option<Hardware> {
        let capsule = testbed.capsule()?;
        Some(Hardware {
            memory: capsule.memory(),
            processors: capsule.processors(),
            adapters: 0,
            disk: 0,
            screen: false,
            modules: modules(testbed.machines().iter().flat_map(spec::Machine::needs)),
            images: testbed.capsule_images().len() as u32,
            kernel: spec::GuestKernel::Ours,
            init: spec::Init::Agent,
        })
    }

    /// Whether it is a capsule's.
    pub(crate) fn is_capsule(&self) -> bool {
        self.images > 0
    }
}

fn modules<'a>(needs: impl IntoIterator<Item = &'a spec::Need>) -> Vec<String> {
    let mut modules: Vec<String> = needs.into_iter().map(|need| need.module().to_owned()).collect();
    modules.sort_unstable();
    modules.dedup();
    modules
}
