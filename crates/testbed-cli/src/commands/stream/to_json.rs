use super::feed::Noise;
use super::output::Out;
use super::reading::Through;
use crate::exit::Exit;
use crate::failure::Failure;
use std::io::Write as _;
use testbed_subunit::stream::Each;
use testbed_subunit::{EventRef, json};

/// Write one line of JSON for each event.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    through: Through,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let lines = |mut out: Out| {
            let mut line = Vec::new();
            Each(move |event: EventRef<'_>| {
                line.clear();
                json::line(&event, &mut line);
                out.write_all(&line)
            })
        };
        self.through.pass(Noise::Events, lines)
    }
}
