//! The command `testbed`.
//!
//! It reads its arguments, asks the library, and writes what comes of it: data to standard output, talk to standard
//! error. Its exit codes are in [`exit`], what can go wrong in [`failure`], and each command has a file in
//! [`commands`].

mod commands;
mod exit;
mod failure;
mod folders;
mod images;
mod interrupt;
mod keepers;
mod kept;
mod launched;
mod locked;
mod place;
mod report;
mod settings;
mod terminal;

use clap::Parser;
use commands::Command;
use exit::Exit;
use place::Place;
use std::process::ExitCode;

/// Networks of throwaway machines for tests.
///
/// Describe a network of machines in `testbed.toml`; every test gets a fresh copy of it.
#[derive(Debug, Parser)]
#[command(name = "testbed", version, max_term_width = 100, after_help = exit::HELP)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help that cannot be written has no reader.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Success.into() };
        }
    };
    match arguments.command.run(&arguments.place) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.tell();
            failure.exit().into()
        }
    }
}
