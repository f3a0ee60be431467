use super::output::Output;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::keepers;
use crate::terminal;
use std::time::{SystemTime, UNIX_EPOCH};

/// List the testbeds that are up.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    output: Output,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        keepers::sweep();
        let all = keepers::all();
        self.output.write(&all, || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let rows = all.iter().map(|about| {
                let age = age(now.saturating_sub(about.since));
                vec![about.name.clone(), age, about.pid.to_string(), about.file.display().to_string()]
            });
            terminal::table(&["NAME", "UP", "KEEPER", "FILE"], rows)
        })?;
        Ok(Exit::Success)
    }
}

/// `5 s`, `3 min`, `2 h`, `4 d`.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}
