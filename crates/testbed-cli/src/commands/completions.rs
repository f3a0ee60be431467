use crate::exit::Exit;
use crate::failure::Failure;
use clap::CommandFactory as _;
use std::io::Write as _;

/// Write completions for a shell.
///
/// For bash: `testbed completions bash > /etc/bash_completion.d/testbed`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    shell: clap_complete::Shell,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Arguments::command(), "testbed", &mut text);
        std::io::stdout().lock().write_all(&text).map_err(|e| Failure::io("write", e))?;
        Ok(Exit::Success)
    }
}
