use super::records::{Reporting, verdict};
use crate::commands::Format;
use crate::exit::Exit;
use crate::failure::Failure;
use serde::Serialize;
use std::io::Write as _;
use testbed_subunit::Status;

/// List the ids of the tests of a stream, one a line, as they end.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reporting: Reporting,
    /// With how long each took, in seconds.
    #[arg(long)]
    times: bool,
    /// Also those that were only listed, and not run.
    #[arg(long)]
    exists: bool,
    /// How to write it: `json` is one object a line.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    /// `inprogress` where it never ended.
    status: &'a str,
    runnable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let out = self.reporting.report()?;
        let mut lines = out.clone();
        let came = self.reporting.fold(&out, |record| {
            if record.status == Some(Status::Exists) && !self.exists {
                return Ok(());
            }
            let seconds = record.duration().map(|duration| duration.as_secs_f64());
            if self.format == Format::Json {
                let line = Line {
                    id: &record.id,
                    route: record.route.as_deref(),
                    status: record.status.unwrap_or(Status::InProgress).as_str(),
                    runnable: record.runnable,
                    seconds,
                };
                serde_json::to_writer(&mut lines, &line)?;
                return lines.write_all(b"\n");
            }
            if !record.runnable {
                return Ok(());
            }
            let id = &record.id;
            match seconds {
                Some(seconds) if self.times => writeln!(lines, "{id} {seconds:.3}"),
                _ => writeln!(lines, "{id}"),
            }
        })?;
        lines.flush_out()?;
        Ok(verdict(&came))
    }
}
