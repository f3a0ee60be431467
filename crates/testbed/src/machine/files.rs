//! Files and processes of a machine.

use super::Machine;
use crate::engine::link::Event;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
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

    /// Whether something stands at a path: what a symbolic link is, and not what it leads to, unless the path ends with
    /// `/`, which only folders do.
    ///
    /// # Errors
    /// What keeps the machine from looking.
    pub fn exists(&self, path: &str) -> Result<bool, Fault> {
        match self.stat(path) {
            Ok(_) => Ok(true),
            Err(fault) if fault.is_absence() => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Makes an empty file, or folder, with a name that nothing had, for root alone; gives its path.
    ///
    /// # Errors
    /// What the machine says.
    pub fn make_temporary(&self, folder: bool) -> Result<String, Fault> {
        match self.ask(Request::MakeTemporary { folder })? {
            Reply::Entry(entry) => Ok(entry.temporary_path()),
            other => Err(self.surprising(&other)),
        }
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
    /// What the tool says, what cannot be read, or that the machine takes nothing for a minute.
    pub fn stream_in(&self, tool: Tool, from: &mut dyn Read) -> Result<u64, Fault> {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let tooling =
            Tooling { tool, input: Source::Handed, output: Sink::Null, deadline_ms: None, device: None };
        let (channel, events) = self.core().open(Request::Tool(tooling), vec![theirs])?;
        let copied = Patient::new(ours, STALLED).and_then(|mut pipe| io::copy(from, &mut pipe));
        let report = self.last_report(channel, &events, &copied)?;
        copied.doing("send a stream")?;
        Ok(moved(&report))
    }

    /// Runs a tool and writes what it writes to `to`; tells how many bytes.
    ///
    /// # Errors
    /// What the tool says, what cannot be written, or that the machine gives nothing for a minute.
    pub fn stream_out(&self, tool: Tool, to: &mut dyn Write) -> Result<u64, Fault> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let tooling =
            Tooling { tool, input: Source::Null, output: Sink::Handed, deadline_ms: None, device: None };
        let (channel, events) = self.core().open(Request::Tool(tooling), vec![theirs])?;
        let copied = Patient::new(ours, STALLED).and_then(|mut pipe| io::copy(&mut pipe, to));
        self.last_report(channel, &events, &copied)?;
        copied.doing("take a stream")
    }

    /// What a tool has to tell of what was copied.
    fn last_report(
        &self,
        channel: u32,
        events: &Receiver<Event>,
        copied: &io::Result<u64>,
    ) -> Result<Report, Fault> {
        let stalled = || {
            // Without the link there is nothing to end.
            let _ = self.core().link().send_raw(channel, Kind::Abort, &[]);
            let stalled = self.fault(FaultKind::Timeout, "move a stream");
            stalled.hint(format!("nothing moved for {} s; is the machine paused?", STALLED.as_secs()))
        };
        if copied.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return Err(stalled());
        }
        loop {
            match events.recv_timeout(STALLED) {
                Err(RecvTimeoutError::Timeout) => return Err(stalled()),
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

/// A stream in which nothing moves for so long has stalled.
const STALLED: Duration = Duration::from_secs(60);

/// Our end of a pipe: a machine may do nothing with the other for a while, but not for ever.
struct Patient {
    pipe: File,
    most: Timespec,
}

impl Patient {
    fn new(end: OwnedFd, most: Duration) -> io::Result<Patient> {
        rustix::io::ioctl_fionbio(&end, true)?;
        Ok(Patient { pipe: end.into(), most: Timespec::try_from(most).map_err(io::Error::other)? })
    }

    fn retry<T>(
        &mut self,
        flags: PollFlags,
        mut step: impl FnMut(&mut File) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match step(&mut self.pipe) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            match poll(&mut [PollFd::new(&self.pipe, flags)], Some(&self.most)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.retry(PollFlags::IN, |pipe| pipe.read(buffer))
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(PollFlags::OUT, |pipe| pipe.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn moved(report: &Report) -> u64 {
    match report {
        Report::Bytes(bytes) => *bytes,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_nobody_serves_is_given_up_and_one_that_is_slow_is_not() {
        let most = Duration::from_millis(200);
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut pipe = Patient::new(ours, most).unwrap();
        let slow = std::thread::spawn(move || {
            let (mut theirs, mut buffer) = (File::from(theirs), vec![0; 1 << 20]);
            for _ in 0..3 {
                std::thread::sleep(most / 2);
                assert_ne!(theirs.read(&mut buffer).unwrap(), 0);
            }
            theirs
        });
        let written = io::copy(&mut io::repeat(1), &mut pipe).unwrap_err();
        assert_eq!(written.kind(), io::ErrorKind::TimedOut);
        let theirs = slow.join().unwrap();
        drop(theirs);
        let (ours, _theirs) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut pipe = Patient::new(ours, most).unwrap();
        assert_eq!(pipe.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
