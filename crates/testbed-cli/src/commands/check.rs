use super::output::Output;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::folders;
use crate::place::Place;
use crate::terminal;
use testbed::spec::{self, LoadError};

/// Check the file and tell all that is wrong with it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    output: Output,
}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let file = place.file()?;
        let loaded = spec::load_with(&file, folders::imported_images()?);
        let (testbed, warnings) = match loaded {
            Err(LoadError::Wrong { problems, .. }) if self.output.is_json() => {
                return self.output.write(&problems, String::new).map(|()| Exit::Usage);
            }
            loaded => loaded?,
        };
        if !self.output.is_json() && !warnings.is_empty() {
            terminal::talk(&format!("{}\n\n", warnings.render(terminal::style_of_stderr().is_on())));
        }
        self.output.write(&warnings, || {
            let counts = [
                counted(testbed.machines().len(), "machine", "machines"),
                counted(testbed.networks().len(), "network", "networks"),
                counted(testbed.tests().len(), "test", "tests"),
            ];
            let style = terminal::style_of_stdout();
            format!("{} {}: {}\n", style.green("ok"), file.display(), counts.join(", "))
        })?;
        Ok(Exit::Success)
    }
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
