use super::output::{Output, print};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::keepers;
use crate::place::Place;
use serde::Deserialize;
use testbed::control::{Ask, Happening};
use testbed::{Fault, FaultKind};

/// Show what a machine has changed in its file system since it was made.
///
/// `+` is new, `~` has changed, `-` is gone. What is in memory (/run, /tmp) and on live mounts is not told. As JSON,
/// it is one path a line.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The machine; it may have stopped.
    #[arg(value_name = "MACHINE")]
    machine: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Deserialize)]
struct Change {
    path: String,
    kind: String,
}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let client = keepers::client(place)?;
        let mut talk = client.begin(&Ask::Changes { machine: self.machine.clone() })?;
        let mut rest = Vec::new();
        loop {
            match talk.next(None)? {
                Happening::Data(_, bytes) => rest.extend_from_slice(&bytes),
                Happening::Answer(_) => return Ok(Exit::Success),
                Happening::Note(_) | Happening::Reply(_) => {}
            }
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                print(&self.shown(&line)?)?;
            }
        }
    }

    fn shown(&self, line: &[u8]) -> Result<String, Failure> {
        let strange = || Fault::new(FaultKind::Protocol, "understand what has changed");
        let change: Change = serde_json::from_slice(line).map_err(|_| strange())?;
        let sign = match change.kind.as_str() {
            "added" => '+',
            "removed" => '-',
            _ => '~',
        };
        Ok(if self.output.is_json() {
            String::from_utf8_lossy(line).into_owned()
        } else {
            format!("{sign} {}\n", change.path.escape_debug())
        })
    }
}
