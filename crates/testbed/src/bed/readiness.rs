//! How a bed becomes ready.

use super::service::died;
use super::{Bed, CONSOLE, Log, Shared, definition};
use crate::engine::link::lock;
use crate::machine::Machine;
use crate::spec::{FileContent, FileEntry, ReadyCondition};
use crate::{plan, spec};
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use testbed_agent::agent::{Condition, Program, Tool};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// How much of a service's log a fault carries, in bytes.
const LOG_TAIL: usize = 4096;

/// How long a kernel may take to start at least, emulated, beside others.
const BOOT: Duration = Duration::from_secs(60);

/// How long a whole system may take to boot, emulated, beside others.
const SYSTEM_BOOT: Duration = Duration::from_secs(180);

/// Which machines are ready, or why one cannot be.
#[derive(Default)]
struct Progress {
    done: Mutex<HashMap<String, Result<(), Fault>>>,
    changed: Condvar,
}

/// What becomes of the files that a machine is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// They are put in place.
    Put,
    /// They are there already, as the machine has left them.
    Stay,
}

/// Waits until every machine that is `among` those meant has started, has its files and services, and meets its
/// conditions. The others are ready.
pub(super) fn wait(
    bed: &Bed,
    files: Files,
    among: &(dyn Fn(&spec::Machine) -> bool + Sync),
) -> Result<(), Fault> {
    let shared = &*bed.shared;
    if let Some(capsule) = &shared.capsule {
        capsule.wait_started(shared.spec.deadlines().start().max(BOOT))?;
    }
    let order = plan::start_order(&shared.spec);
    let (order, ready): (Vec<_>, Vec<_>) = order.into_iter().partition(|machine| among(machine));
    let (simple, others): (Vec<_>, Vec<_>) = order.into_iter().partition(|m| has_nothing_to_do(m));
    for machine in &simple {
        bed.find(machine.name())?.wait_started(start_deadline(shared, machine))?;
    }
    if others.is_empty() {
        return Ok(());
    }
    let progress = Progress::default();
    for machine in simple.into_iter().chain(ready) {
        progress.tell(machine.name(), Ok(()));
    }
    std::thread::scope(|scope| {
        for machine in &others {
            let progress = &progress;
            scope.spawn(move || {
                let result = bed
                    .find(machine.name())
                    .and_then(|its| make_ready(shared, machine, its, files, progress));
                progress.tell(machine.name(), result);
            });
        }
    });
    let done = progress.done.into_inner().unwrap_or_else(PoisonError::into_inner);
    // The machine that others depend on is the one to tell of.
    others.iter().find_map(|m| done.get(m.name()).cloned()).map_or(Ok(()), |first| {
        first.and_then(|()| done.into_values().find(Result::is_err).unwrap_or(Ok(())))
    })
}

/// How long a machine may take until its agent answers.
pub(super) fn start_deadline(shared: &Shared, machine: &spec::Machine) -> Duration {
    let start = shared.spec.deadlines().start();
    if machine.kernel() == spec::Kernel::Own { start.max(BOOT) } else { start }
}

fn has_nothing_to_do(machine: &spec::Machine) -> bool {
    machine.kernel() != spec::Kernel::Own
        && machine.files().is_empty()
        && machine.services().is_empty()
        && machine.ready().is_empty()
}

fn make_ready(
    shared: &Shared,
    spec: &spec::Machine,
    machine: &Machine,
    files: Files,
    progress: &Progress,
) -> Result<(), Fault> {
    machine.wait_started(start_deadline(shared, spec))?;
    if shared.goes_on(spec.name()) {
        return Ok(());
    }
    if spec.init() == spec::Init::Systemd {
        machine.wait_booted(SYSTEM_BOOT)?;
    }
    if files == Files::Put {
        if spec.kernel() == spec::Kernel::Own && spec.has_agent() {
            // Others have them as a layer.
            for (path, content) in definition::shared_files(&shared.spec) {
                machine.write_file(&path, 0o644, content.as_bytes())?;
            }
        }
        for file in spec.files() {
            put(machine, file)?;
        }
    }
    for name in spec.depends() {
        progress.wait_for(name).map_err(|f| {
            Fault::new(FaultKind::State, format!("start, because `{name}` did not: {f}")).on(spec.name())
        })?;
    }
    for service in spec.services() {
        shared.services.start(machine, service)?;
    }
    for ready in spec.ready() {
        meet(shared, spec, machine, ready).map_err(|fault| with_logs(shared, spec, fault))?;
    }
    if spec.ready().is_empty()
        && let Some((service, how)) = shared.services.failed(spec.name())
    {
        return Err(with_logs(shared, spec, died(spec.name(), &service, how)));
    }
    Ok(())
}

fn put(machine: &Machine, file: &FileEntry) -> Result<(), Fault> {
    let fault = |f: Fault| f.on(machine.name());
    match file.content() {
        FileContent::Text(text) => {
            machine.write_file(file.target(), file.mode().unwrap_or(0o644), text.as_bytes())?;
        }
        FileContent::Source(path) => {
            let about = std::fs::metadata(path).doing_to("read", path.to_string_lossy()).map_err(fault)?;
            if about.is_dir() {
                machine.copy_in(path, file.target())?;
            } else {
                let mode = file.mode().unwrap_or(about.permissions().mode() & 0o7777);
                let content = std::fs::read(path).doing_to("read", path.to_string_lossy()).map_err(fault)?;
                machine.write_file(file.target(), mode, &content)?;
            }
        }
    }
    if let Some(owner) = file.owner() {
        let output = machine.command(["chown", "-R", owner, file.target()]).output()?;
        if !output.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Fault::new(FaultKind::Invalid, format!("give {} to {owner}: {said}", file.target()))
                .on(machine.name()));
        }
    }
    Ok(())
}

fn meet(shared: &Shared, spec: &spec::Machine, machine: &Machine, ready: &spec::Ready) -> Result<(), Fault> {
    let condition = match ready.condition() {
        ReadyCondition::Log(text) => return meet_log(shared, spec, text, ready.timeout()),
        ReadyCondition::Port(port) => Condition::Port { udp: false, port: *port, address: None },
        ReadyCondition::File(path) => Condition::File { path: path.clone() },
        ReadyCondition::Command(text) => {
            Condition::Success { program: Program::Shell(text.clone()), interval_ms: 50 }
        }
    };
    match machine.tool(Tool::Wait(condition), ready.timeout()) {
        Ok(_) => Ok(()),
        Err(fault) if fault.kind == FaultKind::Timeout => Err(match shared.services.failed(spec.name()) {
            Some((service, how)) => died(spec.name(), &service, how),
            None => not_ready(spec, ready.timeout(), &describe(ready.condition())),
        }),
        Err(fault) => Err(fault),
    }
}

fn meet_log(shared: &Shared, spec: &spec::Machine, text: &str, timeout: Duration) -> Result<(), Fault> {
    let end = Instant::now() + timeout;
    let logs = logs_of(shared, spec);
    let found = match &logs[..] {
        [(_, log)] => log.wait_for(text, end),
        logs => std::thread::scope(|scope| {
            let waits: Vec<_> = logs.iter().map(|(_, log)| scope.spawn(|| log.wait_for(text, end))).collect();
            waits.into_iter().any(|wait| wait.join().unwrap_or(false))
        }),
    };
    if found {
        return Ok(());
    }
    // A log that has ended belongs to a service that has, or is about to be known to have.
    Err(match shared.services.failed(spec.name()) {
        Some((service, how)) => died(spec.name(), &service, how),
        None => {
            let whose = if spec.has_agent() { "a service's log" } else { "its console" };
            not_ready(spec, timeout, &format!("no line of {whose} holds {text:?}"))
        }
    })
}

/// What its services write; a machine without an agent has a console instead.
fn logs_of(shared: &Shared, spec: &spec::Machine) -> Vec<(String, Arc<Log>)> {
    if spec.has_agent() {
        return shared.services.logs_of(spec.name());
    }
    let machine = shared.by_name.get(spec.name()).and_then(|number| shared.machines.get(*number));
    let console = machine.and_then(|machine| machine.console().ok()).map(|console| console.log());
    console.map(|console| (CONSOLE.to_owned(), console)).into_iter().collect()
}

fn describe(condition: &ReadyCondition) -> String {
    match condition {
        ReadyCondition::Log(text) => format!("no line of a service's log holds {text:?}"),
        ReadyCondition::Port(port) => format!("nothing listens on port {port}"),
        ReadyCondition::File(path) => format!("{path} is not there"),
        ReadyCondition::Command(text) => format!("`{text}` does not succeed"),
    }
}

fn not_ready(spec: &spec::Machine, timeout: Duration, why: &str) -> Fault {
    Fault::new(FaultKind::Timeout, format!("not ready within {} s: {why}", timeout.as_secs_f32()))
        .on(spec.name())
        .hint("`timeout` in `ready` gives it more time")
}

fn with_logs(shared: &Shared, spec: &spec::Machine, fault: Fault) -> Fault {
    if fault.log.is_some() {
        return fault;
    }
    let logs = logs_of(shared, spec).into_iter();
    let text: String =
        logs.map(|(name, log)| format!("--- {name}\n{}\n", log.tail(LOG_TAIL).trim_end())).collect();
    if text.is_empty() { fault } else { fault.log(text) }
}

impl Progress {
    fn tell(&self, machine: &str, result: Result<(), Fault>) {
        lock(&self.done).insert(machine.to_owned(), result);
        self.changed.notify_all();
    }

    /// Waits until a machine is ready. Each has its own deadlines, so this ends.
    fn wait_for(&self, machine: &str) -> Result<(), Fault> {
        let mut done = lock(&self.done);
        loop {
            if let Some(result) = done.get(machine) {
                return result.clone();
            }
            done = self.changed.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
