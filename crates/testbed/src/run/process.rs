//! The process of a test, on a machine or on the host: its output in pieces, its end, its deadline.

use super::Served;
use crate::bed::Bed;
use crate::machine::Running;
use crate::spec::{On, Program, Test};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;
use testbed_agent::agent::Exit;
use testbed_agent::{Doing as _, Fault, FaultKind};

/// How much of an output is read at once, in bytes.
const PIECE: usize = 32 * 1024;

/// A pipe holds at most a mebibyte (pipe(7)), so what a test wrote before its end is read in so many pieces. A child of
/// it may write on without end.
const LAST_PIECES: usize = (1 << 20) / PIECE;

/// Where tests that are files are put in a machine.
const TEST_FOLDER: &str = "/run/testbed/test";

/// How a test's process ended, or why nobody waits for it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Exit(Exit),
    DeadlinePassed,
    /// The run was stopped.
    Cancelled,
}

/// Which stream a piece of output is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// The name of the attachment.
    pub(super) fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// An eventfd, and so readable by poll(2).
pub(super) fn wake() -> Result<Arc<OwnedFd>, Fault> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Arc::new).doing("make an eventfd")
}

/// Makes an eventfd readable.
pub(super) fn ring(wake: &OwnedFd) {
    // A counter that is full is readable.
    let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
}

/// A test's process.
pub(super) struct Process {
    kind: Kind,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

enum Kind {
    Machine { running: Running, wake: Arc<OwnedFd> },
    Host(HostProcess),
}

struct HostProcess {
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
}

impl Process {
    /// Starts a test on its copy.
    ///
    /// # Errors
    /// When it cannot be started: the testbed's failure.
    pub(super) fn start(
        test: &Test,
        bed: &Bed,
        host_env: &[(String, String)],
        served: Option<&Served>,
    ) -> Result<Process, Fault> {
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        for ours in [&stdout, &stderr] {
            rustix::io::ioctl_fionbio(ours, true).doing("set up a pipe")?;
        }
        let kind = match test.on() {
            On::Machine(name) => on_machine(test, bed, name, their_stdout, their_stderr)?,
            On::Host => Kind::Host(on_host(test, bed, host_env, served, their_stdout, their_stderr)?),
        };
        Ok(Process { kind, stdout: Some(stdout), stderr: Some(stderr) })
    }

    /// Waits for its end and gives out what it writes meanwhile. What its children write after its end is lost.
    ///
    /// # Errors
    /// When its machine is gone, or the program could not be started.
    pub(super) fn watch(
        &mut self,
        deadline: Instant,
        cancel: &OwnedFd,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<End, Fault> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut polled = Vec::with_capacity(4);
            polled.push(PollFd::new(cancel, PollFlags::IN));
            polled.push(PollFd::from_borrowed_fd(self.kind.news(), PollFlags::IN));
            let streams = self.stdout.iter().chain(&self.stderr);
            polled.extend(streams.map(|fd| PollFd::new(fd, PollFlags::IN)));
            match poll(&mut polled, Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Fault::system("wait for a test", &error.into())),
            }
            let (cancelled, news) = (!polled[0].revents().is_empty(), !polled[1].revents().is_empty());
            drop(polled);
            // The end is asked for before the output is read, so that all that was written before it is read.
            let end = if news { self.kind.end()? } else { None };
            let more = self.read(output);
            match end {
                Some(exit) => {
                    let mut pieces = if more { LAST_PIECES } else { 0 };
                    while pieces > 0 && self.read(output) {
                        pieces -= 1;
                    }
                    return Ok(End::Exit(exit));
                }
                None if cancelled => return Ok(End::Cancelled),
                None if left.is_zero() => return Ok(End::DeadlinePassed),
                None => {}
            }
        }
    }

    /// Gives out a piece of each stream; whether there was one.
    fn read(&mut self, output: &mut dyn FnMut(Stream, &[u8])) -> bool {
        let stdout = read(&mut self.stdout, |bytes| output(Stream::Stdout, bytes));
        let stderr = read(&mut self.stderr, |bytes| output(Stream::Stderr, bytes));
        stdout || stderr
    }
}

/// Reads what is there, but no more than a piece, so that one stream does not starve the other or the deadline.
fn read(stream: &mut Option<OwnedFd>, output: impl FnOnce(&[u8])) -> bool {
    let Some(fd) = stream else { return false };
    let mut buffer = [0_u8; PIECE];
    match rustix::io::read(&*fd, &mut buffer) {
        Ok(0) => *stream = None,
        Ok(length) => {
            output(&buffer[..length]);
            return true;
        }
        Err(Errno::AGAIN | Errno::INTR) => {}
        Err(_) => *stream = None,
    }
    false
}

impl Kind {
    /// What becomes readable when the process may have ended.
    fn news(&self) -> BorrowedFd<'_> {
        match self {
            Kind::Machine { wake, .. } => wake.as_fd(),
            Kind::Host(process) => process.pidfd.as_fd(),
        }
    }

    fn end(&mut self) -> Result<Option<Exit>, Fault> {
        match self {
            Kind::Machine { running, wake } => {
                // Emptied first: what comes after this is announced again.
                let _ = rustix::io::read(&**wake, &mut [0_u8; 8]);
                Ok(running.try_wait()?.map(|(exit, _)| exit))
            }
            Kind::Host(process) => process.end(),
        }
    }
}

fn on_machine(test: &Test, bed: &Bed, name: &str, stdout: OwnedFd, stderr: OwnedFd) -> Result<Kind, Fault> {
    let machine = bed.find(name)?;
    let mut command = match test.program() {
        Program::Shell(text) => machine.shell(text),
        Program::File(file) => {
            let shown = file.to_string_lossy();
            let content = std::fs::read(file).doing_to("read the test", shown.clone())?;
            let last = file.file_name().map_or("test".into(), |name| name.to_string_lossy());
            let path = format!("{TEST_FOLDER}/{last}");
            machine.write_file(&path, 0o755, &content)?;
            machine.command([path])
        }
    };
    for (name, value) in test.env() {
        command = command.env(name, value);
    }
    if let Some(user) = test.user() {
        command = command.user(user);
    }
    let wake = wake()?;
    let running = command.spawn_waking(Arc::clone(&wake), stdout, stderr)?;
    Ok(Kind::Machine { running, wake })
}

fn on_host(
    test: &Test,
    bed: &Bed,
    env: &[(String, String)],
    served: Option<&Served>,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> Result<HostProcess, Fault> {
    let mut command = match test.program() {
        Program::Shell(text) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", text]);
            shell
        }
        Program::File(file) => Command::new(file),
    };
    command.env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    if let Some(served) = served {
        command.env("TESTBED_CONTROL", &served.socket);
    }
    command.envs(test.env().iter().map(|(name, value)| (name, value)));
    command.current_dir(bed.spec().folder()).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    testbed_sys::open_files::restore_in(&mut command);
    // A group of its own: it ends with all of it, and a terminal's Ctrl-C goes to the run alone.
    let child = command.process_group(0).spawn().doing(format!("start the test `{}`", test.id()))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Fault::new(FaultKind::System, "understand the number of a process"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).doing("watch the test")?;
    Ok(HostProcess { child, pid, pidfd })
}

impl HostProcess {
    fn end(&mut self) -> Result<Option<Exit>, Fault> {
        let status = self.child.try_wait().doing("wait for a test")?;
        Ok(status.map(|status| match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        }))
    }
}

impl Drop for HostProcess {
    /// Ends whatever of its group is left.
    fn drop(&mut self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.child.wait();
    }
}
