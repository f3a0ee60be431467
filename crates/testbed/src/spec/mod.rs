//! From `testbed.toml` to the checked model.
//!
//! ```text
//! text ─► raw tree ─► right shape ─► checked model
//!         (spans)     (keys, types)  (only legal values)
//! ```
//!
//! Nothing stops at the first mistake: each step reports what is wrong, with its place and a hint, and goes on with
//! what is left. The table of keys (`keys`) drives the second step, the reference page and the schema for editors. A
//! [`Builder`] writes the same raw tree from Rust, so a testbed without a file is held to the same rules.

mod address;
mod builder;
mod files;
mod keys;
mod load;
mod lower;
mod model;
mod name;
mod problem;
mod raw;
mod reference;
mod render;
mod schema;
mod shape;

pub use address::{Mac, MacError, Subnet, SubnetError};
pub use builder::{
    Builder, DefaultsBuilder, ImageBuilder, InterfaceBuilder, MachineBuilder, NetworkBuilder, ServiceBuilder,
    TestBuilder,
};
pub use files::{FileKind, Files, FixedFiles, HostFiles};
pub use load::{FILE_NAME, LoadError, check, load, load_with};
pub use model::*;
pub use problem::{Label, Place, Problem, ProblemKind, Problems, Severity};
pub use reference::reference;
pub use schema::schema;

pub(crate) use lower::{TAR_SUFFIXES, graph};
pub(crate) use name::is_image_name;
pub use testbed_agent::quantity::{parse_duration, parse_size};
pub(crate) use testbed_agent::quantity::{print_duration, print_size};
