//! What one client, or all programs of one machine, have open at the keeper.

use super::asks::{self, Holder};
use super::channel::Channel;
use super::relay::Relay;
use super::rights;
use crate::bed::{Bed, WeakBed};
use crate::engine::link::{Link, lock};
use crate::spec::Control;
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use testbed_agent::agent::{Open, Reply};
use testbed_agent::control::{Answer, Ask, Condition, MAX_CHANNELS};
use testbed_agent::frame::{Frame, FrameError, Kind};
use testbed_agent::{Fault, FaultKind};

/// The channels of a client, and what it may do.
pub(crate) struct Session {
    bed: WeakBed,
    /// The machine whose programs they are; none on the host.
    own: Option<String>,
    rights: Control,
    /// Who holds the testbed, for clients that may ask for what only that one can do.
    holder: Option<Arc<dyn Holder>>,
    open: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    all: HashMap<u32, Entry>,
    /// The client has gone: nothing is opened any more.
    closed: bool,
}

#[derive(Clone)]
enum Entry {
    Relay(Arc<Relay>),
    Own(Arc<Channel>),
}

impl Session {
    /// Of a client on the host.
    pub(crate) fn of_host(bed: WeakBed, holder: Option<Arc<dyn Holder>>) -> Arc<Session> {
        Arc::new(Session { bed, own: None, rights: Control::All, holder, open: Mutex::default() })
    }

    /// Of the programs of a machine.
    pub(crate) fn of_machine(bed: WeakBed, machine: &str, rights: Control) -> Arc<Session> {
        let own = Some(machine.to_owned());
        Arc::new(Session { bed, own, rights, holder: None, open: Mutex::default() })
    }

    /// A frame of the client's that is no greeting.
    ///
    /// # Errors
    /// When no client may send it; its link is to be closed then.
    pub(crate) fn take(
        self: &Arc<Session>,
        link: &Arc<Link>,
        frame: &Frame,
        fds: &[OwnedFd],
    ) -> Result<(), FrameError> {
        if frame.fds > 0 || !fds.is_empty() {
            return Err(FrameError::Descriptors(frame.fds));
        }
        let entry = lock(&self.open).all.get(&frame.channel).cloned();
        let taken = match (frame.kind, entry) {
            (Kind::Open | Kind::Ask, Some(_)) => return Err(FrameError::Body("channel number")),
            (Kind::Open, None) => {
                let open: Open = frame.message("request")?;
                if let Err(fault) = self.relay(link, frame.channel, open) {
                    reply(link, frame.channel, &Reply::Failed(fault));
                }
                return Ok(());
            }
            (Kind::Ask, None) => {
                let ask: Ask = frame.message("question")?;
                if let Err(fault) = self.ask(link, frame.channel, ask) {
                    reply(link, frame.channel, &Answer::Failed(fault));
                }
                return Ok(());
            }
            (_, Some(Entry::Relay(relay))) => relay.take_from_client(frame),
            (_, Some(Entry::Own(channel))) => channel.take(frame),
            // Meant for something that has ended meanwhile.
            (Kind::Data | Kind::End | Kind::Credit | Kind::Steer | Kind::Abort, None) => Ok(()),
            (Kind::Hello | Kind::Note | Kind::Reply | Kind::Wake, None) => {
                return Err(FrameError::Body("direction"));
            }
        };
        // Who breaks the rules of one channel loses that one: a machine's other programs have done nothing.
        if let Err(error) = taken {
            self.refuse(link, frame.channel, &error);
        }
        Ok(())
    }

    fn refuse(&self, link: &Arc<Link>, number: u32, error: &FrameError) {
        let fault = Fault::new(FaultKind::Protocol, format!("understand the client: {error}"));
        let entry = lock(&self.open).all.get(&number).cloned();
        match entry {
            Some(Entry::Relay(relay)) => relay.give_up(&fault),
            Some(Entry::Own(channel)) => {
                channel.stop(true);
                if self.forget(number) {
                    reply(link, number, &Answer::Failed(fault));
                }
            }
            None => {}
        }
    }

    fn relay(self: &Arc<Session>, link: &Arc<Link>, number: u32, open: Open) -> Result<(), Fault> {
        let bed = self.bed()?;
        let mut machine = bed.find(&open.machine)?.clone();
        rights::check_request(&self.rights, machine.name(), &open.request)?;
        self.room()?;
        if machine.condition() == Condition::Stopped {
            let files = Some(machine.name()).filter(|_| rights::is_about_files(&open.request));
            let stopped = || Fault::new(FaultKind::State, "ask a machine that has stopped").on(&open.machine);
            machine = files.and_then(|name| bed.files_at_hand(name)).ok_or_else(stopped)?;
        }
        let agent = machine.link()?;
        if agent.is_stuck() {
            let fault = Fault::new(FaultKind::Exhausted, "ask a machine that does not read");
            return Err(fault.on(machine.name()));
        }
        let name = machine.name().to_owned();
        let relay = Relay::new(Arc::downgrade(self), Arc::clone(link), number, &name, Arc::clone(&agent));
        let relay = Arc::new(relay);
        let open = agent.addressed(open.request);
        let there = agent.open_direct(Kind::Open, &open, Arc::clone(&relay) as _).map_err(|f| f.on(name))?;
        relay.opened(there);
        self.insert(number, Entry::Relay(relay));
        Ok(())
    }

    fn ask(self: &Arc<Session>, link: &Arc<Link>, number: u32, ask: Ask) -> Result<(), Fault> {
        let bed = self.bed()?;
        rights::check_ask(&self.rights, self.own.as_deref(), &ask)?;
        self.room()?;
        let channel = Arc::new(Channel::new(Arc::clone(link), number));
        self.insert(number, Entry::Own(Arc::clone(&channel)));
        let session = Arc::clone(self);
        let holder = self.holder.clone();
        let begun = std::thread::Builder::new().name("testbed-ask".into()).spawn(move || {
            let answer = asks::carry_out(bed, ask, &channel, holder.as_ref()).unwrap_or_else(Answer::Failed);
            if session.forget(number) {
                channel.answer(&answer);
            }
        });
        begun.map(|_| ()).map_err(|error| {
            self.forget(number);
            Fault::system("start a thread", &error)
        })
    }

    fn bed(&self) -> Result<Bed, Fault> {
        self.bed.upgrade().ok_or_else(|| Fault::new(FaultKind::State, "reach a testbed that has ended"))
    }

    fn room(&self) -> Result<(), Fault> {
        if lock(&self.open).all.len() < MAX_CHANNELS {
            return Ok(());
        }
        Err(Fault::new(FaultKind::Exhausted, format!("have more than {MAX_CHANNELS} requests under way")))
    }

    /// The channel is not the client's any more. False if it was not before.
    pub(super) fn forget(&self, number: u32) -> bool {
        lock(&self.open).all.remove(&number).is_some()
    }

    fn insert(&self, number: u32, entry: Entry) {
        let mut open = lock(&self.open);
        if !open.closed {
            open.all.insert(number, entry);
            return;
        }
        drop(open);
        entry.abort();
    }

    /// The client has gone: what it opened is aborted.
    pub(crate) fn closed(&self) {
        let closed = Entries { all: HashMap::new(), closed: true };
        let open = std::mem::replace(&mut *lock(&self.open), closed);
        open.all.into_values().for_each(|entry| entry.abort());
    }
}

impl Entry {
    fn abort(&self) {
        match self {
            Entry::Relay(relay) => relay.abort(),
            Entry::Own(channel) => channel.stop(true),
        }
    }
}

fn reply<T: serde::Serialize>(link: &Link, number: u32, message: &T) {
    // A client that is gone needs no reply.
    let _ = link.send(number, Kind::Reply, message, Vec::new());
}
