//! What is done to files of a machine, beside copying them.

use super::arguments::Arguments;
use super::json::{self, Pieces};
use super::words::{Place, is_json, place};
use super::{Connection, Io, Wrong, show, status};
use crate::agent::{Entry, Reply, Request};
use crate::control::Ask;
use crate::fault::{Fault, FaultKind};

/// Something to do to files of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The machine. One that has ended has files all the same.
    pub machine: String,
    /// What.
    pub act: FileAct,
}

/// What can be done to files. Paths are the machine's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileAct {
    /// The entries of a folder.
    List {
        /// The folder.
        path: String,
        /// As JSON, with all that is known of each.
        json: bool,
    },
    /// What stands at a path.
    Stat {
        /// The path.
        path: String,
        /// As JSON.
        json: bool,
    },
    /// Whether something stands at a path.
    Exists {
        /// The path.
        path: String,
    },
    /// Make a folder.
    MakeFolder {
        /// The folder.
        path: String,
        /// Make missing ones above it, and accept one that exists.
        parents: bool,
    },
    /// Remove a file or a folder.
    Remove {
        /// The path.
        path: String,
        /// A folder with all in it.
        recursive: bool,
    },
    /// Rename, within the machine.
    Rename {
        /// The old path.
        from: String,
        /// The new path.
        to: String,
    },
    /// Make an empty file with a name that nothing had, and tell its path.
    Temporary {
        /// A folder rather than a file.
        folder: bool,
    },
}

/// Takes the words of `file WORD` apart.
pub(super) fn parse(word: &str, a: &mut Arguments) -> Result<Files, Wrong> {
    if word == "temp" {
        let folder = a.flag("folder");
        return Ok(Files { machine: a.next("MACHINE")?, act: FileAct::Temporary { folder } });
    }
    let (machine, path) = on_machine(&a.next("MACHINE:PATH")?)?;
    let act = match word {
        "ls" => FileAct::List { path, json: is_json(a)? },
        "stat" => FileAct::Stat { path, json: is_json(a)? },
        "exists" => FileAct::Exists { path },
        "mkdir" => FileAct::MakeFolder { path, parents: a.flag("parents") },
        "rm" => FileAct::Remove { path, recursive: a.flag("recursive") },
        _ => FileAct::Rename { from: path, to: a.next("PATH")? },
    };
    Ok(Files { machine, act })
}

fn on_machine(text: &str) -> Result<(String, String), Wrong> {
    let here = || Wrong::new(format!("`{text}` is a path here")).hint("write MACHINE:PATH");
    let Place { machine, path } = place(text.to_owned())?;
    Ok((machine.ok_or_else(here)?, path))
}

/// Makes sure that the files of a machine can be reached, also if it has ended.
pub(super) fn reach(connection: &mut Connection, machine: &str) -> Result<(), Fault> {
    match connection.request(machine, Request::Stat { path: "/".into() }) {
        Err(fault) if fault.kind == FaultKind::State => {
            connection.ask(&Ask::Files { machine: machine.to_owned() })?.end()?.answer().map(drop)
        }
        other => other.map(drop),
    }
}

/// Does it; the status that the call ends with.
pub(super) fn run(connection: &mut Connection, call: &Files, io: &Io<'_>) -> Result<u8, Fault> {
    let Files { machine, act } = call;
    reach(connection, machine)?;
    let request = match act.clone() {
        FileAct::List { path, json } => return list(connection, machine, &path, json, io),
        FileAct::Exists { path } | FileAct::Stat { path, .. } => Request::Stat { path },
        FileAct::MakeFolder { path, parents } => Request::MakeDir { path, mode: 0o755, parents },
        FileAct::Remove { path, recursive } => Request::Remove { path, recursive },
        FileAct::Rename { from, to } => Request::Rename { from, to },
        FileAct::Temporary { folder } => Request::MakeTemporary { folder },
    };
    let reply = match (connection.request(machine, request), act) {
        (Err(fault), FileAct::Exists { .. }) if fault.is_absence() => return Ok(status::OTHERWISE),
        (Err(fault), FileAct::Stat { .. }) if fault.is_absence() => {
            io.say(&fault.to_string());
            return Ok(status::OTHERWISE);
        }
        (reply, _) => reply?,
    };
    match (reply, act) {
        (Reply::Entry(entry), FileAct::Stat { json: true, .. }) => {
            io.print(&format!("{}\n", shown(&entry)))?
        }
        (Reply::Entry(entry), FileAct::Stat { .. }) => io.print(&show::entry(&entry))?,
        (Reply::Entry(entry), FileAct::Temporary { .. }) => {
            io.print(&format!("{}\n", show::plain(&entry.temporary_path())))?;
        }
        _ => {}
    }
    Ok(status::DONE)
}

fn list(
    connection: &mut Connection,
    machine: &str,
    path: &str,
    json: bool,
    io: &Io<'_>,
) -> Result<u8, Fault> {
    let mut pieces = Pieces::array();
    let mut after = String::new();
    loop {
        let request = Request::List { path: path.to_owned(), after: after.clone() };
        let Reply::Entries { entries, more } = connection.request(machine, request)? else {
            return Err(Fault::new(FaultKind::Protocol, "understand the list of files").on(machine));
        };
        let lines = entries.iter().map(|entry| match json {
            true => pieces.member(&shown(entry)),
            false => format!("{}\n", show::plain(&entry.name)),
        });
        io.print(&lines.collect::<String>())?;
        // A machine may say what it wants, but not for ever.
        match entries.last().filter(|last| more && last.name > after) {
            Some(last) => after.clone_from(&last.name),
            None => break,
        }
    }
    if json {
        io.print(&pieces.end())?;
    }
    Ok(status::DONE)
}

fn shown(entry: &Entry) -> String {
    json::object(&[
        ("name", json::text(&entry.name)),
        ("kind", json::text(show::kind(entry.kind))),
        ("mode", json::text(&format!("{:04o}", entry.mode))),
        ("uid", entry.uid.to_string()),
        ("gid", entry.gid.to_string()),
        ("size", entry.size.to_string()),
        ("modified_ns", entry.modified_ns.to_string()),
        ("target", entry.target.as_deref().map_or("null".into(), json::text)),
    ])
}
