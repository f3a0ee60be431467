use super::feed::Noise;
use super::input::Source;
use super::output::Out;
use super::reading::{Passing, Reading};
use crate::exit::Exit;
use crate::failure::Failure;
use std::path::PathBuf;
use testbed_subunit::stream::Tagger;
use testbed_subunit::v2;

/// Add tags to every event, and take tags away: `testbed stream tags TAG -TAG`.
///
/// Its own options have no short form and come first, because `-TAG` is a tag that is taken away.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Read this file instead of standard input.
    #[arg(long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    input: PathBuf,
    #[command(flatten)]
    reading: Reading,
    /// Write to this file instead of standard output.
    #[arg(long, alias = "output-to", value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print help.
    #[arg(long, action = clap::ArgAction::HelpLong)]
    help: Option<bool>,
    /// Tags to add, and with a `-` before them, to take away.
    #[arg(value_name = "TAG", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    tags: Vec<String>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let (discard, add): (Vec<&str>, Vec<&str>) =
            self.tags.iter().map(String::as_str).partition(|tag| tag.starts_with('-'));
        let discard: Vec<&str> = discard.into_iter().map(|tag| &tag[1..]).collect();
        let source = Source::open(&self.input)?;
        let out = self.output.map_or_else(Out::stdout, Out::to_file)?;
        let passing = Passing::new(&self.reading, Noise::Events, &out);
        let tagger = Tagger::new(&add, &discard, v2::Writer::new(out));
        passing.pass(vec![source], tagger.map_err(|e| Failure::call(e.to_string()))?)?;
        Ok(Exit::Success)
    }
}
