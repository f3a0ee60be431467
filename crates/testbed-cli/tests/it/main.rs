//! The command as its users call it, on real machines.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in what tests share")]

#[path = "../folder/mod.rs"]
mod folder;

mod begun;
mod call;
mod commands;
mod doctor;
mod examples;
mod files;
mod full;
mod images;
mod interrupts;
mod lives;
mod ordinary;
mod ranges;
mod reports;
mod runs;
mod screens;
mod stays;
mod streams;
mod terminals;
mod user;
