//! Finding out what the kernel lets this launcher do: by doing it, in a child whose namespaces go with it.

use super::base::make_group;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, open, openat};
use rustix::mount::MountAttrFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use std::rc::Rc;
use std::time::{Duration, Instant};
use testbed_agent::Doing as _;
use testbed_agent::launch::{IDS, Ids, Probe};
use testbed_agent::layers::opaque;
use testbed_agent::{Fault, FaultKind};
use testbed_sys::cgroup::Cgroup;
use testbed_sys::mount::{self, Alteration, Detached, Marks, NewFs, Overlay};
use testbed_sys::netlink::{Batch, LOOPBACK, Macvlan, MacvlanMode, Netlink};
use testbed_sys::packet::PacketSocket;
use testbed_sys::process::{self, Cloned, Namespaces, SingleThreaded, clone, exit_now};
use testbed_sys::userns::{self, IdMap};
use testbed_sys::{nftables, seccomp, tap};

/// Longer than anything here takes; a module may have to be loaded first.
const LIMIT: Duration = Duration::from_secs(5);
const FIRST: u32 = 100;
const SECOND: u32 = 101;

/// Tries something.
pub(super) fn carry_out(token: SingleThreaded, probe: &Probe, ids: Ids) -> Result<(), Fault> {
    match probe {
        Probe::IdMap(path) => idmapped(token, path, ids),
        Probe::Cgroup { folder, unified } => in_cgroup(token, folder, *unified),
        // As the launcher makes networks: in a namespace that only root can make.
        Probe::Tap | Probe::Ifb | Probe::Macvlan if !ids.is_ordinary() => {
            in_child(token, probe, Namespaces::NET, None)
        }
        _ => in_child(token, probe, Namespaces::MACHINE, Some(ids)),
    }
}

fn idmapped(token: SingleThreaded, path: &str, ids: Ids) -> Result<(), Fault> {
    let Ids::Range(first) = ids else {
        return Err(Fault::new(FaultKind::Unsupported, "map owners of mounts as an ordinary user"));
    };
    let map = IdMap { inside: 0, outside: first, count: IDS };
    let namespace = userns::with_maps(token, map, map).doing("map user ids")?;
    let tree = mount::copy_of_path(path, false).doing("open").map_err(|f| f.at(path))?;
    let alteration = Alteration { ids: Some(namespace.as_fd()), ..Alteration::default() };
    mount::alter(&tree, alteration, false).doing("map owners of").map_err(|f| f.at(path))
}

fn in_cgroup(token: SingleThreaded, path: &str, unified: bool) -> Result<(), Fault> {
    let folder = std::path::Path::new(path);
    let was_there = folder.is_dir();
    make_group(folder).doing("make cgroup").map_err(|f| f.at(path))?;
    let result = (|| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = open(folder, flags, Mode::empty()).doing("open cgroup")?;
        let group = Cgroup::make(&Rc::new(parent), "probe").doing("make cgroup")?;
        let result = live_in(token, &group, unified);
        result.and(group.remove().doing("remove cgroup"))
    })();
    if !was_there {
        // What cannot go now goes with the sweep of the next command.
        let _ = std::fs::remove_dir(folder);
    }
    result
}

fn live_in(token: SingleThreaded, group: &Cgroup, unified: bool) -> Result<(), Fault> {
    let (gate, hold) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
    let folder = if unified { Some(group.folder().doing("open cgroup")?) } else { None };
    let born = folder.as_ref().map(|fd| fd.as_fd());
    match clone(token, Namespaces::NONE, born).doing("start a process in a cgroup")? {
        Cloned::Child => {
            drop(hold);
            let _ = rustix::io::read(&gate, &mut [0_u8; 1]);
            exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => {
            let moved = match unified {
                true => Ok(()),
                false => group.write("cgroup.procs", &pid.to_string()).doing("enter cgroup"),
            };
            drop(hold);
            wait_for(&pidfd)?;
            moved
        }
    }
}

/// Tries something in new namespaces, with ids mapped if it is a user namespace too.
fn in_child(
    token: SingleThreaded,
    probe: &Probe,
    namespaces: Namespaces,
    ids: Option<Ids>,
) -> Result<(), Fault> {
    let (gate, go) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
    let (answer, say) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
    match clone(token, namespaces, None).doing("make namespaces")? {
        Cloned::Child => {
            drop((go, answer));
            let result = match rustix::io::read(&gate, &mut [0_u8; 1]) {
                Ok(1) => ids.map_or(Ok(()), |_| settle()).and_then(|()| attempt(probe)),
                _ => exit_now(1),
            };
            if let Ok(bytes) = postcard::to_stdvec(&result) {
                let _ = rustix::io::write(&say, &bytes);
            }
            exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => {
            drop((gate, say));
            let mapped = match ids {
                Some(Ids::Range(first)) => {
                    userns::write_maps(pid, IdMap { inside: 0, outside: first, count: IDS })
                }
                None => Ok(()),
                // Other ids make no difference to what can be tried here.
                Some(Ids::Delegated(_) | Ids::Single) => userns::write_single_map(
                    pid,
                    rustix::process::getuid().as_raw(),
                    rustix::process::getgid().as_raw(),
                ),
            };
            let begun = mapped
                .doing("map user ids")
                .and_then(|()| rustix::io::write(&go, &[1]).map(drop).doing("begin"));
            drop(go);
            let said = begun.and_then(|()| read_answer(&answer));
            let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
            wait_for(&pidfd)?;
            said?
        }
    }
}

fn read_answer(answer: &OwnedFd) -> Result<Result<(), Fault>, Fault> {
    let end = Instant::now() + LIMIT;
    let mut bytes = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(answer, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(Fault::new(FaultKind::Timeout, "wait for the kernel")),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(Fault::system("wait for the kernel", &error.into())),
        }
        let mut buffer = [0_u8; 1024];
        match rustix::io::read(answer, &mut buffer).doing("read what was found")? {
            0 => break,
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
    postcard::from_bytes(&bytes)
        .map_err(|_| Fault::new(FaultKind::System, "find out: the process that tried has ended"))
}

fn wait_for(pidfd: &OwnedFd) -> Result<(), Fault> {
    let id = rustix::process::WaitId::PidFd(pidfd.as_fd());
    rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED).map(drop).doing("wait for a process")
}

/// Becomes root of a user namespace, with mounts of its own.
fn settle() -> Result<(), Fault> {
    process::become_user(0, 0).doing("become root")?;
    mount::make_all_private().doing("make mounts private")
}

/// Runs in the child, which has nothing that it could break.
fn attempt(probe: &Probe) -> Result<(), Fault> {
    match probe {
        Probe::Namespaces => rustix::system::sethostname(b"probe").doing("set the host name"),
        Probe::KernelFiles => {
            NewFs::open("proc").and_then(|fs| fs.mount(MountAttrFlags::empty())).doing("mount proc")?;
            NewFs::open("sysfs").and_then(|fs| fs.mount(MountAttrFlags::empty())).doing("mount sysfs")?;
            Ok(())
        }
        Probe::MemoryAttributes => {
            let memory = memory()?;
            mkdirat(&memory, "f", Mode::RWXU).doing("make a folder")?;
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
            let folder = openat(&memory, "f", flags, Mode::empty()).doing("open a folder")?;
            opaque::mark_by_user(&folder).doing("set a user attribute on tmpfs")
        }
        Probe::Overlay => overlay(),
        Probe::Seccomp => seccomp::confine().doing("filter system calls"),
        Probe::Tap => tap::make("probe").map(drop).doing("make a TAP device"),
        Probe::PacketSocket => PacketSocket::open().map(drop).doing("open a packet socket"),
        Probe::Nftables => nftables::make_table("probe").doing("make a table of packet filters"),
        Probe::Ifb => links(|batch| batch.ifb(FIRST, "probe")),
        Probe::Macvlan => macvlan(),
        Probe::Link(kind) => known(links(|batch| batch.link(FIRST, kind)), libc::EOPNOTSUPP),
        Probe::Discipline(kind) => known(links(|batch| batch.discipline(LOOPBACK, kind)), libc::ENOENT),
        Probe::IdMap(_) | Probe::Cgroup { .. } => {
            Err(Fault::new(FaultKind::Invalid, "try this in namespaces of its own"))
        }
    }
}

fn memory() -> Result<Detached, Fault> {
    NewFs::open("tmpfs").and_then(|fs| fs.mount(MountAttrFlags::empty())).doing("make a tmpfs")
}

/// Mounts one the way that all kernels know; what newer ones know is tried with each machine.
fn overlay() -> Result<(), Fault> {
    // Its layers must be in this mount namespace; this folder is there on every host.
    let memory = memory()?.attach(CWD, c"/sys/").doing("attach a tmpfs")?;
    let part = |name: &str| {
        mkdirat(&memory, name, Mode::from_raw_mode(0o755)).doing("make a folder")?;
        memory.folder(name).doing("open a folder")
    };
    let (upper, work, first, second) = (part("upper")?, part("work")?, part("first")?, part("second")?);
    let mut overlay = Overlay::new(Marks::User);
    overlay.lower(&first);
    overlay.lower(&second);
    overlay.upper(&upper, &work);
    overlay.mount_by_name().map(drop).doing("mount an overlay")
}

fn links(fill: impl FnOnce(&mut Batch)) -> Result<(), Fault> {
    let mut batch = Batch::new();
    fill(&mut batch);
    let socket = Netlink::open().doing("open netlink")?;
    socket.apply(batch).map_err(|e| Fault::system(e.what, &e.error))
}

fn macvlan() -> Result<(), Fault> {
    let lower = match tap::make("lower") {
        Ok(_) => testbed_sys::netlink::index_of("lower").doing("find the TAP device")?,
        Err(_) => links(|batch| batch.ifb(FIRST, "lower")).map(|()| FIRST)?,
    };
    links(|batch| {
        batch.macvlan(&Macvlan {
            lower,
            index: SECOND,
            name: "probe",
            process: std::process::id(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: None,
            mode: MacvlanMode::Bridge,
        });
    })
}

/// Whatever else the kernel misses about it, it knows the kind.
fn known(result: Result<(), Fault>, unknown: i32) -> Result<(), Fault> {
    match result {
        Err(fault) if matches!(fault.errno, Some(errno) if errno == unknown || errno == libc::EPERM) => {
            Err(fault)
        }
        Err(fault) if fault.errno.is_none() => Err(fault),
        _ => Ok(()),
    }
}
