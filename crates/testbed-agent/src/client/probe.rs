//! What the network says to a machine.

use super::run::{otherwise, strange, tooling};
use super::streams::{Carried, Ends, carry};
use super::words::{Host, Probe, millis};
use super::{Connection, Io, show, status};
use crate::agent::{Reply, Report, Source, Tool};
use crate::fault::Fault;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Asks; the status that the call ends with.
pub(super) fn probe(
    connection: &mut Connection,
    machine: &str,
    probe: &Probe,
    timeout: Option<Duration>,
    io: &Io<'_>,
) -> Result<u8, Fault> {
    let tool = tool(probe, io)?;
    let reads = matches!(probe, Probe::TcpConnect { .. });
    let source = if reads { Source::Channel } else { Source::Null };
    let channel = connection.open(machine, tooling(tool, source, timeout))?;
    let listens = matches!(probe, Probe::Listen(_));
    let ends = Ends {
        input: reads.then_some(io.input),
        output: Some(io.output),
        error: None,
        ready: listens.then_some((io.error, "ready\n")),
        signals: None,
        leave: None,
    };
    let (end, stopped) = match carry(channel, ends, timeout)? {
        Carried::Ended(end) => (end, false),
        Carried::Stopped(end) => (end, true),
        Carried::Unread => return Ok(status::DONE),
    };
    if stopped && !listens {
        io.say(&format!("{machine}: not done in time"));
        return Ok(status::OTHERWISE);
    }
    let (reply, code) = otherwise(end.reply(), io)?;
    let Some(reply) = reply else { return Ok(code) };
    let Reply::Ended { report: Some(report), .. } = &reply else { return Err(strange(machine, &reply)) };
    let (text, good) = match (report, probe) {
        (Report::Ping { sent, received, times_us, refused }, _) => {
            (show::ping(*sent, *received, times_us, refused.as_deref()), *received > 0)
        }
        (Report::Trace { hops, reached, refused }, _) => (show::trace(hops, refused.as_deref()), *reached),
        (Report::Datagrams { first, all }, Probe::UdpSend { wait, .. }) => {
            (show::datagrams(first, *all), wait.is_none() || *all > 0)
        }
        (Report::Datagrams { first, all }, Probe::Listen(Tool::UdpListen { count, .. })) => {
            (show::datagrams(first, *all), *all >= u64::from(*count))
        }
        (
            Report::Connections { all, .. },
            Probe::Listen(Tool::TcpListen { accept: count, .. } | Tool::HttpServe { count, .. }),
        ) => (String::new(), *all >= u64::from(*count)),
        (Report::Connection { .. }, _) => (String::new(), true),
        (Report::Http { status, .. }, _) => {
            let good = (200..300).contains(status);
            if !good {
                io.say(&format!("{machine}: the answer is {status}"));
            }
            (String::new(), good)
        }
        _ => return Err(strange(machine, &reply)),
    };
    io.print(&text)?;
    Ok(if good { status::DONE } else { status::OTHERWISE })
}

fn tool(probe: &Probe, io: &Io<'_>) -> Result<Tool, Fault> {
    let at = |host: &Host, port: u16| Ok::<_, Fault>(SocketAddr::new(io.resolve(host)?, port));
    Ok(match probe {
        Probe::Ping { host, count, interval, wait, size, interface } => Tool::Ping {
            target: io.resolve(host)?,
            count: *count,
            interval_ms: millis(*interval),
            wait_ms: millis(*wait),
            size: *size,
            interface: interface.clone(),
        },
        Probe::Trace { host, max_hops, wait } => {
            Tool::Trace { target: io.resolve(host)?, max_hops: *max_hops, wait_ms: millis(*wait) }
        }
        Probe::TcpConnect { host, port, from, wait, read } => {
            Tool::TcpConnect { to: at(host, *port)?, from: *from, wait_ms: millis(*wait), read: *read }
        }
        Probe::UdpSend { host, port, text, wait } => Tool::UdpSend {
            to: at(host, *port)?,
            payload: text.clone().into_bytes(),
            wait_ms: wait.map_or(0, millis),
        },
        Probe::HttpGet { url, host, wait } => {
            let (url, name) = literal(url, io)?;
            Tool::HttpGet { url, host: host.clone().or(name), wait_ms: millis(*wait) }
        }
        Probe::Listen(tool) => tool.clone(),
    })
}

/// The URL with its host's address for the name, and the name with its port if it had one.
fn literal(url: &str, io: &Io<'_>) -> Result<(String, Option<String>), Fault> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') => (name, format!(":{port}")),
        _ => (authority, String::new()),
    };
    if name.starts_with('[') || name.parse::<IpAddr>().is_ok() {
        return Ok((url.to_owned(), None));
    }
    let address = match io.resolve(&Host::Name(name.to_owned()))? {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    Ok((format!("http://{address}{port}{path}"), Some(format!("{name}{port}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_urls_become_addresses() {
        let names =
            [("web".to_owned(), "10.1.0.1".parse().unwrap()), ("six".to_owned(), "fd00::1".parse().unwrap())];
        let nothing = rustix::stdio::stdin();
        let io =
            Io { input: nothing, output: nothing, error: nothing, names: &names, signals: None, term: "" };
        let literal = |url| literal(url, &io).map_err(|fault| fault.to_string());
        assert_eq!(literal("http://web/a?b"), Ok(("http://10.1.0.1/a?b".into(), Some("web".into()))));
        assert_eq!(literal("http://web:81"), Ok(("http://10.1.0.1:81".into(), Some("web:81".into()))));
        assert_eq!(literal("http://six:81/"), Ok(("http://[fd00::1]:81/".into(), Some("six:81".into()))));
        for kept in ["http://10.0.0.1:8080/x", "http://[fd00::2]/", "http://[fd00::2]:80/"] {
            assert_eq!(literal(kept), Ok((kept.into(), None)));
        }
        assert_eq!(literal("http://other/"), Err("find the address of `other`".into()));
    }
}
