//! Carries calls out.

use super::streams::{Carried, Ends, Signals, carry, write_all};
use super::words::{Call, Capture, Host, Node, Wait, millis};
use super::{Connection, address, console, copy, exec, files, probe, screen, show, status, variables};
use crate::agent::{Process, Program, Reply, Report, Request, Sink, Source, Tool, Tooling};
use crate::control::{Answer, Ask, MachineStatus};
use crate::fault::{Doing as _, Fault, FaultKind};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::fs::File;
use std::net::IpAddr;
use std::time::Duration;

/// How much longer than its deadline a tool may take before its agent kills it.
const GRACE: Duration = Duration::from_secs(10);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// What a call reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Io<'a> {
    /// Standard input.
    pub input: BorrowedFd<'a>,
    /// Standard output: data.
    pub output: BorrowedFd<'a>,
    /// Standard error: talk.
    pub error: BorrowedFd<'a>,
    /// The testbed's names, as `/etc/hosts` has them.
    pub names: &'a [(String, IpAddr)],
    /// What [`signals`] gave. Without it, signals do what they do.
    pub signals: Option<BorrowedFd<'a>>,
    /// The value of TERM for programs on a terminal.
    pub term: &'a str,
}

/// From now on signals can be read, and are not acted on: for calls that deal with them ([`Call::takes_signals`]).
///
/// # Errors
/// Those of signalfd(2).
pub fn signals() -> std::io::Result<OwnedFd> {
    testbed_sys::process::signal_fd(&[
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGWINCH,
    ])
}

impl Io<'_> {
    /// Writes data.
    pub(super) fn print(&self, text: &str) -> Result<(), Fault> {
        // A reader that has gone has seen what it wanted.
        write_all(self.output, text.as_bytes()).map(|_| ())
    }

    /// Says something to people.
    pub(super) fn say(&self, text: &str) {
        // Nobody may listen.
        let _ = write_all(self.error, format!("testbed: {text}\n").as_bytes());
    }

    pub(super) fn resolve(&self, host: &Host) -> Result<IpAddr, Fault> {
        match host {
            Host::Address(address) => Ok(*address),
            Host::Name(name) => {
                let found = self.names.iter().find(|(known, _)| known == name).map(|(_, address)| *address);
                found.ok_or_else(|| {
                    Fault::new(FaultKind::NotFound, format!("find the address of `{name}`")).hint(
                        "the names are those of the testbed's machines that have an address; or write one",
                    )
                })
            }
        }
    }
}

/// The names of an `/etc/hosts` (hosts(5)), in its order.
pub fn names_of(hosts: &str) -> Vec<(String, IpAddr)> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            Some((words.next()?.parse::<IpAddr>().ok()?, words))
        })
        .flat_map(|(address, names)| names.map(move |name| (name.to_owned(), address)))
        .collect()
}

/// Carries a call out; gives the status that the command ends with.
///
/// # Errors
/// The testbed's failures. The command says what [`Fault`] says and ends with [`status::FAILED`], or from `exec` with
/// [`status::NOT_RUN`].
pub fn run(connection: &mut Connection, call: &Call, io: &Io<'_>) -> Result<u8, Fault> {
    match call {
        Call::Status => status_of(connection, io),
        Call::Exec(wanted) => exec::exec(connection, wanted, io),
        Call::Copy { from, to } => copy::copy(connection, from, to),
        Call::Files(wanted) => files::run(connection, wanted, io),
        Call::Variables(wanted) => variables::run(connection, wanted, io),
        Call::Address(wanted) => address::run(connection, wanted, io),
        Call::Processes { machine } => processes(connection, machine, io),
        Call::Kill { machine, signal, pids } => {
            for pid in pids {
                connection.request(machine, Request::Kill { pid: *pid, signal: *signal })?;
            }
            Ok(status::DONE)
        }
        Call::Wait(wait) => wait_for(connection, wait, io),
        Call::Connect { machine, port } => {
            let wait_ms = millis(CONNECT);
            let ask = Ask::Connect { machine: machine.clone(), port: *port, wait_ms };
            let ends = Ends { input: Some(io.input), output: Some(io.output), ..Ends::default() };
            match carry(connection.ask(&ask)?, ends, None)? {
                Carried::Ended(end) | Carried::Stopped(end) => otherwise(end.answer(), io).map(|a| a.1),
                Carried::Unread => Ok(status::DONE),
            }
        }
        Call::Screenshot(wanted) => screen::screenshot(connection, wanted, io),
        Call::Type(wanted) => screen::type_on(connection, wanted),
        Call::Console(wanted) => console::run(connection, wanted, io),
        Call::Link { machine, network, cut } => {
            let ask = Ask::Link { machine: machine.clone(), network: network.clone(), cut: *cut };
            connection.ask(&ask)?.end()?.answer()?;
            Ok(status::DONE)
        }
        Call::Attach { machine, network, name, addresses } => {
            let (machine, network) = (machine.clone(), network.clone());
            let (name, addresses) = (name.clone(), addresses.clone());
            let ask = Ask::Attach { machine, network, name, addresses };
            connection.ask(&ask)?.end()?.answer()?;
            Ok(status::DONE)
        }
        Call::Detach { machine, network } => {
            let ask = Ask::Detach { machine: machine.clone(), network: network.clone() };
            connection.ask(&ask)?.end()?.answer()?;
            Ok(status::DONE)
        }
        Call::Capture(wanted) => capture(connection, wanted, io),
        Call::Probe { machine, probe, timeout } => probe::probe(connection, machine, probe, *timeout, io),
    }
}

fn status_of(connection: &mut Connection, io: &Io<'_>) -> Result<u8, Fault> {
    io.print(&show::machines(&machines(connection)?))?;
    Ok(status::DONE)
}

/// All machines, and how they are.
pub(super) fn machines(connection: &mut Connection) -> Result<Vec<MachineStatus>, Fault> {
    let mut machines = Vec::new();
    loop {
        let ask = Ask::Status { from: machines.len() as u32 };
        let Answer::Status(page) = connection.ask(&ask)?.end()?.answer()? else {
            return Err(Fault::new(FaultKind::Protocol, "understand the testbed's status"));
        };
        let more = page.more && !page.machines.is_empty();
        machines.extend(page.machines);
        if !more {
            return Ok(machines);
        }
    }
}

fn processes(connection: &mut Connection, machine: &str, io: &Io<'_>) -> Result<u8, Fault> {
    let mut all: Vec<Process> = Vec::new();
    loop {
        let after = all.last().map_or(0, |process| process.pid);
        let reply = connection.request(machine, Request::Processes { after })?;
        let Reply::Processes { processes, more } = reply else {
            return Err(Fault::new(FaultKind::Protocol, "understand the list of processes").on(machine));
        };
        // A machine may say what it wants, but not for ever.
        let more = more && processes.first().is_some_and(|first| first.pid > after);
        all.extend(processes);
        if !more {
            io.print(&show::processes(&all))?;
            return Ok(status::DONE);
        }
    }
}

fn wait_for(connection: &mut Connection, wait: &Wait, io: &Io<'_>) -> Result<u8, Fault> {
    let request = tooling(Tool::Wait(wait.condition.clone()), Source::Null, Some(wait.timeout));
    let channel = connection.open(&wait.machine, request)?;
    match carry(channel, Ends::default(), Some(wait.timeout))? {
        Carried::Ended(end) => match end.reply()? {
            Reply::Ended { report: Some(Report::Done), .. } => Ok(status::DONE),
            other => Err(strange(&wait.machine, &other)),
        },
        Carried::Stopped(_) | Carried::Unread => {
            let late = show::duration(wait.timeout);
            let what = show::condition(&wait.condition);
            io.say(&format!("{}: {what}: not within {late}", wait.machine));
            Ok(status::OTHERWISE)
        }
    }
}

fn capture(connection: &mut Connection, wanted: &Capture, io: &Io<'_>) -> Result<u8, Fault> {
    let Capture { node, filter, count, snap, timeout, output } = wanted;
    let file = output.as_ref().map(|path| File::create(path).doing_to("write the capture to", path));
    let file = file.transpose()?;
    let output = file.as_ref().map_or(io.output, |file| file.as_fd());
    let (filter, count, snap) = (filter.clone(), *count, *snap);
    let channel = match node {
        Node::Network(network) => {
            let network = network.clone();
            connection.ask(&Ask::Capture { network, filter, count, snap, deadline_ms: None })?
        }
        Node::Interface(machine, interface) => {
            let tool = Tool::Capture { interface: interface.clone(), filter, count, snap };
            connection.open(machine, tooling(tool, Source::Null, *timeout))?
        }
    };
    let signals = io.signals.map(|fd| (fd, Signals::End));
    let ends = Ends { output: Some(output), ready: Some((io.error, "ready\n")), signals, ..Ends::default() };
    let end = match carry(channel, ends, *timeout)? {
        Carried::Ended(end) | Carried::Stopped(end) => end,
        Carried::Unread => return Ok(status::DONE),
    };
    let (packets, dropped) = match node {
        Node::Network(_) => match end.answer()? {
            Answer::Captured { packets, dropped } => (packets, dropped),
            other => return Err(Fault::new(FaultKind::Protocol, format!("understand a capture: {other:?}"))),
        },
        Node::Interface(machine, _) => match end.reply()? {
            Reply::Ended { report: Some(Report::Capture { packets, dropped }), .. } => (packets, dropped),
            other => return Err(strange(machine, &other)),
        },
    };
    io.say(&show::capture(packets, dropped));
    Ok(if packets < count { status::OTHERWISE } else { status::DONE })
}

/// A request for a tool. Its agent kills it when it is still there long after its time.
pub(super) fn tooling(tool: Tool, input: Source, timeout: Option<Duration>) -> Request {
    let output = match &tool {
        Tool::Wait(crate::agent::Condition::Success { program: Program::Shell(_), .. }) => Sink::Null,
        Tool::Ping { .. } | Tool::Trace { .. } | Tool::Wait(_) | Tool::UdpSend { .. } => Sink::Null,
        Tool::Addresses { .. } | Tool::UdpListen { .. } | Tool::HttpServe { .. } => Sink::Null,
        _ => Sink::Channel,
    };
    let deadline_ms = timeout.map(|timeout| u64::from(millis(timeout + GRACE)));
    Request::Tool(Tooling { tool, input, output, deadline_ms, device: None })
}

/// What the tool says of the network is an answer, and no failure of the testbed.
pub(super) fn otherwise<T>(result: Result<T, Fault>, io: &Io<'_>) -> Result<(Option<T>, u8), Fault> {
    match result {
        Ok(value) => Ok((Some(value), status::DONE)),
        Err(fault) if is_answer(&fault) => {
            io.say(&fault.to_string());
            if let Some(hint) = &fault.hint {
                io.say(&show::plain(hint));
            }
            Ok((None, status::OTHERWISE))
        }
        Err(fault) => Err(fault),
    }
}

/// What becomes of packets, as a program sees it (ip(7), tcp(7)).
fn is_answer(fault: &Fault) -> bool {
    const ANSWERS: &[i32] = &[
        libc::ECONNREFUSED,
        libc::ECONNRESET,
        libc::ECONNABORTED,
        libc::EPIPE,
        libc::ETIMEDOUT,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::ENETDOWN,
        libc::EPROTO,
        libc::EMSGSIZE,
        libc::EPERM,
    ];
    match fault.errno {
        Some(errno) => ANSWERS.contains(&errno),
        None => fault.kind == FaultKind::Timeout,
    }
}

pub(super) fn strange(machine: &str, reply: &Reply) -> Fault {
    let reply = match reply {
        Reply::Ended { timed_out: true, .. } => "it did not end in time".to_owned(),
        other => format!("understand what came of it: {other:?}"),
    };
    Fault::new(FaultKind::Protocol, reply).on(machine)
}
