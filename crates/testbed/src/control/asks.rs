//! What only the keeper can do. Each runs on a thread of its own, and holds the testbed no longer than it must.

use super::channel::Channel;
use super::status;
use crate::bed::{Bed, Ending, NewInterface};
use crate::engine::link::lock;
use crate::machine::{Chord, Console, Machine, Variables, no_key};
use crate::net::capture;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testbed_agent::agent::Note;
use testbed_agent::control::{Answer, Ask, Condition};
use testbed_agent::frame::MAX_BODY;
use testbed_agent::{Doing as _, Fault, FaultKind};

/// Who holds a testbed: what can be asked of nobody else. A client of a testbed without one cannot ask for it.
pub trait Holder: Send + Sync {
    /// Ends the testbed.
    ///
    /// # Errors
    /// What may be left of it, and why.
    fn down(&self) -> Result<(), Fault>;

    /// Holds a fork of the testbed under a name of its own.
    ///
    /// # Errors
    /// When the name is taken, or what [`Bed::fork`] says.
    fn fork(&self, bed: &Bed, name: &str, snapshot: Option<&str>) -> Result<(), Fault>;
}

/// What a message holds beside its list, in bytes.
const ROOM: usize = MAX_BODY - 64;

/// So many lines of a console are shown to whoever attaches to it.
const SHOWN_LINES: usize = 24;
/// How long what is typed on a console may wait for a program that reads it, once the console holds no more.
const TYPED: Duration = Duration::from_secs(5);

/// How much is read at once, in bytes.
const PIECE: usize = 32 * 1024;

/// Does what was asked.
///
/// # Errors
/// Why it could not be done.
pub(super) fn carry_out(
    bed: Bed,
    ask: Ask,
    channel: &Arc<Channel>,
    holder: Option<&Arc<dyn Holder>>,
) -> Result<Answer, Fault> {
    let done = |()| Answer::Done;
    match ask {
        Ask::Status { from } => Ok(Answer::Status(status::of(&bed, from))),
        Ask::Link { machine, network, cut: true } => bed.cut(&machine, network.as_deref()).map(done),
        Ask::Link { machine, network, cut: false } => bed.heal(&machine, network.as_deref()).map(done),
        Ask::Attach { machine, network, name, addresses } => {
            let wanted = NewInterface { network, name, addresses };
            bed.attach(&machine, &wanted).map(|_| Answer::Done)
        }
        Ask::Detach { machine, network } => bed.detach(&machine, &network).map(done),
        Ask::Capture { network, filter, count, snap, deadline_ms } => {
            let invalid = |e: &dyn std::fmt::Display| Fault::new(FaultKind::Invalid, e.to_string());
            let options = capture::Options {
                name: network,
                filter: filter
                    .parse()
                    .map_err(|e| invalid(&e).hint("docs/reference/filters.md has the language"))?,
                count,
                snap,
                deadline: deadline_ms.map(Duration::from_millis),
            };
            capture(bed, options, channel)
        }
        Ask::Connect { machine, port, wait_ms } => {
            let socket = bed.connect(&machine, port, Duration::from_millis(wait_ms.into()))?;
            drop(bed);
            connect(socket, channel).map(done)
        }
        Ask::Console { machine } => {
            let console = bed.console(&machine)?;
            drop(bed);
            attach(&console, channel).map(done).map_err(|fault| fault.on(machine))
        }
        Ask::Screenshot { machine } => {
            let picture = bed.find(&machine)?.screenshot()?;
            drop(bed);
            // Whoever wants no more is gone.
            let _ = channel.send(&picture);
            Ok(Answer::Done)
        }
        Ask::Type { machine, text, keys } => type_on(bed.find(&machine)?, &text, &keys, channel).map(done),
        Ask::Screen { machine } => {
            let viewed = bed.find(&machine)?.view()?;
            drop(bed);
            connect(viewed, channel).map(done)
        }
        Ask::Pause { machine } => bed.find(&machine)?.pause().map(done),
        Ask::Resume { machine } => bed.find(&machine)?.resume().map(done),
        Ask::KillMachine { machine } => {
            let deadline = bed.spec().deadlines().stop();
            let machine = bed.find(&machine)?;
            if machine.condition() == Condition::Stopped {
                let fault = Fault::new(FaultKind::State, "kill a machine that has stopped");
                return Err(fault.on(machine.name()));
            }
            machine.kill(deadline).map(done)
        }
        Ask::Files { machine } => bed.files(&machine).map(|_| Answer::Done),
        Ask::Logs { machine, service, follow } => logs(bed, &machine, &service, follow, channel).map(done),
        Ask::Start { machine, run } => bed.start_program(&machine, run).map(|pid| Answer::Started { pid }),
        Ask::StopMachine { machine } => bed.stop(&machine, Ending::Soft).map(done),
        Ask::StartMachine { machine } => bed.start(&machine).map(done),
        Ask::RestartMachine { machine, hard } => {
            bed.restart(&machine, if hard { Ending::Hard } else { Ending::Soft }).map(done)
        }
        Ask::Snapshot { name, machines } => bed.snapshot(&name, &texts(&machines)).map(done),
        Ask::Rollback { name, machines } => bed.rollback(&name, &texts(&machines)).map(done),
        Ask::DeleteSnapshot { name, children } => bed.delete_snapshot(&name, children).map(done),
        Ask::Snapshots { from } => Ok(snapshots(&bed, from)),
        Ask::Changes { machine } => changes(bed, &machine, channel).map(done),
        Ask::Fork { name, snapshot } => {
            let nobody = || Fault::new(FaultKind::State, "fork a testbed that ends with its test");
            holder.ok_or_else(nobody)?.fork(&bed, &name, snapshot.as_deref()).map(done)
        }
        Ask::OpenPort { machine, port, host } => {
            bed.open_port(&machine, port, host).map(|published| Answer::Port(published.host))
        }
        Ask::ClosePort { host } => bed.close_port(host).map(done),
        Ask::Variable { machine, key, wait_ms } => {
            let wait = Duration::from_millis(wait_ms.into());
            let variables = bed.find(&machine)?.variables();
            drop(bed);
            Ok(Answer::Variable(variable(&variables, &key, wait, channel)))
        }
        Ask::SetVariable { machine, key, value } => {
            let machine = bed.find(&machine)?;
            machine.variables().set(&key, &value).map(done).map_err(|fault| fault.on(machine.name()))
        }
        Ask::ForgetVariable { machine, key } => {
            Ok(Answer::Variable(bed.find(&machine)?.variables().remove(&key)))
        }
        Ask::Variables { machine, after } => {
            let (variables, more) = bed.find(&machine)?.variables().page(&after, ROOM);
            Ok(Answer::Variables { variables, more })
        }
        Ask::Down => match holder {
            Some(holder) => {
                drop(bed);
                holder.down().map(done)
            }
            None => Err(Fault::new(FaultKind::State, "end a testbed that somebody else holds")
                .hint("the copy of a test ends with its test")),
        },
    }
}

/// A variable's value, once it has one or the client wants no more of it.
fn variable(variables: &Arc<Variables>, key: &str, wait: Duration, channel: &Arc<Channel>) -> Option<String> {
    let stopped = Arc::new(AtomicBool::new(false));
    let (its, sets) = (Arc::clone(variables), Arc::clone(&stopped));
    channel.on_stop(move || {
        sets.store(true, Ordering::Release);
        its.wake();
    });
    variables.wait_unless(key, wait, &stopped)
}

fn texts(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

fn snapshots(bed: &Bed, from: u32) -> Answer {
    let mut room = ROOM;
    let mut page = Vec::new();
    let all = bed.snapshots();
    for its in all.iter().skip(from as usize) {
        let length = postcard::to_stdvec(its).map_or(ROOM, |bytes| bytes.len());
        if length > room && !page.is_empty() {
            break;
        }
        room = room.saturating_sub(length);
        page.push(its.clone());
    }
    let more = from as usize + page.len() < all.len();
    Answer::Snapshots { snapshots: page, more }
}

fn changes(bed: Bed, machine: &str, channel: &Arc<Channel>) -> Result<(), Fault> {
    let changes = bed.changes(machine)?;
    drop(bed);
    let mut text = Vec::new();
    for change in changes {
        // A path and a word are always JSON.
        let _ = serde_json::to_writer(&mut text, &change);
        text.push(b'\n');
        if text.len() >= PIECE {
            if channel.send(&text).is_err() {
                return Ok(());
            }
            text.clear();
        }
    }
    // Whoever wants no more is gone.
    let _ = channel.send(&text);
    Ok(())
}

/// Where a capture writes to: the channel, which is told when nothing more comes.
struct Packets {
    channel: Arc<Channel>,
    ended: Arc<AtomicBool>,
}

impl Write for Packets {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.channel.send(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Packets {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.channel.wake();
    }
}

fn capture(bed: Bed, options: capture::Options, channel: &Arc<Channel>) -> Result<Answer, Fault> {
    let ended = Arc::new(AtomicBool::new(false));
    let packets = Packets { channel: Arc::clone(channel), ended: Arc::clone(&ended) };
    let capture = bed.capture(options, packets)?;
    drop(bed);
    channel.note(&Note::Ready);
    channel.wait_stopped(|| ended.load(Ordering::Acquire));
    let summary = capture.stop()?;
    Ok(Answer::Captured { packets: summary.packets, dropped: summary.dropped })
}

fn connect(socket: OwnedFd, channel: &Arc<Channel>) -> Result<(), Fault> {
    use rustix::net::{Shutdown, shutdown};
    rustix::io::ioctl_fionbio(&socket, false).doing("relay a connection")?;
    let socket = Arc::new(socket);
    let stopped = Arc::clone(&socket);
    // A socket that is shut down already is what is wanted.
    channel.on_stop(move || {
        let _ = shutdown(&stopped, Shutdown::Both);
    });
    channel.note(&Note::Ready);
    let (towards, input) = (Arc::clone(&socket), Arc::clone(channel));
    std::thread::Builder::new()
        .name("testbed-connect".into())
        .spawn(move || {
            while let Some(bytes) = input.receive() {
                if write_all(&towards, &bytes).is_err() {
                    // That nobody reads shows at the other direction, if it is the end.
                    break;
                }
            }
            let _ = shutdown(&towards, Shutdown::Write);
        })
        .doing("relay a connection")?;
    let mut buffer = vec![0_u8; PIECE];
    let result = loop {
        match rustix::io::read(&socket, &mut buffer) {
            Ok(0) => break Ok(()),
            Ok(length) => {
                if channel.send(&buffer[..length]).is_err() {
                    break Ok(());
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => break Err(Fault::system("relay a connection", &error.into())),
        }
    };
    // What still writes towards the machine has nobody to write to.
    channel.stop(false);
    result
}

fn write_all(socket: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    use rustix::net::{SendFlags, send};
    while !bytes.is_empty() {
        match send(socket.as_fd(), bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Types a text, and presses keys, until the client wants no more.
fn type_on(machine: &Machine, text: &str, keys: &[String], channel: &Channel) -> Result<(), Fault> {
    let chords = text.chars().map(Chord::of).chain(keys.iter().map(|keys| Chord::parse(keys)));
    let chords: Vec<Chord> =
        chords.collect::<Result<_, _>>().map_err(|unknown| no_key(&unknown).on(machine.name()))?;
    for chord in chords {
        if channel.is_stopped() {
            break;
        }
        machine.press(&chord)?;
    }
    Ok(())
}

/// Shows a console, from its last lines on, and types what comes.
fn attach(console: &Arc<Console>, channel: &Arc<Channel>) -> Result<(), Fault> {
    let log = console.log();
    let stopped = Arc::new(AtomicBool::new(false));
    let (its, sets) = (Arc::clone(&log), Arc::clone(&stopped));
    channel.on_stop(move || {
        sets.store(true, Ordering::Release);
        its.wake();
    });
    channel.note(&Note::Ready);
    let untyped = Arc::new(Mutex::new(None));
    let (types, input, failed) = (Arc::clone(console), Arc::clone(channel), Arc::clone(&untyped));
    std::thread::Builder::new()
        .name("testbed-console".into())
        .spawn(move || {
            while let Some(bytes) = input.receive() {
                if let Err(fault) = types.write(&bytes, TYPED) {
                    *lock(&failed) = Some(fault);
                    input.stop(false);
                    break;
                }
            }
        })
        .doing("attach to a console")?;
    let mut from = log.last_lines(SHOWN_LINES);
    while let Some((bytes, next)) = log.follow_unless(from, &stopped) {
        if channel.send(&bytes).is_err() {
            break;
        }
        from = next;
    }
    // What still waits to be typed has nobody to read it.
    channel.stop(false);
    let untyped = lock(&untyped).take();
    untyped.map_or(Ok(()), Err)
}

fn logs(bed: Bed, machine: &str, service: &str, follow: bool, channel: &Arc<Channel>) -> Result<(), Fault> {
    bed.find(machine)?;
    let Some(log) = bed.service_log(machine, service) else {
        let its = bed.services().into_iter().filter(|s| s.machine == machine).map(|s| s.name);
        let names: Vec<String> = its.collect();
        let fault = Fault::new(FaultKind::NotFound, format!("no service `{service}`")).on(machine);
        return Err(match names.len() {
            0 => fault.hint("this machine has no services"),
            _ => fault.hint(format!("there are: {}", names.join(", "))),
        });
    };
    drop(bed);
    if !follow {
        // Whoever wants no more is gone.
        let _ = channel.send(&log.bytes());
        return Ok(());
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let (its, sets) = (Arc::clone(&log), Arc::clone(&stopped));
    channel.on_stop(move || {
        sets.store(true, Ordering::Release);
        its.wake();
    });
    let mut from = 0;
    while let Some((bytes, next)) = log.follow_unless(from, &stopped) {
        if channel.send(&bytes).is_err() {
            break;
        }
        from = next;
    }
    Ok(())
}
