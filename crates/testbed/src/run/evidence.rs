//! What is collected where something failed.

use crate::bed::Bed;
use std::fmt::Write as _;
use testbed_agent::Fault;

/// Something to be attached to what failed.
#[derive(Debug)]
pub(super) struct Evidence {
    /// The machine that it is of.
    pub(super) machine: String,
    /// What it is, as the name of an attachment: `service/NAME`, `processes`.
    pub(super) name: String,
    pub(super) text: Vec<u8>,
}

/// What a copy's machines have to tell: the logs of services, with how those ended that did, and the processes.
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
            (!text.is_empty()).then_some(Evidence { machine: service.machine, name, text })
        })
        .collect();
    for machine in bed.machines() {
        // One that does not answer has nothing to tell.
        let Ok(processes) = machine.processes() else { continue };
        // The agent is always there.
        if processes.len() < 2 {
            continue;
        }
        let mut text = String::new();
        for process in processes {
            let _ = writeln!(text, "{:>6} {}", process.pid, process.command);
        }
        all.push(Evidence {
            machine: machine.name().to_owned(),
            name: "processes".into(),
            text: text.into_bytes(),
        });
    }
    all
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
