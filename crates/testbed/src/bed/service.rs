//! Services of a bed: programs that run as long as it does, and their logs.

use crate::engine::link::lock;
use crate::machine::{Command, Log, LogReader, Machine, Running};
use crate::spec;
use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use testbed_agent::agent::{Exit, Run};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// How long after the end of its log a service's own end may become known.
const END_IS_KNOWN: Duration = Duration::from_millis(500);

/// How a service is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ServiceStatus {
    /// Its machine.
    pub machine: String,
    /// Its name.
    pub name: String,
    /// How it ended, if it has: the status that a shell would show.
    pub ended: Option<i32>,
    /// Why it does not run: it could not be started, or its machine has gone.
    pub fault: Option<String>,
}

struct Service {
    running: Mutex<Running>,
    log: Arc<Log>,
    /// A program that a client started, and not of the file: that it fails is for its client to judge.
    is_program: bool,
}

/// A program that runs in a machine, and how it is reached there.
#[derive(Clone)]
pub(super) struct RunningProgram {
    name: String,
    channel: u32,
    is_program: bool,
}

/// The logs of so many programs that have ended are kept for each machine.
const ENDED_PROGRAMS: usize = 16;

/// All services of a bed, by machine and name.
#[derive(Default)]
pub(super) struct Services {
    all: Mutex<BTreeMap<(String, String), Service>>,
    reader: OnceLock<Result<Arc<LogReader>, Fault>>,
}

impl Services {
    /// Starts a service, and waits until it runs.
    pub(super) fn start(&self, machine: &Machine, service: &spec::Service) -> Result<(), Fault> {
        let mut command = machine.shell(service.run());
        for (name, value) in service.env() {
            command = command.env(name, value);
        }
        if let Some(user) = service.user() {
            command = command.user(user);
        }
        if let Some(cwd) = service.cwd() {
            command = command.cwd(cwd);
        }
        let key = (machine.name().to_owned(), service.name().to_owned());
        let log = lock(&self.all).get(&key).map(|former| Arc::clone(&former.log));
        let started = self.begin(|output| command.spawn_with(None, output, None), log, false)?;
        let runs = lock(&started.running).pid();
        lock(&self.all).insert(key, started);
        runs.map(drop).map_err(|fault| Fault {
            operation: format!("start the service `{}`: {}", service.name(), fault.operation),
            ..fault
        })
    }

    /// Starts a program that goes on by itself, and gives its number in the machine.
    pub(super) fn start_program(&self, machine: &Machine, run: Run) -> Result<u32, Fault> {
        let command = Command::asked(machine, run);
        let started = self.begin(|output| command.spawn_with(None, output, None), None, true)?;
        let pid = lock(&started.running).pid()?;
        let mut all = lock(&self.all);
        let ended = |(key, service): (&(String, String), &Service)| {
            let is_done = service.is_program && !matches!(lock(&service.running).try_wait(), Ok(None));
            (key.0 == machine.name() && is_done).then(|| key.clone())
        };
        let ended: Vec<_> = all.iter().filter_map(ended).collect();
        for key in ended.iter().take((ended.len() + 1).saturating_sub(ENDED_PROGRAMS)) {
            all.remove(key);
        }
        all.insert((machine.name().to_owned(), format!("exec-{pid}")), started);
        Ok(pid)
    }

    /// Starts it; a former start's log goes on.
    fn begin(
        &self,
        start: impl FnOnce(OwnedFd) -> Result<Running, Fault>,
        log: Option<Arc<Log>>,
        is_program: bool,
    ) -> Result<Service, Fault> {
        let reader = self.reader.get_or_init(LogReader::start).clone()?;
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let running = start(theirs)?;
        let log = log.unwrap_or_default();
        reader.add(ours, &log)?;
        Ok(Service { running: Mutex::new(running), log, is_program })
    }

    /// What runs in a machine.
    pub(super) fn running_in(&self, machine: &Machine) -> Vec<RunningProgram> {
        let all = lock(&self.all);
        let its = all.iter().filter(|((m, _), _)| m == machine.name());
        let running = its.filter_map(|((_, name), service)| {
            let mut running = lock(&service.running);
            let runs = matches!(running.try_wait(), Ok(None));
            let is_program = service.is_program;
            runs.then(|| RunningProgram { name: name.clone(), channel: running.channel(), is_program })
        });
        running.collect()
    }

    /// Hears again of a program that has run since before the machine was copied. A former log goes on.
    pub(super) fn take_up(&self, machine: &Machine, program: &RunningProgram) -> Result<(), Fault> {
        let key = (machine.name().to_owned(), program.name.clone());
        let log = lock(&self.all).get(&key).map(|former| Arc::clone(&former.log));
        let start = |output| machine.take_up(program.channel, output);
        let started = self.begin(start, log, program.is_program)?;
        lock(&self.all).insert(key, started);
        Ok(())
    }

    pub(super) fn log(&self, machine: &str, service: &str) -> Option<Arc<Log>> {
        let all = lock(&self.all);
        all.get(&(machine.to_owned(), service.to_owned())).map(|s| Arc::clone(&s.log))
    }

    /// The logs of a machine's services.
    pub(super) fn logs_of(&self, machine: &str) -> Vec<(String, Arc<Log>)> {
        let all = lock(&self.all);
        let its = all.iter().filter(|((m, _), _)| m == machine);
        its.map(|((_, name), service)| (name.clone(), Arc::clone(&service.log))).collect()
    }

    /// A service of the machine that could not be started or has ended with a failure, and how.
    pub(super) fn failed(&self, machine: &str) -> Option<(String, Result<Exit, Fault>)> {
        let all = lock(&self.all);
        let its = all.iter().filter(|((m, _), service)| m == machine && !service.is_program);
        its.into_iter().find_map(|((_, name), service)| {
            let mut running = lock(&service.running);
            // Who has closed its log has ended, or will be known to have in a moment.
            if service.log.is_closed() {
                let _ = running.wait(Some(END_IS_KNOWN));
            }
            match running.try_wait() {
                Err(fault) => Some((name.clone(), Err(fault))),
                Ok(Some((exit, _))) if !exit.success() => Some((name.clone(), Ok(exit))),
                Ok(_) => None,
            }
        })
    }

    pub(super) fn status(&self) -> Vec<ServiceStatus> {
        let all = lock(&self.all);
        all.iter()
            .map(|((machine, name), service)| {
                let (ended, fault) = match lock(&service.running).try_wait() {
                    Ok(ended) => (ended.map(|(exit, _)| exit.shell_code()), None),
                    Err(fault) => (None, Some(fault.to_string())),
                };
                ServiceStatus { machine: machine.clone(), name: name.clone(), ended, fault }
            })
            .collect()
    }
}

/// Says that a service failed before its machine was ready.
pub(super) fn died(machine: &str, service: &str, how: Result<Exit, Fault>) -> Fault {
    match how {
        Err(fault) => fault.on(machine),
        Ok(exit) => {
            let how = match exit {
                Exit::Code(code) => format!("ended with status {code}"),
                Exit::Signal(signal) => format!("was killed by signal {signal}"),
            };
            Fault::new(
                FaultKind::State,
                format!("the service `{service}` {how} before the machine was ready"),
            )
            .on(machine)
        }
    }
}
