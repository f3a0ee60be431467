//! HTTP/1.1 (RFC 9110, RFC 9112): one request, or a folder's files served.

mod client;
mod server;

pub(crate) use client::get;
pub(crate) use server::serve;

use super::wake::{Woken, wait};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd};
use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

/// The most bytes of a message in front of its body.
const MOST_HEAD: usize = 64 * 1024;

/// A stream that gives up when its time has come, or when the tool shall stop.
struct Timed<'a> {
    stream: &'a TcpStream,
    until: Instant,
    stop: Option<BorrowedFd<'a>>,
}

impl Timed<'_> {
    fn retry<T>(
        &self,
        flags: PollFlags,
        mut work: impl FnMut(&TcpStream) -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        loop {
            match work(self.stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            match wait(self.stop, [(self.stream.as_fd(), flags)], Some(self.until)) {
                Ok(Woken::Events(_)) => {}
                Ok(Woken::Time) => return Err(ErrorKind::TimedOut.into()),
                Ok(Woken::Stop) => return Err(std::io::Error::other("told to stop")),
                Err(fault) => return Err(std::io::Error::other(fault)),
            }
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.retry(PollFlags::IN, |mut stream| stream.read(buffer))
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.retry(PollFlags::OUT, |mut stream| stream.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Reads a line without its end, which counts against `room`; none at the end of the stream.
fn line(reader: &mut impl BufRead, room: &mut usize) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let length = reader.take(*room as u64).read_until(b'\n', &mut bytes)?;
    if length == 0 && *room > 0 {
        return Ok(None);
    }
    *room -= length;
    if bytes.pop() != Some(b'\n') {
        let problem = if *room == 0 { "the head is too long" } else { "the stream ends inside a line" };
        return Err(std::io::Error::new(ErrorKind::InvalidData, problem));
    }
    bytes.pop_if(|last| *last == b'\r');
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Reads header fields up to the empty line, names in lower case.
fn fields(reader: &mut impl BufRead, room: &mut usize) -> std::io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let invalid = |problem| std::io::Error::new(ErrorKind::InvalidData, problem);
        let line = line(reader, room)?.ok_or_else(|| invalid("the stream ends inside the head"))?;
        if line.is_empty() {
            return Ok(fields);
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(invalid("a field without a colon"));
        };
        if name.is_empty() || name.contains(|c: char| c.is_whitespace()) {
            return Err(invalid("a field without a name"));
        }
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests;
