//! The step that puts files into an image. It needs no machine.

use super::identity::add_content;
use super::key::Inputs;
use crate::spec::{FileContent, FileEntry};
use std::path::Path;
use testbed_agent::layers::{Content, Put, TEXT_MODE};
use testbed_agent::{Doing as _, Fault};

pub(super) fn add_inputs(inputs: &mut Inputs, entries: &[FileEntry]) -> Result<(), Fault> {
    for entry in entries {
        inputs.add(entry.target()).add(entry.owner().unwrap_or("0:0"));
        inputs.number(entry.mode().map_or(u64::MAX, u64::from));
        match entry.content() {
            FileContent::Source(path) => {
                inputs.add("source");
                add_content(inputs, path)?;
            }
            FileContent::Text(text) => {
                inputs.add("text").add(text);
            }
        }
    }
    Ok(())
}

/// A longer text goes into a file first: it is passed on in messages.
const LONGEST_TEXT: usize = 64 * 1024;

/// What is to be put, without what only the file knows. Long texts are written to `scratch`.
pub(super) fn puts(entries: &[FileEntry], scratch: &Path) -> Result<Vec<Put>, Fault> {
    let put = |(number, entry): (usize, &FileEntry)| -> Result<Put, Fault> {
        let mut mode = entry.mode();
        let content = match entry.content() {
            FileContent::Source(path) => Content::Source(path.clone()),
            FileContent::Text(text) if text.len() <= LONGEST_TEXT => Content::Text(text.clone()),
            FileContent::Text(text) => {
                let path = scratch.join(format!("text-{number}"));
                std::fs::write(&path, text).doing_to("write", path.display().to_string())?;
                mode.get_or_insert(TEXT_MODE);
                Content::Source(path)
            }
        };
        let owner = entry.owner().map(str::to_owned);
        Ok(Put { target: entry.target().to_owned(), content, mode, owner })
    };
    entries.iter().enumerate().map(put).collect()
}
