//! What machines' root file systems are made of.
//!
//! ```text
//! spec::Image ─► base:  host | folder | tar | OCI layout | debian:CODENAME | imported | another image
//!                steps: packages, files, run        each a layer ─► Resolved: folders for overlay
//! ```
//!
//! A machine with a kernel of its own has its image as a disk, in the root of its jail (`jail`).
//!
//! A layer is called by the hash of all that goes into it, is built once, and is shared by all testbeds of a user
//! ([`Store`]). What needs a machine to be built runs in one ([`Builder`]). Owners in layers are as inside: 0 to 65535.

mod build;
mod compression;
mod debian;
mod files;
mod identity;
mod import;
mod imported;
mod jail;
mod key;
mod layering;
mod oci;
mod proxy;
mod resolve;
mod sources;
mod store;
mod workplace;

pub(crate) use debian::archives as debian_archives;

pub use build::{Builder, EngineBuilder, Job, WayOut};
pub use import::Source;
pub use imported::{Imported, imported_names};
pub use key::{Key, NotAKey};
pub use proxy::SiteProxy;
pub use resolve::{Options, Progress, Resolved};
pub use store::{Collect, Layers, Listed, Meta, Store};
