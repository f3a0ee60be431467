use super::feed::Noise;
use super::output::Output;
use super::reading::{Files, Passing, Reading};
use crate::exit::Exit;
use crate::failure::Failure;
use testbed_subunit::v1;

/// Write subunit version 1, for tools that know no other. Tests come out one after the other, as they end.
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
        let out = self.output.open()?;
        let passing = Passing::new(&self.reading, Noise::Events, &out);
        passing.pass(sources, v1::Writer::new(out))?;
        Ok(Exit::Success)
    }
}
