//! Files and folders between here and a machine, through a connection.

use super::connection::{ANSWER, Came, Channel, End};
use super::run::tooling;
use super::words::Place;
use super::{Connection, files, status};
use crate::agent::{EntryKind, Reply, Request, Source, Tool};
use crate::copy::{pack, place_here, place_inside, unpack};
use crate::fault::{Doing as _, Fault, FaultKind};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Instant;

/// How long a machine may take nothing, or give nothing, in the middle of a copy.
const STALLED: std::time::Duration = std::time::Duration::from_secs(60);

/// Copies; the status that the call ends with.
pub(super) fn copy(connection: &mut Connection, from: &Place, to: &Place) -> Result<u8, Fault> {
    if let (Some(machine), None) | (None, Some(machine)) = (&from.machine, &to.machine) {
        files::reach(connection, machine)?;
    }
    match (&from.machine, &to.machine) {
        (None, Some(machine)) => copy_in(connection, &from.path, machine, &to.path),
        (Some(machine), None) => copy_out(connection, machine, &from.path, &to.path),
        _ => Err(Fault::new(FaultKind::Invalid, "copy between two machines, or none")
            .hint("one of the two places is MACHINE:PATH, the other a path here")),
    }
    .map(|()| status::DONE)
}

fn copy_in(connection: &mut Connection, source: &str, machine: &str, target: &str) -> Result<(), Fault> {
    let source = Path::new(source).canonicalize().doing_to("copy", source)?;
    let (folder, name) = place_inside(&source, target, |path| {
        match connection.request(machine, Request::Stat { path: path.into() }) {
            Ok(Reply::Entry(entry)) => Ok(entry.kind == EntryKind::Folder),
            Ok(_) => Err(Fault::new(FaultKind::Protocol, "understand what stands there")),
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(false),
            Err(fault) => Err(fault),
        }
    })
    .map_err(|fault| fault.on(machine))?;
    let parents = Request::MakeDir { path: folder.into(), mode: 0o755, parents: true };
    connection.request(machine, parents)?;
    let unpack = Tool::Unpack { path: folder.into(), owners: false };
    let channel = connection.open(machine, tooling(unpack, Source::Channel, None))?;
    let mut carrier = Carrier::new(channel);
    let packed = pack(&mut io::BufWriter::with_capacity(32 * 1024, &mut carrier), &source, name);
    // Whichever failed first made the other fail; the machine knows more of its own reasons.
    let end = match packed {
        Ok(()) => carrier.finish(),
        Err(error) => match carrier.end.take() {
            Some(end) => Ok(end),
            None => return Err(Fault::system("copy", &error).at(source.to_string_lossy())),
        },
    }?;
    match end.reply()? {
        Reply::Ended { report: Some(_), .. } => Ok(()),
        other => Err(super::run::strange(machine, &other)),
    }
}

fn copy_out(connection: &mut Connection, machine: &str, source: &str, target: &str) -> Result<(), Fault> {
    let (folder, rename) = place_here(Path::new(target))?;
    let pack = Tool::Pack { path: source.into() };
    let mut carrier = Carrier::new(connection.open(machine, tooling(pack, Source::Null, None))?);
    let unpacked = unpack(&mut carrier, &folder, rename.as_deref());
    let end = match (&unpacked, carrier.end.take()) {
        (_, Some(end)) => end,
        (Ok(()), None) => carrier.finish()?,
        (Err(error), None) => return Err(Fault::system("write below", error).at(folder.to_string_lossy())),
    };
    match end.reply()? {
        Reply::Ended { report: Some(_), .. } => unpacked.doing_to("write below", folder.to_string_lossy()),
        other => Err(super::run::strange(machine, &other)),
    }
}

/// A channel as something to read from and write to.
struct Carrier<'a> {
    channel: Channel<'a>,
    /// What has come and was not read yet, and how much of it was.
    come: (Vec<u8>, usize),
    end: Option<End>,
}

impl<'a> Carrier<'a> {
    fn new(channel: Channel<'a>) -> Carrier<'a> {
        Carrier { channel, come: (Vec::new(), 0), end: None }
    }

    fn next(&mut self) -> io::Result<Came> {
        self.channel.next(None, None, Some(Instant::now() + STALLED)).map_err(io::Error::other)
    }

    /// Ends the input, and waits for the end.
    fn finish(mut self) -> Result<End, Fault> {
        if let Some(end) = self.end {
            return Ok(end);
        }
        self.channel.send_end()?;
        loop {
            match self.channel.next(None, None, Some(Instant::now() + STALLED + ANSWER))? {
                Came::End(end) => return Ok(end),
                Came::Late => return Err(Fault::new(FaultKind::Timeout, "copy")),
                Came::Data(_, bytes) => self.channel.grant(bytes.len())?,
                Came::Note(_) | Came::Input | Came::Signal(_) => {}
            }
        }
    }
}

impl Write for Carrier<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.end.is_none() && self.channel.room() == 0 {
            match self.channel.wait_for_room(Instant::now() + STALLED).map_err(io::Error::other)? {
                Some(Came::End(end)) => self.end = Some(end),
                Some(Came::Late) => return Err(io::ErrorKind::TimedOut.into()),
                Some(_) | None => {}
            }
        }
        if self.end.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let length = bytes.len().min(self.channel.room());
        self.channel.send(&bytes[..length]).map_err(io::Error::other)?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Carrier<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.come.1 == self.come.0.len() {
            if self.end.is_some() {
                return Ok(0);
            }
            match self.next()? {
                Came::Data(_, bytes) => {
                    self.channel.grant(bytes.len()).map_err(io::Error::other)?;
                    self.come = (bytes, 0);
                }
                Came::End(end) => self.end = Some(end),
                Came::Late => return Err(io::ErrorKind::TimedOut.into()),
                Came::Note(_) | Came::Input | Came::Signal(_) => {}
            }
        }
        let (bytes, done) = &mut self.come;
        let length = buffer.len().min(bytes.len() - *done);
        buffer[..length].copy_from_slice(&bytes[*done..*done + length]);
        *done += length;
        Ok(length)
    }
}
