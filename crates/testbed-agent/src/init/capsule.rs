//! The machines inside a machine: what their keeper says to them and to their launcher comes by this agent's port, and
//! goes on by sockets; and back.
//!
//! Frames go through whole, with their numbers: the keeper's channels keep theirs, those that programs of machines open
//! get others, since all machines count alike. No descriptor leaves: what the launcher opens waits here for a tool.

use super::guest::own_program;
use rustix::event::epoll;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use testbed_agent::agent::{Open, Reply};
use testbed_agent::capsule::{Word, addressed};
use testbed_agent::control::MAX_CHANNELS;
use testbed_agent::frame::{Decoder, Frame, FrameError, Hello, Kind, encode, encode_message};
use testbed_agent::launch::{Ended, Order};
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::fdpass;
use testbed_sys::process::Launch;

/// Nobody inside is listened to while so many bytes wait for the keeper.
const MAX_WAITING: usize = 1 << 20;
/// A machine that does not read while so many bytes wait for it is let go.
const MAX_HELD: usize = 64 << 20;
/// Bytes of a socket that are read at once.
const READ: usize = 64 * 1024;

/// The launcher, the machines, and who has which channel.
pub(super) struct Capsule {
    launcher: Peer,
    machines: BTreeMap<u32, Peer>,
    /// The machines that channels of the keeper's lead to.
    routes: HashMap<u32, u32>,
    /// Channels that machines have opened, by our numbers: the machine, and its number.
    opened: HashMap<u32, (u32, u32)>,
    /// And the other way round.
    numbers: HashMap<(u32, u32), u32>,
    /// What the launcher has opened, by the channel of the order.
    devices: HashMap<u32, OwnedFd>,
    /// Nobody is listened to.
    paused: bool,
    buffer: Vec<u8>,
}

/// Who is at the other end of a socket.
struct Peer {
    socket: OwnedFd,
    decoder: Decoder,
    handed: VecDeque<OwnedFd>,
    /// What it has not taken yet, with the descriptors that go with the first byte of each piece.
    out: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    held: usize,
    flags: epoll::EventFlags,
}

/// What a socket had to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Something,
    Nothing,
    /// Whoever was there has gone.
    End,
}

/// Which of the sockets something happened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    Launcher,
    Machine(u32),
}

impl Capsule {
    /// Starts the launcher.
    pub(super) fn start(
        poll: &OwnedFd,
        token: impl Fn(Inside) -> epoll::EventData,
    ) -> Result<Capsule, Fault> {
        let (ours, theirs) = fdpass::stream_pair().doing("make a socket")?;
        let null = rustix::fs::open(c"/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
        let null = null.doing("open /dev/null")?;
        let program = std::ffi::CString::new(own_program()).unwrap_or_default();
        let launch = Launch {
            files: &[program],
            arguments: &[c"testbed-agent".into(), c"launcher".into()],
            environment: &[],
            folder: c"/",
            stdio: [theirs.as_fd(), null.as_fd(), null.as_fd()],
            terminal: false,
            user: None,
            more: &[],
        };
        launch.start().map_err(|failed| Fault::system("start the launcher", &failed.error))?;
        let launcher = Peer::new(ours).doing("set up a socket")?;
        epoll::add(poll, &launcher.socket, token(Inside::Launcher), launcher.flags)
            .doing("watch the launcher")?;
        Ok(Capsule {
            launcher,
            machines: BTreeMap::new(),
            routes: HashMap::new(),
            opened: HashMap::new(),
            numbers: HashMap::new(),
            devices: HashMap::new(),
            paused: false,
            buffer: vec![0; READ],
        })
    }

    /// No machine has been made in it.
    pub(super) fn is_empty(&self) -> bool {
        self.machines.is_empty()
    }

    /// What an order has opened.
    pub(super) fn take_device(&mut self, order: u32) -> Result<OwnedFd, Fault> {
        let missing = || Fault::new(FaultKind::NotFound, "use what no order has opened");
        self.devices.remove(&order).ok_or_else(missing)
    }

    /// The keeper is another one: what the former had asked for is nobody's, and the machines hear of it.
    pub(super) fn change_keeper(&mut self, wake: &Frame) {
        self.routes.clear();
        self.opened.clear();
        self.numbers.clear();
        self.devices.clear();
        for machine in self.machines.values_mut() {
            machine.send(wake.channel, wake.kind, &wake.body);
        }
    }

    /// Takes a frame of the keeper's, if it is for somebody inside.
    pub(super) fn deliver(
        &mut self,
        frame: &Frame,
        out: &mut Vec<u8>,
        poll: &OwnedFd,
        token: impl Fn(Inside) -> epoll::EventData,
    ) -> Result<bool, FrameError> {
        let channel = frame.channel;
        match frame.kind {
            Kind::Ask => {
                let order: Order = frame.message("order")?;
                let mut fds = Vec::new();
                if let Order::MakeMachine { machine, .. } = &order {
                    fds.extend(self.expect(*machine, poll, token));
                }
                let mut bytes = Vec::new();
                encode(&mut bytes, channel, Kind::Ask, fds.len() as u8, &frame.body);
                self.launcher.push(bytes, fds);
                return Ok(true);
            }
            Kind::Open => {
                let open: Open = frame.message("request")?;
                if open.machine.is_empty() {
                    return Ok(false);
                }
                let machine = addressed(&open.machine).ok_or(FrameError::Body("address"))?;
                match self.machines.get_mut(&machine) {
                    Some(peer) => {
                        self.routes.insert(channel, machine);
                        peer.send(channel, Kind::Open, &frame.body);
                    }
                    None => {
                        let fault = Fault::new(FaultKind::State, "ask a machine that has ended");
                        encode_message(out, channel, Kind::Reply, 0, &Reply::Failed(fault))?;
                    }
                }
                return Ok(true);
            }
            _ => {}
        }
        if channel != 0 && channel.is_multiple_of(2) {
            let Some((machine, number)) = self.opened.get(&channel).copied() else { return Ok(true) };
            if frame.kind == Kind::Reply {
                self.opened.remove(&channel);
                self.numbers.remove(&(machine, number));
            }
            if let Some(peer) = self.machines.get_mut(&machine) {
                peer.send(number, frame.kind, &frame.body);
            }
            return Ok(true);
        }
        let Some(machine) = self.routes.get(&channel) else { return Ok(false) };
        if let Some(peer) = self.machines.get_mut(machine) {
            peer.send(channel, frame.kind, &frame.body);
        }
        Ok(true)
    }

    /// Makes the socket of a machine that is to be; gives its end. Without one the launcher says why it can make none.
    fn expect(
        &mut self,
        machine: u32,
        poll: &OwnedFd,
        token: impl Fn(Inside) -> epoll::EventData,
    ) -> Option<OwnedFd> {
        let (ours, theirs) = fdpass::stream_pair().ok()?;
        let mut peer = Peer::new(ours).ok()?;
        epoll::add(poll, &peer.socket, token(Inside::Machine(machine)), peer.flags).ok()?;
        let mut hello = Vec::new();
        encode_message(&mut hello, 0, Kind::Hello, 0, &Hello::ours()).ok()?;
        peer.push(hello, Vec::new());
        self.machines.insert(machine, peer);
        Some(theirs)
    }

    /// Something happened on a socket. What is to be said of it goes to `out`.
    ///
    /// # Errors
    /// The launcher has gone, and with it all that this machine is for.
    pub(super) fn event(
        &mut self,
        inside: Inside,
        flags: epoll::EventFlags,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let can_read =
            flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR);
        let peer = match inside {
            Inside::Launcher => Some(&mut self.launcher),
            Inside::Machine(machine) => self.machines.get_mut(&machine),
        };
        let Some(peer) = peer else { return Ok(()) };
        if flags.contains(epoll::EventFlags::OUT) {
            peer.flush();
        }
        if !can_read {
            return Ok(());
        }
        let is_there = peer.read(&mut self.buffer) != Heard::End;
        match inside {
            Inside::Launcher => {
                while let Some(frame) = self.launcher.decoder.next_frame().map_err(io::Error::other)? {
                    self.take_of_launcher(frame, out).map_err(io::Error::other)?;
                }
                if is_there { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            }
            Inside::Machine(machine) => {
                let taken = self.take_all_of(machine, out);
                if let Err(error) = taken {
                    self.let_go(machine, Some(error.to_string()), out);
                } else if !is_there {
                    self.let_go(machine, None, out);
                }
                Ok(())
            }
        }
    }

    fn take_of_launcher(&mut self, frame: Frame, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let count = usize::from(frame.fds).min(self.launcher.handed.len());
        let handed: Vec<OwnedFd> = self.launcher.handed.drain(..count).collect();
        match (frame.channel, frame.kind) {
            (0, Kind::Note) => {
                let ended: Ended = frame.message("note of an end")?;
                // What it has said before comes first.
                if let Some(peer) = self.machines.get_mut(&ended.machine) {
                    while peer.read(&mut self.buffer) == Heard::Something {}
                }
                let _ = self.take_all_of(ended.machine, out);
                self.let_go(ended.machine, None, out);
                encode_message(out, 0, Kind::Note, 0, &Word::Ended(ended))
            }
            (channel, Kind::Reply) => {
                if let Some(device) = handed.into_iter().next() {
                    self.devices.insert(channel, device);
                }
                encode(out, channel, Kind::Reply, 0, &frame.body);
                Ok(())
            }
            _ => Err(FrameError::Body("direction")),
        }
    }

    fn take_all_of(&mut self, machine: u32, out: &mut Vec<u8>) -> Result<(), FrameError> {
        while let Some(peer) = self.machines.get_mut(&machine) {
            let Some(frame) = peer.decoder.next_frame()? else { break };
            self.take_of_machine(machine, &frame, out)?;
        }
        Ok(())
    }

    fn take_of_machine(&mut self, machine: u32, frame: &Frame, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let channel = frame.channel;
        match (channel, frame.kind) {
            (0, Kind::Hello) => {
                frame.message::<Hello>("hello")?.agree()?;
                encode_message(out, 0, Kind::Note, 0, &Word::Greeted { machine })
            }
            (0, Kind::Reply) => {
                if let Reply::Failed(fault) = frame.message("reply")? {
                    encode_message(out, 0, Kind::Note, 0, &Word::Broken { machine, fault })?;
                }
                Ok(())
            }
            (0, _) => Err(FrameError::Body("direction")),
            (_, Kind::Open | Kind::Ask) if channel.is_multiple_of(2) => {
                let its = self.numbers.keys().filter(|(of, _)| *of == machine).count();
                if self.numbers.contains_key(&(machine, channel)) || its >= MAX_CHANNELS {
                    return Err(FrameError::Body("channel number"));
                }
                let ours = self.free_number();
                self.opened.insert(ours, (machine, channel));
                self.numbers.insert((machine, channel), ours);
                encode_message(out, 0, Kind::Note, 0, &Word::Opens { machine, channel: ours })?;
                encode(out, ours, frame.kind, 0, &frame.body);
                Ok(())
            }
            (_, Kind::Data | Kind::End | Kind::Credit | Kind::Steer | Kind::Abort)
                if channel.is_multiple_of(2) =>
            {
                if let Some(ours) = self.numbers.get(&(machine, channel)) {
                    encode(out, *ours, frame.kind, 0, &frame.body);
                }
                Ok(())
            }
            (_, Kind::Data | Kind::End | Kind::Credit | Kind::Note | Kind::Reply)
                if !channel.is_multiple_of(2) =>
            {
                // Of what a former keeper had asked for nobody wants to know.
                if self.routes.get(&channel) == Some(&machine) {
                    encode(out, channel, frame.kind, 0, &frame.body);
                    if frame.kind == Kind::Reply {
                        self.routes.remove(&channel);
                    }
                }
                Ok(())
            }
            _ => Err(FrameError::Body("direction")),
        }
    }

    /// The least that none has: whoever keeps something for each that there was keeps little.
    fn free_number(&self) -> u32 {
        (2..).step_by(2).find(|number| !self.opened.contains_key(number)).unwrap_or_default()
    }

    /// A machine that cannot be reached any more is forgotten, with its channels.
    fn let_go(&mut self, machine: u32, broke: Option<String>, out: &mut Vec<u8>) {
        if self.machines.remove(&machine).is_none() {
            return;
        }
        self.routes.retain(|_, its| *its != machine);
        let its: Vec<u32> =
            self.opened.iter().filter(|(_, (of, _))| *of == machine).map(|(ours, _)| *ours).collect();
        for ours in its {
            self.opened.remove(&ours);
            encode(out, ours, Kind::Abort, 0, &[]);
        }
        self.numbers.retain(|(of, _), _| *of != machine);
        // This one is short.
        let _ = encode_message(out, 0, Kind::Note, 0, &Word::Gone { machine, broke });
    }

    /// At the end of a turn: listens to nobody while much waits for the keeper, and waits for those that have not taken
    /// all.
    pub(super) fn settle(
        &mut self,
        poll: &OwnedFd,
        out: &mut Vec<u8>,
        token: impl Fn(Inside) -> epoll::EventData,
    ) -> io::Result<()> {
        self.paused = out.len() > MAX_WAITING;
        let stuck: Vec<u32> = self
            .machines
            .iter()
            .filter(|(_, peer)| peer.held > MAX_HELD)
            .map(|(number, _)| *number)
            .collect();
        for machine in stuck {
            self.let_go(machine, Some("it does not read".into()), out);
        }
        let launcher = std::iter::once((Inside::Launcher, &mut self.launcher));
        let machines = self.machines.iter_mut().map(|(number, peer)| (Inside::Machine(*number), peer));
        for (inside, peer) in launcher.chain(machines) {
            let mut flags = epoll::EventFlags::empty();
            flags.set(epoll::EventFlags::IN, !self.paused);
            flags.set(epoll::EventFlags::OUT, !peer.out.is_empty());
            if flags != peer.flags {
                peer.flags = flags;
                epoll::modify(poll, &peer.socket, token(inside), flags)?;
            }
        }
        Ok(())
    }
}

impl Peer {
    fn new(socket: OwnedFd) -> io::Result<Peer> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Peer {
            socket,
            decoder: Decoder::new(),
            handed: VecDeque::new(),
            out: VecDeque::new(),
            held: 0,
            flags: epoll::EventFlags::IN,
        })
    }

    fn send(&mut self, channel: u32, kind: Kind, body: &[u8]) {
        let mut bytes = Vec::new();
        encode(&mut bytes, channel, kind, 0, body);
        self.push(bytes, Vec::new());
    }

    fn push(&mut self, bytes: Vec<u8>, fds: Vec<OwnedFd>) {
        self.held += bytes.len();
        self.out.push_back((bytes, fds));
        self.flush();
    }

    /// Writes what it takes. One that has gone shows when it is read.
    fn flush(&mut self) {
        while let Some((bytes, fds)) = self.out.front_mut() {
            let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
            match fdpass::send(self.socket.as_fd(), bytes, &borrowed) {
                Ok(sent) => {
                    self.held -= sent;
                    bytes.drain(..sent);
                    fds.clear();
                    if bytes.is_empty() {
                        self.out.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.out.clear();
                    self.held = 0;
                }
            }
        }
    }

    /// Reads a piece of what it says.
    fn read(&mut self, buffer: &mut [u8]) -> Heard {
        let mut fds = Vec::new();
        match fdpass::receive(self.socket.as_fd(), buffer, &mut fds) {
            Ok(0) => Heard::End,
            Ok(length) => {
                self.decoder.feed(&buffer[..length]);
                self.handed.extend(fds);
                Heard::Something
            }
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::AGAIN | Errno::INTR) => Heard::Nothing,
                _ => Heard::End,
            },
        }
    }
}
