//! The words of the command, and what a call means.

use super::Wrong;
use super::address::{self, Address};
use super::arguments::{Arguments, number};
use super::console::{self, Console};
use super::files::{self, Files};
use super::screen::{self, Screenshot, Typing};
use super::signal::parse_signal;
use super::table::{self, Found, Verb};
use super::variables::{self, Variables};
use crate::agent::{Condition, Program, Tool};
use crate::filter::Filter;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What a list of arguments is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Something to do.
    Call(Call),
    /// A request for this text.
    Help(String),
    /// A request for the version.
    Version,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// What there is and how it is.
    Status,
    /// Run a program on a machine.
    Exec(Exec),
    /// Copy a file or folder.
    Copy {
        /// From where.
        from: Place,
        /// To where.
        to: Place,
    },
    /// Do something to files of a machine.
    Files(Files),
    /// Do something with variables of a machine.
    Variables(Variables),
    /// Tell an address of a machine.
    Address(Address),
    /// List a machine's processes.
    Processes {
        /// The machine.
        machine: String,
    },
    /// Signal processes of a machine.
    Kill {
        /// The machine.
        machine: String,
        /// The signal's number.
        signal: i32,
        /// The processes; negative for a group.
        pids: Vec<i32>,
    },
    /// Wait until something holds on a machine.
    Wait(Wait),
    /// Relay standard input and output to a TCP port of a machine.
    Connect {
        /// The machine.
        machine: String,
        /// The port.
        port: u16,
    },
    /// Attach standard input and output to the console of a machine.
    Console(Console),
    /// Take a picture of the screen of a machine.
    Screenshot(Screenshot),
    /// Type on the keyboard of a machine.
    Type(Typing),
    /// Take a machine off a network, or put it back.
    Link {
        /// The machine.
        machine: String,
        /// One of its networks; all if none.
        network: Option<String>,
        /// Take it off.
        cut: bool,
    },
    /// Put a machine on a network while it runs.
    Attach {
        /// The machine.
        machine: String,
        /// The network.
        network: String,
        /// The interface's name.
        name: Option<String>,
        /// Its addresses, with prefix lengths if they are given.
        addresses: Vec<(IpAddr, Option<u8>)>,
    },
    /// Undo that.
    Detach {
        /// The machine.
        machine: String,
        /// The network.
        network: String,
    },
    /// Capture packets.
    Capture(Capture),
    /// Ask the network something from a machine.
    Probe {
        /// The machine.
        machine: String,
        /// What.
        probe: Probe,
        /// How long the whole may take.
        timeout: Option<Duration>,
    },
}

impl Call {
    /// Signals that come while it is carried out are for what runs.
    pub fn takes_signals(&self) -> bool {
        matches!(self, Call::Exec(_) | Call::Capture(_) | Call::Console(_))
    }
}

/// A program and how to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The machine.
    pub machine: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Text that it is given as a file, by its last argument.
    pub script: Option<String>,
    /// Variables.
    pub env: Vec<(String, String)>,
    /// Working folder.
    pub cwd: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// Do not wait for its end.
    pub detach: bool,
    /// Kill it after so long.
    pub timeout: Option<Duration>,
    /// Give it a terminal.
    pub terminal: bool,
    /// Give it nothing to read.
    pub no_input: bool,
}

/// A path here or on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The machine; here if none.
    pub machine: Option<String>,
    /// The path.
    pub path: String,
}

/// What to wait for, where and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The machine.
    pub machine: String,
    /// What.
    pub condition: Condition,
    /// How long.
    pub timeout: Duration,
}

/// Packets to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Where.
    pub node: Node,
    /// The filter; empty for all.
    pub filter: String,
    /// End after so many; 0 for never.
    pub count: u64,
    /// Bytes kept of each; 0 for all.
    pub snap: u32,
    /// End after so long.
    pub timeout: Option<Duration>,
    /// Write to this file here instead of standard output.
    pub output: Option<String>,
}

/// Where packets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A network.
    Network(String),
    /// A machine's interface; all of them if none.
    Interface(String, Option<String>),
}

/// Who is meant: an address, or a name of the testbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name, as the machines' `/etc/hosts` has it.
    Name(String),
}

/// What the network can be asked. Durations are for one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// ICMP echo.
    Ping {
        /// Whom.
        host: Host,
        /// How many requests.
        count: u32,
        /// Between two.
        interval: Duration,
        /// How long to wait for each answer.
        wait: Duration,
        /// Payload bytes.
        size: u16,
        /// Leave by this interface.
        interface: Option<String>,
    },
    /// The routers on the way.
    Trace {
        /// Whom.
        host: Host,
        /// The most hops.
        max_hops: u8,
        /// How long to wait for each.
        wait: Duration,
    },
    /// Connect, send standard input, write what comes back.
    TcpConnect {
        /// Whom.
        host: Host,
        /// Its port.
        port: u16,
        /// From this address.
        from: Option<IpAddr>,
        /// How long connecting may take.
        wait: Duration,
        /// End after so many bytes.
        read: Option<u64>,
    },
    /// Send a datagram.
    UdpSend {
        /// Whom.
        host: Host,
        /// Its port.
        port: u16,
        /// What.
        text: String,
        /// How long to wait for an answer; none to wait for.
        wait: Option<Duration>,
    },
    /// Get a page.
    HttpGet {
        /// `http://HOST[:PORT]/PATH`.
        url: String,
        /// Sent as Host.
        host: Option<String>,
        /// How long it may take.
        wait: Duration,
    },
    /// Wait for others: [`Tool::TcpListen`], [`Tool::UdpListen`] or [`Tool::HttpServe`].
    Listen(Tool),
}

/// How long `wait` waits where the call does not say.
const WAIT: Duration = Duration::from_secs(30);
/// How long a connection or a page may take where the call does not say.
const CONNECT: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);
const BETWEEN_PINGS: Duration = Duration::from_millis(200);

/// Takes arguments apart, without the command's own name.
///
/// # Errors
/// What is wrong with the call, and the way out.
pub fn parse(given: &[String]) -> Result<Parsed, Wrong> {
    match given.first().map(String::as_str) {
        None => return Err(Wrong::new("there is nothing to do").hint("`testbed --help` says what there is")),
        Some("--help" | "-h" | "help") => return Ok(Parsed::Help(table::help())),
        Some("--version" | "-V") => return Ok(Parsed::Version),
        Some(_) => {}
    }
    let (verb, rest) = match table::find(given)? {
        Found::Verb(verb, rest) => (verb, rest),
        Found::Help(text) => return Ok(Parsed::Help(text)),
    };
    let explain = |wrong: Wrong| wrong.hint(format!("usage: {}", verb.usage()));
    let mut arguments = Arguments::parse(rest, verb.options, verb.own).map_err(explain)?;
    if arguments.help {
        return Ok(Parsed::Help(verb.help()));
    }
    let call = build(verb, &mut arguments).map_err(explain)?;
    arguments.end().map_err(explain)?;
    Ok(Parsed::Call(call))
}

fn build(verb: &Verb, a: &mut Arguments) -> Result<Call, Wrong> {
    Ok(match verb.name {
        "status" => Call::Status,
        "exec" => Call::Exec(exec(a)?),
        "cp" => Call::Copy { from: place(a.next("SOURCE")?)?, to: place(a.next("TARGET")?)? },
        "address" => Call::Address(address::parse(a)?),
        "ps" => Call::Processes { machine: a.next("MACHINE")? },
        "kill" => kill(a)?,
        "wait" => Call::Wait(wait(a)?),
        "connect" => Call::Connect { machine: a.next("MACHINE")?, port: port(&a.next("PORT")?)? },
        "screenshot" => Call::Screenshot(screen::parse_screenshot(a)?),
        "type" => Call::Type(screen::parse_typing(a)?),
        "console" => Call::Console(console::parse(a)?),
        "net cut" | "net heal" => {
            let cut = verb.name == "net cut";
            Call::Link { machine: a.next("MACHINE")?, network: a.rest_one()?, cut }
        }
        "net attach" => Call::Attach {
            machine: a.next("MACHINE")?,
            network: a.next("NETWORK")?,
            name: a.one("name")?.map(str::to_owned),
            addresses: a.all("address").map(address_with_prefix).collect::<Result<_, _>>()?,
        },
        "net detach" => Call::Detach { machine: a.next("MACHINE")?, network: a.next("NETWORK")? },
        "net capture" => Call::Capture(capture(a)?),
        other => {
            if let Some(word) = other.strip_prefix("file ") {
                return files::parse(word, a).map(Call::Files);
            }
            if let Some(word) = other.strip_prefix("var ") {
                return variables::parse(word, a).map(Call::Variables);
            }
            let (machine, timeout) = (a.next("MACHINE")?, a.duration("timeout")?);
            Call::Probe { machine, probe: probe(verb.name, a)?, timeout }
        }
    })
}

/// Whether `--format` asks for JSON.
pub(super) fn is_json(a: &Arguments) -> Result<bool, Wrong> {
    match a.one("format")? {
        None | Some("text") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => {
            Err(Wrong::new(format!("`{other}` is no format")).hint("the formats are text and json"))
        }
    }
}

impl Arguments {
    /// At most one more.
    fn rest_one(&mut self) -> Result<Option<String>, Wrong> {
        let one = self.next("").ok();
        self.end()?;
        Ok(one)
    }
}

fn exec(a: &mut Arguments) -> Result<Exec, Wrong> {
    let machine = a.next("MACHINE")?;
    let argv = a.rest();
    if argv.is_empty() {
        return Err(Wrong::new("PROGRAM is missing"));
    }
    let variable = |text: &str| {
        let form = || Wrong::new(format!("`{text}` is no variable")).hint("write --env NAME=VALUE");
        let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(form)?;
        Ok((name.to_owned(), value.to_owned()))
    };
    let exec = Exec {
        machine,
        argv,
        script: a.one("script")?.map(str::to_owned),
        env: a.all("env").map(variable).collect::<Result<_, _>>()?,
        cwd: a.one("cwd")?.map(str::to_owned),
        user: a.one("user")?.map(str::to_owned),
        detach: a.flag("detach"),
        timeout: a.duration("timeout")?,
        terminal: a.flag("terminal"),
        no_input: a.flag("no-input"),
    };
    if exec.detach && exec.terminal {
        return Err(Wrong::new("`--detach` and `--terminal` do not go together")
            .hint("what a detached program writes is kept as a log"));
    }
    if exec.detach && exec.timeout.is_some() {
        return Err(Wrong::new("`--detach` and `--timeout` do not go together")
            .hint("nobody waits for a detached program; end it by `testbed kill`"));
    }
    Ok(exec)
}

/// `MACHINE:PATH`, or a path here. A path here that has a colon in front of its first slash is written `./a:b`.
pub(super) fn place(text: String) -> Result<Place, Wrong> {
    let machine = text.split_once(':').filter(|(machine, _)| !machine.contains('/'));
    let place = match machine {
        Some((machine, path)) => Place { machine: Some(machine.to_owned()), path: path.to_owned() },
        None => Place { machine: None, path: text.clone() },
    };
    if place.path.is_empty() || place.machine.as_deref() == Some("") {
        return Err(Wrong::new(format!("`{text}` is no place")).hint("write MACHINE:PATH, or a path here"));
    }
    if place.machine.is_some() && !place.path.starts_with('/') {
        return Err(
            Wrong::new(format!("`{text}` is no absolute path")).hint("paths on machines begin with /")
        );
    }
    Ok(place)
}

fn kill(a: &mut Arguments) -> Result<Call, Wrong> {
    let machine = a.next("MACHINE")?;
    let pids = a.rest();
    if pids.is_empty() {
        return Err(Wrong::new("PID is missing"));
    }
    let pids = pids.iter().map(|text| {
        let pid = number(text, "a process")?;
        // 0 and -1 are kill(2)'s words for the agent's own group and for everybody.
        if pid == 0 || pid == -1 {
            return Err(Wrong::new(format!("`{text}` is no process"))
                .hint("give a process's number, or after `--` a group's, negative"));
        }
        Ok(pid)
    });
    let signal = match a.one("signal")? {
        None => libc::SIGTERM,
        Some(text) => parse_signal(text).ok_or_else(|| {
            Wrong::new(format!("there is no signal `{text}`"))
                .hint("write its name, as in `-s KILL`, or its number")
        })?,
    };
    Ok(Call::Kill { machine, signal, pids: pids.collect::<Result<_, _>>()? })
}

fn wait(a: &mut Arguments) -> Result<Wait, Wrong> {
    let machine = a.next("MACHINE")?;
    let what = a.next("CONDITION")?;
    let condition = match what.as_str() {
        "port" => Condition::Port {
            udp: a.flag("udp"),
            port: port(&a.next("PORT")?)?,
            address: a.one("address")?.map(address).transpose()?,
        },
        "file" => Condition::File { path: a.next("PATH")? },
        "line" => Condition::Line { path: a.next("PATH")?, text: a.next("TEXT")? },
        "command" => Condition::Success {
            program: Program::Shell(a.next("TEXT")?),
            interval_ms: millis(a.duration("interval")?.unwrap_or(Duration::from_millis(100))),
        },
        "exit" => Condition::Exit { pid: number(&a.next("PID")?, "a process")? },
        "address" => Condition::Address { address: address(&a.next("ADDRESS")?)? },
        "route" => Condition::Route { to: address(&a.next("ADDRESS")?)? },
        other => {
            return Err(Wrong::new(format!("`{other}` is nothing to wait for"))
                .hint("the conditions are port, file, line, command, exit, address, route"));
        }
    };
    if what != "port" && (a.flag("udp") || a.one("address")?.is_some()) {
        return Err(Wrong::new("`--udp` and `--address` belong to the condition `port`"));
    }
    if what != "command" && a.one("interval")?.is_some() {
        return Err(Wrong::new("`--interval` belongs to the condition `command`"));
    }
    Ok(Wait { machine, condition, timeout: a.duration("timeout")?.unwrap_or(WAIT) })
}

fn capture(a: &mut Arguments) -> Result<Capture, Wrong> {
    let text = a.next("NETWORK")?;
    let node = match text.split_once(':') {
        None => Node::Network(text),
        Some((machine, "any")) => Node::Interface(machine.to_owned(), None),
        Some((machine, interface)) if !interface.is_empty() => {
            Node::Interface(machine.to_owned(), Some(interface.to_owned()))
        }
        Some(_) => {
            return Err(Wrong::new(format!("`{text}` names no interface"))
                .hint("write a network, or MACHINE:INTERFACE, or MACHINE:any"));
        }
    };
    let filter = a.one("filter")?.unwrap_or_default().to_owned();
    filter.parse::<Filter>().map_err(|e| {
        Wrong::new(e.to_string())
            .hint(e.hint.unwrap_or_else(|| "the language is that of pcap-filter(7)".into()))
    })?;
    Ok(Capture {
        node,
        filter,
        count: a.number("count")?.unwrap_or(0),
        snap: a.number("snap")?.unwrap_or(0),
        timeout: a.duration("timeout")?,
        output: a.one("output")?.map(str::to_owned),
    })
}

fn probe(name: &str, a: &mut Arguments) -> Result<Probe, Wrong> {
    Ok(match name {
        "ping" => Probe::Ping {
            host: host(&a.next("HOST")?),
            count: a.number("count")?.unwrap_or(1),
            interval: a.duration("interval")?.unwrap_or(BETWEEN_PINGS),
            wait: a.duration("wait")?.unwrap_or(SECOND),
            size: a.number("size")?.unwrap_or(56),
            interface: a.one("interface")?.map(str::to_owned),
        },
        "trace" => Probe::Trace {
            host: host(&a.next("HOST")?),
            max_hops: a.number("hops")?.unwrap_or(30),
            wait: a.duration("wait")?.unwrap_or(SECOND),
        },
        "tcp connect" => {
            let (host, port) = host_and_port(&a.next("HOST:PORT")?)?;
            let from = a.one("from")?.map(address).transpose()?;
            let wait = a.duration("wait")?.unwrap_or(CONNECT);
            Probe::TcpConnect { host, port, from, wait, read: a.number("read")? }
        }
        "tcp listen" => Probe::Listen(Tool::TcpListen {
            at: listening(&a.next("[ADDRESS:]PORT")?)?,
            accept: a.number("count")?.unwrap_or(1),
            greeting: a.one("greeting")?.unwrap_or_default().as_bytes().to_vec(),
            echo: a.flag("echo"),
        }),
        "udp send" => {
            let (host, port) = host_and_port(&a.next("HOST:PORT")?)?;
            Probe::UdpSend { host, port, text: a.next("TEXT")?, wait: a.duration("wait")? }
        }
        "udp listen" => Probe::Listen(Tool::UdpListen {
            at: listening(&a.next("[ADDRESS:]PORT")?)?,
            count: a.number("count")?.unwrap_or(1),
            echo: a.flag("echo"),
        }),
        "http get" => Probe::HttpGet {
            url: url(a.next("URL")?)?,
            host: a.one("host")?.map(str::to_owned),
            wait: a.duration("wait")?.unwrap_or(CONNECT),
        },
        _ => Probe::Listen(Tool::HttpServe {
            at: listening(&a.next("[ADDRESS:]PORT")?)?,
            folder: a.one("folder")?.map(str::to_owned),
            text: a.one("text")?.unwrap_or_default().to_owned(),
            count: a.number("count")?.unwrap_or(0),
        }),
    })
}

fn address(text: &str) -> Result<IpAddr, Wrong> {
    text.parse().map_err(|_| Wrong::new(format!("`{text}` is no IP address")))
}

/// `10.1.0.1` or `10.1.0.1/24`.
fn address_with_prefix(text: &str) -> Result<(IpAddr, Option<u8>), Wrong> {
    let Some((ip, prefix)) = text.split_once('/') else { return Ok((address(text)?, None)) };
    Ok((address(ip)?, Some(number(prefix, "the length of a prefix")?)))
}

fn port(text: &str) -> Result<u16, Wrong> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Wrong::new(format!("`{text}` is no port")).hint("ports are numbers from 1 to 65535")),
    }
}

fn host(text: &str) -> Host {
    text.parse().map_or_else(|_| Host::Name(text.to_owned()), Host::Address)
}

/// `10.0.0.1:80`, `[fd00::1]:80`, `server:80`.
fn host_and_port(text: &str) -> Result<(Host, u16), Wrong> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((Host::Address(address.ip()), port(&address.port().to_string())?));
    }
    match text.rsplit_once(':') {
        Some((name, number)) if !name.is_empty() && !name.contains([':', '[', ']']) => {
            Ok((host(name), port(number)?))
        }
        _ => Err(Wrong::new(format!("`{text}` is no host with a port"))
            .hint("write 10.0.0.1:80, [fd00::1]:80 or a machine's name, as in server:80")),
    }
}

/// `80` is all IPv4 addresses of the machine.
fn listening(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(SocketAddr::new(address.ip(), port(&address.port().to_string())?));
    }
    match port(text) {
        Ok(port) => Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)),
        Err(_) => Err(Wrong::new(format!("`{text}` is nothing to listen on"))
            .hint("write a port, or an address with one: 10.0.0.1:80, [::]:80")),
    }
}

fn url(text: String) -> Result<String, Wrong> {
    match text.strip_prefix("http://") {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text),
        _ => Err(Wrong::new(format!("`{text}` is no URL that can be fetched"))
            .hint("write http://HOST[:PORT]/PATH")),
    }
}

pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
