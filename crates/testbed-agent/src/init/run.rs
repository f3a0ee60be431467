//! Programs and tools as processes of the machine.

use crate::tools::{self, ToolIo};
use rustix::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::MemfdFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::Write as _;
use testbed_agent::Doing as _;
use testbed_agent::agent::{ErrorSink, Program, Report, Run, Sink, Source, Stdio, Tooling};
use testbed_agent::launch::Machine;
use testbed_agent::users::User;
use testbed_agent::{Fault, FaultKind};
use testbed_sys::process::{self, Cloned, Launch, Namespaces, SingleThreaded};

pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a machine that may drive its testbed has the command `testbed`.
pub(super) const CLIENT_FOLDER: &str = "run/testbed/bin";

/// A process that was started, and the agent's ends of its streams.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) input: Option<OwnedFd>,
    pub(super) output: Option<OwnedFd>,
    pub(super) error: Option<OwnedFd>,
    /// The terminal that input and output are ends of.
    pub(super) terminal: Option<OwnedFd>,
    /// Where a tool tells its report.
    pub(super) report: Option<OwnedFd>,
}

/// Starts a program. `handed` are the descriptors that came with the request: those of its streams, and what it has from
/// descriptor 3 on.
pub(super) fn start(machine: &Machine, run: &Run, handed: Vec<OwnedFd>) -> Result<Started, Fault> {
    let user = User::find(run.user.as_deref().or(machine.user.as_deref()))?;
    let term = match &run.stdio {
        Stdio::Terminal { term, .. } => term.as_str(),
        Stdio::Apart { .. } => "dumb",
    };
    let mut variables = environment(machine, &user, term);
    variables.extend(run.env.iter().cloned());
    let path = variables.get("PATH").map_or(PATH, String::as_str);
    let (files, mut arguments) = resolve(&run.program, path)?;
    // The program inherits it; nothing else is started before it is closed here.
    let script = run.script.as_deref().map(in_memory).transpose()?;
    if let Some(script) = &script {
        arguments.push(string(&format!("/proc/self/fd/{}", script.as_raw_fd()))?);
    }
    let environment = strings(variables.iter().map(|(k, v)| format!("{k}={v}")))?;
    let folder = match run.cwd.as_ref().or(machine.workdir.as_ref()) {
        Some(cwd) => string(cwd)?,
        None if std::fs::metadata(&user.home).is_ok_and(|m| m.is_dir()) => string(&user.home)?,
        None => c"/".into(),
    };
    let mut streams = Streams::open(&run.stdio, handed, user.uid)?;
    let is_root = user.uid == 0 && user.gid == 0 && user.groups.is_empty();
    let launch = Launch {
        files: &files,
        arguments: &arguments,
        environment: &environment,
        folder: &folder,
        stdio: streams.child.each_ref().map(|fd| fd.as_fd()),
        more: &streams.more.iter().map(|fd| fd.as_fd()).collect::<Vec<_>>(),
        terminal: streams.ours.terminal.is_some(),
        user: (!is_root).then_some((user.uid, user.gid, &user.groups[..])),
    };
    streams.ours.pid = launch.start().map_err(|e| {
        let what = match e.step {
            "exec" => format!("run {}", arguments.first().map_or("", |a| a.to_str().unwrap_or("?"))),
            "chdir" => format!("enter the folder {}", folder.to_string_lossy()),
            "setgroups" | "setresgid" | "setresuid" => format!("become the user {}", user.name),
            step => format!("start a process ({step})"),
        };
        let fault = Fault::system(what, &e.error);
        match fault.errno {
            // user_namespaces(7): the id is not mapped, or may not be left.
            Some(libc::EINVAL | libc::EPERM) if e.step.starts_with("set") => fault.hint(
                "this machine has no such id: an ordinary user's machines have root alone; see `testbed doctor`",
            ),
            _ => fault,
        }
    })?;
    Ok(streams.ours)
}

/// A file that has this content and no name.
fn in_memory(text: &str) -> Result<File, Fault> {
    let file = rustix::fs::memfd_create(c"script", MemfdFlags::empty()).doing("make a file for a script")?;
    let mut file = File::from(file);
    file.write_all(text.as_bytes()).doing("write a script")?;
    Ok(file)
}

/// What programs of a user find in their environment.
fn environment(machine: &Machine, user: &User, term: &str) -> BTreeMap<String, String> {
    let fixed = [
        ("PATH", PATH),
        ("HOME", user.home.as_str()),
        ("USER", user.name.as_str()),
        ("LOGNAME", user.name.as_str()),
        ("LANG", "C.UTF-8"),
        ("TERM", term),
    ];
    let mut variables: BTreeMap<String, String> =
        fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    variables.extend(machine.env.iter().cloned());
    if machine.control {
        variables.entry("PATH".into()).and_modify(|path| *path = format!("/{CLIENT_FOLDER}:{path}"));
    }
    variables
}

/// The first byte of what a tool tells, if it told that it is ready. No report begins with it.
pub(super) const READY: u8 = 0xff;

/// Starts a tool: a fork of the agent that does one thing and ends. `device` is what it works on, if that is more than its
/// streams.
pub(super) fn start_tool(
    token: SingleThreaded,
    machine: &Machine,
    tooling: &Tooling,
    mut handed: Vec<OwnedFd>,
    device: Option<OwnedFd>,
) -> Result<Started, Fault> {
    let error = if device.is_some() { ErrorSink::Handed } else { ErrorSink::Null };
    handed.extend(device);
    let stdio = Stdio::Apart { input: tooling.input, output: tooling.output, error };
    let mut streams = Streams::open(&stdio, handed, 0)?;
    let (report, tell) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
    match process::clone(token, Namespaces::NONE, None).doing("fork")? {
        Cloned::Child => {
            let [input, output, error] = streams.child.each_ref().map(|fd| fd.as_fd());
            let ready = rustix::stdio::dup2_stdin(input)
                .and_then(|()| rustix::stdio::dup2_stdout(output))
                .and_then(|()| rustix::stdio::dup2_stderr(error))
                .is_ok()
                && process::close_all_but(&[tell.as_fd()]).is_ok();
            process::reset_signals();
            let _ = rustix::process::setsid();
            let told = ready && run_tool(machine, tooling, &tell).is_ok();
            process::exit_now(i32::from(!told))
        }
        Cloned::Parent { pid, .. } => {
            streams.ours.pid = pid;
            streams.ours.report = Some(report);
            Ok(streams.ours)
        }
    }
}

/// The life of a tool's process: what it found out goes to `tell`.
fn run_tool(machine: &Machine, tooling: &Tooling, tell: &OwnedFd) -> std::io::Result<()> {
    let stop = process::signal_fd(&[libc::SIGINT, libc::SIGTERM])?;
    let root = User::find(None).map_err(std::io::Error::other)?;
    let env: Vec<(String, String)> = environment(machine, &root, "dumb").into_iter().collect();
    let mut ready = || rustix::io::write(tell, &[READY]).map(|_| ()).map_err(Into::into);
    let mut io = ToolIo {
        input: rustix::stdio::stdin(),
        output: rustix::stdio::stdout(),
        device: tooling.device.map(|_| rustix::stdio::stderr()),
        stop: Some(stop.as_fd()),
        env: &env,
        ready: &mut ready,
    };
    let report: Result<Report, Fault> = tools::run(&tooling.tool, &mut io);
    let bytes = postcard::to_stdvec(&report).map_err(std::io::Error::other)?;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(tell, rest)?..];
    }
    Ok(())
}

struct Streams {
    child: [OwnedFd; 3],
    /// Their numbers are above those that they will have.
    more: Vec<OwnedFd>,
    ours: Started,
}

impl Streams {
    fn open(stdio: &Stdio, handed: Vec<OwnedFd>, owner: u32) -> Result<Streams, Fault> {
        let mut ours =
            Started { pid: 0, input: None, output: None, error: None, terminal: None, report: None };
        let mut handed = handed.into_iter();
        let mut next = || {
            handed
                .next()
                .ok_or_else(|| Fault::new(FaultKind::Protocol, "take a stream that was not handed over"))
        };
        let copy = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3).doing("copy a descriptor");
        let null = || copy(rustix::stdio::stdin());
        let child = match stdio {
            Stdio::Apart { input, output, error } => {
                let stdin = match input {
                    Source::Null => null()?,
                    Source::Handed => next()?,
                    Source::Channel => {
                        let (theirs, mine) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
                        ours.input = Some(not_waiting(mine)?);
                        theirs
                    }
                };
                let stdout = match output {
                    Sink::Null => null()?,
                    Sink::Handed => next()?,
                    Sink::Channel => {
                        let (mine, theirs) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
                        ours.output = Some(not_waiting(mine)?);
                        theirs
                    }
                };
                let stderr = match error {
                    ErrorSink::Null => null()?,
                    ErrorSink::Handed => next()?,
                    ErrorSink::Output => copy(stdout.as_fd())?,
                    ErrorSink::Channel => {
                        let (mine, theirs) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
                        ours.error = Some(not_waiting(mine)?);
                        theirs
                    }
                };
                [stdin, stdout, stderr]
            }
            Stdio::Terminal { rows, columns, .. } => {
                use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
                let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
                let master = openpt(flags).doing("open a terminal")?;
                unlockpt(&master).doing("open a terminal")?;
                let theirs = ioctl_tiocgptpeer(&master, flags).doing("open a terminal")?;
                let _ = rustix::fs::fchown(&theirs, Some(rustix::fs::Uid::from_raw(owner)), None);
                resize(&master, *rows, *columns)?;
                ours.input = Some(not_waiting(copy(master.as_fd())?)?);
                ours.output = Some(not_waiting(copy(master.as_fd())?)?);
                ours.terminal = Some(master);
                [copy(theirs.as_fd())?, copy(theirs.as_fd())?, theirs]
            }
        };
        let left: Vec<OwnedFd> = handed.collect();
        let above = 3 + left.len() as i32;
        let lift = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, above).doing("copy a descriptor");
        let more = left.iter().map(lift).collect::<Result<_, _>>()?;
        Ok(Streams { child, more, ours })
    }
}

/// Tells a terminal its size.
pub(super) fn resize(terminal: &OwnedFd, rows: u16, columns: u16) -> Result<(), Fault> {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).doing("resize the terminal")
}

fn not_waiting(fd: OwnedFd) -> Result<OwnedFd, Fault> {
    rustix::io::ioctl_fionbio(&fd, true).doing("set up a pipe")?;
    Ok(fd)
}

/// The files to try and the arguments.
fn resolve(program: &Program, path: &str) -> Result<(Vec<CString>, Vec<CString>), Fault> {
    let arguments = match program {
        Program::Argv(argv) => strings(argv.iter().cloned())?,
        Program::Shell(text) => strings(["/bin/sh".into(), "-c".into(), text.clone()])?,
    };
    let Some(first) = arguments.first().filter(|a| !a.is_empty()) else {
        return Err(Fault::new(FaultKind::Invalid, "run nothing"));
    };
    let name = first.to_string_lossy();
    let files = if name.contains('/') {
        vec![first.clone()]
    } else {
        strings(
            path.split(':').map(|folder| format!("{}/{name}", if folder.is_empty() { "." } else { folder })),
        )?
    };
    Ok((files, arguments))
}

fn strings(texts: impl IntoIterator<Item = String>) -> Result<Vec<CString>, Fault> {
    texts.into_iter().map(|t| string(&t)).collect()
}

fn string(text: &str) -> Result<CString, Fault> {
    CString::new(text)
        .map_err(|_| Fault::new(FaultKind::Invalid, format!("pass {text:?}, which holds a NUL byte")))
}
