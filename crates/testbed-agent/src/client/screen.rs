//! The screen and the keyboard of a machine.

use super::arguments::Arguments;
use super::connection::{ANSWER, Came};
use super::streams::write_all;
use super::{Connection, Io, Wrong, status};
use crate::control::Ask;
use crate::fault::{Doing as _, Fault, FaultKind};
use crate::keys::{Chord, Unknown};
use std::time::{Duration, Instant};

/// A picture to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screenshot {
    /// The machine.
    pub machine: String,
    /// Where it is written to, as PNG; standard output if none.
    pub file: Option<String>,
}

/// Something to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typing {
    /// The machine.
    pub machine: String,
    /// A text.
    pub text: String,
    /// Keys that are pressed together, one such after the other behind the text.
    pub keys: Vec<String>,
}

/// More than a key takes.
const KEY: Duration = Duration::from_secs(1);
/// The largest picture that is read, in bytes.
const LARGEST: usize = 64 << 20;

pub(super) fn parse_screenshot(a: &mut Arguments) -> Result<Screenshot, Wrong> {
    let (machine, file) = (a.next("MACHINE")?, a.next("FILE")?);
    Ok(Screenshot { machine, file: Some(file).filter(|file| file != "-") })
}

pub(super) fn parse_typing(a: &mut Arguments) -> Result<Typing, Wrong> {
    let machine = a.next("MACHINE")?;
    let keys: Vec<String> = a.all("key").map(str::to_owned).collect();
    let text = match a.next("TEXT") {
        Err(_) if !keys.is_empty() => String::new(),
        other => other?,
    };
    let wrong = |unknown: Unknown| Wrong::new(unknown.to_string()).hint(unknown.hint());
    text.chars()
        .map(Chord::of)
        .chain(keys.iter().map(|keys| Chord::parse(keys)))
        .try_for_each(|chord| chord.map(drop).map_err(wrong))?;
    Ok(Typing { machine, text, keys })
}

/// Takes a picture; the status that the call ends with.
pub(super) fn screenshot(connection: &mut Connection, call: &Screenshot, io: &Io<'_>) -> Result<u8, Fault> {
    let mut channel = connection.ask(&Ask::Screenshot { machine: call.machine.clone() })?;
    let (mut picture, until) = (Vec::new(), Instant::now() + 3 * ANSWER);
    loop {
        match channel.next(None, None, Some(until))? {
            Came::Data(_, bytes) if picture.len() + bytes.len() <= LARGEST => {
                channel.grant(bytes.len())?;
                picture.extend(bytes);
            }
            Came::Data(..) => {
                let what = "take a picture that has no end";
                return Err(Fault::new(FaultKind::Protocol, what).on(&call.machine));
            }
            Came::End(end) => {
                end.answer()?;
                break;
            }
            Came::Late => {
                return Err(Fault::new(FaultKind::Timeout, "take a picture of the screen").on(&call.machine));
            }
            Came::Note(_) | Came::Input | Came::Signal(_) => {}
        }
    }
    // No file is made, or changed, by a picture that could not be taken.
    match &call.file {
        Some(path) => std::fs::write(path, picture).doing_to("write the picture to", path)?,
        None => {
            write_all(io.output, &picture)?;
        }
    }
    Ok(status::DONE)
}

/// Types; the status that the call ends with.
pub(super) fn type_on(connection: &mut Connection, call: &Typing) -> Result<u8, Fault> {
    let Typing { machine, text, keys } = call.clone();
    let count = text.chars().count() + keys.len();
    let until = Instant::now() + ANSWER + KEY * u32::try_from(count).unwrap_or(u32::MAX);
    connection.ask(&Ask::Type { machine, text, keys })?.end_by(until)?.answer()?;
    Ok(status::DONE)
}
