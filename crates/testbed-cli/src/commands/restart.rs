use crate::exit::Exit;
use crate::failure::Failure;
use crate::keepers;
use crate::place::Place;
use std::time::Duration;
use testbed::control::Ask;

/// The keeper keeps to the deadlines of the file.
const AS_THE_FILE_SAYS: Option<Duration> = None;

/// End machines. Their files stay; `start` starts them again.
#[derive(Debug, clap::Args)]
pub(crate) struct Stop {
    /// The machines.
    #[arg(value_name = "MACHINE", required = true)]
    machines: Vec<String>,
    /// Kill them at once, instead of asking their programs to end.
    #[arg(long)]
    hard: bool,
}

/// Start machines that have ended, on their files as they left them.
#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    /// The machines.
    #[arg(value_name = "MACHINE", required = true)]
    machines: Vec<String>,
}

/// End machines and start them again.
#[derive(Debug, clap::Args)]
pub(crate) struct Restart {
    /// The machines.
    #[arg(value_name = "MACHINE", required = true)]
    machines: Vec<String>,
    /// Kill them at once, as if their power was cut.
    #[arg(long)]
    hard: bool,
}

impl Stop {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let hard = self.hard;
        keepers::ask_each(place, self.machines, |client, machine| {
            let ask = if hard { Ask::KillMachine { machine } } else { Ask::StopMachine { machine } };
            client.ask_within(&ask, AS_THE_FILE_SAYS)
        })
    }
}

impl Start {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        keepers::ask_each(place, self.machines, |client, machine| {
            client.ask_within(&Ask::StartMachine { machine }, AS_THE_FILE_SAYS)
        })
    }
}

impl Restart {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let hard = self.hard;
        keepers::ask_each(place, self.machines, |client, machine| {
            client.ask_within(&Ask::RestartMachine { machine, hard }, AS_THE_FILE_SAYS)
        })
    }
}
