//! The copy of a failed test, kept by its run for whoever wants to see it.

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::keepers::{About, Claim, Sockets};
use crate::terminal;
use rustix::process::{Signal, getpid, kill_process};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use testbed::control::Holder;
use testbed::run::Kept;
use testbed::{Bed, Fault, FaultKind};

/// Holds the copy under a name of its own until Ctrl-C, a request to end, or `testbed down`.
///
/// # Errors
/// When it cannot be served.
pub(crate) fn keep(
    kept: &Kept,
    file: &Path,
    sockets: &Sockets,
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    let testbed = kept.bed.spec().name();
    // Runs may keep copies of the same number at the same time.
    let plain = format!("{testbed}-copy-{}", kept.copy);
    let (name, claim) = match Claim::of(&plain) {
        Ok(claim) => (plain, claim),
        Err(_) => {
            let own = format!("{plain}-{}", std::process::id());
            let claim = Claim::of(&own)?;
            (own, claim)
        }
    };
    let server = sockets.open("kept", &kept.bed, Some(Arc::new(Held { bed: kept.bed.clone() })))?;
    claim.tell(&About {
        name: name.clone(),
        file: file.canonicalize().unwrap_or_else(|_| file.to_owned()),
        pid: std::process::id(),
        socket: server.path().to_owned(),
        since: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        copy_of: Some(testbed.to_owned()),
    })?;
    let machines: Vec<&str> = kept.bed.machines().map(|machine| machine.name()).collect();
    terminal::talk(&format!(
        "copy {} of `{}` is kept until Ctrl-C: {}; `testbed -t {name} shell MACHINE` looks around\n",
        kept.copy,
        kept.test,
        machines.join(", ")
    ));
    interrupts.wait();
    drop((server, claim));
    Ok(kept.bed.kill(kept.bed.spec().deadlines().stop())?)
}

/// What clients of a kept copy can ask of its run.
struct Held {
    bed: Bed,
}

impl Holder for Held {
    fn down(&self) -> Result<(), Fault> {
        let killed = self.bed.kill(self.bed.spec().deadlines().stop());
        // The run waits for such a request, from wherever it comes.
        let _ = kill_process(getpid(), Signal::TERM);
        killed
    }

    fn fork(&self, _: &Bed, _: &str, _: Option<&str>) -> Result<(), Fault> {
        Err(Fault::new(FaultKind::State, "fork the copy of a test")
            .hint("`testbed up` makes one that can be"))
    }
}
