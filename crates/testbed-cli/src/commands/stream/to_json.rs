use super::feed::Noise;
use super::output::Output;
use super::reading::{Files, Passing, Reading};
use crate::exit::Exit;
use crate::failure::Failure;
use std::io::Write as _;
use testbed_subunit::json;
use testbed_subunit::stream::Each;

/// Write one line of JSON for each event.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    output: Output,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let sources = self.files.open()?;
        let mut out = self.output.open()?;
        let passing = Passing::new(&self.reading, Noise::Events, &out);
        let mut line = Vec::new();
        let lines = Each(|event: testbed_subunit::EventRef<'_>| {
            line.clear();
            json::line(&event, &mut line);
            out.write_all(&line)
        });
        passing.pass(sources, lines)?;
        Ok(Exit::Success)
    }
}
