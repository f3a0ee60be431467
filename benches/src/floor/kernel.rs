//! Hypervisors that go on with a template of ours, each told by the few words that it takes, in the template's own root.

use crate::Outcome;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::mount::{MountFlags, MountPropagationFlags};
use std::ffi::CString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testbed_agent::agent::{
    ErrorSink, Open, Program, Reply, Request, Run, Sink, Source, Stdio as Streams, Tool, Tooling, Wake,
};
use testbed_agent::frame::{Decoder, Frame, Kind, encode_message};
use testbed_agent::launch::{Interface, Machine, Root, Upper};
use testbed_sys::fdpass;
use testbed_sys::process::{self, SingleThreaded};

/// Gives it the sockets of its agent's port, its monitor and its console as they are called in its words.
const START: &str = r#"exec 3<&0 4<&2 5<&1 < /dev/null > /dev/null 2>&1; exec "$@""#;

/// What is done with hypervisors that are ready.
type Work = fn(&mut [Raw]) -> Outcome<()>;

/// Rounds in a root that is made of layers, with QEMU's words as a machine of ours has them. What each does: `clone` has one
/// go on until its agent answers; `five` has five, runs `true` in each and kills them; `ring` has five on one network, each
/// of which pings the next.
pub(super) fn rounds(
    what: &str,
    layers: &str,
    words: &[String],
) -> Outcome<impl FnMut(SingleThreaded) -> Outcome<Duration> + use<>> {
    let (count, work): (usize, Work) = match what {
        "clone" => (1, |_| Ok(())),
        "five" => (5, |all| ask_all(all, |_| run_true())),
        "ring" => (5, |all| ask_all(all, |number| ping(address((number + 1) % 5)))),
        _ => return Err("no such round".into()),
    };
    enter(layers)?;
    let words = words.to_vec();
    Ok(move |_| round(&words, count, work))
}

/// The root of this process from now on: the layers, and changes in memory.
fn enter(layers: &str) -> Outcome<()> {
    process::unshare_mounts(SingleThreaded::prove()?)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)?;
    // Over a folder that is there, for this process alone.
    let place = std::env::temp_dir();
    rustix::mount::mount("tmpfs", &place, "tmpfs", MountFlags::empty(), None)?;
    for folder in ["upper", "work", "root"] {
        std::fs::create_dir(place.join(folder))?;
    }
    let place = place.to_str().ok_or("a path that is not UTF-8")?;
    let data = format!("lowerdir={layers},upperdir={place}/upper,workdir={place}/work");
    let root = format!("{place}/root");
    rustix::mount::mount("overlay", &root, "overlay", MountFlags::empty(), &*CString::new(data)?)?;
    for folder in ["dev", "proc"] {
        rustix::mount::mount_bind_recursive(format!("/{folder}"), format!("{root}/{folder}"))?;
    }
    rustix::process::chdir(&root)?;
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

/// The time until all answer and have worked; with more than one, until they are gone.
fn round(words: &[String], count: usize, work: fn(&mut [Raw]) -> Outcome<()>) -> Outcome<Duration> {
    let begun = Instant::now();
    let mut all = (0..count).map(|_| Raw::start(words)).collect::<Outcome<Vec<_>>>()?;
    let mut wires = Vec::new();
    for raw in &mut all {
        raw.greet()?;
        if words.iter().any(|word| word.starts_with("hubport")) {
            wires.push(raw.connect()?);
        }
        raw.load(words)?;
    }
    if !wires.is_empty() {
        std::thread::spawn(move || hub(&wires));
    }
    for (number, raw) in all.iter_mut().enumerate() {
        raw.go_on()?;
        raw.tell(0, Kind::Wake, &wake())?;
        raw.open(1, Request::Become { machine: Box::new(machine(number, words)), identity: None })?;
    }
    for raw in &mut all {
        raw.wait_for(1)?;
    }
    work(&mut all)?;
    let answered = begun.elapsed();
    for raw in &mut all {
        raw.process.kill()?;
    }
    for raw in &mut all {
        raw.process.wait()?;
    }
    Ok(if count == 1 { answered } else { begun.elapsed() })
}

/// Rounds of a copy of a capsule, which goes on until a command on the machine that it knows by [`CLIENT`] has succeeded.
pub(super) fn copies(
    command: &str,
    layers: &str,
    words: &[String],
) -> Outcome<impl FnMut(SingleThreaded) -> Outcome<Duration> + use<>> {
    enter(layers)?;
    let command: Vec<String> = command.split(' ').map(str::to_owned).collect();
    let words = words.to_vec();
    Ok(move |_| {
        let begun = Instant::now();
        let mut raw = Raw::start(&words)?;
        raw.greet()?;
        raw.load(&words)?;
        raw.go_on()?;
        raw.tell(0, Kind::Wake, &wake())?;
        raw.open_on(CLIENT, UNUSED, run_program(command.clone()))?;
        raw.wait_for(UNUSED)?;
        let took = begun.elapsed();
        raw.process.kill()?;
        raw.process.wait()?;
        Ok(took)
    })
}

/// The number of the third machine: the first is what the networks have.
const CLIENT: &str = "4";
/// A channel that nothing has run on.
const UNUSED: u32 = 1_000_001;

fn ask_all(all: &mut [Raw], request: impl Fn(usize) -> Request) -> Outcome<()> {
    for (number, raw) in all.iter_mut().enumerate() {
        raw.open(3, request(number))?;
    }
    all.iter_mut().try_for_each(|raw| raw.wait_for(3))
}

fn run_true() -> Request {
    run_program(vec!["true".into()])
}

fn run_program(words: Vec<String>) -> Request {
    let stdio = Streams::Apart { input: Source::Null, output: Sink::Null, error: ErrorSink::Null };
    let program = Program::Argv(words);
    Request::Run(Run {
        program,
        script: None,
        env: Vec::new(),
        cwd: None,
        user: None,
        stdio,
        deadline_ms: None,
    })
}

fn ping(target: IpAddr) -> Request {
    let tool = Tool::Ping { target, count: 1, interval_ms: 1, wait_ms: 10_000, size: 8, interface: None };
    Request::Tool(Tooling { tool, input: Source::Null, output: Sink::Null, deadline_ms: None, device: None })
}

fn address(number: usize) -> IpAddr {
    [10, 0, 0, number as u8 + 1].into()
}

fn machine(number: usize, words: &[String]) -> Machine {
    let root = Root { layers: Vec::new(), host: false };
    let mut machine = Machine::new(format!("m{number}"), root, Upper::Memory(0));
    if words.iter().any(|word| word.starts_with("hubport")) {
        machine.interfaces.push(Interface {
            name: "eth0".into(),
            network: 0,
            mac: [2, 0, 0, 0, 1, number as u8],
            mtu: Some(1500),
            addresses: vec![(address(number), 24)],
        });
    }
    machine
}

fn wake() -> Wake {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Wake { now_ns: now.as_nanos() as i64, seed: [7; 32], is_copy: true }
}

/// A hypervisor, and the two sockets to it.
struct Raw {
    process: Child,
    monitor: BufReader<UnixStream>,
    agent: UnixStream,
    /// Says little.
    _console: OwnedFd,
    decoder: Decoder,
}

impl Raw {
    fn start(words: &[String]) -> Outcome<Raw> {
        let (agent, its_agent) = fdpass::stream_pair()?;
        let (monitor, its_monitor) = fdpass::stream_pair()?;
        let (console, its_console) = fdpass::stream_pair()?;
        let process = Command::new("/bin/sh")
            .args(["-c", START, "sh"])
            .args(words)
            .stdin(Stdio::from(its_agent))
            .stdout(Stdio::from(its_console))
            .stderr(Stdio::from(its_monitor))
            .spawn()?;
        let monitor = BufReader::new(UnixStream::from(monitor));
        Ok(Raw { process, monitor, agent: agent.into(), _console: console, decoder: Decoder::new() })
    }

    fn greet(&mut self) -> Outcome<()> {
        self.wait_line("\"QMP\"")?;
        self.command(r#"{"execute":"qmp_capabilities"}"#)
    }

    /// Gives it the state of its devices, which is beside its memory.
    fn load(&mut self, words: &[String]) -> Outcome<()> {
        let memory = words.iter().find_map(|word| word.split_once("mem-path=")?.1.split(',').next());
        let (folder, _) = memory.and_then(|path| path.rsplit_once('/')).ok_or("no memory")?;
        self.command(
            r#"{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"events","state":true}]}}"#,
        )?;
        self.command(&format!(
            r#"{{"execute":"migrate-incoming","arguments":{{"uri":"file:{folder}/devices"}}}}"#
        ))?;
        self.wait_line("\"completed\"")
    }

    fn go_on(&mut self) -> Outcome<()> {
        self.command(r#"{"execute":"cont"}"#)
    }

    /// Connects the adapter with a socket.
    fn connect(&mut self) -> Outcome<UnixStream> {
        let (ours, theirs) = fdpass::stream_pair()?;
        let word = r#"{"execute":"getfd","arguments":{"fdname":"wire"}}"#.to_owned() + "\n";
        let socket = self.monitor.get_ref();
        fdpass::send(
            std::os::fd::AsFd::as_fd(socket),
            word.as_bytes(),
            &[std::os::fd::AsFd::as_fd(&theirs)],
        )?;
        self.wait_line("\"return\"")?;
        self.command(r#"{"execute":"netdev_add","arguments":{"type":"socket","id":"wire","fd":"wire"}}"#)?;
        self.command(
            r#"{"execute":"netdev_add","arguments":{"type":"hubport","id":"hub","hubid":0,"netdev":"wire"}}"#,
        )?;
        Ok(ours.into())
    }

    fn command(&mut self, text: &str) -> Outcome<()> {
        self.monitor.get_mut().write_all(format!("{text}\n").as_bytes())?;
        self.wait_line("\"return\"")
    }

    fn wait_line(&mut self, wanted: &str) -> Outcome<()> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.monitor.read_line(&mut line)? == 0 || line.contains("\"error\"") {
                return Err(format!("the hypervisor says {line:?} instead of {wanted}").into());
            }
            if line.contains(wanted) {
                return Ok(());
            }
        }
    }

    fn tell<T: serde::Serialize>(&mut self, channel: u32, kind: Kind, message: &T) -> Outcome<()> {
        let mut bytes = Vec::new();
        encode_message(&mut bytes, channel, kind, 0, message).map_err(|e| e.to_string())?;
        Ok(self.agent.write_all(&bytes)?)
    }

    fn open(&mut self, channel: u32, request: Request) -> Outcome<()> {
        self.open_on("", channel, request)
    }

    /// Of a machine of a capsule.
    fn open_on(&mut self, machine: &str, channel: u32, request: Request) -> Outcome<()> {
        self.tell(channel, Kind::Open, &Open { machine: machine.to_owned(), request })
    }

    /// Waits for the reply on a channel.
    fn wait_for(&mut self, channel: u32) -> Outcome<()> {
        let mut bytes = [0; 4096];
        loop {
            while let Some(frame) = self.decoder.next_frame().map_err(|e| e.to_string())? {
                if frame.kind == Kind::Reply && frame.channel == channel {
                    return succeeded(&frame);
                }
            }
            match self.agent.read(&mut bytes)? {
                0 => return Err("the agent of the floor has gone".into()),
                length => self.decoder.feed(&bytes[..length]),
            }
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A round that fails leaves none behind; one that was waited for has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn succeeded(frame: &Frame) -> Outcome<()> {
    match frame.message::<Reply>("reply").map_err(|e| e.to_string())? {
        Reply::Failed(fault) => Err(fault.to_string().into()),
        Reply::Ended { how, .. } if !how.success() => Err("a program of the floor failed".into()),
        _ => Ok(()),
    }
}

/// Passes what comes by each wire on to all others, until the first is closed.
fn hub(wires: &[UnixStream]) {
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let mut polled: Vec<_> = wires.iter().map(|wire| PollFd::new(wire, PollFlags::IN)).collect();
        if poll(&mut polled, None).is_err() {
            return;
        }
        let ready: Vec<usize> =
            (0..wires.len()).filter(|number| !polled[*number].revents().is_empty()).collect();
        for number in ready {
            // Frames are short here: each comes whole.
            let Ok(length @ 1..) = (&wires[number]).read(&mut buffer) else { return };
            for (other, mut wire) in wires.iter().enumerate() {
                if other != number && wire.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
        }
    }
}
