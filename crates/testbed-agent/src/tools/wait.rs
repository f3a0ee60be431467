//! Waiting until something holds.
//!
//! Every wait wakes on the kernel's event for it. Listening ports have none: they are looked at again, often at first.

mod port;
mod watch;

use super::netlink::{Changes, addresses, has_address};
use super::wake::{Woken, after, wait};
use super::{Doing, ToolIo, interrupted, invalid};
use rustix::event::PollFlags;
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;
use testbed_agent::agent::{Condition, Family, MAX_ADDRESSES, Program, Report};
use testbed_agent::{Fault, FaultKind};

/// The first and the longest time between two looks at the listening ports.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// Waits until the condition holds.
pub(crate) fn run(condition: &Condition, io: &mut ToolIo<'_>) -> Result<Report, Fault> {
    match condition {
        Condition::Port { udp, port, address } => until_port(*udp, *port, *address, io)?,
        Condition::File { path } => watch::until_exists(path, io)?,
        Condition::Line { path, text } => watch::until_line(path, text, io)?,
        Condition::Exit { pid } => until_exit(*pid, io)?,
        Condition::Address { address } => until_network(io, || has_address(*address))?,
        Condition::Route { to } => until_network(io, || has_route(*to))?,
        Condition::Success { program, interval_ms } => until_success(program, *interval_ms, io)?,
    }
    Ok(Report::Done)
}

/// The machine's addresses; if it is to wait, once there is one of that kind.
pub(crate) fn until_addresses(
    interface: Option<&str>,
    wanted: Option<Family>,
    io: &ToolIo<'_>,
) -> Result<Report, Fault> {
    let mut found = Vec::new();
    let mut look = || {
        found = addresses()?;
        found.retain(|held| held.global && !held.address.is_loopback());
        found.retain(|held| interface.is_none_or(|wanted| wanted == held.interface));
        Ok(wanted.is_none_or(|family| found.iter().any(|held| family.holds(held.address))))
    };
    until_network(io, &mut look)?;
    found.sort_by_key(|held| (held.index, held.address.is_ipv6()));
    found.truncate(MAX_ADDRESSES);
    Ok(Report::Addresses(found.into_iter().map(|held| (held.interface, held.address)).collect()))
}

fn stopped() -> Fault {
    interrupted("wait")
}

fn until_port(udp: bool, port: u16, address: Option<IpAddr>, io: &ToolIo<'_>) -> Result<(), Fault> {
    if port == 0 {
        return Err(invalid("wait for port 0"));
    }
    let mut pause = LOOK_AGAIN.0;
    while !port::is_bound(udp, port, address)? {
        if wait(io.stop, [], Some(std::time::Instant::now() + pause))? == Woken::Stop {
            return Err(stopped());
        }
        pause = (pause * 2).min(LOOK_AGAIN.1);
    }
    Ok(())
}

fn until_exit(pid: u32, io: &ToolIo<'_>) -> Result<(), Fault> {
    let doing = || format!("wait for process {pid}");
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let number = number.ok_or_else(|| invalid(doing()))?;
    let process = match pidfd_open(number, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(()),
        opened => opened.doing(doing())?,
    };
    match wait(io.stop, [(process.as_fd(), PollFlags::IN)], None)? {
        Woken::Stop => Err(stopped()),
        Woken::Events(_) | Woken::Time => Ok(()),
    }
}

fn until_network(io: &ToolIo<'_>, mut holds: impl FnMut() -> Result<bool, Fault>) -> Result<(), Fault> {
    let changes = Changes::watch()?;
    while !holds()? {
        if wait(io.stop, [(changes.as_fd(), PollFlags::IN)], None)? == Woken::Stop {
            return Err(stopped());
        }
        changes.drain()?;
    }
    Ok(())
}

/// The kernel would send a packet there: it finds a route and an address to send from.
fn has_route(to: IpAddr) -> Result<bool, Fault> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let doing = || format!("look up the route to {to}");
    let socket = UdpSocket::bind((any, 0)).doing(doing())?;
    socket.set_broadcast(true).doing(doing())?;
    let none = [
        Errno::NETUNREACH,
        Errno::HOSTUNREACH,
        Errno::ADDRNOTAVAIL,
        Errno::ACCESS,
        Errno::INVAL,
        Errno::NETDOWN,
    ];
    // Connecting a UDP socket sends nothing.
    match socket.connect((to, 9)) {
        Ok(()) => Ok(true),
        Err(error) if Errno::from_io_error(&error).is_some_and(|errno| none.contains(&errno)) => Ok(false),
        Err(error) => Err(Fault::system(doing(), &error)),
    }
}

fn until_success(program: &Program, interval_ms: u32, io: &ToolIo<'_>) -> Result<(), Fault> {
    loop {
        let mut command = command(program)?;
        let (output, error) = (io.output_file()?, io.output_file()?);
        command.env_clear().envs(io.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(output).stderr(error);
        match command.spawn() {
            Ok(mut child) => {
                let process = pidfd_of(child.id())?;
                if wait(io.stop, [(process.as_fd(), PollFlags::IN)], None)? == Woken::Stop {
                    child.kill().doing("end the command")?;
                    child.wait().doing("end the command")?;
                    return Err(stopped());
                }
                if child.wait().doing("wait for the command")?.success() {
                    return Ok(());
                }
            }
            // It may be there by the next try.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Fault::system(format!("run {:?}", command.get_program()), &error)),
        }
        if wait(io.stop, [], Some(after(interval_ms)))? == Woken::Stop {
            return Err(stopped());
        }
    }
}

fn pidfd_of(child: u32) -> Result<rustix::fd::OwnedFd, Fault> {
    // A child that nobody has waited for keeps its number.
    let number = i32::try_from(child).ok().and_then(Pid::from_raw);
    let number = number.ok_or_else(|| Fault::new(FaultKind::System, "a process without a number"))?;
    pidfd_open(number, PidfdFlags::empty()).doing("wait for the command")
}

fn command(program: &Program) -> Result<Command, Fault> {
    match program {
        Program::Shell(text) => {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", text]);
            Ok(command)
        }
        Program::Argv(words) => {
            let (name, arguments) =
                words.split_first().ok_or_else(|| invalid("run a program without a name"))?;
            let mut command = Command::new(name);
            command.args(arguments);
            Ok(command)
        }
    }
}

#[cfg(test)]
mod tests;
