/// The machine with a kernel of its own that holds all machines of a testbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capsule {
    pub(in crate::spec) memory: u64,
    pub(in crate::spec) processors: u32,
}

impl Capsule {
    /// How much memory all machines have together, their files included, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// How many processors they have together.
    pub fn processors(&self) -> u32 {
        self.processors
    }
}
