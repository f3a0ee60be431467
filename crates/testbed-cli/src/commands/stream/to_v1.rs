use super::feed::Noise;
use super::reading::Through;
use crate::exit::Exit;
use crate::failure::Failure;
use testbed_subunit::v1;

/// Write subunit version 1, for tools that know no other. Tests come out one after the other, as they end.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    through: Through,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        self.through.pass(Noise::Events, v1::Writer::new)
    }
}
