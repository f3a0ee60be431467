/// The machine with a kernel of its own that holds all machines of a testbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capsule {
    pub(in crate::spec) memory: u64,
    pub(in crate::spec) processors: u32,
}

/// What one of few machines has together, and what each of many adds, in bytes.
const LEAST: u64 = 512 << 20;
const EACH: u64 = 64 << 20;

impl Capsule {
    /// One for so many machines of which nothing else is known.
    pub(crate) fn of(machines: usize) -> Capsule {
        Capsule { memory: LEAST.max(LEAST / 2 + EACH * machines as u64), processors: 1 }
    }

    /// How much memory all machines have together, their files included, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// How many processors they have together.
    pub fn processors(&self) -> u32 {
        self.processors
    }
}
