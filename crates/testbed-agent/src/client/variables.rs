//! The variables of a machine: what it and those who test it leave for each other.

use super::arguments::Arguments;
use super::json::{self, Pieces};
use super::words::{is_json, millis};
use super::{Connection, Io, Wrong, show, status};
use crate::control::{Answer, Ask};
use crate::fault::{Fault, FaultKind};
use std::time::{Duration, Instant};

/// Something to do with variables of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variables {
    /// The machine.
    pub machine: String,
    /// What.
    pub act: VariableAct,
}

/// What can be done with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VariableAct {
    /// Write the value of one.
    Get {
        /// Which.
        key: String,
        /// How long to wait until it is set.
        wait: Duration,
    },
    /// Set one.
    Set {
        /// Which.
        key: String,
        /// To what.
        value: String,
    },
    /// Write all.
    List {
        /// As JSON.
        json: bool,
    },
    /// Forget one.
    Forget {
        /// Which.
        key: String,
    },
}

/// Takes the words of `var WORD` apart.
pub(super) fn parse(word: &str, a: &mut Arguments) -> Result<Variables, Wrong> {
    let machine = a.next("MACHINE")?;
    let act = match word {
        "get" => VariableAct::Get { key: a.next("KEY")?, wait: a.duration("wait")?.unwrap_or_default() },
        "set" => VariableAct::Set { key: a.next("KEY")?, value: a.next("VALUE")? },
        "list" => VariableAct::List { json: is_json(a)? },
        _ => VariableAct::Forget { key: a.next("KEY")? },
    };
    Ok(Variables { machine, act })
}

/// How much longer than it waits the keeper may take to say so.
const ANSWER: Duration = Duration::from_secs(10);

/// Does it; the status that the call ends with.
pub(super) fn run(connection: &mut Connection, call: &Variables, io: &Io<'_>) -> Result<u8, Fault> {
    let machine = call.machine.clone();
    let (ask, wait) = match call.act.clone() {
        VariableAct::List { json } => return list(connection, &machine, json, io),
        VariableAct::Get { key, wait } => (Ask::Variable { machine, key, wait_ms: millis(wait) }, wait),
        VariableAct::Set { key, value } => (Ask::SetVariable { machine, key, value }, Duration::ZERO),
        VariableAct::Forget { key } => (Ask::ForgetVariable { machine, key }, Duration::ZERO),
    };
    let answer = connection.ask(&ask)?.end_by(Instant::now() + wait + ANSWER)?.answer()?;
    match (answer, &call.act) {
        (Answer::Variable(Some(value)), VariableAct::Get { .. }) => io.print(&format!("{value}\n"))?,
        (Answer::Variable(None), VariableAct::Get { key, .. } | VariableAct::Forget { key }) => {
            let late =
                if wait.is_zero() { String::new() } else { format!(" within {}", show::duration(wait)) };
            io.say(&format!("{}: `{}` is not set{late}", call.machine, show::plain(key)));
            return Ok(status::OTHERWISE);
        }
        _ => {}
    }
    Ok(status::DONE)
}

fn list(connection: &mut Connection, machine: &str, json: bool, io: &Io<'_>) -> Result<u8, Fault> {
    let mut pieces = Pieces::object();
    let mut after = String::new();
    loop {
        let ask = Ask::Variables { machine: machine.to_owned(), after: after.clone() };
        let Answer::Variables { variables, more } = connection.ask(&ask)?.end()?.answer()? else {
            return Err(Fault::new(FaultKind::Protocol, "understand the list of variables"));
        };
        let lines = variables.iter().map(|(key, value)| match json {
            true => pieces.member(&format!("{}: {}", json::text(key), json::text(value))),
            false => format!("{}={}\n", show::plain(key), show::plain(value)),
        });
        io.print(&lines.collect::<String>())?;
        match variables.last().filter(|_| more) {
            Some((key, _)) => after.clone_from(key),
            None => break,
        }
    }
    if json {
        io.print(&pieces.end())?;
    }
    Ok(status::DONE)
}
