use super::feed::Noise;
use super::output::Out;
use super::reading::{Files, Passing, Reading};
use crate::exit::Exit;
use crate::failure::Failure;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use testbed_subunit::stream::{Code, Sink};
use testbed_subunit::{EventRef, v2};

/// Split a stream by where its events are from: one file for each first step of a route code, which is taken off.
///
/// The files are called CODE.subunit; what has no route goes to `none.subunit`. `combine` makes one stream of them again.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    files: Files,
    /// Write the files into this folder, which is made.
    #[arg(short = 'd', long = "to", value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    reading: Reading,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let sources = self.files.open()?;
        let folder = &self.folder;
        std::fs::create_dir_all(folder)
            .map_err(|e| Failure::call(format!("cannot make {}: {e}", folder.display())))?;
        let out = Out::stdout()?.doing("write files");
        let parts = Parts::new(folder);
        let passing = Passing::new(&self.reading, Noise::Events, &out);
        passing.pass_while(sources, parts, &mut |parts| parts.close_all().map(|()| None))?;
        Ok(Exit::Success)
    }
}

/// So many files are open at once. Others are opened again when they are written to.
const OPEN: usize = 200;

/// So much is held back of each file.
const HELD: usize = 64 * 1024;

/// So much is held back of all of them.
const HELD_OF_ALL: usize = 16 * 1024 * 1024;

struct Parts<'a> {
    folder: &'a Path,
    written: HashMap<Option<Box<str>>, Part>,
    open: usize,
    /// Bytes that were taken since all files were last written out.
    held: usize,
    packet: Vec<u8>,
}

struct Part {
    path: PathBuf,
    file: Option<File>,
    held: Vec<u8>,
}

impl Part {
    fn write_out(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            file => file.insert(OpenOptions::new().append(true).open(&self.path)?),
        };
        file.write_all(&self.held)?;
        self.held.clear();
        Ok(())
    }
}

impl<'a> Parts<'a> {
    fn new(folder: &'a Path) -> Parts<'a> {
        Parts { folder, written: HashMap::new(), open: 0, held: 0, packet: Vec::new() }
    }

    fn close_all(&mut self) -> io::Result<()> {
        for part in self.written.values_mut() {
            if !part.held.is_empty() {
                part.write_out()?;
            }
            part.file = None;
        }
        (self.open, self.held) = (0, 0);
        Ok(())
    }
}

impl Sink for Parts<'_> {
    type Error = io::Error;

    fn event(&mut self, event: EventRef<'_>) -> io::Result<()> {
        let first = event.route().map(|route| route.split('/').next().unwrap_or_default());
        let rest = event.route().and_then(|route| Code::new(first?).ok()?.strip(route)?);
        let key = first.map(Box::from);
        if !self.written.contains_key(&key) {
            let name = first.map_or_else(|| "none".to_owned(), file_name);
            let path = self.folder.join(format!("{name}.subunit"));
            File::create(&path)?;
            self.written.insert(key.clone(), Part { path, file: None, held: Vec::new() });
        }
        self.packet.clear();
        v2::encode(&event.draft().route(rest).check()?, &mut self.packet);
        let Some(part) = self.written.get_mut(&key) else { return Ok(()) };
        part.held.extend_from_slice(&self.packet);
        self.held += self.packet.len();
        if self.held > HELD_OF_ALL {
            return self.close_all();
        }
        if part.held.len() < HELD {
            return Ok(());
        }
        let opens = part.file.is_none();
        part.write_out()?;
        self.open += usize::from(opens);
        if self.open > OPEN { self.close_all() } else { Ok(()) }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.close_all()
    }
}

/// A route's step as the name of a file: what could lead elsewhere, or be `none`, is written as `%` and its bytes.
fn file_name(step: &str) -> String {
    let mut name = String::new();
    for char in step.chars() {
        let plain = char.is_alphanumeric() || matches!(char, '-' | '_') || (char == '.' && !name.is_empty());
        if plain {
            name.push(char);
        } else {
            name.extend(char.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")));
        }
    }
    match name.as_str() {
        "none" | "" => format!("%{name}"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_leads_out_of_the_folder() {
        let names = ["..", "a\\b", "none", "", ".x", "worker-1", "\u{1b}[2J"].map(file_name);
        assert_eq!(names, ["%2E.", "a%5Cb", "%none", "%", "%2Ex", "worker-1", "%1B%5B2J"]);
    }

    #[test]
    fn no_two_steps_share_a_file() {
        assert_ne!(file_name("\u{1f600}"), file_name("\u{1f}600"));
    }
}
