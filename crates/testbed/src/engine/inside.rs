//! The launcher of a capsule and its machines, as they are known from outside: all by the link to the capsule's agent.

use super::link::{Link, lock};
use super::{Engine, Machines, Shared};
use crate::machine::{Console, with_console};
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use testbed_agent::capsule::{CGROUP, Word};
use testbed_agent::frame::{Frame, FrameError, Kind};
use testbed_agent::launch::{Ids, Setup};
use testbed_agent::{Fault, FaultKind};

/// The ids of machines: nobody else has any.
const IDS: Ids = Ids::Range(1 << 16);

/// What the launcher of a capsule begins with.
pub(crate) fn setup() -> Setup {
    Setup {
        ids: IDS,
        cgroup: Some(CGROUP.to_owned()),
        cgroup_controllers: ["memory", "cpu", "pids"].map(str::to_owned).into(),
        cgroup_occupied: false,
        cgroup_v1: Vec::new(),
        tun: true,
    }
}

/// Who hears what the agent of a capsule tells of those inside.
#[derive(Default)]
pub(crate) struct Inside {
    machines: Arc<Machines>,
    /// The machines whose programs have opened channels.
    openers: Mutex<HashMap<u32, u32>>,
}

impl Inside {
    /// Takes a frame that is about a machine inside; gives back any other.
    ///
    /// # Errors
    /// When the agent must not send it.
    pub(crate) fn take(&self, frame: Frame, fds: Vec<OwnedFd>) -> Result<Option<Frame>, FrameError> {
        match (frame.channel, frame.kind) {
            (0, Kind::Note) => {
                self.hear(frame.message("word")?);
                Ok(None)
            }
            (0, _) => Ok(Some(frame)),
            (channel, _) if channel.is_multiple_of(2) => {
                let machine = lock(&self.openers).get(&channel).copied();
                let machine = machine.and_then(|machine| self.machines.find(machine));
                // One that has ended meanwhile has nothing to say.
                if let Some(machine) = machine {
                    machine.link().pass(frame, fds);
                }
                Ok(None)
            }
            // The end of something that nobody waits for any more.
            _ => Ok(None),
        }
    }

    fn hear(&self, word: Word) {
        match word {
            Word::Ended(ended) => self.machines.end(ended.machine, ended.how),
            Word::Greeted { machine } => self.tell(machine, |core| core.greeted()),
            Word::Broken { machine, fault } => self.tell(machine, |core| core.broke(fault)),
            Word::Gone { machine, broke } => self.tell(machine, |core| core.lost(broke.as_deref())),
            Word::Opens { machine, channel } => {
                lock(&self.openers).insert(channel, machine);
            }
        }
    }

    fn tell(&self, machine: u32, what: impl FnOnce(&crate::machine::Core)) {
        if let Some(machine) = self.machines.find(machine) {
            what(&machine);
        }
    }

    /// The capsule has ended, and all inside with it.
    pub(crate) fn closed(&self) {
        self.machines.take_all().for_each(|machine| machine.capsule_ended());
    }
}

impl Engine {
    /// What makes machines in a capsule: its agent is at the other end of this link, and gives word by `inside`. Numbers from
    /// `next` on are free there. It does not keep the capsule alive.
    pub(crate) fn inside(capsule: Arc<Link>, console: Arc<Console>, inside: &Inside, next: u32) -> Engine {
        let shown = OnceLock::new();
        let no_host = Fault::new(FaultKind::Unsupported, "show the host's root in a capsule");
        // This is a new one.
        let _ = shown.set(Err(no_host));
        let shared = Shared {
            launcher: capsule,
            process: None,
            console: Some(console),
            machines: Arc::clone(&inside.machines),
            next: AtomicU32::new(next),
            ids: OnceLock::from(IDS),
            mask: Mutex::default(),
            shown,
        };
        Engine { shared: Arc::new(shared) }
    }

    /// A fault of a machine, with the last that the console says of a capsule that has ended.
    pub(crate) fn explained(&self, fault: Fault) -> Fault {
        match &self.shared.console {
            Some(console) if !self.is_alive() => with_console(fault, console),
            _ => fault,
        }
    }

    /// Whether its machines are in a capsule.
    pub(crate) fn is_inside(&self) -> bool {
        self.shared.process.is_none()
    }

    /// The next number that nothing will have.
    pub(crate) fn next_number(&self) -> u32 {
        self.shared.next.load(Ordering::Relaxed)
    }
}
