//! Our subunit through python-subunit and testtools, and theirs through ours, in a machine that has them.
//!
//! They are right wherever they differ from us, but for the differences that stand here as such.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in what tests share")]

#[path = "../folder/mod.rs"]
mod folder;

mod damaged;
mod filters;
mod folds;
mod generate;
mod packets;
mod reference;
