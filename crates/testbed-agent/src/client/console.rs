//! The console of a machine, on the terminal of whoever calls.

use super::arguments::Arguments;
use super::streams::{Carried, Ends, Signals, carry};
use super::terminal::Raw;
use super::{Connection, Io, Wrong, status};
use crate::control::Ask;
use crate::fault::Fault;
use std::time::Duration;

/// A console to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// The machine.
    pub machine: String,
    /// Leave after so long.
    pub timeout: Option<Duration>,
}

pub(super) fn parse(a: &mut Arguments) -> Result<Console, Wrong> {
    Ok(Console { machine: a.next("MACHINE")?, timeout: a.duration("timeout")? })
}

/// What leaves a console: Ctrl-].
const LEAVE: u8 = 0x1d;

/// Attaches to it; the status that the call ends with.
pub(super) fn run(connection: &mut Connection, call: &Console, io: &Io<'_>) -> Result<u8, Fault> {
    let Console { machine, timeout } = call;
    let channel = connection.ask(&Ask::Console { machine: machine.clone() })?;
    let raw = Raw::new(io.input);
    let attached = format!("testbed: on the console of {machine}; Ctrl-] leaves\r\n");
    let ends = Ends {
        input: Some(io.input),
        output: Some(io.output),
        ready: raw.is_some().then_some((io.error, &attached)),
        signals: io.signals.map(|fd| (fd, Signals::End)),
        leave: raw.is_some().then_some(LEAVE),
        ..Ends::default()
    };
    let carried = carry(channel, ends, *timeout);
    let was_terminal = raw.is_some();
    drop(raw);
    let (end, how) = match carried? {
        Carried::Ended(end) => (end, "the console has ended"),
        Carried::Stopped(end) => (end, "left the console"),
        Carried::Unread => return Ok(status::DONE),
    };
    end.answer()?;
    if was_terminal {
        io.say(&format!("{machine}: {how}"));
    }
    Ok(status::DONE)
}
