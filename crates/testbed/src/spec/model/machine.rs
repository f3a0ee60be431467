use super::image::FileEntry;
use super::need::Need;
use crate::spec::address::{Mac, Subnet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// One throwaway computer.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    pub(in crate::spec) name: String,
    pub(in crate::spec) declared: String,
    pub(in crate::spec) hostname: String,
    pub(in crate::spec) image: String,
    pub(in crate::spec) kernel: Kernel,
    pub(in crate::spec) guest_kernel: GuestKernel,
    pub(in crate::spec) interfaces: Vec<Interface>,
    pub(in crate::spec) gateways: Vec<IpAddr>,
    pub(in crate::spec) routes: Vec<Route>,
    pub(in crate::spec) files: Vec<FileEntry>,
    pub(in crate::spec) mounts: Vec<Mount>,
    pub(in crate::spec) env: Vec<(String, String)>,
    pub(in crate::spec) pass_env: Vec<String>,
    pub(in crate::spec) services: Vec<Service>,
    pub(in crate::spec) ready: Vec<Ready>,
    pub(in crate::spec) depends: Arc<[String]>,
    pub(in crate::spec) limits: Limits,
    pub(in crate::spec) disk: Option<u64>,
    pub(in crate::spec) needs: Vec<Need>,
    pub(in crate::spec) sysctls: Vec<(String, String)>,
    pub(in crate::spec) router: bool,
    pub(in crate::spec) screen: bool,
    pub(in crate::spec) ports: Vec<Port>,
    pub(in crate::spec) control: Control,
    pub(in crate::spec) init: Init,
    pub(in crate::spec) agent: bool,
    pub(in crate::spec) cdrom: Option<PathBuf>,
}

impl Machine {
    /// Its name: a host label, unique in the testbed. With `count = 3`, `NAME-1` to `NAME-3`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its table in the file; differs from [`name`](Self::name) with `count`.
    pub fn declared(&self) -> &str {
        &self.declared
    }

    /// The host name inside, at most 64 bytes; unique in the testbed.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The name of its image: [`Testbed::image`](super::Testbed::image) knows it.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Which kernel the file asks for.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Which one it is, if it is its own.
    pub fn guest_kernel(&self) -> &GuestKernel {
        &self.guest_kernel
    }

    /// Its interfaces beside `lo`, in file order.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The routers of its default routes, at most one of each family. Without `gateway` in the file: the uplink of
    /// its first network that has one.
    pub fn gateways(&self) -> &[IpAddr] {
        &self.gateways
    }

    /// Its further routes.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Files that are put into it before its services start.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// Files and folders of the host that it sees live.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// What its programs find in their environment: the image's variables and the machine's own over them.
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// Names of variables of the host that it gets too, where the host has them.
    pub fn pass_env(&self) -> &[String] {
        &self.pass_env
    }

    /// What runs on it from its start on, in file order.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// What must hold, all of it, before the machine counts as ready.
    pub fn ready(&self) -> &[Ready] {
        &self.ready
    }

    /// The machines that must be ready before this one starts.
    pub fn depends(&self) -> &[String] {
        &self.depends
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How much it may change of its file system, in bytes.
    pub fn disk(&self) -> Option<u64> {
        self.disk
    }

    /// What its kernel must be able to do.
    pub fn needs(&self) -> &[Need] {
        &self.needs
    }

    /// Kernel parameters of its own namespaces, name and value; what `router` implies included.
    pub fn sysctls(&self) -> &[(String, String)] {
        &self.sysctls
    }

    /// It forwards packets between its networks.
    pub fn is_router(&self) -> bool {
        self.router
    }

    /// It has a screen and a keyboard.
    pub fn has_screen(&self) -> bool {
        self.screen
    }

    /// Its ports that the host publishes.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// What programs on it may ask of the keeper.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What is process 1.
    pub fn init(&self) -> Init {
        self.init
    }

    /// Our agent runs in it. Without, it is a system of its own, which boots from a disk or a CD.
    pub fn has_agent(&self) -> bool {
        self.agent
    }

    /// What is in its CD drive, if it has one.
    pub fn cdrom(&self) -> Option<&Path> {
        self.cdrom.as_deref()
    }
}

/// Whose kernel a machine runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The file does not say: what `needs` asks for decides.
    Any,
    /// The host's.
    Shared,
    /// Its own, in a virtual machine.
    Own,
}

/// Which kernel of its own a machine has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum GuestKernel {
    /// Debian's for clouds.
    #[default]
    Ours,
    /// The one that its image has.
    OfImage,
    /// A bzImage or vmlinux of the host.
    File {
        /// Its file.
        path: PathBuf,
        /// The folder of its modules.
        modules: Option<PathBuf>,
    },
}

/// What is process 1 of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Init {
    /// Our agent.
    #[default]
    Agent,
    /// systemd, which boots all that the image has; our agent runs beside it.
    Systemd,
}

impl Init {
    /// The program, if it is not our agent.
    pub(crate) fn program(self) -> Option<&'static str> {
        match self {
            Init::Agent => None,
            Init::Systemd => Some("/lib/systemd/systemd"),
        }
    }
}

/// A machine's attachment to a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub(in crate::spec) network: String,
    pub(in crate::spec) name: String,
    pub(in crate::spec) mac: Mac,
    pub(in crate::spec) mtu: u32,
    pub(in crate::spec) addresses: Vec<Address>,
}

impl Interface {
    /// The network's name: [`Testbed::network`](super::Testbed::network) knows it.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// Its name inside, at most 15 bytes: `eth0`, `eth1`, … in file order unless the file names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the link; derived from testbed, machine and network unless the file gives one.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Its largest packet, in bytes; the network's unless the file gives one.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Its addresses. None on a raw network.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    pub(in crate::spec) ip: IpAddr,
    pub(in crate::spec) prefix: u8,
}

impl Address {
    /// The address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// The prefix length of the subnet it lies in.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The subnet it lies in.
    pub fn subnet(&self) -> Subnet {
        Subnet::around(self.ip, self.prefix)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// A route beside the default ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub(in crate::spec) to: Subnet,
    pub(in crate::spec) via: IpAddr,
}

impl Route {
    /// The destination.
    pub fn to(&self) -> Subnet {
        self.to
    }

    /// The next router; it lies in a subnet of the machine.
    pub fn via(&self) -> IpAddr {
        self.via
    }
}

/// A file or folder of the host, live in a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub(in crate::spec) source: PathBuf,
    pub(in crate::spec) target: String,
    pub(in crate::spec) writable: bool,
    pub(in crate::spec) owner: Option<(u32, u32)>,
}

impl Mount {
    /// On the host.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Inside: absolute, without `.` and `..`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// What is written inside is written on the host.
    pub fn writable(&self) -> bool {
        self.writable
    }

    /// The host's user and group that root inside acts as; the source's own if none.
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }
}

/// A program that runs from a machine's start on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub(in crate::spec) name: String,
    pub(in crate::spec) run: String,
    pub(in crate::spec) user: Option<String>,
    pub(in crate::spec) env: Vec<(String, String)>,
    pub(in crate::spec) cwd: Option<String>,
}

impl Service {
    /// Its name, unique on its machine; the program's where the file gives none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Text for `/bin/sh -c`.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// The user it runs as, `name`, `name:group` or numbers; root if none.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Variables beyond the machine's.
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// Its working folder; the user's home if none.
    pub fn cwd(&self) -> Option<&str> {
        self.cwd.as_deref()
    }
}

/// Something to wait for before a machine counts as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub(in crate::spec) condition: ReadyCondition,
    pub(in crate::spec) timeout: Duration,
}

impl Ready {
    /// What must hold.
    pub fn condition(&self) -> &ReadyCondition {
        &self.condition
    }

    /// How long that may take from the machine's start.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// What makes a machine ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyCondition {
    /// A service has written a line that contains this text.
    Log(String),
    /// Somebody listens on this TCP port.
    Port(u16),
    /// This text, run by `/bin/sh -c`, ends with status 0.
    Command(String),
    /// This path exists.
    File(String),
}

/// Limits of a machine. Nothing is limited by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub(in crate::spec) memory: Option<u64>,
    pub(in crate::spec) cpu_milli: Option<u32>,
    pub(in crate::spec) pids: Option<u32>,
}

impl Limits {
    /// Bytes of memory, the machine's own files in memory included.
    pub fn memory(&self) -> Option<u64> {
        self.memory
    }

    /// Thousandths of one processor.
    pub fn cpu_milli(&self) -> Option<u32> {
        self.cpu_milli
    }

    /// Processes and threads.
    pub fn pids(&self) -> Option<u32> {
        self.pids
    }
}

/// A TCP port of a machine that the host publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    pub(in crate::spec) host: SocketAddr,
    pub(in crate::spec) machine: u16,
}

impl Port {
    /// Where the host listens when the testbed stays (`up`). A fresh copy of a run gets a free port instead.
    pub fn host(&self) -> SocketAddr {
        self.host
    }

    /// The port on the machine.
    pub fn machine(&self) -> u16 {
        self.machine
    }
}

/// What programs on a machine may ask of the keeper, within their own copy of the testbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// Only this.
    Only(Vec<Right>),
}

impl Control {
    /// Whether `action` on the machine or network `target` is allowed.
    pub fn allows(&self, action: RightAction, target: &str) -> bool {
        match self {
            Control::None => false,
            Control::All => true,
            Control::Only(rights) => rights.iter().any(|right| right.allows(action, target)),
        }
    }
}

/// One right: an action, and on which machines or networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    pub(in crate::spec) action: RightAction,
    pub(in crate::spec) pattern: Option<String>,
}

impl Right {
    /// What may be done.
    pub fn action(&self) -> RightAction {
        self.action
    }

    /// To which machines or networks: a name in which `*` stands for any text; all if none.
    pub fn pattern(&self) -> Option<&str> {
        self.pattern.as_deref()
    }

    fn allows(&self, action: RightAction, target: &str) -> bool {
        self.action == action
            && self
                .pattern
                .as_deref()
                .is_none_or(|pattern| crate::spec::name::matches_pattern(pattern, target))
    }
}

/// What a machine can be given the right to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RightAction {
    /// Run commands on a machine, list and signal its processes, wait for things on it.
    Exec,
    /// Copy files to and from a machine.
    Copy,
    /// Read what a machine's services and console wrote.
    Logs,
    /// Connect to a port of a machine.
    Connect,
    /// Pause and resume a machine.
    Pause,
    /// Stop and start a machine.
    Restart,
    /// Take snapshots of machines and go back to them.
    Snapshot,
    /// Cut, heal and impair the links of a machine or a network.
    Cut,
    /// Read the packets of a machine or a network.
    Capture,
    /// Read and write the variables of other machines.
    Variables,
}

impl RightAction {
    /// All, in the order of the documentation.
    pub const ALL: [RightAction; 10] = [
        RightAction::Exec,
        RightAction::Copy,
        RightAction::Logs,
        RightAction::Connect,
        RightAction::Pause,
        RightAction::Restart,
        RightAction::Snapshot,
        RightAction::Cut,
        RightAction::Capture,
        RightAction::Variables,
    ];

    /// Its name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            RightAction::Exec => "exec",
            RightAction::Copy => "cp",
            RightAction::Logs => "logs",
            RightAction::Connect => "connect",
            RightAction::Pause => "pause",
            RightAction::Restart => "restart",
            RightAction::Snapshot => "snapshot",
            RightAction::Cut => "cut",
            RightAction::Capture => "capture",
            RightAction::Variables => "var",
        }
    }
}
