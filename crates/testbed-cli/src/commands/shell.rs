use super::words;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::place::Place;

/// Open a shell on a machine, with a terminal of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The machine.
    #[arg(value_name = "MACHINE")]
    machine: String,
    /// Be this user there.
    #[arg(short = 'u', long, value_name = "USER")]
    user: Option<String>,
}

/// The best shell that there is.
const SHELL: &str = "command -v bash >/dev/null 2>&1 && exec bash -l; exec /bin/sh -l";

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let mut call = vec!["exec".to_owned(), "--terminal".to_owned()];
        call.extend(self.user.into_iter().flat_map(|user| ["--user".to_owned(), user]));
        call.extend([self.machine, "--".to_owned()]);
        call.extend(["/bin/sh", "-c", SHELL].map(str::to_owned));
        words::speak(&call, place)
    }
}
