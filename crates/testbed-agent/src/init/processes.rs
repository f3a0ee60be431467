//! The machine's processes, as `/proc` shows them (proc_pid_stat(5)).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use testbed_agent::Doing as _;
use testbed_agent::agent::{Process, Reply};
use testbed_agent::frame::MAX_BODY;
use testbed_agent::{Fault, FaultKind};
use testbed_sys::process;

const PAGE: usize = MAX_BODY / 2;
/// No longer command is told.
const COMMAND: usize = 4096;

pub(super) fn list(after: u32) -> Result<Reply, Fault> {
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .doing("list processes")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid > after)
        .collect();
    pids.sort_unstable();
    let mut processes = Vec::new();
    let mut size = 0;
    let mut pids = pids.into_iter().peekable();
    while let Some(pid) = pids.next_if(|_| size < PAGE) {
        // One that has just ended is not there.
        if let Some(process) = look_at(pid) {
            size += 32 + process.command.len();
            processes.push(process);
        }
    }
    Ok(Reply::Processes { processes, more: pids.peek().is_some() })
}

fn look_at(pid: u32) -> Option<Process> {
    let folder = format!("/proc/{pid}");
    let uid = fs::metadata(&folder).ok()?.uid();
    let stat = fs::read_to_string(format!("{folder}/stat")).ok()?;
    let (before, after) = stat.rsplit_once(") ")?;
    let name = before.split_once('(')?.1;
    let fields: Vec<&str> = after.split(' ').collect();
    let arguments = fs::read(format!("{folder}/cmdline")).unwrap_or_default();
    let mut command = match arguments.split(|b| *b == 0).next() {
        _ if pid == 1 => "[agent]".into(),
        Some(first) if !first.is_empty() => {
            let text = arguments.strip_suffix(&[0]).unwrap_or(&arguments);
            String::from_utf8_lossy(text).replace('\0', " ")
        }
        _ => format!("[{name}]"),
    };
    if command.len() > COMMAND {
        let mut end = COMMAND;
        while !command.is_char_boundary(end) {
            end -= 1;
        }
        command.truncate(end);
    }
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        uid,
        state: fields.first()?.chars().next()?,
        memory: fields.get(21)?.parse::<u64>().ok()?.saturating_mul(process::page_size()),
        command,
    })
}

pub(super) fn kill(pid: i32, signal: i32) -> Result<Reply, Fault> {
    // 1 is the agent; -1 would be everybody.
    if matches!(pid, -1..=1) {
        return Err(Fault::new(FaultKind::Invalid, format!("send a signal to process {pid}")));
    }
    process::kill(pid, signal).doing("send a signal").map_err(|mut f| {
        if f.errno == Some(libc::ESRCH) {
            f.kind = FaultKind::NotFound;
        }
        f.at(format!("to process {pid}"))
    })?;
    Ok(Reply::Done)
}
