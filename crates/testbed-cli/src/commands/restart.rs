use crate::exit::Exit;
use crate::failure::Failure;
use crate::keepers;
use crate::place::Place;
use testbed::control::Ask;

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
        each(place, self.machines, |machine| {
            if hard { Ask::KillMachine { machine } } else { Ask::StopMachine { machine } }
        })
    }
}

impl Start {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        each(place, self.machines, |machine| Ask::StartMachine { machine })
    }
}

impl Restart {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let hard = self.hard;
        each(place, self.machines, |machine| Ask::RestartMachine { machine, hard })
    }
}

/// One after another, each for as long as the deadlines of the file let it take.
fn each(place: &Place, machines: Vec<String>, ask: impl Fn(String) -> Ask) -> Result<Exit, Failure> {
    let client = keepers::client(place)?;
    for machine in machines {
        client.ask_within(&ask(machine), None)?;
    }
    Ok(Exit::Success)
}
