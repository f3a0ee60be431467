use super::records::{Reporting, verdict};
use super::stats::Figures;
use crate::exit::Exit;
use crate::failure::Failure;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

/// Run a command when a stream has ended, and tell it what came of it.
///
/// The command finds the figures in its environment (TESTBED_STREAM_RESULT is `success` or `failure`, and there are
/// TESTBED_STREAM_TOTAL, _PASSED, _FAILED and _SKIPPED), as one JSON object on standard input, and in one line in place of
/// each argument `{}`. For the desktop: `testbed stream notify FILE -- notify-send tests {}`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reporting: Reporting,
    /// The command and its arguments.
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<OsString>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let out = self.reporting.report()?;
        let came = self.reporting.fold(&out, |_| Ok(()))?;
        let figures = Figures::from(&came);
        let json = serde_json::to_vec(&figures).map_err(|e| Failure::io("write JSON", e.into()))?;
        self.tell(&figures, &json)?;
        Ok(verdict(&came))
    }

    fn tell(&self, figures: &Figures, json: &[u8]) -> Result<(), Failure> {
        let Some((program, arguments)) = self.command.split_first() else { return Ok(()) };
        let line = OsString::from(figures.line());
        let arguments = arguments.iter().map(|argument| if argument == "{}" { &line } else { argument });
        let failed = |e: io::Error| Failure::call(format!("cannot run {}: {e}", program.display()));
        let mut child = Command::new(program)
            .args(arguments)
            .env("TESTBED_STREAM_RESULT", if figures.success { "success" } else { "failure" })
            .env("TESTBED_STREAM_TOTAL", figures.total.to_string())
            .env("TESTBED_STREAM_PASSED", figures.passed.to_string())
            .env("TESTBED_STREAM_FAILED", figures.failed.to_string())
            .env("TESTBED_STREAM_SKIPPED", figures.skipped.to_string())
            .stdin(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that does not want it is none the worse.
            let _ = stdin.write_all(json);
        }
        let status = child.wait().map_err(failed)?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::call(format!("{} failed: {status}", program.display())))
        }
    }
}
