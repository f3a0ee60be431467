//! Services of a bed: programs that run as long as it does, and their logs.

use crate::engine::link::lock;
use crate::machine::{Command, Machine, Running};
use crate::spec;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use testbed_agent::agent::{Exit, Run};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// So much of what a service has written last is kept, in bytes.
const KEPT: usize = 1 << 20;

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

/// What a service has written, the last of it.
#[derive(Debug, Default)]
pub struct Log {
    state: Mutex<LogState>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    kept: VecDeque<u8>,
    /// Bytes that were written in all.
    total: u64,
    closed: bool,
    /// How often the service was started before, and what had been written by then.
    starts: u32,
    since: u64,
}

impl Log {
    /// All that is kept.
    pub fn bytes(&self) -> Vec<u8> {
        lock(&self.state).kept.iter().copied().collect()
    }

    /// The last bytes, as text.
    pub fn tail(&self, length: usize) -> String {
        let state = lock(&self.state);
        let skip = state.kept.len().saturating_sub(length);
        let bytes: Vec<u8> = state.kept.iter().skip(skip).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What was written from an offset on, waiting until there is something or nothing more comes: the bytes and the
    /// offset behind them. None at the end.
    pub fn follow(&self, from: u64, deadline: Option<Instant>) -> Option<(Vec<u8>, u64)> {
        self.next(from, deadline, &AtomicBool::new(false))
    }

    /// As [`Log::follow`], until `stopped`; to be followed by [`Log::wake`].
    pub(crate) fn follow_unless(&self, from: u64, stopped: &AtomicBool) -> Option<(Vec<u8>, u64)> {
        self.next(from, None, stopped)
    }

    /// Has those who follow it look again.
    pub(crate) fn wake(&self) {
        // Whoever follows is either before its look, and sees what changed, or asleep.
        drop(lock(&self.state));
        self.grown.notify_all();
    }

    fn next(&self, from: u64, deadline: Option<Instant>, stopped: &AtomicBool) -> Option<(Vec<u8>, u64)> {
        let mut state = lock(&self.state);
        loop {
            if state.total > from {
                let first = state.total - state.kept.len() as u64;
                let skip = from.saturating_sub(first) as usize;
                return Some((state.kept.iter().skip(skip).copied().collect(), state.total));
            }
            if state.closed || stopped.load(Ordering::Acquire) {
                return None;
            }
            state = match deadline {
                None => self.grown.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Some((Vec::new(), from));
                    }
                    self.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// The service starts again: what it writes comes behind what is there. Returns the number of the start.
    fn reopen(&self) -> u32 {
        let mut state = lock(&self.state);
        state.closed = false;
        state.starts += 1;
        state.since = state.total;
        state.starts
    }

    fn push(&self, bytes: &[u8]) {
        let mut state = lock(&self.state);
        state.kept.extend(bytes);
        let over = state.kept.len().saturating_sub(KEPT);
        state.kept.drain(..over);
        state.total += bytes.len() as u64;
        drop(state);
        self.grown.notify_all();
    }

    /// Nothing more comes of this start. What is left of a former one may be read late.
    fn close(&self, start: u32) {
        let mut state = lock(&self.state);
        state.closed |= state.starts == start;
        drop(state);
        self.grown.notify_all();
    }

    /// Waits until a line that was written since the service's last start contains the text. False once nothing more comes, or the deadline has passed.
    pub(super) fn wait_for(&self, text: &str, deadline: Instant) -> bool {
        let wanted = text.as_bytes();
        let mut from = lock(&self.state).since;
        let mut carried: Vec<u8> = Vec::new();
        while let Some((bytes, next)) = self.follow(from, Some(deadline)) {
            if next == from {
                return false;
            }
            carried.extend(bytes);
            if wanted.is_empty() || carried.windows(wanted.len()).any(|w| w == wanted) {
                return true;
            }
            // A text may be cut between two pieces.
            let keep = carried.len().min(wanted.len() - 1);
            carried.drain(..carried.len() - keep);
            from = next;
        }
        false
    }
}

struct Service {
    running: Mutex<Running>,
    log: Arc<Log>,
    /// A program that a client started, and not of the file: that it fails is for its client to judge.
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
        let started = self.begin(command, log, false)?;
        let runs = lock(&started.running).pid();
        lock(&self.all).insert(key, started);
        runs.map(drop).map_err(|fault| Fault {
            operation: format!("start the service `{}`: {}", service.name(), fault.operation),
            ..fault
        })
    }

    /// Starts a program that goes on by itself, and gives its number in the machine.
    pub(super) fn start_program(&self, machine: &Machine, run: Run) -> Result<u32, Fault> {
        let started = self.begin(Command::asked(machine, run), None, true)?;
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
    fn begin(&self, command: Command<'_>, log: Option<Arc<Log>>, is_program: bool) -> Result<Service, Fault> {
        let reader = self.reader.get_or_init(LogReader::start).clone()?;
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let running = command.spawn_with(None, theirs, None)?;
        let log = log.unwrap_or_default();
        reader.add(Pipe { fd: ours, start: log.reopen(), log: Arc::clone(&log) })?;
        Ok(Service { running: Mutex::new(running), log, is_program })
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
            if lock(&service.log.state).closed {
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

/// What one start of a service writes to.
struct Pipe {
    fd: OwnedFd,
    start: u32,
    log: Arc<Log>,
}

/// The thread that reads the logs of a bed's services.
struct LogReader {
    pipes: Mutex<Vec<Pipe>>,
    wake: OwnedFd,
}

impl LogReader {
    fn start() -> Result<Arc<LogReader>, Fault> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).doing("make an eventfd")?;
        let reader = Arc::new(LogReader { pipes: Mutex::default(), wake });
        let weak = Arc::downgrade(&reader);
        let wake = reader.wake.try_clone().doing("copy a descriptor")?;
        std::thread::Builder::new()
            .name("testbed-logs".into())
            .spawn(move || {
                let mut pipes: Vec<Pipe> = Vec::new();
                loop {
                    match weak.upgrade() {
                        Some(reader) => pipes.append(&mut lock(&reader.pipes)),
                        // Nobody can add more, and what is there ends with the machines.
                        None if pipes.is_empty() => return,
                        None => {}
                    }
                    if read_once(&mut pipes, &wake).is_err() {
                        return;
                    }
                }
            })
            .doing("start a thread")?;
        Ok(reader)
    }

    fn add(&self, pipe: Pipe) -> Result<(), Fault> {
        rustix::io::ioctl_fionbio(&pipe.fd, true).doing("set up a pipe")?;
        lock(&self.pipes).push(pipe);
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        // A counter that is full is awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.wake();
    }
}

fn read_once(pipes: &mut Vec<Pipe>, wake: &OwnedFd) -> Result<(), Errno> {
    let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(pipes.len() + 1);
    polled.push(PollFd::new(wake, PollFlags::IN));
    polled.extend(pipes.iter().map(|pipe| PollFd::new(&pipe.fd, PollFlags::IN)));
    match poll(&mut polled, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error),
    }
    let mut ready: Vec<bool> = polled.iter().map(|p| !p.revents().is_empty()).collect();
    drop(polled);
    if ready.remove(0) {
        let _ = rustix::io::read(wake, &mut [0_u8; 8]);
    }
    let mut buffer = [0_u8; 32 * 1024];
    let mut ready = ready.into_iter();
    pipes.retain(|Pipe { fd, start, log }| {
        if !ready.next().unwrap_or(false) {
            return true;
        }
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => {
                log.close(*start);
                false
            }
            Ok(n) => {
                log.push(&buffer[..n]);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => {
                log.close(*start);
                false
            }
        }
    });
    Ok(())
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
