//! One file for each command: its arguments and what it does.

mod check;
mod doctor;
mod init;
mod plan;
mod run;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::place::Place;

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Run(run::Arguments),
    Check(check::Arguments),
    Plan(plan::Arguments),
    Doctor(doctor::Arguments),
    Init(init::Arguments),
}

impl Command {
    /// Does what was asked.
    ///
    /// # Errors
    /// Why it could not be done.
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        match self {
            Command::Run(arguments) => arguments.run(place),
            Command::Check(arguments) => arguments.run(place),
            Command::Plan(arguments) => arguments.run(place),
            Command::Doctor(arguments) => arguments.run(place),
            Command::Init(arguments) => arguments.run(place),
        }
    }
}

/// How a command writes its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: JSON.
    Json,
}
