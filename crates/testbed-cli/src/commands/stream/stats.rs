use super::records::{Reporting, verdict};
use crate::commands::Format;
use crate::exit::Exit;
use crate::failure::Failure;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use testbed_subunit::Summary;

/// Count what became of the tests of a stream.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reporting: Reporting,
    /// How to write it.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

/// The figures of a stream. A key is only ever added.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) success: bool,
    pub(super) total: u64,
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
    xfail: u64,
    uxsuccess: u64,
    unfinished: u64,
    listed: u64,
    /// Of what is no test.
    activities_failed: u64,
    /// Failures that name no test.
    strays: u64,
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
}

impl From<&Summary> for Figures {
    fn from(summary: &Summary) -> Figures {
        let tests = summary.tests();
        Figures {
            success: summary.is_success(),
            total: tests.run(),
            passed: tests.passed,
            failed: tests.failed,
            skipped: tests.skipped,
            xfail: tests.xfail,
            uxsuccess: tests.uxsuccess,
            unfinished: tests.unfinished,
            listed: tests.listed,
            activities_failed: summary.activities().failures(),
            strays: summary.strays(),
            tags: summary.tags().map(str::to_owned).collect(),
            seconds: summary.elapsed().map(|elapsed| elapsed.as_secs_f64()),
        }
    }
}

impl Figures {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |words: &str, number: u64| {
            let _ = writeln!(text, "{words:<24}{number:>8}");
        };
        line("Total tests:", self.total);
        line("Passed tests:", self.passed);
        line("Failed tests:", self.failed);
        line("Skipped tests:", self.skipped);
        for (words, number) in [
            ("Expected failures:", self.xfail),
            ("Unexpected successes:", self.uxsuccess),
            ("Unfinished tests:", self.unfinished),
            ("Listed tests:", self.listed),
            ("Failures of no test:", self.activities_failed + self.strays),
        ] {
            if number > 0 {
                line(words, number);
            }
        }
        let _ = writeln!(text, "Seen tags: {}", self.tags.join(", "));
        text
    }

    /// In one line: `3 tests: 1 passed, 2 failed`.
    pub(super) fn line(&self) -> String {
        let tests = if self.total == 1 { "test" } else { "tests" };
        let mut line = format!("{} {tests}: {} passed", self.total, self.passed);
        for (number, word) in [
            (self.failed, "failed"),
            (self.skipped, "skipped"),
            (self.xfail, "failed as expected"),
            (self.uxsuccess, "passed against expectation"),
            (self.unfinished, "unfinished"),
            (self.activities_failed + self.strays, "failures of no test"),
        ] {
            if number > 0 {
                let _ = write!(line, ", {number} {word}");
            }
        }
        line
    }
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut out = self.reporting.report()?;
        let came = self.reporting.fold(&out, |_| Ok(()))?;
        let figures = Figures::from(&came);
        let text = match self.format {
            Format::Text => figures.text(),
            Format::Json => {
                serde_json::to_string(&figures).map_err(|e| Failure::io("write JSON", e.into()))? + "\n"
            }
        };
        out.write_all(text.as_bytes()).map_err(|e| out.failed(e))?;
        out.flush_out()?;
        Ok(verdict(&came))
    }
}
