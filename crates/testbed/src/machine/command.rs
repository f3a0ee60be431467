//! Commands in machines.

use super::{Core, Machine};
use crate::engine::link::Event;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use testbed_agent::agent::{ErrorSink, Exit, Note, Program, Reply, Request, Run, Sink, Source, Stdio, Steer};
use testbed_agent::frame::Kind;
use testbed_agent::{Doing as _, Fault, FaultKind};

/// A long output is kept up to here, in bytes for each of the two streams.
pub const OUTPUT_KEPT: usize = 16 << 20;

/// A command to be run in a machine.
#[derive(Clone, Debug)]
#[must_use = "a command does nothing until it is run"]
pub struct Command<'a> {
    machine: &'a Machine,
    run: Run,
    input: Vec<u8>,
    deadline: Option<Duration>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Its deadline passed, and it was killed.
    pub timed_out: bool,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// More was written than [`OUTPUT_KEPT`]; the rest is lost.
    pub truncated: bool,
}

impl Output {
    /// It ended with status 0, in time.
    pub fn success(&self) -> bool {
        self.exit.success() && !self.timed_out
    }

    /// Standard output as text, what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Machine {
    /// A command made of a program and its arguments.
    pub fn command<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>) -> Command<'_> {
        Command::new(self, Program::Argv(argv.into_iter().map(Into::into).collect()))
    }

    /// Hears again of a program that has run on this channel since before the machine was copied; what it writes goes to
    /// `output`.
    pub(crate) fn take_up(&self, channel: u32, output: OwnedFd) -> Result<Running, Fault> {
        let (input, error) = (Source::Null, ErrorSink::Output);
        let stdio = Stdio::Apart { input, output: Sink::Handed, error };
        let (machine, core) = (self.clone(), self.core());
        let agent = core.agent()?;
        let open = agent.addressed(Request::TakeUp(stdio));
        let events = agent.open_at(channel, &open, vec![output]).map_err(|f| core.explain(f))?;
        Ok(Running { machine, core, channel, events, wake: None, gives_up: None, pid: None, reply: None })
    }

    /// A command for the machine's `/bin/sh`.
    pub fn shell(&self, text: impl Into<String>) -> Command<'_> {
        Command::new(self, Program::Shell(text.into()))
    }
}

impl<'a> Command<'a> {
    fn new(machine: &'a Machine, program: Program) -> Command<'a> {
        let stdio = Stdio::Apart { input: Source::Null, output: Sink::Handed, error: ErrorSink::Handed };
        let run =
            Run { program, script: None, env: Vec::new(), cwd: None, user: None, stdio, deadline_ms: None };
        Command { machine, run, input: Vec::new(), deadline: None }
    }

    /// What a client asked for.
    pub(crate) fn asked(machine: &'a Machine, run: Run) -> Command<'a> {
        let wanted = Command::new(machine, Program::Argv(Vec::new()));
        Command { run: Run { stdio: wanted.run.stdio.clone(), deadline_ms: None, ..run }, ..wanted }
    }

    /// Gives it this text as a file, by its last argument: for interpreters. The file is in memory, and gone with the
    /// program.
    pub fn script(mut self, text: impl Into<String>) -> Command<'a> {
        self.run.script = Some(text.into());
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Command<'a> {
        self.run.env.push((name.into(), value.into()));
        self
    }

    /// Sets the working folder; without it, the user's home.
    pub fn cwd(mut self, folder: impl Into<String>) -> Command<'a> {
        self.run.cwd = Some(folder.into());
        self
    }

    /// Runs as this user: `name`, `name:group` or numbers.
    pub fn user(mut self, user: impl Into<String>) -> Command<'a> {
        self.run.user = Some(user.into());
        self
    }

    /// Gives it standard input.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Command<'a> {
        self.input = bytes.into();
        self
    }

    /// Kills it when it takes longer.
    pub fn deadline(mut self, deadline: Duration) -> Command<'a> {
        self.deadline = Some(deadline);
        self
    }

    /// Runs it to its end. That it fails is no error: see [`Output::success`].
    ///
    /// # Errors
    /// When the machine is gone or the command cannot be started.
    pub fn output(mut self) -> Result<Output, Fault> {
        let (input, deadline) = (std::mem::take(&mut self.input), self.deadline);
        let has_input = !input.is_empty();
        let (mut running, streams) = self.start_piped(has_input, true)?;
        let collected = running.collect(streams, &input, deadline)?;
        let (exit, timed_out) = running.wait(None)?;
        let Collected { stdout, stderr, truncated } = collected;
        Ok(Output { exit, timed_out, stdout, stderr, truncated })
    }

    /// Runs it to its end and tells only how it ended; what it writes goes nowhere.
    ///
    /// # Errors
    /// As for [`Command::output`].
    pub fn status(self) -> Result<Exit, Fault> {
        self.start()?.wait(None).map(|(exit, _)| exit)
    }

    /// Starts it; what it writes goes nowhere.
    ///
    /// # Errors
    /// As for [`Command::output`].
    pub fn start(mut self) -> Result<Running, Fault> {
        self.run.stdio = Stdio::Apart { input: Source::Null, output: Sink::Null, error: ErrorSink::Null };
        self.open(Vec::new(), None)
    }

    /// Starts it with pipes on all three of its streams.
    ///
    /// # Errors
    /// As for [`Command::output`].
    pub fn spawn(self) -> Result<(Running, Pipes), Fault> {
        self.start_piped(true, false)
    }

    /// Starts it with streams that the caller made: pipes or sockets of its own, never a terminal. Without `stderr`,
    /// standard error goes where standard output goes.
    ///
    /// # Errors
    /// As for [`Command::output`].
    pub fn spawn_with(
        mut self,
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        stderr: Option<OwnedFd>,
    ) -> Result<Running, Fault> {
        self.run.stdio = Stdio::Apart {
            input: if stdin.is_some() { Source::Handed } else { Source::Null },
            output: Sink::Handed,
            error: if stderr.is_some() { ErrorSink::Handed } else { ErrorSink::Output },
        };
        self.open(stdin.into_iter().chain([stdout]).chain(stderr).collect(), None)
    }

    /// Starts it with its output and errors to one stream, and with these as its descriptors from 3 on.
    pub(crate) fn spawn_holding(mut self, output: OwnedFd, more: Vec<OwnedFd>) -> Result<Running, Fault> {
        let (input, error) = (Source::Null, ErrorSink::Output);
        self.run.stdio = Stdio::Apart { input, output: Sink::Handed, error };
        self.open(std::iter::once(output).chain(more).collect(), None)
    }

    /// As [`Command::spawn_with`] without standard input; `wake`, an eventfd, becomes readable whenever there is
    /// something new for [`Running::try_wait`].
    pub(crate) fn spawn_waking(
        mut self,
        wake: Arc<OwnedFd>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Running, Fault> {
        self.run.stdio = Stdio::Apart { input: Source::Null, output: Sink::Handed, error: ErrorSink::Handed };
        self.open(vec![stdout, stderr], Some(wake))
    }

    fn start_piped(mut self, input: bool, waking: bool) -> Result<(Running, Pipes), Fault> {
        let mut pipes = Pipes { stdin: None, stdout: None, stderr: None };
        let mut theirs = Vec::new();
        if let Stdio::Apart { input: source, output, error } = &mut self.run.stdio {
            if input {
                *source = Source::Handed;
                let (read, write) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
                theirs.push(read);
                pipes.stdin = Some(write);
            }
            if *output == Sink::Handed {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
                theirs.push(write);
                pipes.stdout = Some(read);
            }
            if *error == ErrorSink::Handed {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
                theirs.push(write);
                pipes.stderr = Some(read);
            }
        }
        let wake = if waking {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            Some(Arc::new(eventfd(0, flags).doing("make an eventfd")?))
        } else {
            None
        };
        Ok((self.open(theirs, wake)?, pipes))
    }

    fn open(mut self, fds: Vec<OwnedFd>, wake: Option<Arc<OwnedFd>>) -> Result<Running, Fault> {
        self.run.deadline_ms = self.deadline.map(|d| d.as_millis() as u64);
        // The agent keeps the deadline; this one is for an agent that does not.
        let gives_up = self.deadline.map(|d| Instant::now() + d + super::ANSWER);
        let core = self.machine.core();
        let open = core.link.addressed(Request::Run(self.run));
        let (channel, events) =
            core.agent()?.open_waking(Kind::Open, &open, fds, wake.clone()).map_err(|f| core.explain(f))?;
        let machine = self.machine.clone();
        Ok(Running { machine, core, channel, events, wake, gives_up, pid: None, reply: None })
    }
}

/// The host's ends of a command's streams.
#[derive(Debug)]
pub struct Pipes {
    /// What is written here is its standard input; dropped, that ends.
    pub stdin: Option<OwnedFd>,
    /// Its standard output.
    pub stdout: Option<OwnedFd>,
    /// Its standard error.
    pub stderr: Option<OwnedFd>,
}

/// A command that was started. Dropped before its end, it is killed.
#[derive(Debug)]
pub struct Running {
    machine: Machine,
    core: Arc<Core>,
    channel: u32,
    events: Receiver<Event>,
    wake: Option<Arc<OwnedFd>>,
    gives_up: Option<Instant>,
    pid: Option<u32>,
    reply: Option<Result<(Exit, bool), Fault>>,
}

struct Collected {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

impl Running {
    /// Waits for its end: how it ended, and whether its deadline had passed.
    ///
    /// # Errors
    /// When it could not be started, the machine is gone, or `deadline` (beside the command's own) passes.
    pub fn wait(&mut self, deadline: Option<Duration>) -> Result<(Exit, bool), Fault> {
        let own = deadline.map(|d| Instant::now() + d);
        while self.reply.is_none() {
            self.next_event(own)?;
        }
        self.reply.clone().unwrap_or_else(|| Err(self.machine.fault(FaultKind::State, "wait for a command")))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When it could not be started, or the machine is gone.
    pub fn try_wait(&mut self) -> Result<Option<(Exit, bool)>, Fault> {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
        self.reply.clone().transpose()
    }

    /// Its process number in the machine; waits until it runs.
    ///
    /// # Errors
    /// When it could not be started, the machine is gone, or does not answer.
    pub fn pid(&mut self) -> Result<u32, Fault> {
        let deadline = Instant::now() + super::ANSWER;
        while self.pid.is_none() && self.reply.is_none() {
            self.next_event(Some(deadline))?;
        }
        match (self.pid, &self.reply) {
            (Some(pid), _) => Ok(pid),
            (None, Some(Err(fault))) => Err(fault.clone()),
            (None, _) => Err(self.machine.fault(FaultKind::State, "find a command that has ended")),
        }
    }

    /// The channel that it runs on.
    pub(crate) fn channel(&self) -> u32 {
        self.channel
    }

    /// Sends a signal to its process group.
    ///
    /// # Errors
    /// When the machine is gone.
    pub fn signal(&self, signal: i32) -> Result<(), Fault> {
        self.core.link.send(self.channel, Kind::Steer, &Steer::Signal(signal), Vec::new())
    }

    fn next_event(&mut self, own: Option<Instant>) -> Result<(), Fault> {
        let end = own.into_iter().chain(self.gives_up).min();
        let event = match end {
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(end) => self.events.recv_timeout(end.saturating_duration_since(Instant::now())),
        };
        match event {
            Ok(event) => self.take(event),
            Err(RecvTimeoutError::Timeout) => {
                return Err(self.machine.fault(FaultKind::Timeout, "wait for a command"));
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.reply =
                    Some(Err(self.machine.fault(FaultKind::State, "wait in a machine that is gone")));
            }
        }
        Ok(())
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Frame(frame, _) if frame.kind == Kind::Reply => {
                self.reply = Some(match self.machine.reply(&frame) {
                    Ok(Reply::Ended { how, timed_out, .. }) => Ok((how, timed_out)),
                    Ok(other) => {
                        let what = format!("understand how a command ended: {other:?}");
                        Err(self.machine.fault(FaultKind::Protocol, what))
                    }
                    Err(fault) => Err(fault),
                });
            }
            Event::Frame(frame, _) => {
                if let Ok(Note::Started { pid }) = frame.message("note") {
                    self.pid = Some(pid);
                }
            }
            Event::Gone(fault) => self.reply = Some(Err(self.core.explain(fault))),
        }
    }

    /// Feeds and reads the streams until the program has ended, or has closed them.
    fn collect(
        &mut self,
        pipes: Pipes,
        input: &[u8],
        deadline: Option<Duration>,
    ) -> Result<Collected, Fault> {
        let Pipes { mut stdin, stdout, stderr } = pipes;
        let mut out = Reader::new(stdout)?;
        let mut err = Reader::new(stderr)?;
        let mut input = input;
        if let Some(fd) = &stdin {
            rustix::io::ioctl_fionbio(fd, true).doing("set up a pipe")?;
        }
        let end = deadline.map(|d| Instant::now() + d + super::ANSWER);
        while (out.pipe.is_some() || err.pipe.is_some()) && self.reply.is_none() {
            let wait = end.map(|end| {
                let left = end.saturating_duration_since(Instant::now());
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
            });
            let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(4);
            fds.extend(out.pipe.iter().chain(&err.pipe).map(|fd| PollFd::new(fd, PollFlags::IN)));
            fds.extend(self.wake.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
            fds.extend(stdin.iter().map(|fd| PollFd::new(fd, PollFlags::OUT)));
            let polled = poll(&mut fds, wait.as_ref());
            drop(fds);
            match polled {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(Fault::system("wait for output", &e.into())),
            }
            // Whatever comes meanwhile, and however often.
            if end.is_some_and(|end| Instant::now() >= end) {
                return Err(self.machine.fault(FaultKind::Timeout, "read a command's output"));
            }
            if let Some(wake) = &self.wake {
                // It has no more to say than that something came, which is taken below.
                let _ = rustix::io::read(wake, &mut [0; 8]);
            }
            out.read()?;
            err.read()?;
            if let Some(fd) = &stdin {
                match rustix::io::write(fd, input) {
                    Ok(n) => input = &input[n..],
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(_) => input = &[],
                }
                if input.is_empty() {
                    stdin = None;
                }
            }
            self.try_wait()?;
        }
        // Whoever else still holds the pipes: all that the program itself wrote is in them by now.
        out.read()?;
        err.read()?;
        let truncated = out.truncated || err.truncated;
        Ok(Collected { stdout: out.kept, stderr: err.kept, truncated })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.reply.is_none() && !matches!(self.try_wait(), Ok(Some(_)) | Err(_)) {
            let _ = self.core.link.send_raw(self.channel, Kind::Abort, &[]);
        }
    }
}

/// Reads a pipe without waiting, and keeps the beginning.
struct Reader {
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
    truncated: bool,
}

impl Reader {
    fn new(pipe: Option<OwnedFd>) -> Result<Reader, Fault> {
        if let Some(fd) = &pipe {
            rustix::io::ioctl_fionbio(fd, true).doing("set up a pipe")?;
        }
        Ok(Reader { pipe, kept: Vec::new(), truncated: false })
    }

    /// Reads what is there.
    fn read(&mut self) -> Result<(), Fault> {
        let mut buffer = [0_u8; 64 * 1024];
        while let Some(fd) = &self.pipe {
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(n) => {
                    let room = OUTPUT_KEPT - self.kept.len();
                    self.kept.extend_from_slice(&buffer[..n.min(room)]);
                    self.truncated |= n > room;
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(Fault::system("read a command's output", &e.into())),
            }
        }
        Ok(())
    }
}
