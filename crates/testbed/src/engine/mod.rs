//! How a process keeps machines: its launcher, the links to the agents, and the thread that reads them.

pub(crate) mod hands;
pub(crate) mod inside;
pub(crate) mod link;
pub(crate) mod poller;

use crate::host;
use crate::machine::{Console, Core, Machine};
use link::{Event, Handler, Link, lock};
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::io::{self, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;
use testbed_agent::agent::Exit;
use testbed_agent::frame::{Frame, FrameError, Hello, Kind, MAX_DATA};
use testbed_agent::launch::{self, Ended, Ids, Mask, Masked, Order, Outcome, Setup};
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::{fdpass, open_files};

/// The static agent: launcher, process 1 of machines, and client inside them.
pub(crate) const AGENT: &[u8] = include_bytes!(env!("TESTBED_AGENT_FILE"));

/// A launcher and the machines it made. They end with it, and it ends with the process that started it.
///
/// Cheap to clone; the last clone ends it.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    launcher: Arc<Link>,
    /// None if the launcher is in a capsule.
    process: Option<Mutex<Child>>,
    /// Of that capsule.
    console: Option<Arc<Console>>,
    machines: Arc<Machines>,
    next: AtomicU32,
    /// Once it has begun.
    ids: OnceLock<Ids>,
    /// Until it is asked.
    mask: Mutex<Option<FindMask>>,
    shown: OnceLock<Result<(), Fault>>,
}

/// Tells what of the host a machine whose image is `host` must not see, once that is found.
pub(crate) type FindMask = Box<dyn FnOnce() -> Result<Vec<Masked>, Fault> + Send>;

#[derive(Default)]
struct Machines {
    by_number: Mutex<HashMap<u32, Weak<Core>>>,
}

impl Machines {
    fn find(&self, machine: u32) -> Option<Arc<Core>> {
        lock(&self.by_number).get(&machine).and_then(Weak::upgrade)
    }

    /// Tells a machine of its end.
    fn end(&self, machine: u32, how: Exit) {
        let machine = lock(&self.by_number).remove(&machine);
        if let Some(machine) = machine.and_then(|machine| machine.upgrade()) {
            machine.ended(how);
        }
    }

    /// All that there are; none of them is known any more.
    fn take_all(&self) -> impl Iterator<Item = Arc<Core>> {
        let all = std::mem::take(&mut *lock(&self.by_number));
        all.into_values().filter_map(|machine| machine.upgrade())
    }
}

impl Engine {
    /// Starts a launcher. `mask` is what of the host a machine whose image is `host` must not see.
    ///
    /// # Errors
    /// When the launcher cannot be started, or the host lacks what it needs.
    pub fn start(setup: Setup, mask: Vec<Masked>) -> Result<Engine, Fault> {
        let engine = Engine::idle()?;
        engine.begin(setup, Box::new(|| Ok(mask)))?;
        Ok(engine)
    }

    /// Has the launcher prepare what all machines need. Where it can do more before it must know what is to be hidden of the
    /// host, that is not waited for yet.
    ///
    /// # Errors
    /// When the host lacks something of it.
    pub(crate) fn begin(&self, setup: Setup, mask: FindMask) -> Result<(), Fault> {
        let ids = setup.ids;
        *lock(&self.shared.mask) = Some(mask);
        self.order(&Order::Begin(setup))?;
        if ids.is_ordinary() {
            self.show()?.wait()?;
            let _ = self.shared.shown.set(Ok(()));
        }
        let ids = match ids {
            Ids::Delegated(_) => {
                // There are hosts where the programs may not do what they are for; one id is left then, as `doctor` tells.
                let mapped = host::Ranges::of_this_user().map(self.launcher_pid());
                let ids = if mapped.is_ok() { ids } else { Ids::Single };
                self.order(&Order::Mapped(ids))?;
                ids
            }
            Ids::Range(_) | Ids::Single => ids,
        };
        // An engine begins once.
        let _ = self.shared.ids.set(ids);
        Ok(())
    }

    /// Has the launcher prepare the host's root before the first machine that shows it. That it could not is told by that
    /// machine.
    ///
    /// # Errors
    /// When what is to be hidden cannot be found, or the launcher is gone.
    pub(crate) fn show_host(&self) -> Result<(), Fault> {
        self.shared.shown.get_or_init(|| self.show().map(drop)).clone()
    }

    fn show(&self) -> Result<Pending, Fault> {
        let not_begun = || Fault::new(FaultKind::State, "the launcher has not been set up");
        let find_mask = lock(&self.shared.mask).take().ok_or_else(not_begun)?;
        for masked in in_frames(find_mask()?) {
            self.send_order(&Order::Hide(masked), Vec::new())?;
        }
        self.send_order(&Order::Show, Vec::new())
    }

    /// Starts a launcher that can make nothing yet.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn idle() -> Result<Engine, Fault> {
        let (ours, theirs) = fdpass::stream_pair().doing("make a socket")?;
        let process = spawn(theirs).doing("start the launcher")?;
        let machines = Arc::new(Machines::default());
        let handler = Box::new(LauncherHandler { machines: Arc::clone(&machines) });
        let launcher = Arc::new(Link::new("launcher", ours, 1, handler).doing("reach the launcher")?);
        poller::watch(&launcher).doing("watch the launcher")?;
        let process = Some(Mutex::new(process));
        let shared = Shared {
            launcher,
            process,
            console: None,
            machines,
            next: AtomicU32::new(1),
            ids: OnceLock::new(),
            mask: Mutex::default(),
            shown: OnceLock::new(),
        };
        Ok(Engine { shared: Arc::new(shared) })
    }

    /// Starts a launcher that makes no machines, but can do with files whatever this user and all ids that are the user's
    /// can do together.
    ///
    /// # Errors
    /// When it cannot be started, or the ids cannot be mapped.
    pub(crate) fn over_files() -> Result<Engine, Fault> {
        let engine = Engine::idle()?;
        engine.order(&Order::Separate)?;
        host::Ranges::of_this_user().map(engine.launcher_pid())?;
        Ok(engine)
    }

    /// Which ids its machines have.
    pub(crate) fn ids(&self) -> Ids {
        self.shared.ids.get().copied().unwrap_or(Ids::Single)
    }

    /// A number that no fabric or machine of this engine has.
    pub(crate) fn number(&self) -> u32 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The launcher can still be reached.
    pub fn is_alive(&self) -> bool {
        self.shared.launcher.gone().is_none()
    }

    /// Waits until the launcher has done all that it was told, and has cleaned up behind machines that have ended.
    ///
    /// # Errors
    /// When the launcher is gone.
    pub fn settle(&self) -> Result<(), Fault> {
        self.order(&Order::Settle)
    }

    /// Ends the launcher, and with it all machines, and waits until nothing of it is left. Dropping the last clone does so
    /// too, in whatever thread that is; one that hears of a machine's end has a clone for that moment.
    pub fn end(&self) {
        self.shared.end();
    }

    /// The launcher's process number.
    /// 0 for one that is in a capsule.
    pub fn launcher_pid(&self) -> u32 {
        self.shared.process.as_ref().map_or(0, |process| lock(process).id())
    }

    /// Has the launcher do something, and waits until it has.
    ///
    /// # Errors
    /// What the launcher says.
    pub(crate) fn order(&self, order: &Order) -> Result<(), Fault> {
        self.send_order(order, Vec::new())?.wait().map(|_| ())
    }

    /// Has the launcher open something, and waits until it has.
    ///
    /// # Errors
    /// What the launcher says.
    pub(crate) fn open(&self, order: &Order) -> Result<OwnedFd, Fault> {
        self.send_order(order, Vec::new())?.descriptor()
    }

    /// Tells the launcher to do something.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn send_order(&self, order: &Order, fds: Vec<OwnedFd>) -> Result<Pending, Fault> {
        let (channel, events) = self.shared.launcher.open(Kind::Ask, order, fds)?;
        Ok(Pending { channel, events, most: self.is_inside().then_some(MOST_INSIDE) })
    }

    /// Makes a machine. It is usable at once: what is asked of it waits until it can answer.
    ///
    /// # Errors
    /// When the launcher is gone. That the machine could not be made is told by whatever is asked of it.
    pub fn machine(&self, name: &str, spec: launch::Machine) -> Result<Machine, Fault> {
        Machine::make(self, name, spec)
    }

    /// Reads what a machine's agent says, and tells the machine of its end.
    ///
    /// # Errors
    /// Limits of the system.
    pub(crate) fn watch(&self, machine: u32, core: &Arc<Core>) -> Result<(), Fault> {
        lock(&self.shared.machines.by_number).insert(machine, Arc::downgrade(core));
        poller::watch(core.link()).doing("watch the machine")
    }

    /// The link to the agent of a machine with this number that is to be made, or is there in a capsule; and what its order
    /// carries.
    ///
    /// # Errors
    /// Limits of the system.
    pub(crate) fn agent_link(
        &self,
        name: &str,
        machine: u32,
        handler: Box<dyn Handler>,
    ) -> Result<(Arc<Link>, Vec<OwnedFd>), Fault> {
        if self.is_inside() {
            let outer = Arc::clone(&self.shared.launcher);
            return Ok((Arc::new(Link::through(name, outer, machine, handler)), Vec::new()));
        }
        let (ours, theirs) = fdpass::stream_pair().doing("make a socket")?;
        let link = Arc::new(Link::new(name, ours, 1, handler).doing("reach the machine")?);
        link.send(0, Kind::Hello, &Hello::ours(), Vec::new())?;
        Ok((link, vec![theirs]))
    }
}

/// Parts of a mask that fit into a frame each.
fn in_frames(mask: Vec<Masked>) -> Vec<Vec<Masked>> {
    /// The numbers of an entry, at their longest.
    const NUMBERS: usize = 32;
    let mut parts = Vec::new();
    let mut room = 0;
    for masked in mask {
        let content = if let Mask::File(content) = &masked.with { content.len() } else { 0 };
        let length = masked.path.len() + content + NUMBERS;
        if length > room {
            parts.push(Vec::new());
            room = MAX_DATA;
        }
        room = room.saturating_sub(length);
        if let Some(part) = parts.last_mut() {
            part.push(masked);
        }
    }
    parts
}

impl Shared {
    fn end(&self) {
        // One in a capsule ends with that.
        let Some(process) = &self.process else { return };
        self.launcher.close(Fault::new(FaultKind::State, "the testbed was closed"));
        // It ends by itself once its socket is closed; what is waited for here is that nothing of it is left.
        let _ = lock(process).wait();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.end();
    }
}

/// The answer that the launcher still owes.
#[derive(Debug)]
pub(crate) struct Pending {
    channel: u32,
    events: Receiver<Event>,
    /// How long it is waited for: a launcher on this host either answers or ends.
    most: Option<Duration>,
}

/// How long the launcher in a capsule may take to answer, emulated, beside others.
const MOST_INSIDE: Duration = Duration::from_secs(60);

impl Pending {
    /// What has been opened in a capsule is known there by this number, once it has been waited for.
    pub(crate) fn channel(&self) -> u32 {
        self.channel
    }

    /// Waits for the descriptor that was asked for.
    ///
    /// # Errors
    /// As for [`Pending::wait`].
    pub(crate) fn descriptor(self) -> Result<OwnedFd, Fault> {
        let (_, fds) = self.wait()?;
        let missing = || Fault::new(FaultKind::Protocol, "get a descriptor of the launcher");
        fds.into_iter().next().ok_or_else(missing)
    }

    /// Waits for it.
    ///
    /// # Errors
    /// What the launcher says, or that it is gone.
    pub(crate) fn wait(self) -> Result<(Outcome, Vec<OwnedFd>), Fault> {
        let event = match self.most {
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(most) => self.events.recv_timeout(most),
        };
        match event {
            Ok(Event::Frame(frame, fds)) => match frame.message("outcome") {
                Ok(Outcome::Failed(fault)) => Err(fault),
                Ok(outcome) => Ok((outcome, fds)),
                Err(e) => Err(Fault::new(FaultKind::Protocol, format!("understand the launcher: {e}"))),
            },
            Ok(Event::Gone(fault)) => Err(fault),
            Err(RecvTimeoutError::Timeout) => {
                let fault = Fault::new(FaultKind::Timeout, "get an answer of the launcher in the capsule");
                Err(fault
                    .hint("the capsule may be out of memory; `testbed logs MACHINE console` is its console"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Fault::new(FaultKind::State, "the launcher is gone")),
        }
    }
}

/// Runs the embedded agent as launcher, from memory, with nothing of this process's environment.
fn spawn(socket: OwnedFd) -> io::Result<Child> {
    let program = sealed_agent()?;
    let path = format!("/proc/self/fd/{}", rustix::fd::AsRawFd::as_raw_fd(&program));
    Command::new(path)
        .arg("launcher")
        .args(open_files::former().map(|limit| limit.to_string()))
        .env_clear()
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn sealed_agent() -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match rustix::fs::memfd_create(c"testbed-agent", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every such file can be executed, and the flag is not known.
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(c"testbed-agent", flags)?,
        other => other?,
    };
    let mut file = std::fs::File::from(memory);
    file.write_all(AGENT)?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(file.into())
}

struct LauncherHandler {
    machines: Arc<Machines>,
}

impl Handler for LauncherHandler {
    fn take(&self, _: &Link, frame: Frame, _: Vec<OwnedFd>) -> Result<(), FrameError> {
        if frame.kind == Kind::Note {
            let ended: Ended = frame.message("note of an end")?;
            self.machines.end(ended.machine, ended.how);
        }
        Ok(())
    }

    fn closed(&self, _: &Fault) {
        self.machines.take_all().for_each(|machine| machine.ended(Exit::Signal(9)));
    }
}
