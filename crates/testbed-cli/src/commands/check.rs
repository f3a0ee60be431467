use super::Format;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::folders;
use crate::place::Place;
use crate::terminal;
use serde::Serialize;
use testbed::spec::{self, LoadError, Problems};

/// Check the file and tell all that is wrong with it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How to write what was found.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let file = place.file()?;
        let loaded = spec::load_with(&file, folders::imported_images()?);
        if self.format == Format::Json {
            return match loaded {
                Ok((_, problems)) => json(&problems).map(|()| Exit::Success),
                Err(LoadError::Wrong { problems, .. }) => json(&problems).map(|()| Exit::Usage),
                Err(other) => Err(other.into()),
            };
        }
        let (testbed, warnings) = loaded?;
        if !warnings.is_empty() {
            terminal::talk(&format!("{}\n\n", warnings.render(terminal::style_of_stderr().is_on())));
        }
        let counts = [
            counted(testbed.machines().len(), "machine", "machines"),
            counted(testbed.networks().len(), "network", "networks"),
            counted(testbed.tests().len(), "test", "tests"),
        ];
        let style = terminal::style_of_stdout();
        let text = format!("{} {}: {}\n", style.green("ok"), file.display(), counts.join(", "));
        terminal::data(&text).map_err(|e| Failure::io("write", e))?;
        Ok(Exit::Success)
    }
}

fn json(problems: &Problems) -> Result<(), Failure> {
    write_json(problems)
}

/// Writes a value as one JSON document.
pub(crate) fn write_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| Failure::io("write JSON", e.into()))?;
    text.push('\n');
    terminal::data(&text).map_err(|e| Failure::io("write", e))
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
