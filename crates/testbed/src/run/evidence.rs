//! What is collected where something failed.

use crate::bed::{Bed, CONSOLE, ChangeKind};
use std::fmt::Write as _;
use testbed_agent::Fault;

/// Something to be attached to what failed.
#[derive(Debug)]
pub(super) struct Evidence {
    /// The machine that it is of; none if it is of a network.
    pub(super) machine: Option<String>,
    /// What it is, as the name of an attachment: `service/NAME`, `console`, `processes`, `changes`,
    /// `capture/NETWORK`.
    pub(super) name: String,
    pub(super) text: Vec<u8>,
}

impl Evidence {
    /// Its name where several machines' evidence stands together.
    pub(super) fn full_name(&self) -> String {
        match &self.machine {
            Some(machine) => format!("{machine}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// The parent of a kernel's own threads.
const KTHREADD: u32 = 2;
/// The most changes of a machine's files that are told.
const CHANGES: usize = 200;

/// What a copy has to tell: the logs of services, with how those ended that did, the processes, what has changed in the
/// files of machines, and the last packets of networks.
pub(super) fn of(bed: &Bed) -> Vec<Evidence> {
    let mut all: Vec<Evidence> = bed
        .services()
        .into_iter()
        .filter_map(|service| {
            let log = bed.service_log(&service.machine, &service.name)?;
            let mut text = log.bytes();
            if let Some(status) = service.ended {
                if !text.is_empty() && !text.ends_with(b"\n") {
                    text.push(b'\n');
                }
                text.extend_from_slice(format!("[ended with status {status}]\n").as_bytes());
            }
            let name = format!("service/{}", service.name);
            (!text.is_empty()).then_some(Evidence { machine: Some(service.machine), name, text })
        })
        .collect();
    all.extend(bed.watched().iter().filter_map(|(name, watched)| {
        let mut text = String::new();
        for seen in watched.last() {
            let _ = writeln!(text, "{} {}", time_of_day(seen.time_ns), seen.text);
        }
        let name = format!("capture/{name}");
        (!text.is_empty()).then_some(Evidence { machine: None, name, text: text.into_bytes() })
    }));
    for machine in bed.machines() {
        let console = machine.console().ok();
        if let Some(text) =
            console.as_ref().map(|console| console.log().bytes()).filter(|text| !text.is_empty())
        {
            all.push(Evidence { machine: Some(machine.name().to_owned()), name: CONSOLE.into(), text });
        }
        all.extend(changes(bed, machine.name()));
        // One that does not answer has nothing to tell.
        let Ok(mut processes) = machine.processes() else { continue };
        if console.is_some() {
            // Threads of the kernel's.
            processes.retain(|process| process.pid != KTHREADD && process.parent != KTHREADD);
        }
        // The agent is always there.
        if processes.len() < 2 {
            continue;
        }
        let mut text = String::new();
        for process in processes {
            let _ = writeln!(text, "{:>6} {}", process.pid, process.command);
        }
        all.push(Evidence {
            machine: Some(machine.name().to_owned()),
            name: "processes".into(),
            text: text.into_bytes(),
        });
    }
    all
}

fn changes(bed: &Bed, machine: &str) -> Option<Evidence> {
    // What cannot be read is no reason to hide what the test said.
    let changes = bed.changes(machine).ok().filter(|changes| !changes.is_empty())?;
    let mut text = String::new();
    for change in changes.iter().take(CHANGES) {
        let sign = match change.kind {
            ChangeKind::Added => '+',
            ChangeKind::Changed => '~',
            ChangeKind::Removed => '-',
        };
        let _ = writeln!(text, "{sign} {}", change.path);
    }
    if changes.len() > CHANGES {
        let _ = writeln!(text, "... and {} more", changes.len() - CHANGES);
    }
    Some(Evidence { machine: Some(machine.to_owned()), name: "changes".into(), text: text.into_bytes() })
}

/// The time of a day in UTC, to microseconds.
fn time_of_day(time_ns: u64) -> String {
    let (seconds, micros) = (time_ns / 1_000_000_000, time_ns / 1000 % 1_000_000);
    format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// A fault as the text of an attachment: one line of what failed, then what to do and the end of the log.
pub(super) fn reason(fault: &Fault) -> String {
    let mut text = format!("{fault}\n");
    if let Some(hint) = &fault.hint {
        let _ = writeln!(text, "hint: {hint}");
    }
    if let Some(log) = &fault.log {
        text.push_str(log.trim_end());
        text.push('\n');
    }
    text
}
