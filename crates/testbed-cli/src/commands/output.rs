//! What commands write to standard output: for people or for programs.

use crate::failure::Failure;
use crate::terminal;
use serde::Serialize;

/// How a command writes its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: JSON.
    Json,
}

/// The argument that chooses.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Output {
    /// How to write it.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

impl Output {
    /// Writes a value as one JSON document, or what people read of it.
    pub(crate) fn write(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.format == Format::Text {
            return print(&text());
        }
        let mut json =
            serde_json::to_string_pretty(value).map_err(|e| Failure::io("write JSON", e.into()))?;
        json.push('\n');
        print(&json)
    }

    /// Whether it is for programs.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }
}

/// Writes text for people and programs alike.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    terminal::data(text).map_err(|e| Failure::io(terminal::TO_OUTPUT, e))
}
