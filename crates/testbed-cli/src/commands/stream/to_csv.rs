use super::records::{Reporting, verdict};
use crate::exit::Exit;
use crate::failure::Failure;
use testbed_subunit::csv;
use testbed_subunit::record::Limits;

/// Write a table (CSV): a row for each test with its status, times, route, tags and reason.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reporting: Reporting,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut out = self.reporting.report()?;
        let mut table = csv::Writer::new(out.clone()).map_err(|e| out.failed(e))?;
        let came = self.reporting.fold(&out, Limits::default(), |record| table.add(record))?;
        table.finish().map_err(|e| out.failed(e))?;
        out.flush_out()?;
        Ok(verdict(&came))
    }
}
