//! The agent: carries out what the keeper asks, one event at a time.
//!
//! One thread, one loop. What could take long runs as a process of its own: programs, and the agent's tools as forks
//! of it. The loop only starts them, moves bytes between their pipes and the socket as far as credit goes, and reaps.

mod inside;
mod port;

use super::capsule::{Capsule, Inside};
use super::control::Relay;
use super::line::Line;
use super::{files, processes, run};
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use testbed_agent::agent::{Exit, Note, Open, Reply, Report, Request, Steer, Wake};
use testbed_agent::frame::{
    Decoder, Frame, FrameError, Hello, Kind, MAX_DATA, Stream, WINDOW, encode, encode_data, encode_message,
};
use testbed_agent::launch::Machine;
use testbed_agent::{Fault, FaultKind};
use testbed_sys::process::{self, SingleThreaded, Status};

/// What an event of the poll belongs to: a channel's part, or one of the agent's own descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Socket,
    Children,
    Input(u32),
    Output(u32),
    Error(u32),
    Report(u32),
    /// The control socket.
    Control,
    /// A program that is connected to it.
    Client(u32),
    /// A socket that leads into a capsule.
    Inside(Inside),
}

impl Part {
    fn token(self) -> epoll::EventData {
        let (kind, channel) = match self {
            Part::Socket => (0, 0),
            Part::Children => (1, 0),
            Part::Input(c) => (2, c),
            Part::Output(c) => (3, c),
            Part::Error(c) => (4, c),
            Part::Report(c) => (5, c),
            Part::Control => (6, 0),
            Part::Client(c) => (7, c),
            Part::Inside(Inside::Launcher) => (8, 0),
            Part::Inside(Inside::Machine(m)) => (9, m),
        };
        epoll::EventData::new_u64(u64::from(channel) << 8 | kind)
    }

    fn of(data: epoll::EventData) -> Part {
        let number = data.u64();
        let channel = (number >> 8) as u32;
        match number & 0xff {
            0 => Part::Socket,
            1 => Part::Children,
            2 => Part::Input(channel),
            3 => Part::Output(channel),
            4 => Part::Error(channel),
            5 => Part::Report(channel),
            6 => Part::Control,
            7 => Part::Client(channel),
            8 => Part::Inside(Inside::Launcher),
            _ => Part::Inside(Inside::Machine(channel)),
        }
    }
}

/// A program or tool and the channel it runs on.
struct Job {
    pid: u32,
    ended: Option<Status>,
    timed_out: bool,
    input: Option<Input>,
    output: Option<OwnedFd>,
    error: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    report: Option<OwnedFd>,
    told: Vec<u8>,
    is_tool: bool,
    /// Bytes that may still be sent.
    credit: u32,
    /// Output and error wait for credit, and are not polled.
    starved: bool,
    /// Nobody knows of it: it was started before the machine was copied. What it writes goes nowhere.
    is_orphan: bool,
}

struct Input {
    pipe: OwnedFd,
    pending: VecDeque<u8>,
    ends: bool,
    polled: bool,
}

/// Bytes of the socket that are read at once.
const READ: usize = 32 * 1024;
/// Where bytes are read to. Of memory that the program finds zeroed only what is used is there at all.
static BUFFER: Mutex<[u8; MAX_DATA]> = Mutex::new([0; MAX_DATA]);

struct Agent<'a> {
    machine: Cow<'a, Machine>,
    token: SingleThreaded,
    poll: OwnedFd,
    /// Tells of the end of its children.
    children: Rc<OwnedFd>,
    line: Line,
    decoder: Decoder,
    buffer: MutexGuard<'static, [u8; MAX_DATA]>,
    handed: VecDeque<OwnedFd>,
    out: Vec<u8>,
    out_polled: bool,
    jobs: HashMap<u32, Job>,
    by_pid: HashMap<u32, u32>,
    deadlines: BTreeMap<(Instant, u32), ()>,
    /// Of a machine that may drive its testbed.
    relay: Option<Relay>,
    /// The machines inside, if there are any.
    capsule: Option<Capsule>,
    /// Nothing is read or written until it is woken.
    rests: bool,
    /// Behind a port: the machine's own root is the root.
    is_in_root: bool,
}

/// Serves the keeper until it is gone or breaks the protocol. The caller then ends the machine by ending process 1.
pub(super) fn serve(line: Line, machine: Cow<'_, Machine>, token: SingleThreaded) -> io::Result<()> {
    prepare(line, machine, token)?.live()
}

fn prepare<'a>(line: Line, machine: Cow<'a, Machine>, token: SingleThreaded) -> io::Result<Agent<'a>> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let null = rustix::fs::open(c"/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    let children = process::signal_fd(&[libc::SIGCHLD])?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&line, true)?;
    epoll::add(&poll, &line, Part::Socket.token(), epoll::EventFlags::IN)?;
    epoll::add(&poll, &children, Part::Children.token(), epoll::EventFlags::IN)?;
    let relay = machine.control.then(Relay::listen).transpose()?;
    if let Some(relay) = &relay {
        epoll::add(&poll, &relay.listener, Part::Control.token(), epoll::EventFlags::IN)?;
    }
    let mut agent = Agent {
        machine,
        token,
        poll,
        children: Rc::new(children),
        line,
        decoder: Decoder::new(),
        buffer: BUFFER.lock().unwrap_or_else(PoisonError::into_inner),
        handed: VecDeque::new(),
        out: Vec::new(),
        out_polled: false,
        jobs: HashMap::new(),
        by_pid: HashMap::new(),
        deadlines: BTreeMap::new(),
        relay,
        capsule: None,
        rests: false,
        is_in_root: false,
    };
    agent.send(0, Kind::Hello, &Hello::ours());
    agent.flush()?;
    Ok(agent)
}

impl Agent<'_> {
    fn live(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(32);
        loop {
            events.clear();
            let wait = self.next_deadline().map(|left| Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            });
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let (part, flags) = (Part::of(event.data), event.flags);
                match part {
                    Part::Socket => {
                        if flags.contains(epoll::EventFlags::OUT) {
                            self.flush()?;
                        }
                        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP) {
                            self.read_socket()?;
                        }
                    }
                    Part::Children => self.reap(&Rc::clone(&self.children))?,
                    Part::Input(channel) => self.feed(channel),
                    Part::Output(channel) => self.pump(channel, Stream::Output),
                    Part::Error(channel) => self.pump(channel, Stream::Error),
                    Part::Report(channel) => self.read_report(channel),
                    Part::Control => {
                        if let Some(relay) = &mut self.relay {
                            relay.accept(&self.poll, |client| Part::Client(client).token());
                        }
                    }
                    Part::Client(client) => {
                        if let Some(relay) = &mut self.relay {
                            relay.event(client, flags, &mut self.out);
                        }
                    }
                    Part::Inside(inside) => self.heard_inside(inside, flags)?,
                }
            }
            self.enforce_deadlines();
            self.flush()?;
            if let Some(relay) = &mut self.relay {
                relay.settle(&self.poll, self.out.len(), |client| Part::Client(client).token())?;
            }
            self.settle_inside()?;
            if self.rests {
                self.rest()?;
            }
        }
    }

    fn read_socket(&mut self) -> io::Result<()> {
        let mut fds = Vec::new();
        match self.line.receive(&mut self.buffer[..READ], &mut fds) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => self.decoder.feed(&self.buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        self.handed.extend(fds);
        while let Some(frame) = self.decoder.next_frame().map_err(io::Error::other)? {
            let count = usize::from(frame.fds);
            if count > self.handed.len() {
                return Err(io::Error::other(FrameError::Descriptors(frame.fds)));
            }
            let handed = self.handed.drain(..count).collect();
            self.take(&frame, handed).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn take(&mut self, frame: &Frame, handed: Vec<OwnedFd>) -> Result<(), FrameError> {
        let channel = frame.channel;
        if let Some(relay) = self.relay.as_mut().filter(|_| channel != 0 && channel.is_multiple_of(2)) {
            return relay.deliver(frame, &mut self.out);
        }
        if !self.rests && self.deliver_inside(frame)? {
            return Ok(());
        }
        match frame.kind {
            Kind::Wake => {
                let wake: Wake = frame.message("wake")?;
                self.rests = false;
                self.send(0, Kind::Hello, &Hello::ours());
                if let Err(fault) = self.wake(&wake, frame) {
                    self.send(0, Kind::Reply, &Reply::Failed(fault));
                }
                Ok(())
            }
            _ if self.rests => Err(FrameError::Body("time")),
            Kind::Hello => frame.message::<Hello>("hello")?.agree().map(|_| ()),
            Kind::Open => {
                let open: Open = frame.message("request")?;
                if matches!(open.request, Request::TakeUp(_)) {
                    self.take_up(channel);
                    return Ok(());
                }
                if self.jobs.contains_key(&channel) {
                    return Err(FrameError::Body("channel number"));
                }
                match self.carry_out(channel, open.request, handed) {
                    Ok(Some(reply)) => self.send(channel, Kind::Reply, &reply),
                    Ok(None) => {}
                    Err(fault) => self.send(channel, Kind::Reply, &Reply::Failed(fault)),
                }
                Ok(())
            }
            Kind::Data => {
                let (stream, payload) = frame.data()?;
                let Some(job) = self.jobs.get_mut(&channel) else { return Ok(()) };
                let Some(input) = job.input.as_mut().filter(|i| stream == Stream::Input && !i.ends) else {
                    self.grant(channel, payload.len());
                    return Ok(());
                };
                if input.pending.len() + payload.len() > WINDOW as usize {
                    return Err(FrameError::Body("credit"));
                }
                input.pending.extend(payload);
                self.feed(channel);
                Ok(())
            }
            Kind::End => {
                if let Some(input) = self.jobs.get_mut(&channel).and_then(|j| j.input.as_mut()) {
                    input.ends = true;
                    self.feed(channel);
                }
                frame.end().map(|_| ())
            }
            Kind::Credit => {
                let more = frame.credit()?;
                if let Some(job) = self.jobs.get_mut(&channel) {
                    job.credit = job.credit.saturating_add(more).min(WINDOW);
                    if job.starved {
                        job.starved = false;
                        self.pump(channel, Stream::Output);
                        self.pump(channel, Stream::Error);
                    }
                }
                Ok(())
            }
            Kind::Steer => {
                let steer: Steer = frame.message("steering")?;
                let Some(job) = self.jobs.get(&channel) else { return Ok(()) };
                match steer {
                    Steer::Signal(signal) if job.ended.is_none() => {
                        // A process that has just ended needs no signal.
                        let _ = process::kill(-(job.pid as i32), signal);
                    }
                    Steer::Resize { rows, columns } => {
                        if let Some(terminal) = &job.terminal {
                            let _ = run::resize(terminal, rows, columns);
                        }
                    }
                    Steer::Signal(_) => {}
                }
                Ok(())
            }
            Kind::Abort => {
                if let Some(job) = self.jobs.get_mut(&channel) {
                    if job.ended.is_none() {
                        let _ = process::kill(-(job.pid as i32), libc::SIGKILL);
                    }
                    (job.output, job.error) = (None, None);
                    self.conclude(channel);
                }
                Ok(())
            }
            Kind::Ask | Kind::Note | Kind::Reply => Err(FrameError::Body("direction")),
        }
    }

    /// Answers at once, or starts a job that will.
    fn carry_out(
        &mut self,
        channel: u32,
        request: Request,
        handed: Vec<OwnedFd>,
    ) -> Result<Option<Reply>, Fault> {
        let reply = match request {
            Request::Run(wanted) => {
                let started = run::start(&self.machine, &wanted, handed)?;
                self.begin(channel, started, wanted.deadline_ms, false)?;
                return Ok(None);
            }
            Request::Tool(tooling) => {
                let device = tooling.device.map(|order| self.device(order)).transpose()?;
                let started = run::start_tool(self.token, &self.machine, &tooling, handed, device)?;
                self.begin(channel, started, tooling.deadline_ms, true)?;
                return Ok(None);
            }
            Request::Stat { path } => files::stat(&path)?,
            Request::List { path, after } => files::list(&path, &after)?,
            Request::MakeDir { path, mode, parents } => files::make_dir(&path, mode, parents)?,
            Request::Remove { path, recursive } => files::remove(&path, recursive)?,
            Request::MakeTemporary { folder } => files::make_temporary(folder)?,
            Request::Rename { from, to } => files::rename(&from, &to)?,
            Request::Put { path, mode, content } => files::put(&path, mode, &content)?,
            Request::EnterRoot => self.enter_root()?,
            Request::Enclose { images } => self.enclose(images)?,
            Request::HandOver { program } => self.hand_over(&program)?,
            Request::Become { machine, identity } => self.become_machine(*machine, identity.as_ref())?,
            Request::Load { modules } => self.load(&modules)?,
            Request::Rest => {
                self.rests = matches!(self.line, Line::Port(_));
                Reply::Done
            }
            Request::TakeUp(_) => return Ok(None),
            Request::Sync => {
                if matches!(self.line, Line::Port(_)) {
                    rustix::fs::sync();
                }
                Reply::Done
            }
            Request::Processes { after } => processes::list(after)?,
            Request::Kill { pid, signal } => processes::kill(pid, signal)?,
        };
        Ok(Some(reply))
    }

    fn begin(
        &mut self,
        channel: u32,
        started: run::Started,
        deadline_ms: Option<u64>,
        is_tool: bool,
    ) -> Result<(), Fault> {
        let watch = |fd: &Option<OwnedFd>, part: Part, poll: &OwnedFd| match fd {
            Some(fd) => epoll::add(poll, fd, part.token(), epoll::EventFlags::IN),
            None => Ok(()),
        };
        let watched = watch(&started.output, Part::Output(channel), &self.poll)
            .and_then(|()| watch(&started.error, Part::Error(channel), &self.poll))
            .and_then(|()| watch(&started.report, Part::Report(channel), &self.poll));
        if let Err(error) = watched {
            let _ = process::kill(-(started.pid as i32), libc::SIGKILL);
            return Err(Fault::system("watch a process", &error.into()));
        }
        self.by_pid.insert(started.pid, channel);
        if let Some(after) = deadline_ms {
            self.deadlines.insert((Instant::now() + Duration::from_millis(after), channel), ());
        }
        self.jobs.insert(
            channel,
            Job {
                pid: started.pid,
                ended: None,
                timed_out: false,
                input: started.input.map(|pipe| Input {
                    pipe,
                    pending: VecDeque::new(),
                    ends: false,
                    polled: false,
                }),
                output: started.output,
                error: started.error,
                terminal: started.terminal,
                report: started.report,
                told: Vec::new(),
                is_tool,
                credit: WINDOW,
                starved: false,
                is_orphan: false,
            },
        );
        self.send(channel, Kind::Note, &Note::Started { pid: started.pid });
        Ok(())
    }

    /// Moves what has come for a program into its pipe.
    fn feed(&mut self, channel: u32) {
        let Some(job) = self.jobs.get_mut(&channel) else { return };
        let Some(input) = &mut job.input else { return };
        let mut moved = 0;
        let open = loop {
            let (front, _) = input.pending.as_slices();
            if front.is_empty() {
                break true;
            }
            match rustix::io::write(&input.pipe, front) {
                Ok(n) => {
                    input.pending.drain(..n);
                    moved += n;
                }
                Err(Errno::AGAIN) => break true,
                Err(Errno::INTR) => {}
                Err(_) => break false,
            }
        };
        let wants_poll = open && !input.pending.is_empty();
        if wants_poll != input.polled {
            input.polled = wants_poll;
            let _ = if wants_poll {
                epoll::add(&self.poll, &input.pipe, Part::Input(channel).token(), epoll::EventFlags::OUT)
            } else {
                epoll::delete(&self.poll, &input.pipe)
            };
        }
        if !open {
            moved += input.pending.len();
        }
        if !open || (input.ends && input.pending.is_empty()) {
            if input.ends
                && let Some(terminal) = &job.terminal
            {
                // The end of typed input is a character (termios(3), VEOF).
                let _ = rustix::io::write(terminal, &[4]);
            }
            job.input = None;
        }
        if moved > 0 {
            self.grant(channel, moved);
        }
    }

    fn grant(&mut self, channel: u32, bytes: usize) {
        encode(&mut self.out, channel, Kind::Credit, 0, &(bytes as u32).to_le_bytes());
    }

    /// Moves what a program has written to the socket, as far as credit goes.
    fn pump(&mut self, channel: u32, stream: Stream) {
        let Some(job) = self.jobs.get_mut(&channel) else { return };
        let bytes = &mut *self.buffer;
        loop {
            let pipe = if stream == Stream::Output { &mut job.output } else { &mut job.error };
            let Some(fd) = pipe else { break };
            let part = if stream == Stream::Output { Part::Output(channel) } else { Part::Error(channel) };
            let room = if job.is_orphan { bytes.len() } else { bytes.len().min(job.credit as usize) };
            if room == 0 {
                job.starved = true;
                let _ = epoll::modify(&self.poll, &*fd, part.token(), epoll::EventFlags::empty());
                return;
            }
            match rustix::io::read(&*fd, &mut bytes[..room]) {
                Ok(n) if n > 0 && job.is_orphan => {
                    if job.ended.is_none() {
                        // Others have their turn, however fast it writes.
                        let _ = epoll::modify(&self.poll, &*fd, part.token(), epoll::EventFlags::IN);
                        return;
                    }
                }
                Ok(n) if n > 0 => {
                    job.credit -= n as u32;
                    encode_data(&mut self.out, channel, stream, &bytes[..n]);
                    if self.out.len() > 4 * MAX_DATA && job.ended.is_none() {
                        // It may not be polled: credit has brought us here.
                        let _ = epoll::modify(&self.poll, &*fd, part.token(), epoll::EventFlags::IN);
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if job.ended.is_none() => {
                    let _ = epoll::modify(&self.poll, &*fd, part.token(), epoll::EventFlags::IN);
                    return;
                }
                // The end; or all that was written before the program's own end, whoever else still holds the pipe.
                _ => {
                    *pipe = None;
                    break;
                }
            }
        }
        self.conclude(channel);
    }

    fn read_report(&mut self, channel: u32) {
        let Some(job) = self.jobs.get_mut(&channel) else { return };
        let Some(pipe) = &job.report else { return };
        let bytes = &mut *self.buffer;
        match rustix::io::read(pipe, &mut *bytes) {
            Ok(n) if n > 0 => {
                let mut told = &bytes[..n];
                if job.told.is_empty() && told[0] == run::READY {
                    told = &told[1..];
                    let mut out = std::mem::take(&mut self.out);
                    // A note fits a frame.
                    let _ = encode_message(&mut out, channel, Kind::Note, 0, &Note::Ready);
                    self.out = out;
                }
                if job.told.len() + told.len() <= testbed_agent::frame::MAX_BODY {
                    job.told.extend_from_slice(told);
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            _ => {
                job.report = None;
                self.conclude(channel);
            }
        }
    }

    fn reap(&mut self, children: &OwnedFd) -> io::Result<()> {
        let mut information = [0_u8; 128 * 4];
        // What does not fit is read at the next turn of the loop.
        let _ = rustix::io::read(children, &mut information);
        while let Some((pid, status)) = process::reap(None)? {
            let Some(channel) = self.by_pid.remove(&pid) else { continue };
            if let Some(job) = self.jobs.get_mut(&channel) {
                job.ended = Some(status);
                job.input = None;
                self.pump(channel, Stream::Output);
                self.pump(channel, Stream::Error);
                self.conclude(channel);
            }
        }
        Ok(())
    }

    /// Tells the end of a job once it has ended and all it wrote is under way.
    fn conclude(&mut self, channel: u32) {
        let Some(job) = self.jobs.get(&channel) else { return };
        let Some(status) = job.ended else { return };
        if job.output.is_some() || job.error.is_some() || job.report.is_some() {
            return;
        }
        let Some(job) = self.jobs.remove(&channel) else { return };
        self.deadlines.retain(|(_, c), ()| *c != channel);
        let how = match status {
            Status::Code(code) => Exit::Code(code),
            Status::Signal(signal) => Exit::Signal(signal),
        };
        let report = match postcard::from_bytes::<Result<Report, Fault>>(&job.told) {
            Ok(Ok(report)) => Some(report),
            Ok(Err(fault)) => {
                self.send(channel, Kind::Reply, &Reply::Failed(fault));
                return;
            }
            Err(_) => None,
        };
        if job.is_tool && report.is_none() && !job.timed_out && how.success() {
            let fault = Fault::new(FaultKind::Protocol, "read the report of a tool");
            self.send(channel, Kind::Reply, &Reply::Failed(fault));
            return;
        }
        self.send(channel, Kind::Reply, &Reply::Ended { how, timed_out: job.timed_out, report });
    }

    fn next_deadline(&self) -> Option<Duration> {
        let ((at, _), ()) = self.deadlines.first_key_value()?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    fn enforce_deadlines(&mut self) {
        let now = Instant::now();
        while let Some(((at, channel), ())) = self.deadlines.first_key_value().map(|(k, v)| (*k, *v)) {
            if at > now {
                return;
            }
            self.deadlines.pop_first();
            if let Some(job) = self.jobs.get_mut(&channel).filter(|j| j.ended.is_none()) {
                job.timed_out = true;
                let _ = process::kill(-(job.pid as i32), libc::SIGKILL);
            }
        }
    }

    fn send<T: serde::Serialize>(&mut self, channel: u32, kind: Kind, message: &T) {
        if encode_message(&mut self.out, channel, kind, 0, message).is_err() {
            let fault = Fault::new(FaultKind::Exhausted, "send an answer that is too long");
            // This one is short.
            let _ = encode_message(&mut self.out, channel, Kind::Reply, 0, &Reply::Failed(fault));
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.out.len() {
            match self.line.send(&self.out[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..sent);
        let wants_poll = !self.out.is_empty();
        if wants_poll != self.out_polled {
            self.out_polled = wants_poll;
            let flags = if wants_poll {
                epoll::EventFlags::IN | epoll::EventFlags::OUT
            } else {
                epoll::EventFlags::IN
            };
            epoll::modify(&self.poll, &self.line, Part::Socket.token(), flags)?;
        }
        Ok(())
    }
}
