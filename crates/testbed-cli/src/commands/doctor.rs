use super::output::Output;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::folders;
use crate::images;
use crate::place::Place;
use crate::settings::{self, Setting};
use crate::terminal::{self, Style};
use serde::Serialize;
use testbed::host::{self, Examination, Finding, State};

/// Tell what this host can do for testbeds, and what to change.
///
/// Everything is tried, nothing assumed; nothing of it stays. Ends with 3 if no machine can be made.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Tell only what is not as testbeds want it.
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    examination: Examination,
    settings: Vec<Setting>,
}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let options = host::Options { store: folders::cache().ok(), mirror: images::options().mirror };
        let examination = host::examine(&options)?;
        let report = Report { examination, settings: settings::all(place) };
        self.output.write(&report, || report.text(terminal::style_of_stdout(), self.quiet))?;
        Ok(if report.examination.machines { Exit::Success } else { Exit::TestbedFailed })
    }
}

impl Report {
    fn text(&self, style: Style, quiet: bool) -> String {
        let told = |finding: &&Finding| !quiet || finding.state != State::Good;
        let findings = || self.examination.findings.iter().filter(told);
        let width = findings().map(|finding| finding.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        let mut area = "";
        for finding in findings() {
            if finding.area != area {
                area = finding.area;
                text.push_str(&format!("{}\n", style.bold(area)));
            }
            let state = match finding.state {
                State::Good => style.green("ok    "),
                State::Lacking => style.yellow("lacks "),
                State::Broken => style.red("BROKEN"),
            };
            text.push_str(&format!("  {state} {:width$}  {}\n", finding.name, finding.fact));
            let indent = " ".repeat(width + 11);
            for (word, line) in [("so:", &finding.effect), ("do:", &finding.remedy)] {
                let Some(line) = line else { continue };
                text.push_str(&format!("{indent}{} {line}\n", style.dim(word)));
            }
        }
        if !quiet {
            text.push_str(&format!("{}\n", style.bold("settings")));
            let width = self.settings.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
            for Setting { name, value, origin } in &self.settings {
                let value = value.as_deref().unwrap_or("not set");
                text.push_str(&format!("  {name:width$}  {value} {}\n", style.dim(&format!("({origin})"))));
            }
        }
        let verdict = match self.examination.machines {
            true => style.green("machines can be made on this host"),
            false => style.red("no machine can be made on this host"),
        };
        text + &verdict + "\n"
    }
}
