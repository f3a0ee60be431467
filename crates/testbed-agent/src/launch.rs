//! The private protocol between a keeper and its launcher. Both come from one build, so it has no versions.
//!
//! The keeper sends [`Order`]s as [`Kind::Ask`](crate::frame::Kind::Ask) frames; the launcher answers each with a
//! [`Outcome`] in a [`Kind::Reply`](crate::frame::Kind::Reply) on the same channel, and tells of machines that ended
//! with [`Ended`] in [`Kind::Note`](crate::frame::Kind::Note) frames on channel 0.

use crate::fault::Fault;
use crate::layers::Work;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What a launcher needs to know before its first machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Which ids of the host machines get.
    pub ids: Ids,
    /// The cgroup v2 folder to make machines' folders in.
    pub cgroup: Option<String>,
    /// Controllers of version 2 that this folder and the one above it have to pass on to machines' folders.
    pub cgroup_controllers: Vec<String>,
    /// Processes are in the folder above it, and have to go into one of their own before it can pass controllers on.
    pub cgroup_occupied: bool,
    /// cgroup v1 folders to make machines' folders in, by controller.
    pub cgroup_v1: Vec<(Controller, String)>,
    /// This host's `/dev/net/tun` can be used.
    pub tun: bool,
}

/// How many ids a machine has, where it has a range.
pub const IDS: u32 = 65536;

/// Which ids of the host the ids of machines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ids {
    /// The launcher runs as root: [`IDS`] ids from this one on.
    Range(u32),
    /// The launcher runs as an ordinary user who has ids beside the own (subuid(5)): that user is root inside, and so many
    /// ids there are, root among them. Whoever keeps the launcher has them mapped: see [`Order::Show`].
    Delegated(u32),
    /// The launcher runs as an ordinary user: that user is root inside, and there is nobody else.
    Single,
}

impl Ids {
    /// The launcher runs as an ordinary user.
    pub fn is_ordinary(self) -> bool {
        !matches!(self, Ids::Range(_))
    }
}

/// A controller of cgroup v1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Controller {
    /// memory
    Memory,
    /// cpu
    Cpu,
    /// pids
    Pids,
}

/// An entry of the layer that hides the host's secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masked {
    /// Relative to the host's root.
    pub path: String,
    /// What stands there instead.
    pub with: Mask,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What a machine sees instead of a file of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mask {
    /// An empty folder.
    Empty,
    /// Nothing.
    Absent,
    /// A folder that shows through (parents of other entries).
    Through,
    /// A file with this content.
    File(String),
}

/// What a keeper tells its launcher. Numbers of fabrics and machines are the keeper's choice and never reused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// First, and once.
    Begin(Setup),
    /// What of the host a machine whose image is `host` must not see. Too long for one frame, it comes in several.
    Hide(Vec<Masked>),
    /// All that is to be hidden is told: prepares the host's root. With [`Ids::Delegated`] the answer only says that the
    /// launcher has a user namespace, whose ids its keeper has to map now (newuidmap(1)): [`Order::Mapped`] goes on.
    Show,
    /// The ids of the launcher's user namespace are mapped, or with [`Ids::Single`] could not be: then it maps one itself.
    Mapped(Ids),
    /// Makes an ordinary user's launcher root of a user namespace, whose ids its keeper has to map: for orders about files,
    /// instead of [`Order::Begin`].
    Separate,
    /// Does something with layers. The frame carries what it needs.
    Layers(Work),
    /// Tries something that machines need, in a process of its own of which nothing stays. Before [`Order::Begin`].
    Try {
        /// What.
        probe: Probe,
        /// Whose ids it is tried with.
        ids: Ids,
    },
    /// Makes the networks of one copy of a testbed, in a namespace of their own.
    MakeFabric {
        /// Its number.
        fabric: u32,
        /// Its networks.
        networks: Vec<Network>,
        /// Files that all its machines see, over what their images hold: absolute path and content.
        files: Vec<(String, String)>,
    },
    /// Forgets a fabric. Its links go when the last machine on it has.
    DropFabric {
        /// Its number.
        fabric: u32,
    },
    /// Makes a machine. The frame carries the machine's end of the agent socket.
    MakeMachine {
        /// Its number.
        machine: u32,
        /// What it is.
        machine_spec: Box<Machine>,
    },
    /// Kills all of a machine. [`Ended`] follows.
    Kill {
        /// Its number.
        machine: u32,
        /// Its interfaces answer nobody any more from now on, as if its power was cut; otherwise they may for as long as
        /// its upper layer is there.
        off: bool,
    },
    /// Stops or resumes all processes of a machine (cgroup v2).
    Freeze {
        /// Its number.
        machine: u32,
        /// Stop, rather than resume.
        frozen: bool,
    },
    /// Makes an upper layer in memory that no machine has yet.
    MakeUpper {
        /// Its number: none of a machine.
        upper: u32,
        /// At most so many bytes.
        size: u64,
    },
    /// Sends the folder that holds `upper` and `work`: what a machine has changed. Works after the machine's end too.
    OpenUpper {
        /// Its number; a machine's own has the machine's.
        upper: u32,
    },
    /// Forgets an upper layer: in memory it goes with the last machine that uses it.
    ForgetUpper {
        /// Its number.
        upper: u32,
    },
    /// Done once everything that was asked for before is, clean-up included.
    Settle,
    /// Gives a machine that runs one more interface, with its addresses.
    Attach {
        /// The machine.
        machine: u32,
        /// The fabric with the network.
        fabric: u32,
        /// The number of the interface: beyond those of [`Machine::interfaces`], and not in use.
        number: u32,
        /// The interface.
        interface: Interface,
    },
    /// Takes an interface away from a machine that runs.
    Detach {
        /// The machine.
        machine: u32,
        /// The number of the interface.
        interface: u32,
    },
    /// Changes how an interface takes part in its network.
    SetLink {
        /// The machine.
        machine: u32,
        /// Which of its interfaces: in the order of [`Machine::interfaces`], or as [`Order::Attach`] said.
        interface: u32,
        /// How.
        mode: LinkMode,
    },
    /// Sends the trunk of a network: whole Ethernet frames, those for ports that the kernel does not know.
    OpenTrunk {
        /// The fabric.
        fabric: u32,
        /// Which of its networks.
        network: u32,
    },
    /// Opens a TCP socket in a machine's network, not connected; it comes back with the outcome. What it connects to
    /// sees a neighbour process of the machine.
    OpenSocket {
        /// The machine.
        machine: u32,
        /// For IPv6 rather than IPv4.
        ipv6: bool,
    },
    /// Opens a packet socket that sees every frame of a network once, from when it is started on the interface that
    /// is selected; it comes back with the outcome.
    Capture {
        /// The fabric.
        fabric: u32,
        /// Which of its networks.
        network: u32,
    },
}

/// Something that machines need of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// A process in namespaces of its own, with ids mapped and all rights inside (clone3(2), user_namespaces(7)).
    Namespaces,
    /// proc and sysfs of these namespaces.
    KernelFiles,
    /// A tmpfs whose files may have user attributes (Linux 6.6).
    MemoryAttributes,
    /// Overlay with `userxattr` in the namespaces.
    Overlay,
    /// A mount of this folder that shows other owners (mount_setattr(2)). Needs root.
    IdMap(String),
    /// A filter of system calls.
    Seccomp,
    /// A process in a new cgroup below this folder: born there (version 2), or moved there.
    Cgroup {
        /// The folder, which is made if it is not there.
        folder: String,
        /// Of version 2.
        unified: bool,
    },
    /// A TAP device.
    Tap,
    /// An ifb device.
    Ifb,
    /// A macvlan port.
    Macvlan,
    /// A packet socket.
    PacketSocket,
    /// A table of packet filters.
    Nftables,
    /// A link of this kind (ip-link(8)).
    Link(String),
    /// A queueing discipline of this kind (tc(8)).
    Discipline(String),
}

/// A network of a fabric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The most that a link of it may carry at once, in bytes.
    pub mtu: u32,
}

/// How an interface takes part in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkMode {
    /// It reaches all others.
    Whole,
    /// It reaches nobody.
    Cut,
    /// It reaches the trunk only, which passes its frames on.
    Trunk,
}

/// A machine to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The host name.
    pub hostname: String,
    /// What its root file system is made of.
    pub root: Root,
    /// Where its changes go; they stay after its end, until [`Order::ForgetUpper`].
    pub upper: Upper,
    /// Upper layers that lie below its own as they are, top first.
    pub snapshots: Vec<u32>,
    /// The machine that has ended and whose place it takes: their interfaces have the same addresses.
    pub replaces: Option<u32>,
    /// The fabric its interfaces hang on.
    pub fabric: Option<u32>,
    /// Its interfaces beside `lo`.
    pub interfaces: Vec<Interface>,
    /// Its routes beside those of its interfaces.
    pub routes: Vec<Route>,
    /// Kernel parameters of its own namespaces: `net.ipv4.ip_forward`, value.
    pub sysctls: Vec<(String, String)>,
    /// Folders of the host that it sees live.
    pub mounts: Vec<Mount>,
    /// Limits.
    pub limits: Limits,
    /// What its programs find in their environment.
    pub env: Vec<(String, String)>,
    /// The folder that its programs start in, if they are not told another; the user's home otherwise.
    pub workdir: Option<String>,
    /// The user that its programs run as, if they are not told another; root otherwise.
    pub user: Option<String>,
    /// It may speak to its keeper by `/run/testbed/control`.
    pub control: bool,
}

impl Machine {
    /// A machine that is nothing but its files: no network, no limits, no rights.
    pub fn new(hostname: impl Into<String>, root: Root, upper: Upper) -> Machine {
        Machine {
            hostname: hostname.into(),
            root,
            upper,
            snapshots: Vec::new(),
            replaces: None,
            fabric: None,
            interfaces: Vec::new(),
            routes: Vec::new(),
            sysctls: Vec::new(),
            mounts: Vec::new(),
            limits: Limits::default(),
            env: Vec::new(),
            workdir: None,
            user: None,
            control: false,
        }
    }
}

/// The address that a hypervisor's adapter has before its machine is told its own, by its number.
pub fn adapter_mac(number: u32) -> [u8; 6] {
    let [_, b, c, d] = number.to_be_bytes();
    [0x02, 0, 0, b, c, d]
}

/// An address on a link as people write it.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// What a root file system is made of below the machine's own changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Folders, top first; absolute paths on the host. Owners in them are as inside.
    pub layers: Vec<String>,
    /// The host's own root, masked, lies below them.
    pub host: bool,
}

/// Where a machine's changes go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upper {
    /// Memory, at most so many bytes. It gets the machine's number.
    Memory(u64),
    /// A folder on the host that holds `upper` and `work`; owners in them are as inside. It gets the machine's number.
    Folder(String),
    /// The one with this number. No machine that runs may have it.
    Of(u32),
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name inside.
    pub name: String,
    /// Which network of the fabric.
    pub network: u32,
    /// Its address on the link.
    pub mac: [u8; 6],
    /// Its largest packet; the network's if none.
    pub mtu: Option<u32>,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The destination and its prefix length; prefix 0 for the default route.
    pub to: (IpAddr, u8),
    /// The next router.
    pub via: IpAddr,
}

/// A folder or file of the host, live in a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host.
    pub source: String,
    /// Inside.
    pub target: String,
    /// What is written inside is written on the host.
    pub writable: bool,
    /// The host's user and group that root inside acts as.
    pub owner: (u32, u32),
}

/// Limits of a machine. Nothing is limited by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes, the machine's own files in memory included.
    pub memory: Option<u64>,
    /// Thousandths of one processor.
    pub cpu_milli: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// The answer to an [`Order`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done. Descriptors that were asked for are in the frame.
    Done,
    /// The machine exists; what it says itself comes by its agent socket.
    Made {
        /// Process 1, as the host counts.
        pid: u32,
    },
    /// Done; this is what was counted, if it was to be.
    Counted(u64),
    /// It could not be done.
    Failed(Fault),
}

/// A machine has ended, and no process of it is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its number.
    pub machine: u32,
    /// How process 1 ended.
    pub how: crate::agent::Exit,
}
