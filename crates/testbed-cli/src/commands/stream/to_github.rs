use super::records::{Reporting, verdict};
use crate::exit::Exit;
use crate::failure::Failure;
use std::path::PathBuf;
use testbed_subunit::github;
use testbed_subunit::record::Limits;

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
        let mut out = self.reporting.report()?;
        let mut report = github::Writer::new(out.clone()).root(root.to_string_lossy());
        let came = self.reporting.fold(&out, Limits::default(), |record| report.add(record))?;
        report.finish().map_err(|e| out.failed(e))?;
        out.flush_out()?;
        Ok(verdict(&came))
    }
}
