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
        each(place, self.machines, |machine| Ask::Pause { machine })
    }
}

impl Resume {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        each(place, self.machines, |machine| Ask::Resume { machine })
    }
}

fn each(place: &Place, machines: Vec<String>, ask: impl Fn(String) -> Ask) -> Result<Exit, Failure> {
    let client = keepers::client(place)?;
    for machine in machines {
        client.ask(&ask(machine))?;
    }
    Ok(Exit::Success)
}
