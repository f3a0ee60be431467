use super::records::{Reporting, verdict};
use crate::exit::Exit;
use crate::failure::Failure;
use testbed_subunit::junit;
use testbed_subunit::record::Limits;

/// Write a JUnit report (XML).
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reporting: Reporting,
    /// What the suite is called: the file's name, or `tests`.
    #[arg(long, value_name = "NAME")]
    suite: Option<String>,
    /// Keep what passed tests wrote, too.
    #[arg(long)]
    output_of_passed: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let suite = self.suite.clone().unwrap_or_else(|| self.reporting.name());
        let (mut out, limits) = (self.reporting.report()?, Limits::default());
        let mut report = junit::Writer::new(out.clone(), &suite)
            .output_of_passed(self.output_of_passed)
            .broken(crate::report::is_testbeds);
        let came = self.reporting.fold(&out, limits, |record| {
            report.add(record);
            Ok(())
        })?;
        report.finish().map_err(|e| out.failed(e))?;
        out.flush_out()?;
        Ok(verdict(&came))
    }
}
