//! A folder's files, or one text, for whoever asks.

use super::super::tcp::Listener;
use super::super::wake::after;
use super::super::{Doing, ToolIo};
use super::{MOST_HEAD, Timed, fields, line};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use testbed_agent::Fault;
use testbed_agent::agent::Report;

/// How long a client may take for its request, and between two pieces of the answer.
const PATIENCE_MS: u32 = 10_000;

/// Answers requests, one connection after another.
pub(crate) fn serve(
    at: SocketAddr,
    folder: Option<&str>,
    text: &str,
    count: u32,
    io: &mut ToolIo<'_>,
) -> Result<Report, Fault> {
    let folder = folder.map(open_folder).transpose()?;
    let mut listener = Listener::open(at)?;
    io.say_ready()?;
    while count == 0 || listener.all < u64::from(count) {
        let Some((stream, peer)) = listener.accept(io.stop)? else { break };
        // What goes wrong with one client is no reason to leave the others alone.
        if let Ok(Some(sent)) = answer(&stream, folder.as_ref(), text, io) {
            listener.note(peer, sent);
        }
        let _ = stream.shutdown(Shutdown::Write);
    }
    Ok(listener.report())
}

fn open_folder(path: &str) -> Result<OwnedFd, Fault> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).doing_to("serve", path)
}

/// Reads a request and answers it; returns the size of the body sent, or none if there was no request.
fn answer(
    stream: &TcpStream,
    folder: Option<&OwnedFd>,
    text: &str,
    io: &ToolIo<'_>,
) -> std::io::Result<Option<u64>> {
    let timed = || Timed { stream, until: after(PATIENCE_MS), stop: io.stop };
    let mut reader = BufReader::new(timed());
    let mut room = MOST_HEAD;
    let Some(request) = line(&mut reader, &mut room)? else { return Ok(None) };
    let refused = fields(&mut reader, &mut room).is_err();
    let mut words = request.split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let mut response = match (method, target, version) {
        _ if refused => Response::error(400, "Bad Request"),
        (Some(_), Some(_), None | Some("HTTP/1.0" | "HTTP/1.1")) if words.next().is_none() => {
            match (method, target) {
                (Some("GET" | "HEAD"), Some(target)) => match folder {
                    Some(folder) => find(folder, target),
                    None => Response::text(200, "OK", text),
                },
                _ => Response::error(405, "Method Not Allowed"),
            }
        }
        _ => Response::error(400, "Bad Request"),
    };
    let head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nServer: testbed\r\nConnection: close\r\n\r\n",
        response.status, response.reason, response.kind, response.length
    );
    timed().write_all(head.as_bytes())?;
    if method == Some("HEAD") {
        return Ok(Some(0));
    }
    let mut buffer = vec![0; 64 * 1024];
    let mut left = response.length;
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let length = response.body.read(&mut buffer[..room])?;
        if length == 0 {
            // The file has shrunk; the client sees that its body is short.
            break;
        }
        timed().write_all(&buffer[..length])?;
        left -= length as u64;
    }
    Ok(Some(response.length - left))
}

struct Response {
    status: u16,
    reason: &'static str,
    kind: &'static str,
    length: u64,
    body: Box<dyn Read>,
}

impl Response {
    fn text(status: u16, reason: &'static str, text: &str) -> Response {
        let body = Box::new(Cursor::new(text.as_bytes().to_vec()));
        Response { status, reason, kind: "text/plain; charset=utf-8", length: text.len() as u64, body }
    }

    fn error(status: u16, reason: &'static str) -> Response {
        Response::text(status, reason, &format!("{reason}\n"))
    }
}

/// The file that a request asks for: below the folder, whatever links and dots say.
fn find(folder: &OwnedFd, target: &str) -> Response {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let Some(path) = decode(path).filter(|path| !path.contains(&0)) else {
        return Response::error(400, "Bad Request");
    };
    let relative = path.strip_prefix(b"/").unwrap_or(&path);
    let mut relative = relative.to_vec();
    for _ in 0..2 {
        let Some(file) = open_below(folder, &relative) else { break };
        let Ok(metadata) = file.metadata() else { break };
        if metadata.is_file() {
            let kind = media_type(&relative);
            return Response {
                status: 200,
                reason: "OK",
                kind,
                length: metadata.len(),
                body: Box::new(file),
            };
        }
        if !metadata.is_dir() {
            break;
        }
        if !relative.is_empty() {
            relative.push(b'/');
        }
        relative.extend_from_slice(b"index.html");
    }
    Response::error(404, "Not Found")
}

fn open_below(folder: &OwnedFd, relative: &[u8]) -> Option<File> {
    let relative = if relative.is_empty() { b"." } else { relative };
    // A named pipe would make opening wait without the second flag.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let fd = rustix::fs::openat2(folder.as_fd(), relative, flags, Mode::empty(), resolve).ok()?;
    Some(fd.into())
}

/// Decodes `%2e` and the like, RFC 3986 section 2.1.
fn decode(path: &str) -> Option<Vec<u8>> {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || (bytes.next()? as char).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            other => other,
        });
    }
    Some(decoded)
}

fn media_type(path: &[u8]) -> &'static str {
    let extension = path.rsplit(|byte| matches!(byte, b'.' | b'/')).next().unwrap_or_default();
    match extension {
        b"html" | b"htm" => "text/html; charset=utf-8",
        b"txt" | b"log" | b"conf" | b"toml" => "text/plain; charset=utf-8",
        b"json" => "application/json",
        b"css" => "text/css",
        b"js" => "text/javascript",
        b"xml" => "application/xml",
        b"svg" => "image/svg+xml",
        b"png" => "image/png",
        _ => "application/octet-stream",
    }
}
