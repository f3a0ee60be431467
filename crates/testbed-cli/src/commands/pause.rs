use crate::exit::Exit;
use crate::failure::Failure;
use crate::keepers;
use crate::place::Place;
use testbed::control::Ask;

/// Stop all processes of machines where they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Pause {
    /// The machines.
    #[arg(value_name = "MACHINE", required = true)]
    machines: Vec<String>,
}

/// Let the processes of paused machines go on.
#[derive(Debug, clap::Args)]
pub(crate) struct Resume {
    /// The machines.
    #[arg(value_name = "MACHINE", required = true)]
    machines: Vec<String>,
}

impl Pause {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        keepers::ask_each(place, self.machines, |client, machine| client.ask(&Ask::Pause { machine }))
    }
}

impl Resume {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        keepers::ask_each(place, self.machines, |client, machine| client.ask(&Ask::Resume { machine }))
    }
}
