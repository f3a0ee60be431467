//! One file for each command: its arguments and what it does.

mod changes;
mod check;
mod completions;
mod doctor;
mod down;
mod image;
mod init;
mod keep;
mod logs;
mod ls;
mod output;
mod pause;
mod plan;
mod port;
mod restart;
mod run;
mod screen;
mod shell;
mod snapshot;
mod ssh_config;
mod status;
mod stream;
mod up;
mod words;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::place::Place;

pub(crate) use output::Format;

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Run(run::Arguments),
    Check(check::Arguments),
    Plan(plan::Arguments),
    Doctor(doctor::Arguments),
    Init(init::Arguments),
    Up(up::Arguments),
    #[command(hide = true)]
    Keep(keep::Arguments),
    Down(down::Arguments),
    #[command(subcommand)]
    Image(image::Arguments),
    Ls(ls::Arguments),
    Status(status::Arguments),
    Shell(shell::Arguments),
    Logs(logs::Arguments),
    Screen(screen::Arguments),
    #[command(subcommand)]
    Port(port::Arguments),
    Stop(restart::Stop),
    Start(restart::Start),
    Restart(restart::Restart),
    Snapshot(snapshot::Snapshot),
    Rollback(snapshot::Rollback),
    Fork(snapshot::Fork),
    Changes(changes::Arguments),
    Pause(pause::Pause),
    Resume(pause::Resume),
    SshConfig(ssh_config::Arguments),
    #[command(subcommand)]
    Stream(stream::Arguments),
    Completions(completions::Arguments),
    /// Run a program on a machine, and end as it does.
    #[command(disable_help_flag = true)]
    Exec(words::Arguments),
    /// Copy a file or folder to or from a machine: one of the two places is MACHINE:PATH.
    #[command(disable_help_flag = true)]
    Cp(words::Arguments),
    /// List, look at, make, rename and remove files of a machine.
    #[command(disable_help_flag = true)]
    File(words::Arguments),
    /// Read and set variables of a machine, by which it and its tests tell each other something.
    #[command(disable_help_flag = true)]
    Var(words::Arguments),
    /// Show an address of a machine, as soon as it has one.
    #[command(disable_help_flag = true)]
    Address(words::Arguments),
    /// Wait until something holds on a machine: a port, a file, a line, a command, an end, an address, a route.
    #[command(disable_help_flag = true)]
    Wait(words::Arguments),
    /// List a machine's processes.
    #[command(disable_help_flag = true)]
    Ps(words::Arguments),
    /// Signal processes of a machine.
    #[command(disable_help_flag = true)]
    Kill(words::Arguments),
    /// Attach the terminal to the console of a machine that has a kernel of its own.
    #[command(disable_help_flag = true)]
    Console(words::Arguments),
    /// Write what is on the screen of a machine to a file, as PNG.
    #[command(disable_help_flag = true)]
    Screenshot(words::Arguments),
    /// Type on the keyboard of a machine that has a screen.
    #[command(disable_help_flag = true)]
    Type(words::Arguments),
    /// Relay standard input and output to a TCP port of a machine: for proxy commands.
    #[command(disable_help_flag = true)]
    Connect(words::Arguments),
    /// Cut and heal links, attach machines to networks, capture packets.
    #[command(disable_help_flag = true)]
    Net(words::Arguments),
    /// Send ICMP echo requests from a machine.
    #[command(disable_help_flag = true)]
    Ping(words::Arguments),
    /// Show the routers between a machine and a host.
    #[command(disable_help_flag = true)]
    Trace(words::Arguments),
    /// Connect from a machine, or listen on it, by TCP.
    #[command(disable_help_flag = true)]
    Tcp(words::Arguments),
    /// Send datagrams from a machine, or receive them.
    #[command(disable_help_flag = true)]
    Udp(words::Arguments),
    /// Get pages from a machine, or serve them.
    #[command(disable_help_flag = true)]
    Http(words::Arguments),
}

impl Command {
    /// Does what was asked.
    ///
    /// # Errors
    /// Why it could not be done.
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        match self {
            Command::Run(arguments) => arguments.run(place),
            Command::Check(arguments) => arguments.run(place),
            Command::Plan(arguments) => arguments.run(place),
            Command::Doctor(arguments) => arguments.run(place),
            Command::Init(arguments) => arguments.run(place),
            Command::Up(arguments) => arguments.run(place),
            Command::Keep(arguments) => arguments.run(place),
            Command::Down(arguments) => arguments.run(place),
            Command::Image(arguments) => arguments.run(place),
            Command::Ls(arguments) => arguments.run(),
            Command::Status(arguments) => arguments.run(place),
            Command::Shell(arguments) => arguments.run(place),
            Command::Logs(arguments) => arguments.run(place),
            Command::Screen(arguments) => arguments.run(place),
            Command::Port(arguments) => arguments.run(place),
            Command::Stop(arguments) => arguments.run(place),
            Command::Start(arguments) => arguments.run(place),
            Command::Restart(arguments) => arguments.run(place),
            Command::Snapshot(arguments) => arguments.run(place),
            Command::Rollback(arguments) => arguments.run(place),
            Command::Fork(arguments) => arguments.run(place),
            Command::Changes(arguments) => arguments.run(place),
            Command::Pause(arguments) => arguments.run(place),
            Command::Resume(arguments) => arguments.run(place),
            Command::SshConfig(arguments) => arguments.run(place),
            Command::Stream(arguments) => arguments.run(place),
            Command::Completions(arguments) => arguments.run(),
            Command::Exec(arguments) => arguments.run("exec", place),
            Command::Cp(arguments) => arguments.run("cp", place),
            Command::File(arguments) => arguments.run("file", place),
            Command::Var(arguments) => arguments.run("var", place),
            Command::Address(arguments) => arguments.run("address", place),
            Command::Wait(arguments) => arguments.run("wait", place),
            Command::Ps(arguments) => arguments.run("ps", place),
            Command::Kill(arguments) => arguments.run("kill", place),
            Command::Console(arguments) => arguments.run("console", place),
            Command::Screenshot(arguments) => arguments.run("screenshot", place),
            Command::Type(arguments) => arguments.run("type", place),
            Command::Connect(arguments) => arguments.run("connect", place),
            Command::Net(arguments) => arguments.run("net", place),
            Command::Ping(arguments) => arguments.run("ping", place),
            Command::Trace(arguments) => arguments.run("trace", place),
            Command::Tcp(arguments) => arguments.run("tcp", place),
            Command::Udp(arguments) => arguments.run("udp", place),
            Command::Http(arguments) => arguments.run("http", place),
        }
    }
}
