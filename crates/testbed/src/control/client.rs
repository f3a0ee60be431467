//! A client of a keeper.

use crate::engine::link::{Event, Handler, Link, lock};
use crate::engine::poller;
use rustix::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use testbed_agent::agent::{Note, Open, Reply, Request, Steer};
use testbed_agent::control::{Answer, Ask, Status};
use testbed_agent::frame::{Frame, FrameError, Hello, Kind, MAX_DATA, Stream, WINDOW, encode_data};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// How long a keeper may take to answer what needs no waiting.
const ANSWER: Duration = Duration::from_secs(30);

/// A connection to the keeper of a testbed. Cheap to clone; what was opened by it ends with its last clone.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    link: Arc<Link>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.link.close(Fault::new(FaultKind::State, "the connection was closed"));
    }
}

impl Client {
    /// Connects to the control socket at this path.
    ///
    /// # Errors
    /// When nobody serves there.
    pub fn connect(path: &Path) -> Result<Client, Fault> {
        let shown = path.to_string_lossy();
        let stream = UnixStream::connect(path).doing_to("reach the keeper at", shown)?;
        let link =
            Link::new("keeper", stream.into(), 1, Box::new(KeeperHandler)).doing("reach the keeper")?;
        let link = Arc::new(link);
        link.send(0, Kind::Hello, &Hello::ours(), Vec::new())?;
        poller::watch(&link).doing("reach the keeper")?;
        Ok(Client { shared: Arc::new(Shared { link }) })
    }

    /// Asks a machine's agent something, and leaves the talk to the caller.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn open(&self, machine: &str, request: Request) -> Result<Talk, Fault> {
        let open = Open { machine: machine.into(), request };
        Ok(self.talk(self.shared.link.open(Kind::Open, &open, Vec::new())?))
    }

    /// Asks the keeper something, and leaves the talk to the caller.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn begin(&self, ask: &Ask) -> Result<Talk, Fault> {
        let mut talk = self.talk(self.shared.link.open(Kind::Ask, ask, Vec::new())?);
        talk.is_ask = true;
        Ok(talk)
    }

    fn talk(&self, (channel, events): (u32, Receiver<Event>)) -> Talk {
        let credit = Credit {
            client: self.clone(),
            channel,
            shared: Arc::new((Mutex::new(Some(WINDOW)), Condvar::new())),
        };
        Talk { events, credit, owed: 0, is_ask: false, is_over: false }
    }

    /// Asks the keeper something that needs no talk.
    ///
    /// # Errors
    /// What the keeper says, or that it is gone or does not answer within `deadline`.
    pub fn ask_within(&self, ask: &Ask, deadline: Option<Duration>) -> Result<Answer, Fault> {
        let mut talk = self.begin(ask)?;
        let end = deadline.map(|d| Instant::now() + d);
        loop {
            if let Happening::Answer(answer) = talk.next(end)? {
                return Ok(answer);
            }
        }
    }

    /// As [`Client::ask_within`], for what the keeper can do at once.
    ///
    /// # Errors
    /// As for [`Client::ask_within`].
    pub fn ask(&self, ask: &Ask) -> Result<Answer, Fault> {
        self.ask_within(ask, Some(ANSWER))
    }

    /// Asks a machine's agent something small.
    ///
    /// # Errors
    /// What the machine or the keeper says, or that no answer comes.
    pub fn request(&self, machine: &str, request: Request) -> Result<Reply, Fault> {
        let mut talk = self.open(machine, request)?;
        let end = Instant::now() + ANSWER;
        loop {
            if let Happening::Reply(reply) = talk.next(Some(end))? {
                return Ok(reply);
            }
        }
    }

    /// What there is, all machines of it.
    ///
    /// # Errors
    /// As for [`Client::ask`].
    pub fn status(&self) -> Result<Status, Fault> {
        let mut whole: Option<Status> = None;
        loop {
            let from = whole.as_ref().map_or(0, |status| status.machines.len() as u32);
            let Answer::Status(mut page) = self.ask(&Ask::Status { from })? else {
                return Err(Fault::new(FaultKind::Protocol, "understand the keeper's status"));
            };
            let more = page.more && !page.machines.is_empty();
            page.more = false;
            match &mut whole {
                Some(status) => status.machines.append(&mut page.machines),
                None => whole = Some(page),
            }
            if let Some(status) = whole.take_if(|_| !more) {
                return Ok(status);
            }
        }
    }
}

/// What happens on a channel.
#[derive(Debug)]
pub enum Happening {
    /// Bytes of a stream, [`Stream::Output`] or [`Stream::Error`].
    Data(Stream, Vec<u8>),
    /// Something that is not the end.
    Note(Note),
    /// The end of what a machine was asked.
    Reply(Reply),
    /// The end of what the keeper was asked.
    Answer(Answer),
}

/// A channel that is open. Dropped before its end, what runs on it is killed.
pub struct Talk {
    events: Receiver<Event>,
    credit: Credit,
    /// Bytes that were given to the caller and not yet granted anew.
    owed: u32,
    is_ask: bool,
    is_over: bool,
}

impl Talk {
    /// Waits for what happens next. Whatever the last one held counts as dealt with.
    ///
    /// # Errors
    /// What the other side could not do; that the keeper is gone; [`FaultKind::Timeout`].
    pub fn next(&mut self, end: Option<Instant>) -> Result<Happening, Fault> {
        if self.owed > 0 {
            let owed = std::mem::take(&mut self.owed).to_le_bytes();
            self.credit.link().send_raw(self.credit.channel, Kind::Credit, &owed)?;
        }
        loop {
            let event = match end {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(end) => self.events.recv_timeout(end.saturating_duration_since(Instant::now())),
            };
            match event {
                Ok(Event::Frame(frame, _)) => {
                    let happening = self.understand(&frame).map_err(|e| {
                        Fault::new(FaultKind::Protocol, format!("understand the keeper: {e}"))
                    })?;
                    if let Some(happening) = happening {
                        return happening;
                    }
                }
                Ok(Event::Gone(fault)) => {
                    self.end();
                    return Err(fault);
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Fault::new(FaultKind::Timeout, "get an answer in time"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.end();
                    return Err(Fault::new(FaultKind::State, "the keeper has gone"));
                }
            }
        }
    }

    fn understand(&mut self, frame: &Frame) -> Result<Option<Result<Happening, Fault>>, FrameError> {
        Ok(match frame.kind {
            Kind::Data => {
                let (stream, payload) = frame.data()?;
                self.owed += payload.len() as u32;
                Some(Ok(Happening::Data(stream, payload.to_vec())))
            }
            Kind::Note => Some(Ok(Happening::Note(frame.message("note")?))),
            Kind::Credit => {
                self.credit.add(frame.credit()?);
                None
            }
            Kind::Reply => {
                self.end();
                Some(if self.is_ask {
                    match frame.message("answer")? {
                        Answer::Failed(fault) => Err(fault),
                        answer => Ok(Happening::Answer(answer)),
                    }
                } else {
                    match frame.message("reply")? {
                        Reply::Failed(fault) => Err(fault),
                        reply => Ok(Happening::Reply(reply)),
                    }
                })
            }
            _ => None,
        })
    }

    fn end(&mut self) {
        self.is_over = true;
        self.credit.end();
    }

    /// Steers what runs on it.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn steer(&self, steer: &Steer) -> Result<(), Fault> {
        self.credit.steer(steer)
    }

    /// What another thread needs to send on it.
    pub fn credit(&self) -> Credit {
        self.credit.clone()
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        if !self.is_over {
            self.credit.end();
            // A keeper that is gone needs no word.
            let _ = self.credit.link().send_raw(self.credit.channel, Kind::Abort, &[]);
        }
    }
}

/// The sending half of a channel.
#[derive(Clone)]
pub struct Credit {
    client: Client,
    channel: u32,
    /// How many bytes may be sent; none once the channel has ended.
    shared: Arc<(Mutex<Option<u32>>, Condvar)>,
}

impl Credit {
    fn link(&self) -> &Link {
        &self.client.shared.link
    }

    fn add(&self, more: u32) {
        let mut left = lock(&self.shared.0);
        *left = left.map(|left| left.saturating_add(more).min(WINDOW));
        self.shared.1.notify_all();
    }

    fn end(&self) {
        *lock(&self.shared.0) = None;
        self.shared.1.notify_all();
    }

    /// Sends bytes as input, as the other side takes them. False once nobody takes any more.
    pub fn send(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let mut left = lock(&self.shared.0);
            while *left == Some(0) {
                left = self.shared.1.wait(left).unwrap_or_else(PoisonError::into_inner);
            }
            let Some(room) = *left else { return false };
            let length = bytes.len().min(MAX_DATA).min(room as usize);
            *left = Some(room - length as u32);
            drop(left);
            let mut frame = Vec::with_capacity(length + 16);
            encode_data(&mut frame, self.channel, Stream::Input, &bytes[..length]);
            if self.link().send_frames(frame).is_err() {
                return false;
            }
            bytes = &bytes[length..];
        }
        lock(&self.shared.0).is_some()
    }

    /// There is no more input.
    pub fn finish(&self) {
        if lock(&self.shared.0).is_some() {
            // A keeper that is gone needs no word.
            let _ = self.link().send_raw(self.channel, Kind::End, &[Stream::Input as u8]);
        }
    }

    /// Steers what runs on the channel.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn steer(&self, steer: &Steer) -> Result<(), Fault> {
        if lock(&self.shared.0).is_none() {
            return Ok(());
        }
        self.link().send(self.channel, Kind::Steer, steer, Vec::new())
    }
}

/// A keeper opens no channels.
struct KeeperHandler;

impl Handler for KeeperHandler {
    fn take(&self, _: &Link, frame: Frame, _: Vec<OwnedFd>) -> Result<(), FrameError> {
        match frame.kind {
            Kind::Hello => frame.message::<Hello>("hello")?.agree().map(|_| ()),
            // Of channels that ended.
            Kind::Reply | Kind::Note | Kind::Data | Kind::End | Kind::Credit => Ok(()),
            _ => Err(FrameError::Body("direction")),
        }
    }

    fn closed(&self, _: &Fault) {}
}
