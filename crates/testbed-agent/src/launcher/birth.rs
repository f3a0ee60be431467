//! How a machine begins: the launcher's side. The other side is [`crate::init`].

use super::base::{Base, own, tmpfs};
use super::fabric::{self, Fabric};
use super::shelf::{AtShelf, Shared};
use super::{Launcher, Machine, base_of, missing};
use crate::init::{self, Birth, Pieces, Root};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{FileType, Mode, makedev, mkdirat, mknodat};
use rustix::pipe::{PipeFlags, pipe_with};
use testbed_agent::Doing as _;
use testbed_agent::launch::{Controller, Ids, Limits, Machine as Spec, Upper};
use testbed_agent::{Fault, FaultKind};
use testbed_sys::cgroup::Cgroup;
use testbed_sys::mount::{Detached, Marks, Overlay};
use testbed_sys::process::{Cloned, SingleThreaded};
use testbed_sys::userns::{self, IdMap};

/// What the launcher writes when the machine's ids are mapped, and when its interfaces are there.
pub(crate) const GO: u8 = 1;

impl Launcher {
    pub(super) fn make_machine(&mut self, number: u32, spec: &Spec, agent: &OwnedFd) -> Result<u32, Fault> {
        if self.machines.contains_key(&number) {
            return Err(Fault::new(FaultKind::Exists, format!("make machine {number}")));
        }
        let its_fabric = match spec.fabric {
            Some(fabric) => Some(self.fabrics.get(&fabric).ok_or_else(|| missing("fabric"))?),
            None => None,
        };
        if let Some(former) = spec.replaces.and_then(|former| self.former.remove(&former)) {
            fabric::take_down(self.token, &former.network, &former.interfaces)?;
        }
        let base = base_of(&self.base)?;
        let (upper_number, new_upper) = match &spec.upper {
            Upper::Of(other) => {
                // A mount namespace that is held has it mounted still.
                self.leaving.clear();
                if self.machines.values().any(|machine| machine.upper == *other) {
                    return Err(Fault::new(FaultKind::State, "use the files of a machine that runs"));
                }
                (*other, None)
            }
            Upper::Memory(size) => (number, Some(memory(base, &size.to_string())?)),
            Upper::Folder(path) => (number, Some(base.canonical(path)?)),
        };
        let layer = |upper: &u32| self.uppers.get(upper).ok_or_else(|| missing("upper layer"));
        let snapshots = spec.snapshots.iter().map(layer).collect::<Result<Vec<_>, _>>()?;
        let upper = match new_upper {
            Some(new) => NewOrOld::New(new),
            None => NewOrOld::Old(layer(&upper_number)?),
        };
        let cgroups = Cgroups::make(base, number, spec.limits)?;
        let (gate, go) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let doors = cgroups.doors()?;
        let files = its_fabric.and_then(Fabric::files);
        let (pieces, new_upper, root) = pieces(base, spec, &snapshots, files, upper, self.token)?;
        let birthplace = cgroups.birthplace()?;
        let pid = match base.clone(self.token, birthplace.as_ref().map(|fd| fd.as_fd()), root) {
            Ok(Cloned::Child) => {
                drop(go);
                let agent = agent.try_clone();
                let confined = base.is_confined();
                init::begin(Birth { spec, gate, agent, doors, confined, token: self.token }, pieces)
            }
            // It is this process's child: until it is waited for, its number is nobody else's.
            Ok(Cloned::Parent { pid, .. }) => pid,
            Err(fault) => return Err(fault),
        };
        drop((gate, doors, pieces, birthplace));
        // An ordinary user's process 1 hides its namespaces once it has passed the gate.
        let is_held = !spec.interfaces.is_empty() || base.ids().is_ordinary();
        let network = is_held.then(|| fabric::namespace_of_process(pid)).transpose();
        // With nothing to wire both waits end at once: waking a process is dear.
        let opens: &[u8] = if spec.interfaces.is_empty() { &[GO, GO] } else { &[GO] };
        let made = map_ids(base, pid)
            .and_then(|()| rustix::io::write(&go, opens).doing("open the gate"))
            .and_then(|_| its_fabric.map_or(Ok(Vec::new()), |f| f.wire(pid, &spec.interfaces)))
            .and_then(|interfaces| {
                if !spec.interfaces.is_empty() {
                    rustix::io::write(&go, &[GO]).doing("open the gate")?;
                }
                Ok((interfaces, network?))
            });
        let (interfaces, network) = match made {
            Ok(made) => made,
            Err(fault) => {
                drop(go);
                super::kill_and_wait(pid);
                return Err(fault);
            }
        };
        let unified = cgroups.has_unified;
        let held = Vec::new();
        let cgroups = cgroups.keep();
        let upper = upper_number;
        let interfaces = (0..).zip(interfaces).collect();
        let machine = Machine { pid, cgroups, unified, held, upper, interfaces, network };
        self.by_pid.insert(pid, number);
        self.machines.insert(number, machine);
        self.uppers.extend(new_upper.map(|upper| (number, upper)));
        Ok(pid)
    }
}

fn map_ids(base: &Base, pid: u32) -> Result<(), Fault> {
    match base.ids() {
        Ids::Range(first) => {
            userns::write_maps(pid, IdMap { inside: 0, outside: first, count: testbed_agent::launch::IDS })
        }
        Ids::Delegated(_) | Ids::Single => userns::write_same_maps(pid),
    }
    .doing("map user ids")
}

/// An upper layer.
enum NewOrOld<'a> {
    New(Detached),
    Old(&'a Shared),
}

/// All mounts that process 1 puts together, each attached nowhere yet; the upper layer, if it is new; and the root file
/// system, if it is not for process 1 to mount.
fn pieces(
    base: &Base,
    spec: &Spec,
    snapshots: &[&Shared],
    files: Option<&Shared>,
    upper: NewOrOld<'_>,
    token: SingleThreaded,
) -> Result<(Pieces, Option<Shared>, Option<Detached>), Fault> {
    let layers = spec.root.layers.iter().map(|layer| base.canonical(layer)).collect::<Result<Vec<_>, _>>()?;
    let volatile = volatile(base, spec.limits)?;
    let devices = device_mounts(base)?;
    let mut mounts = Vec::new();
    for mount in &spec.mounts {
        mounts.push(base.owned_by(token, &mount.source, mount.owner, mount.writable)?);
    }
    // In memory that user attributes cannot be had in, only the host's root can mark folders.
    let marks = if matches!(spec.upper, Upper::Folder(_)) { Marks::User } else { base.marks };
    let client = if spec.control { Some(base.client(token)?) } else { None };
    base.shelf.visit(token, |shelf| {
        let copied = snapshots.iter().map(|snapshot| shelf.copy(snapshot, "upper"));
        let mut lowers =
            copied.chain(files.map(|files| shelf.copy(files, ""))).collect::<Result<Vec<_>, _>>()?;
        lowers.extend(layers);
        let mut parts = Vec::new();
        if spec.root.host {
            let (root, folders) = base.host(shelf)?;
            lowers.push(root);
            parts = folders;
        }
        let new = match upper {
            NewOrOld::New(upper) => Ok(shelf.keep(upper)?),
            NewOrOld::Old(upper) => Err(upper),
        };
        let upper = new.as_ref().unwrap_or_else(|old| old);
        let (root, mounted) = match marks {
            Marks::User => (Root::Layers { lowers, parts, upper: shelf.copy(upper, "")? }, None),
            Marks::Trusted => (Root::Mounted, Some(mounted(base, shelf, lowers, upper)?)),
        };
        let client = client.map(|client| shelf.copy(client, "")).transpose()?;
        Ok((Pieces { root, volatile, devices, mounts, client }, new.ok(), mounted))
    })
}

/// The root file system, mounted by the host's root.
fn mounted(
    base: &Base,
    shelf: &AtShelf<'_>,
    lowers: Vec<Detached>,
    upper: &Shared,
) -> Result<Detached, Fault> {
    let lowers = lowers.into_iter().map(|lower| shelf.keep(lower)).collect::<Result<Vec<_>, _>>()?;
    for name in ["upper", "work"] {
        match mkdirat(upper, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => own(upper.as_fd(), name, base.root_id(), base.root_id())?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(Fault::system("make upper layer", &error.into())),
        }
    }
    let part = |name: &str| shelf.layer(upper).folder(name).doing("open the upper layer");
    let (changes, work) = (part("upper")?, part("work")?);
    let mut overlay = Overlay::new(Marks::Trusted);
    lowers.iter().for_each(|lower| overlay.lower(shelf.layer(lower)));
    overlay.upper(&changes, &work);
    overlay.mount().doing("mount the root file system")
}

/// An upper layer in memory, for a machine that is made later.
pub(super) fn memory_upper(token: SingleThreaded, base: &Base, size: u64) -> Result<Shared, Fault> {
    let tree = memory(base, &size.to_string())?;
    let root = base.root_id();
    for name in ["upper", "work"] {
        mkdirat(&tree, name, Mode::from_raw_mode(0o755)).doing("make upper layer")?;
        own(tree.as_fd(), name, root, root)?;
    }
    base.shelf.keep(token, tree)
}

/// An empty file system in memory that belongs to root inside.
fn memory(base: &Base, size: &str) -> Result<Detached, Fault> {
    let tree = tmpfs(size)?;
    own(tree.as_fd(), "", base.root_id(), base.root_id())?;
    Ok(tree)
}

/// The devices that every machine has: name, major and minor number.
const DEVICES: &[(&str, u32, u32)] = &[
    ("dev/null", 1, 3),
    ("dev/zero", 1, 5),
    ("dev/full", 1, 7),
    ("dev/random", 1, 8),
    ("dev/urandom", 1, 9),
    ("dev/tty", 5, 0),
];
const TUN: (&str, u32, u32) = ("dev/net/tun", 10, 200);

/// One file system in memory for all that a machine forgets when it ends: a folder for its `/dev` with what only the
/// launcher can make. Process 1, which others do not wait for, makes the rest.
fn volatile(base: &Base, limits: Limits) -> Result<Detached, Fault> {
    // What is written there counts against the memory limit, as do the machine's own files (half of it by default);
    // beyond the limit the kernel kills instead of refusing.
    let size = limits.memory.map_or("50%".into(), |memory| (memory / 4).to_string());
    let tree = memory(base, &size)?;
    let at = tree.as_fd();
    let root = base.root_id();
    let node = |(name, major, minor): (&str, u32, u32)| -> Result<(), Fault> {
        let (kind, number) = match base.ids() {
            Ids::Range(_) => (FileType::CharacterDevice, makedev(major, minor)),
            // To mount the host's on: an ordinary user cannot make devices.
            Ids::Delegated(_) | Ids::Single => (FileType::RegularFile, 0),
        };
        mknodat(at, name, kind, Mode::from_raw_mode(0o666), number).doing("make a device")
    };
    for name in ["dev", "dev/net"] {
        mkdirat(at, name, Mode::from_raw_mode(0o755)).doing("make /dev")?;
        own(at, name, root, root)?;
    }
    for device in DEVICES {
        node(*device)?;
    }
    if base.has_tun() {
        node(TUN)?;
    }
    Ok(tree)
}

/// The host's devices, to be mounted where an ordinary user's machine has files for them.
fn device_mounts(base: &Base) -> Result<Vec<(&'static str, Detached)>, Fault> {
    if !base.ids().is_ordinary() {
        return Ok(Vec::new());
    }
    let names = DEVICES.iter().map(|(name, ..)| *name).chain(base.has_tun().then_some(TUN.0));
    let open = |name: &'static str| {
        let path = format!("/{name}");
        let mount = testbed_sys::mount::copy_of_path(&path, false);
        Ok((name, mount.doing("open the host's device").map_err(|f| f.at(path))?))
    };
    names.map(open).collect()
}

/// The cgroups of one machine: version 2 first if there is one, then what limits need of version 1. Dropped without
/// being kept, they go.
struct Cgroups {
    all: Vec<Cgroup>,
    has_unified: bool,
}

impl Cgroups {
    fn make(base: &Base, number: u32, limits: Limits) -> Result<Cgroups, Fault> {
        let name = format!("m{number}");
        let mut groups = Cgroups { all: Vec::new(), has_unified: false };
        groups.fill(base, &name, limits)?;
        Ok(groups)
    }

    fn fill(&mut self, base: &Base, name: &str, limits: Limits) -> Result<(), Fault> {
        let make = |parent| Cgroup::make(parent, name).doing("make cgroup");
        if let Some(parent) = &base.unified {
            self.all.push(make(parent)?);
            self.has_unified = true;
        }
        let wanted = [
            (Controller::Memory, limits.memory.map(|b| b.to_string())),
            (Controller::Pids, limits.pids.map(|n| n.to_string())),
            (Controller::Cpu, limits.cpu_milli.map(|m| m.to_string())),
        ];
        for (controller, limit) in wanted {
            let Some(limit) = limit else { continue };
            if let Some((_, parent)) = base.controllers.iter().find(|(c, _)| *c == controller) {
                let group = make(parent)?;
                let written = write_limit_v1(&group, controller, &limit);
                self.all.push(group);
                written?;
            } else {
                let group = self.all.first().filter(|_| self.has_unified);
                let group = group.ok_or_else(|| no_controller(controller))?;
                write_limit_v2(group, controller, &limit)?;
            }
        }
        Ok(())
    }

    /// The folder that process 1 is born in, if there is version 2.
    fn birthplace(&self) -> Result<Option<OwnedFd>, Fault> {
        let unified = self.all.first().filter(|_| self.has_unified);
        unified.map(|group| group.folder().doing("open cgroup")).transpose()
    }

    /// What process 1 writes to, to enter the version 1 groups; in version 2 it is born.
    ///
    /// That it moves itself, as a thread, makes the difference: whoever moves another process holds up all forks and
    /// exits of the host, and waits until all processors have noticed (`cgroup_threadgroup_rwsem`).
    fn doors(&self) -> Result<Vec<OwnedFd>, Fault> {
        let groups = self.all.iter().skip(usize::from(self.has_unified));
        groups.map(|group| group.open("tasks").doing("enter cgroup")).collect()
    }

    /// They are a machine's now.
    fn keep(mut self) -> Vec<Cgroup> {
        std::mem::take(&mut self.all)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        super::remove_all(&self.all);
    }
}

const CPU_PERIOD_US: u64 = 100_000;

fn write_limit_v1(group: &Cgroup, controller: Controller, limit: &str) -> Result<(), Fault> {
    match controller {
        Controller::Memory => group.write("memory.limit_in_bytes", limit).doing("limit memory"),
        Controller::Pids => group.write("pids.max", limit).doing("limit processes"),
        Controller::Cpu => group
            .write("cpu.cfs_period_us", &CPU_PERIOD_US.to_string())
            .and_then(|()| group.write("cpu.cfs_quota_us", &cpu_quota(limit).to_string()))
            .doing("limit processor time"),
    }
}

fn write_limit_v2(group: &Cgroup, controller: Controller, limit: &str) -> Result<(), Fault> {
    match controller {
        Controller::Memory => group
            .write("memory.max", limit)
            .and_then(|()| group.write("memory.oom.group", "0"))
            .doing("limit memory"),
        Controller::Pids => group.write("pids.max", limit).doing("limit processes"),
        Controller::Cpu => {
            let quota = cpu_quota(limit);
            group.write("cpu.max", &format!("{quota} {CPU_PERIOD_US}")).doing("limit processor time")
        }
    }
    .map_err(|fault| {
        fault.hint("the controller is not enabled for this cgroup; `testbed doctor` says how to delegate it")
    })
}

/// Microseconds of processor time in each period, from thousandths of a processor.
fn cpu_quota(milli: &str) -> u64 {
    milli.parse::<u64>().map_or(CPU_PERIOD_US, |m| (m * CPU_PERIOD_US / 1000).max(1000))
}

fn no_controller(controller: Controller) -> Fault {
    let what = match controller {
        Controller::Memory => "limit memory",
        Controller::Cpu => "limit processor time",
        Controller::Pids => "limit processes",
    };
    Fault::new(FaultKind::Unsupported, what)
        .hint("this host has no cgroup controller for it that testbed may use; see `testbed doctor`")
}
