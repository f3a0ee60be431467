use super::output::Out;
use super::records::Reporting;
use crate::exit::Exit;
use crate::failure::Failure;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use testbed_subunit::junit;
use testbed_subunit::record::Record;

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
        let spool = spool().map_err(|e| Failure::io("make a temporary file", e))?;
        let begin = |out| {
            let report = junit::Writer::spooled(out, &suite, spool);
            Ok(report.output_of_passed(self.output_of_passed).broken(crate::report::is_testbeds))
        };
        let add = |report: &mut junit::Writer<'_, Out, File>, record: &Record| {
            report.add(record);
            Ok(())
        };
        self.reporting.write(begin, add, junit::Writer::finish)
    }
}

/// A file without a name, gone with this process: the cases stand in it until their number is known.
fn spool() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("testbed-junit-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
