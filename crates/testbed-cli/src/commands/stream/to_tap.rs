use super::records::{Reporting, verdict};
use crate::exit::Exit;
use crate::failure::Failure;
use testbed_subunit::record::Limits;
use testbed_subunit::tap;

/// Write the Test Anything Protocol, version 13, which is also one of version 14.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reporting: Reporting,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut out = self.reporting.report()?;
        let mut report = tap::Writer::new(out.clone()).map_err(|e| out.failed(e))?;
        let came = self.reporting.fold(&out, Limits::default(), |record| report.add(record))?;
        report.finish().map_err(|e| out.failed(e))?;
        out.flush_out()?;
        Ok(verdict(&came))
    }
}
