//! What calls find out, as text. Machines' own words lose what would move a terminal's cursor.

use crate::agent::{Condition, Entry, EntryKind, Hop, Process, Program};
use crate::control::MachineStatus;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

/// One line, whatever a machine says.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// `2.5 s`.
pub(super) fn duration(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

pub(super) fn machines(machines: &[MachineStatus]) -> String {
    let rows = machines.iter().map(|machine| {
        let addresses = machine.interfaces.iter().map(|interface| {
            let addresses = interface.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            format!("{}={addresses}", interface.network)
        });
        let addresses = addresses.collect::<Vec<_>>().join(" ");
        [machine.name.clone(), machine.condition.as_str().to_owned(), addresses]
    });
    table(["MACHINE", "STATE", "ADDRESSES"], rows)
}

pub(super) fn processes(processes: &[Process]) -> String {
    let rows = processes.iter().map(|process| {
        [
            process.pid.to_string(),
            process.parent.to_string(),
            process.uid.to_string(),
            plain(&process.state.to_string()),
            format!("{}K", process.memory / 1024),
            plain(&process.command),
        ]
    });
    table(["PID", "PARENT", "UID", "STATE", "MEMORY", "COMMAND"], rows)
}

pub(super) fn kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Folder => "folder",
        EntryKind::Link => "link",
        EntryKind::Device => "device",
        EntryKind::Pipe => "pipe",
        EntryKind::Socket => "socket",
    }
}

pub(super) fn entry(entry: &Entry) -> String {
    let target = entry.target.as_ref().map_or(String::new(), |target| format!(" -> {}", plain(target)));
    let row = [
        kind(entry.kind).to_owned(),
        format!("{:04o}", entry.mode),
        format!("{}:{}", entry.uid, entry.gid),
        entry.size.to_string(),
        (entry.modified_ns / 1_000_000_000).to_string(),
        plain(&entry.name) + &target,
    ];
    table(["KIND", "MODE", "OWNER", "SIZE", "MODIFIED", "NAME"], [row].into_iter())
}

/// Columns as wide as their longest entries.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn ping(sent: u32, received: u32, times_us: &[u32], refused: Option<&str>) -> String {
    let mut text = format!("{sent} sent, {received} answered");
    let times = || times_us.iter().map(|time| f64::from(*time) / 1000.0);
    if !times_us.is_empty() {
        let average = times().sum::<f64>() / times_us.len() as f64;
        let (least, most) = (times().fold(f64::MAX, f64::min), times().fold(0.0, f64::max));
        let _ = write!(text, "; {least:.3} / {average:.3} / {most:.3} ms");
    }
    if let Some(refused) = refused {
        let _ = write!(text, "; {}", plain(refused));
    }
    text.push('\n');
    text
}

pub(super) fn trace(hops: &[Option<Hop>], refused: Option<&str>) -> String {
    let mut text = String::new();
    for (hop, number) in hops.iter().zip(1..) {
        let _ = match hop {
            Some(hop) => {
                writeln!(text, "{number:>2}  {}  {:.3} ms", hop.address, f64::from(hop.time_us) / 1000.0)
            }
            None => writeln!(text, "{number:>2}  *"),
        };
    }
    if let Some(refused) = refused {
        let _ = writeln!(text, "{}", plain(refused));
    }
    text
}

pub(super) fn datagrams(first: &[(SocketAddr, Vec<u8>)], all: u64) -> String {
    let mut text = String::new();
    for (from, payload) in first {
        let _ = writeln!(text, "{from}  {}", plain(&String::from_utf8_lossy(payload)));
    }
    if all > first.len() as u64 {
        let _ = writeln!(text, "... {} more", all - first.len() as u64);
    }
    text
}

pub(super) fn capture(packets: u64, dropped: u64) -> String {
    let dropped = if dropped == 0 { String::new() } else { format!(", {dropped} lost") };
    format!("{packets} packet{}{dropped}", if packets == 1 { "" } else { "s" })
}

/// What is waited for, as a sentence.
pub(super) fn condition(condition: &Condition) -> String {
    match condition {
        Condition::Port { udp, port, address } => {
            let udp = if *udp { "UDP " } else { "" };
            let at = address.map_or(String::new(), |address| format!(" of {address}"));
            format!("something must listen on {udp}port {port}{at}")
        }
        Condition::File { path } => format!("{} must exist", plain(path)),
        Condition::Line { path, text } => {
            format!("{} must have a line with `{}`", plain(path), plain(text))
        }
        Condition::Exit { pid } => format!("process {pid} must end"),
        Condition::Address { address } => format!("it must have the address {address}"),
        Condition::Route { to } => format!("there must be a route to {to}"),
        Condition::Success { program: Program::Shell(text), .. } => {
            format!("`{}` must succeed", plain(text))
        }
        Condition::Success { program: Program::Argv(words), .. } => {
            format!("`{}` must succeed", plain(&words.join(" ")))
        }
    }
}
