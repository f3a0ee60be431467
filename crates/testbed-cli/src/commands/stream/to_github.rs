use super::records::Reporting;
use crate::exit::Exit;
use crate::failure::Failure;
use std::path::PathBuf;
use testbed_subunit::github;

/// Write what failed as annotations of GitHub Actions.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reporting: Reporting,
    /// The folder of the checkout, which GitHub shows paths relative to.
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let root = self.root.canonicalize();
        let root = root.map_err(|e| Failure::call(format!("cannot enter {}: {e}", self.root.display())))?;
        let begin = |out| Ok(github::Writer::new(out).root(root.to_string_lossy()));
        self.reporting.write(begin, github::Writer::add, github::Writer::finish)
    }
}
