//! Process 1 of a machine: it puts the machine together from the pieces that the launcher handed over, and then is its
//! agent until the end.
//!
//! It never executes another program in its own place: that would cost a quarter of the whole machine. All that it
//! inherited from the launcher and does not need is closed before the first program of the machine runs.

mod agent;
mod capsule;
mod control;
mod files;
mod guest;
mod identity;
mod line;
mod modules;
mod network;
mod parts;
mod processes;
mod root;
mod run;

pub(crate) use control::SOCKET as CONTROL_SOCKET;
pub(crate) use guest::{is_own_program, live as live_as_guest};
pub(crate) use modules::load_for_kernel;
pub(crate) use network::interface_up;

use line::Line;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Signal;
use std::borrow::Cow;
use std::io;
use testbed_agent::agent::Reply;
use testbed_agent::frame::{Kind, encode_message};
use testbed_agent::launch::Machine;
use testbed_agent::{Doing, Fault};
use testbed_sys::mount::Detached;
use testbed_sys::process::{self, SingleThreaded, exit_now};

/// All that a machine begins with.
pub(crate) struct Birth<'a> {
    pub(crate) spec: &'a Machine,
    /// Says when ids are mapped and when interfaces are there; ends if the launcher dies first.
    pub(crate) gate: OwnedFd,
    /// The machine's end of its agent socket.
    pub(crate) agent: io::Result<OwnedFd>,
    /// Files of cgroups, version 1, that this process enters by writing to them.
    pub(crate) doors: Vec<OwnedFd>,
    /// The launcher, and so this process, is behind the filter of system calls already.
    pub(crate) confined: bool,
    pub(crate) token: SingleThreaded,
}

/// Mounts that are attached nowhere yet.
pub(crate) struct Pieces {
    pub(crate) root: Root,
    /// Holds `dev`, `run` and `tmp`.
    pub(crate) volatile: Detached,
    /// The host's devices and the files that they are mounted on; none where `dev` has devices of its own.
    pub(crate) devices: Vec<(&'static str, Detached)>,
    /// In the order of [`Machine::mounts`].
    pub(crate) mounts: Vec<Detached>,
    /// The folder with the command `testbed`, for a machine that may drive its testbed.
    pub(crate) client: Option<Detached>,
}

/// The root file system.
pub(crate) enum Root {
    /// To be mounted.
    Layers {
        /// Top first.
        lowers: Vec<Detached>,
        parts: Vec<Part>,
        /// Holds `upper` and `work`.
        upper: Detached,
    },
    /// It is at [`crate::launcher::ROOT`].
    Mounted,
}

impl Root {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Root::Layers { lowers, parts, upper } => {
                let hosts = parts.iter().filter_map(|part| part.host.as_ref());
                lowers.iter().chain(hosts).chain([upper]).map(|fd| fd.as_fd()).collect()
            }
            Root::Mounted => Vec::new(),
        }
    }
}

/// A folder of the host's root that cannot be a layer as a part of that, but has to be one for itself.
pub(crate) struct Part {
    /// In the root folder.
    pub(crate) name: String,
    /// None if the host's cannot be had; then only what the other layers have of it is there.
    pub(crate) host: Option<Detached>,
}

/// Lives the machine's life. Called in the child of a clone; never returns to the launcher's code.
pub(crate) fn begin(birth: Birth<'_>, pieces: Pieces) -> ! {
    let Ok(agent) = &birth.agent else { exit_now(1) };
    if let Err(fault) = put_together(&birth, pieces, agent) {
        let mut bytes = Vec::new();
        let reply = Reply::Failed(fault.on(&birth.spec.hostname));
        if encode_message(&mut bytes, 0, Kind::Reply, 0, &reply).is_ok() {
            let _ = rustix::io::write(agent, &bytes);
        }
        exit_now(1)
    }
    let Birth { spec, agent, token, .. } = birth;
    let Ok(agent) = agent else { exit_now(1) };
    // Whatever ends it, the machine ends with it.
    let _ = agent::serve(Line::Socket(agent), Cow::Borrowed(spec), token);
    exit_now(0)
}

fn put_together(birth: &Birth<'_>, pieces: Pieces, agent: &OwnedFd) -> Result<(), Fault> {
    // First, so that all it uses is charged to it.
    for door in &birth.doors {
        rustix::io::write(door, b"0").doing("enter cgroup")?;
    }
    let Pieces { root, volatile, devices, mounts, client } = &pieces;
    let mut keep = vec![agent.as_fd(), birth.gate.as_fd(), volatile.as_fd()];
    keep.extend(root.descriptors());
    keep.extend(mounts.iter().chain(client).map(|fd| fd.as_fd()));
    keep.extend(devices.iter().map(|(_, fd)| fd.as_fd()));
    process::close_all_but(&keep).doing("close descriptors")?;
    die_with_launcher()?;
    pass_gate(birth)?;
    process::become_user(0, 0).doing("become root")?;
    // A change of ids clears it (prctl(2)).
    die_with_launcher()?;
    process::unshare_cgroup().doing("make a cgroup namespace")?;
    root::enter(birth.spec, pieces)?;
    rustix::system::sethostname(birth.spec.hostname.as_bytes()).doing("set the host name")?;
    pass_gate(birth)?;
    // An ordinary user's launcher, agent and programs are the same user for the kernel: only this keeps programs from
    // looking into the agent. For others the change of ids has done it.
    process::hide().doing("hide from other processes")?;
    network::configure(birth.spec)?;
    for capability in NEVER_NEEDED {
        match process::drop_capability(*capability) {
            Ok(()) => {}
            // A kernel older than the capability.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(Fault::system("drop a capability", &error)),
        }
    }
    if !birth.confined {
        testbed_sys::seccomp::confine().doing("filter system calls")?;
    }
    process::close_all_but(&[agent.as_fd()]).doing("close descriptors")
}

/// Capabilities that act on the whole host, or on nothing in a machine (capabilities(7)). In a user namespace most of
/// them grant nothing; taken out of the bounding set they cannot begin to.
const NEVER_NEEDED: &[u32] = &[
    16, // SYS_MODULE
    17, // SYS_RAWIO
    25, // SYS_TIME
    30, // AUDIT_CONTROL
    32, // MAC_OVERRIDE
    33, // MAC_ADMIN
    34, // SYSLOG
    35, // WAKE_ALARM
    36, // BLOCK_SUSPEND
    37, // AUDIT_READ
    38, // PERFMON
    39, // BPF
    40, // CHECKPOINT_RESTORE
];

fn die_with_launcher() -> Result<(), Fault> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).doing("set the death signal")
}

fn pass_gate(birth: &Birth<'_>) -> Result<(), Fault> {
    let mut byte = [0_u8; 1];
    loop {
        match rustix::io::read(&birth.gate, &mut byte) {
            Ok(0) => exit_now(1),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Fault::system("wait for the launcher", &error.into())),
        }
    }
}
