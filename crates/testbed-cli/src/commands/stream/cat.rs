use super::feed::Noise;
use super::reading::Through;
use crate::exit::Exit;
use crate::failure::Failure;
use testbed_subunit::v2;

/// Write streams out again, event by event: joined, without damage, what was printed in between as events.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    through: Through,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        self.through.pass(Noise::Events, v2::Writer::new)
    }
}
