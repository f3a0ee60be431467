//! Files and processes of a machine.

use super::Machine;
use crate::engine::link::Event;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{self, Read, Write};
use testbed_agent::agent::{Entry, Process, Reply, Report, Request, Sink, Source, Tool, Tooling};
use testbed_agent::frame::{Kind, MAX_DATA};
use testbed_agent::{Doing as _, Fault, FaultKind};

impl Machine {
    /// Writes a file whole, making the folders above it.
    ///
    /// # Errors
    /// What the machine says.
    pub fn write_file(&self, path: &str, mode: u32, content: &[u8]) -> Result<(), Fault> {
        if content.len() <= MAX_DATA / 2 {
            let request = Request::Put { path: path.into(), mode, content: content.into() };
            return self.ask(request).map(|_| ());
        }
        self.ask(Request::Put { path: path.into(), mode, content: Vec::new() })?;
        self.stream_in(Tool::Write { path: path.into(), mode, append: false }, &mut &content[..]).map(|_| ())
    }

    /// Reads a file whole. For large ones there is [`Machine::stream_out`].
    ///
    /// # Errors
    /// What the machine says.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        self.stream_out(Tool::Read { path: path.into() }, &mut bytes)?;
        Ok(bytes)
    }

    /// What stands at a path.
    ///
    /// # Errors
    /// What the machine says; [`FaultKind::NotFound`] if nothing does.
    pub fn stat(&self, path: &str) -> Result<Entry, Fault> {
        match self.ask(Request::Stat { path: path.into() })? {
            Reply::Entry(entry) => Ok(entry),
            other => Err(self.surprising(&other)),
        }
    }

    /// The entries of a folder, by name.
    ///
    /// # Errors
    /// What the machine says.
    pub fn list(&self, path: &str) -> Result<Vec<Entry>, Fault> {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let after = all.last().map_or(String::new(), |e| e.name.clone());
            match self.ask(Request::List { path: path.into(), after })? {
                Reply::Entries { entries, more } => {
                    let stuck = entries.is_empty();
                    all.extend(entries);
                    if !more || stuck {
                        return Ok(all);
                    }
                }
                other => return Err(self.surprising(&other)),
            }
        }
    }

    /// Makes a folder and those above it.
    ///
    /// # Errors
    /// What the machine says.
    pub fn make_dir(&self, path: &str) -> Result<(), Fault> {
        self.ask(Request::MakeDir { path: path.into(), mode: 0o755, parents: true }).map(|_| ())
    }

    /// Removes a file, or a folder with all in it.
    ///
    /// # Errors
    /// What the machine says.
    pub fn remove(&self, path: &str) -> Result<(), Fault> {
        self.ask(Request::Remove { path: path.into(), recursive: true }).map(|_| ())
    }

    /// Renames.
    ///
    /// # Errors
    /// What the machine says.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), Fault> {
        self.ask(Request::Rename { from: from.into(), to: to.into() }).map(|_| ())
    }

    /// All its processes.
    ///
    /// # Errors
    /// What the machine says.
    pub fn processes(&self) -> Result<Vec<Process>, Fault> {
        let mut all: Vec<Process> = Vec::new();
        loop {
            let after = all.last().map_or(0, |p| p.pid);
            match self.ask(Request::Processes { after })? {
                Reply::Processes { processes, more } => {
                    let stuck = processes.is_empty();
                    all.extend(processes);
                    if !more || stuck {
                        return Ok(all);
                    }
                }
                other => return Err(self.surprising(&other)),
            }
        }
    }

    /// Sends a signal to a process, or to a group if the number is negative.
    ///
    /// # Errors
    /// [`FaultKind::NotFound`] if there is none.
    pub fn signal(&self, pid: i32, signal: i32) -> Result<(), Fault> {
        self.ask(Request::Kill { pid, signal }).map(|_| ())
    }

    /// Copies a file or folder of the host into a folder of the machine that exists, as tar would: modes and times
    /// stay, owners become root.
    ///
    /// # Errors
    /// What cannot be read here or written there.
    pub fn unpack(&self, archive: &mut dyn Read, folder: &str, owners: bool) -> Result<u64, Fault> {
        self.stream_in(Tool::Unpack { path: folder.into(), owners }, archive)
    }

    /// Writes a file or folder of the machine as a tar archive.
    ///
    /// # Errors
    /// What cannot be read there or written here.
    pub fn pack(&self, path: &str, archive: &mut dyn Write) -> Result<u64, Fault> {
        self.stream_out(Tool::Pack { path: path.into() }, archive)
    }

    /// Runs a tool that reads what `from` gives; tells how many bytes it read.
    ///
    /// # Errors
    /// What the tool says, or what cannot be read.
    pub fn stream_in(&self, tool: Tool, from: &mut dyn Read) -> Result<u64, Fault> {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let tooling = Tooling { tool, input: Source::Handed, output: Sink::Null, deadline_ms: None };
        let (_, events) = self.core().open(Request::Tool(tooling), vec![theirs])?;
        let copied = io::copy(from, &mut File::from(ours));
        let report = self.last_report(&events)?;
        copied.doing("send a stream")?;
        Ok(moved(&report))
    }

    /// Runs a tool and writes what it writes to `to`; tells how many bytes.
    ///
    /// # Errors
    /// What the tool says, or what cannot be written.
    pub fn stream_out(&self, tool: Tool, to: &mut dyn Write) -> Result<u64, Fault> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let tooling = Tooling { tool, input: Source::Null, output: Sink::Handed, deadline_ms: None };
        let (_, events) = self.core().open(Request::Tool(tooling), vec![theirs])?;
        let copied = io::copy(&mut File::from(ours), to);
        self.last_report(&events)?;
        copied.doing("take a stream")
    }

    fn last_report(&self, events: &std::sync::mpsc::Receiver<Event>) -> Result<Report, Fault> {
        loop {
            match events.recv() {
                Ok(Event::Frame(frame, _)) if frame.kind == Kind::Reply => {
                    return self.reply(&frame).and_then(|reply| self.report(reply));
                }
                Ok(Event::Frame(..)) => {}
                Ok(Event::Gone(fault)) => return Err(fault),
                Err(_) => return Err(self.fault(FaultKind::State, "ask a machine that is gone")),
            }
        }
    }

    fn surprising(&self, reply: &Reply) -> Fault {
        self.fault(FaultKind::Protocol, format!("understand the answer {reply:?}"))
    }
}

fn moved(report: &Report) -> u64 {
    match report {
        Report::Bytes(bytes) => *bytes,
        _ => 0,
    }
}
