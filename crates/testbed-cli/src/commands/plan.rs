use super::Format;
use super::check::write_json;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::place::Place;
use crate::terminal;
use testbed::plan::Plan;
use testbed::run;

/// Show what would be made, in which order, and why.
///
/// Ends with 3 if this host cannot make it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How to write the plan.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let testbed = place.load_telling()?;
        let plan = Plan::new(&testbed, &run::host_for(&testbed));
        match self.format {
            Format::Json => write_json(&plan)?,
            Format::Text => terminal::data(&plan.to_string()).map_err(|e| Failure::io("write", e))?,
        }
        Ok(if plan.obstacles.is_empty() { Exit::Success } else { Exit::TestbedFailed })
    }
}
