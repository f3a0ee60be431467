use super::output::Output;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::place::Place;
use testbed::plan::{Plan, host_for};

/// Show what would be made, in which order, and why.
///
/// Ends with 3 if this host cannot make it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    output: Output,
}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let testbed = place.load_telling()?;
        let plan = Plan::new(&testbed, &host_for(&testbed));
        self.output.write(&plan, || plan.to_string())?;
        Ok(if plan.obstacles.is_empty() { Exit::Success } else { Exit::TestbedFailed })
    }
}
