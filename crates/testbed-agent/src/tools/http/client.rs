//! One GET request.

use super::super::wake::after;
use super::super::{ToolIo, interrupted, invalid, tcp};
use super::{MOST_HEAD, Timed, field, fields, line};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use testbed_agent::agent::Report;
use testbed_agent::{Fault, FaultKind};

/// Asks for a page; its body goes to the output.
pub(crate) fn get(url: &str, host: Option<&str>, wait_ms: u32, io: &mut ToolIo<'_>) -> Result<Report, Fault> {
    let target = Target::parse(url)?;
    let host = host.unwrap_or(target.authority);
    if host.contains(|c: char| c.is_control()) {
        return Err(invalid("ask for a host with control characters in its name"));
    }
    let until = after(wait_ms);
    let stream = tcp::open(target.address, None, until, io.stop)?;
    let mut timed = Timed { stream: &stream, until, stop: io.stop };
    let mut output = io.output_file()?;
    let answer = converse(&mut timed, target.path, host, &mut output);
    answer.map(|(status, headers)| Report::Http { status, headers }).map_err(|error| {
        let operation = format!("get {url}");
        match error.kind() {
            ErrorKind::TimedOut => {
                Fault::new(FaultKind::Timeout, format!("{operation}: the answer took too long"))
            }
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                Fault::new(FaultKind::Protocol, format!("{operation}: {error}"))
            }
            ErrorKind::Other if error.raw_os_error().is_none() => interrupted(operation),
            _ => Fault::system(operation, &error),
        }
    })
}

/// Where a URL points.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    address: SocketAddr,
    authority: &'a str,
    path: &'a str,
}

impl Target<'_> {
    fn parse(url: &str) -> Result<Target<'_>, Fault> {
        let wrong = |hint: &str| Err(invalid(format!("get {url}")).hint(hint));
        if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return wrong("write other characters than letters, digits and marks as %20 and the like");
        }
        let Some(rest) = url.strip_prefix("http://") else {
            return wrong("only http://ADDRESS[:PORT]/PATH is offered, without TLS");
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let path = path.split('#').next().unwrap_or("");
        let address = if let Ok(address) = authority.parse::<SocketAddr>() {
            Some(address)
        } else if let Ok(ip) = authority.parse::<IpAddr>() {
            Some((ip, 80)).filter(|_| ip.is_ipv4()).map(SocketAddr::from)
        } else {
            let inner = authority.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            inner.and_then(|inner| inner.parse::<Ipv6Addr>().ok()).map(|ip| (ip, 80).into())
        };
        let Some(address) = address else {
            return wrong("names are not looked up here; write an address, and the name as host");
        };
        Ok(Target { address, authority, path })
    }
}

type Head = (u16, Vec<(String, String)>);

fn converse(timed: &mut Timed<'_>, path: &str, host: &str, output: &mut File) -> std::io::Result<Head> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let request = format!(
        "GET {slash}{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: testbed\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    timed.write_all(request.as_bytes())?;
    let mut reader = BufReader::with_capacity(64 * 1024, timed);
    let (status, headers) = loop {
        let mut room = MOST_HEAD;
        let status = status(&mut reader, &mut room)?;
        let headers = fields(&mut reader, &mut room)?;
        // 1xx: the answer itself follows.
        if status >= 200 {
            break (status, headers);
        }
    };
    body(&mut reader, status, &headers, output)?;
    Ok((status, headers))
}

fn status(reader: &mut impl BufRead, room: &mut usize) -> std::io::Result<u16> {
    let invalid = |problem| std::io::Error::new(ErrorKind::InvalidData, problem);
    let line = line(reader, room)?.ok_or_else(|| invalid("the connection ends without an answer"))?;
    let mut words = line.split(' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().filter(|word| word.len() == 3).and_then(|word| word.parse().ok());
    match status {
        Some(status) if version.starts_with("HTTP/1.") && status >= 100 => Ok(status),
        _ => Err(invalid("the answer is not HTTP/1")),
    }
}

/// RFC 9112 section 6.3.
fn body(
    reader: &mut impl BufRead,
    status: u16,
    headers: &[(String, String)],
    output: &mut File,
) -> std::io::Result<()> {
    if matches!(status, 204 | 304) {
        return Ok(());
    }
    if let Some(coding) = field(headers, "transfer-encoding") {
        if !coding.eq_ignore_ascii_case("chunked") {
            return Err(std::io::Error::new(
                ErrorKind::InvalidData,
                format!("unknown transfer coding {coding}"),
            ));
        }
        return chunks(reader, output);
    }
    if let Some(length) = field(headers, "content-length") {
        let length: u64 = length
            .parse()
            .map_err(|_| std::io::Error::new(ErrorKind::InvalidData, "the content length is not a number"))?;
        return exactly(reader, length, output);
    }
    copy(reader, output).map(|_| ())
}

/// RFC 9112 section 7.1.
fn chunks(reader: &mut impl BufRead, output: &mut File) -> std::io::Result<()> {
    let invalid = |problem| std::io::Error::new(ErrorKind::InvalidData, problem);
    loop {
        let mut room = 1024;
        let size = line(reader, &mut room)?.ok_or_else(|| invalid("the body ends in front of a chunk"))?;
        let digits = size.split(';').next().unwrap_or_default().trim();
        let size =
            u64::from_str_radix(digits, 16).map_err(|_| invalid("the size of a chunk is not a number"))?;
        if size == 0 {
            fields(reader, &mut { MOST_HEAD })?;
            return Ok(());
        }
        exactly(reader, size, output)?;
        if line(reader, &mut { 2 })?.as_deref() != Some("") {
            return Err(invalid("a chunk is longer than its size"));
        }
    }
}

fn exactly(reader: &mut impl BufRead, length: u64, output: &mut File) -> std::io::Result<()> {
    let copied = copy(&mut reader.take(length), output)?;
    if copied < length {
        let problem = format!("the body ends after {copied} of {length} bytes");
        return Err(std::io::Error::new(ErrorKind::UnexpectedEof, problem));
    }
    Ok(())
}

fn copy(reader: &mut impl BufRead, output: &mut File) -> std::io::Result<u64> {
    let mut copied = 0;
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(copied);
        }
        output.write_all(bytes)?;
        let length = bytes.len();
        copied += length as u64;
        reader.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let table = [
            ("http://10.0.0.1", "10.0.0.1:80", ""),
            ("http://10.0.0.1:8080/a/b?c=d#e", "10.0.0.1:8080", "/a/b?c=d"),
            ("http://[fd00::1]/x", "[fd00::1]:80", "/x"),
            ("http://[fd00::1]:81?q", "[fd00::1]:81", "?q"),
        ];
        for (url, address, path) in table {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.address.to_string().as_str(), target.path), (address, path));
        }
        for (url, hint) in [
            ("https://10.0.0.1/", "without TLS"),
            ("10.0.0.1/", "http://ADDRESS"),
            ("http://example.com/", "names are not looked up"),
            ("http://fd00::1/", "write an address"),
            ("http://10.0.0.1/a b", "%20"),
            ("http://10.0.0.1/\r\nX: y", "%20"),
        ] {
            let fault = Target::parse(url).unwrap_err();
            assert!(fault.hint.unwrap().contains(hint), "{url}");
        }
    }
}
