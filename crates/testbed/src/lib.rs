//! Networks of throwaway machines for tests.

pub mod bed;
pub mod control;
pub mod engine;
pub mod host;
pub mod image;
pub mod machine;
pub mod net;
pub mod plan;
pub mod run;
pub mod spec;
mod task;

pub use bed::Bed;
pub use engine::Engine;
pub use machine::Machine;
pub use spec::Testbed;
pub use task::{Unblock, unblock};
pub use testbed_agent::{Fault, FaultKind};
