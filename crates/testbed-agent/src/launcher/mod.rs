//! The launcher: the small single-threaded process that makes machines for its keeper.
//!
//! It takes [`Order`]s from its standard input, a Unix socket, one after another. All that it makes hangs on its life
//! and on that of the socket: when the keeper is gone, however it went, the launcher kills what is left and ends.

mod base;
mod birth;
pub(crate) use fabric::FIRST_PORT;
pub(crate) use rooms::ROOT;
mod fabric;
mod probe;
mod rooms;
mod shelf;
mod skeleton;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use testbed_agent::agent::Exit;
use testbed_agent::frame::{Decoder, Frame, Kind, encode_message};
use testbed_agent::launch::{Ended, Ids, Interface, LinkMode, Masked, Order, Outcome, Setup};
use testbed_agent::{Fault, FaultKind};
use testbed_sys::cgroup::Cgroup;
use testbed_sys::process::{self, SingleThreaded, Status};
use testbed_sys::{fdpass, netlink};

use base::{Base, Separate};
use fabric::Fabric;
use shelf::Shared;

/// Serves the keeper at standard input until it goes away. `open_files` is how many files a program in a machine may have
/// open, if that is not the launcher's own limit.
///
/// # Errors
/// When the keeper breaks the protocol or the launcher's own descriptors fail.
pub(crate) fn run(open_files: Option<u64>) -> io::Result<()> {
    let keeper = take_standard_input()?;
    // Modes are as they are given, whatever the keeper's mask.
    rustix::process::umask(rustix::fs::Mode::empty());
    process::ignore_signal(libc::SIGPIPE);
    for terminal_signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGTSTP, libc::SIGQUIT] {
        process::ignore_signal(terminal_signal);
    }
    testbed_sys::open_files::raise(open_files)?;
    leave_keyring()?;
    let children = process::signal_fd(&[libc::SIGCHLD])?;
    let mut launcher = Launcher {
        token: SingleThreaded::prove()?,
        keeper,
        mask: Vec::new(),
        base: None,
        begun: None,
        unmapped: None,
        fabrics: HashMap::new(),
        machines: HashMap::new(),
        uppers: HashMap::new(),
        former: HashMap::new(),
        by_pid: HashMap::new(),
        leaving: VecDeque::new(),
    };
    let result = launcher.serve(&children);
    launcher.end();
    result
}

/// Moves the keeper's socket away from descriptor 0 and puts `/dev/null` on all three standard streams, which the
/// machines inherit.
fn take_standard_input() -> io::Result<OwnedFd> {
    let keeper = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open(c"/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    process::close_on_exec_from(3)?;
    Ok(keeper)
}

/// Leaves the keeper's session keyring for a new one, which all machines inherit. They cannot put anything into it, as
/// the filter of system calls says; one of each machine's own would soon meet the limit of keys per user.
fn leave_keyring() -> io::Result<()> {
    match process::join_new_keyring() {
        Err(error) if error.raw_os_error() != Some(libc::ENOSYS) => Err(error),
        _ => Ok(()),
    }
}

struct Launcher {
    token: SingleThreaded,
    keeper: OwnedFd,
    /// What is to be hidden of the host, as far as it has been told.
    mask: Vec<Masked>,
    base: Option<Base>,
    /// An ordinary user's, until all is told that is to be hidden.
    begun: Option<Setup>,
    /// What it goes on with once its ids are mapped.
    unmapped: Option<Separate>,
    fabrics: HashMap<u32, Fabric>,
    machines: HashMap<u32, Machine>,
    /// Folders with `upper` and `work`; a machine's own has the machine's number.
    uppers: HashMap<u32, Shared>,
    /// What is left of machines that have ended, until their upper layers are forgotten.
    former: HashMap<u32, Former>,
    by_pid: HashMap<u32, u32>,
    /// Machines that have ended and whose clean-up is owed: it is done when nobody waits for the launcher.
    leaving: VecDeque<Leaving>,
}

/// What is left of a machine once no process of it is.
struct Leaving {
    held: Vec<OwnedFd>,
    cgroups: Vec<Cgroup>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.held.clear();
        remove_all(&self.cgroups);
    }
}

/// Nobody waits for a launcher that has had nothing to do for so long. If it is to end, that comes sooner, and then all is
/// cleaned up together.
const IDLE: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
/// So many machines at most may have ended without having been cleaned up, however busy the launcher is.
const MOST_LEAVING: usize = 64;

/// A machine that runs, as its launcher knows it.
struct Machine {
    pid: u32,
    /// Version 2 first, if there is one.
    cgroups: Vec<Cgroup>,
    unified: bool,
    /// Namespaces of one that is being killed: they are taken down after its end is told.
    held: Vec<OwnedFd>,
    /// The number of its upper layer.
    upper: u32,
    /// The numbers of its links, by those of its interfaces.
    interfaces: BTreeMap<u32, u32>,
    network: Option<OwnedFd>,
}

impl Machine {
    /// The number of one of its links in its network namespace.
    fn link(&self, interface: u32) -> Result<u32, Fault> {
        self.interfaces.get(&interface).copied().ok_or_else(|| missing("interface"))
    }

    /// Has the kernel answer nobody any more at its interfaces, which are there for as long as their namespace is.
    fn leave_networks(&self, token: SingleThreaded) -> Result<(), Fault> {
        let Some(network) = &self.network else { return Ok(()) };
        let links: Vec<u32> = self.interfaces.values().copied().collect();
        fabric::take_down(token, network, &links)
    }

    /// Its network namespace.
    fn network(&self) -> Result<OwnedFd, Fault> {
        match &self.network {
            Some(network) => network.try_clone().map_err(|e| Fault::system("open the machine's network", &e)),
            None => fabric::namespace_of_process(self.pid),
        }
    }
}

/// A machine that has ended. The kernel takes its interfaces away when it comes to it; one that takes its place cannot
/// wait for that.
struct Former {
    interfaces: Vec<u32>,
    network: OwnedFd,
    upper: u32,
}

impl Launcher {
    fn serve(&mut self, children: &OwnedFd) -> io::Result<()> {
        let mut decoder = Decoder::new();
        let mut fds = Vec::new();
        let mut buffer = vec![0_u8; 64 * 1024];
        loop {
            let mut polled = [PollFd::new(&self.keeper, PollFlags::IN), PollFd::new(children, PollFlags::IN)];
            match poll(&mut polled, (!self.leaving.is_empty()).then_some(&IDLE)) {
                // Nobody waits for us, so there is time to clean up.
                Ok(0) => drop(self.leaving.pop_front()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [keeper, child] = polled.map(|p| !p.revents().is_empty());
            if child {
                self.reap(children)?;
            }
            if keeper {
                let length = fdpass::receive(self.keeper.as_fd(), &mut buffer, &mut fds)?;
                if length == 0 {
                    return Ok(());
                }
                decoder.feed(&buffer[..length]);
                while let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
                    let handed = fds.drain(..usize::from(frame.fds).min(fds.len())).collect();
                    self.take(&frame, handed)?;
                }
            }
        }
    }

    fn take(&mut self, frame: &Frame, handed: Vec<OwnedFd>) -> io::Result<()> {
        let order: Order = frame.message("order").map_err(io::Error::other)?;
        let mut given = Vec::new();
        let outcome = self.carry_out(order, handed, &mut given).unwrap_or_else(Outcome::Failed);
        self.tell(frame.channel, Kind::Reply, &outcome, &given)
    }

    fn tell<T: serde::Serialize>(
        &self,
        channel: u32,
        kind: Kind,
        message: &T,
        fds: &[OwnedFd],
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode_message(&mut bytes, channel, kind, fds.len() as u8, message).map_err(io::Error::other)?;
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let mut sent = fdpass::send(self.keeper.as_fd(), &bytes, &borrowed)?;
        while sent < bytes.len() {
            sent += fdpass::send(self.keeper.as_fd(), &bytes[sent..], &[])?;
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        order: Order,
        handed: Vec<OwnedFd>,
        given: &mut Vec<OwnedFd>,
    ) -> Result<Outcome, Fault> {
        match order {
            Order::Begin(setup) if setup.ids.is_ordinary() => self.begun = Some(setup),
            Order::Begin(setup) => self.base = Some(Base::prepare(self.token, &setup)?),
            Order::Hide(masked) => self.mask.extend(masked),
            Order::Show => {
                let mask = std::mem::take(&mut self.mask);
                match self.begun.take() {
                    None => self.base.as_mut().ok_or_else(not_set_up)?.show_host(self.token, &mask)?,
                    Some(setup) => {
                        let separate = Separate::from_host(self.token, setup, mask)?;
                        match separate.ids() {
                            Ids::Delegated(_) => self.unmapped = Some(separate),
                            Ids::Range(_) | Ids::Single => self.base = Some(separate.prepare(self.token)?),
                        }
                    }
                }
            }
            Order::Mapped(ids) => {
                let mut separate = self.unmapped.take().ok_or_else(|| missing("user namespace"))?;
                separate.map(ids)?;
                self.base = Some(separate.prepare(self.token)?);
            }
            Order::Separate => {
                process::unshare_user(self.token).map_err(|e| Fault::system("make a user namespace", &e))?;
            }
            Order::Layers(work) => return work.carry_out(handed).map(Outcome::Counted),
            Order::Try { probe, ids } => probe::carry_out(self.token, &probe, ids)?,
            Order::MakeFabric { fabric, networks, files } => {
                let base = base_of(&self.base)?;
                self.fabrics.insert(fabric, Fabric::make(self.token, base, &networks, &files)?);
            }
            Order::DropFabric { fabric } => {
                self.fabrics.remove(&fabric);
                self.tidy()?;
            }
            Order::MakeMachine { machine, machine_spec } => {
                let agent = handed.into_iter().next().ok_or_else(|| missing("agent socket"))?;
                let pid = self.make_machine(machine, &machine_spec, &agent)?;
                return Ok(Outcome::Made { pid });
            }
            Order::Kill { machine, off } => {
                let missing = || Fault::new(FaultKind::State, "the machine has ended");
                let machine = self.machines.get_mut(&machine).ok_or_else(missing)?;
                if off {
                    // It may have taken its interfaces away itself.
                    let _ = machine.leave_networks(self.token);
                }
                machine.held = process::hold_namespaces(machine.pid);
                process::kill(machine.pid as i32, libc::SIGKILL).map_err(|e| Fault::system("kill", &e))?;
            }
            Order::Freeze { machine, frozen } => self.freeze(machine, frozen)?,
            Order::Settle => self.leaving.clear(),
            Order::MakeUpper { upper, size } => {
                let tree = birth::memory_upper(self.token, base_of(&self.base)?, size)?;
                self.uppers.insert(upper, tree);
            }
            Order::OpenUpper { upper } => {
                let upper = self.uppers.get(&upper).ok_or_else(|| missing("upper layer"))?;
                given.push(
                    upper.as_fd().try_clone_to_owned().map_err(|e| Fault::system("open upper layer", &e))?,
                );
            }
            Order::ForgetUpper { upper } => {
                self.uppers.remove(&upper);
                self.former.retain(|_, former| former.upper != upper);
                self.tidy()?;
            }
            Order::Attach { machine, fabric, number, interface } => {
                self.attach(machine, fabric, number, &interface)?;
            }
            Order::Detach { machine, interface } => self.detach(machine, interface)?,
            Order::SetLink { machine, interface, mode } => self.set_link(machine, interface, mode)?,
            Order::Capture { fabric, network } => {
                let fabric = self.fabrics.get(&fabric).ok_or_else(|| missing("fabric"))?;
                given.push(fabric.capture(self.token, network)?);
            }
            Order::OpenSocket { machine, ipv6 } => {
                let network = self.machine(machine)?.network()?;
                given.push(fabric::tcp_socket(self.token, &network, ipv6)?);
            }
            Order::OpenTrunk { fabric, network } => {
                let fabric = self.fabrics.get(&fabric).ok_or_else(|| missing("fabric"))?;
                given.push(fabric.trunk(network)?);
            }
        }
        Ok(Outcome::Done)
    }

    /// Takes down what machines shared and nobody has any more.
    fn tidy(&self) -> Result<(), Fault> {
        self.base.as_ref().map_or(Ok(()), |base| base.shelf.tidy(self.token))
    }

    fn machine(&self, machine: u32) -> Result<&Machine, Fault> {
        let ended = || Fault::new(FaultKind::State, "the machine has ended");
        self.machines.get(&machine).ok_or_else(ended)
    }

    fn freeze(&self, machine: u32, frozen: bool) -> Result<(), Fault> {
        const WAIT: std::time::Duration = std::time::Duration::from_secs(5);
        let machine = self.machine(machine)?;
        let Some(group) = machine.cgroups.first().filter(|_| machine.unified) else {
            return Err(Fault::new(FaultKind::Unsupported, "pause a machine")
                .hint("this host has no cgroup v2 hierarchy that testbed may write; see `testbed doctor`"));
        };
        let result = if frozen { group.freeze_and_wait(WAIT) } else { group.freeze(false) };
        result.map_err(|e| Fault::system(if frozen { "pause" } else { "resume" }, &e))
    }

    fn attach(&mut self, machine: u32, fabric: u32, number: u32, new: &Interface) -> Result<(), Fault> {
        let fabric = self.fabrics.get(&fabric).ok_or_else(|| missing("fabric"))?;
        let its = self.machine(machine)?;
        if its.interfaces.contains_key(&number) {
            return Err(Fault::new(FaultKind::Exists, format!("make interface {number}")));
        }
        let network = its.network()?;
        let link = fabric.attach(its.pid, number, new)?;
        if let Err(fault) = fabric::take_up(self.token, &network, link, new) {
            // It has said why already.
            let _ = fabric::remove(self.token, &network, link);
            return Err(fault);
        }
        if let Some(its) = self.machines.get_mut(&machine) {
            its.interfaces.insert(number, link);
        }
        Ok(())
    }

    fn detach(&mut self, machine: u32, interface: u32) -> Result<(), Fault> {
        let its = self.machine(machine)?;
        fabric::remove(self.token, &its.network()?, its.link(interface)?)?;
        if let Some(its) = self.machines.get_mut(&machine) {
            its.interfaces.remove(&interface);
        }
        Ok(())
    }

    fn set_link(&self, machine: u32, interface: u32, mode: LinkMode) -> Result<(), Fault> {
        let machine = self.machine(machine)?;
        let index = machine.link(interface)?;
        let socket = fabric::netlink(self.token, &machine.network()?)?;
        let mut batch = netlink::Batch::new();
        batch.macvlan_mode(
            index,
            match mode {
                LinkMode::Whole => netlink::MacvlanMode::Bridge,
                LinkMode::Cut => netlink::MacvlanMode::Private,
                LinkMode::Trunk => netlink::MacvlanMode::Vepa,
            },
        );
        socket.apply(batch).map_err(refused)
    }

    fn reap(&mut self, children: &OwnedFd) -> io::Result<()> {
        let mut information = [0_u8; 128 * 4];
        // What does not fit is read at the next turn of the loop.
        let _ = rustix::io::read(children, &mut information);
        while let Some((pid, status)) = process::reap(None)? {
            let Some(number) = self.by_pid.remove(&pid) else { continue };
            let how = match status {
                Status::Code(code) => Exit::Code(code),
                Status::Signal(signal) => Exit::Signal(signal),
            };
            // Of one that was killed it was said whether it leaves them.
            if let Some(machine) = self.machines.get(&number).filter(|machine| machine.held.is_empty()) {
                let _ = machine.leave_networks(self.token);
            }
            self.tell(0, Kind::Note, &Ended { machine: number, how }, &[])?;
            if let Some(machine) = self.machines.remove(&number) {
                let Machine { cgroups, held, network, interfaces, upper, .. } = machine;
                self.leaving.push_back(Leaving { held, cgroups });
                if let Some(network) = network.filter(|_| self.uppers.contains_key(&upper)) {
                    let interfaces = interfaces.into_values().collect();
                    self.former.insert(number, Former { interfaces, network, upper });
                }
            }
        }
        while self.leaving.len() > MOST_LEAVING {
            self.leaving.pop_front();
        }
        Ok(())
    }

    /// Kills what is left, and waits for it, so that the folders of its cgroups can go too.
    fn end(&mut self) {
        for machine in self.machines.values() {
            if let Some(group) = machine.cgroups.first().filter(|_| machine.unified) {
                let _ = group.kill();
            }
            let _ = process::kill(machine.pid as i32, libc::SIGKILL);
        }
        let leaving = self.leaving.iter_mut().flat_map(|leaving| leaving.held.drain(..));
        let mut held: Vec<OwnedFd> = leaving.collect();
        self.leaving.clear();
        for machine in self.machines.values() {
            kill_and_wait(machine.pid);
            remove_all(&machine.cgroups);
        }
        if let Some(base) = self.base.take() {
            base.remove_cgroups();
            self.uppers.clear();
            self.fabrics.clear();
            held.extend(base.into_namespaces());
        }
        close_together(held);
    }
}

/// Takes namespaces and mounts down. That is mostly waiting for the kernel, which has many wait for one thing together; so it is done
/// in threads, of which a launcher can have some once it makes no machines any more.
fn close_together(held: Vec<OwnedFd>) {
    const THREADS: usize = 8;
    let share = held.len().div_ceil(THREADS);
    let mut held = held.into_iter().peekable();
    std::thread::scope(|scope| {
        while held.peek().is_some() {
            let its: Vec<OwnedFd> = held.by_ref().take(share).collect();
            // Without a thread, they are closed here.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || drop(its));
        }
    });
}

/// Ends a child that has not been waited for.
fn kill_and_wait(pid: u32) {
    // It may have ended already.
    let _ = process::kill(pid as i32, libc::SIGKILL);
    let child = rustix::process::Pid::from_raw(pid as i32);
    let _ = rustix::process::waitpid(child, rustix::process::WaitOptions::empty());
}

fn remove_all(cgroups: &[Cgroup]) {
    for group in cgroups {
        // What cannot go now goes with the sweep of the next command.
        let _ = group.remove();
    }
}

fn base_of(base: &Option<Base>) -> Result<&Base, Fault> {
    base.as_ref().ok_or_else(not_set_up)
}

fn not_set_up() -> Fault {
    Fault::new(FaultKind::State, "the launcher has not been set up")
}

fn missing(what: &str) -> Fault {
    Fault::new(FaultKind::NotFound, format!("no such {what}"))
}

fn refused(error: netlink::BatchError) -> Fault {
    Fault::system(error.what, &error.error)
}
