//! The control protocol: what a command, a library or a machine with `control = true` asks of a keeper.
//!
//! A client opens channels, with odd numbers; programs on a machine come by their agent's own link, on even ones. Two
//! frames open a channel:
//!
//! - [`Kind::Open`](crate::frame::Kind::Open) with an [`Open`](crate::agent::Open) that names a machine: the keeper
//!   relays all frames of the channel to that machine's agent and back. Only the channel's number changes, so credit
//!   goes from end to end. It ends with a [`Reply`](crate::agent::Reply).
//! - [`Kind::Ask`](crate::frame::Kind::Ask) with an [`Ask`]: what only the keeper can do. It ends with an [`Answer`].
//!   [`Kind::Abort`](crate::frame::Kind::Abort) gives it up; SIGINT or SIGTERM by
//!   [`Steer::Signal`](crate::agent::Steer::Signal) ends a capture or a log with its answer.
//!
//! No descriptors travel. When a client goes, what it opened is aborted.

use crate::agent::Run;
use crate::fault::Fault;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// How many channels a client may have open at a time. Further ones are refused.
pub const MAX_CHANNELS: usize = 128;

/// A request for the keeper itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// What there is and how it is, machines from this one on; as many as fit. Answers [`Answer::Status`].
    Status {
        /// How many machines, in the order of the file, to leave out.
        from: u32,
    },
    /// Takes a machine off a network, or puts it back. Answers [`Answer::Done`].
    Link {
        /// The machine.
        machine: String,
        /// One of its networks; all if none.
        network: Option<String>,
        /// Take it off.
        cut: bool,
    },
    /// Puts a machine on a network that it is not on, until it ends. Answers [`Answer::Done`].
    Attach {
        /// The machine.
        machine: String,
        /// The network.
        network: String,
        /// The interface's name inside; the next free `ethN` if none.
        name: Option<String>,
        /// Its addresses, with prefix lengths where the network does not tell them.
        addresses: Vec<(IpAddr, Option<u8>)>,
    },
    /// Undoes [`Ask::Attach`]. Answers [`Answer::Done`].
    Detach {
        /// The machine.
        machine: String,
        /// The network.
        network: String,
    },
    /// Captures a network as pcapng, in data frames ([`Stream::Output`](crate::frame::Stream::Output)). Notes
    /// [`Note::Ready`](crate::agent::Note::Ready) once it sees. Answers [`Answer::Captured`].
    Capture {
        /// The network.
        network: String,
        /// A filter in the form that docs/reference/filters.md describes; empty for all.
        filter: String,
        /// End after so many packets; 0 for never.
        count: u64,
        /// Bytes kept of each packet; 0 for all.
        snap: u32,
        /// End after so many milliseconds.
        deadline_ms: Option<u64>,
    },
    /// Connects to a TCP port of a machine, also on its loopback. Notes [`Note::Ready`](crate::agent::Note::Ready) once
    /// connected; then data frames carry the bytes both ways
    /// ([`Stream::Input`](crate::frame::Stream::Input) and `Output`). Answers [`Answer::Done`] when the machine's side
    /// has ended.
    Connect {
        /// The machine.
        machine: String,
        /// The port.
        port: u16,
        /// How long connecting may take.
        wait_ms: u32,
    },
    /// Attaches to the console of a machine with a kernel of its own, as all others who have. Notes
    /// [`Note::Ready`](crate::agent::Note::Ready); then data frames carry the last lines and what comes after them
    /// ([`Stream::Output`](crate::frame::Stream::Output)), and what is typed (`Input`). Answers [`Answer::Done`] when the
    /// machine has ended.
    Console {
        /// The machine.
        machine: String,
    },
    /// What is on the screen of a machine, as PNG in data frames ([`Stream::Output`](crate::frame::Stream::Output)).
    /// Answers [`Answer::Done`].
    Screenshot {
        /// The machine.
        machine: String,
    },
    /// Types on the keyboard of a machine that has a screen. Answers [`Answer::Done`] when the last key was let go.
    Type {
        /// The machine.
        machine: String,
        /// A text, typed first.
        text: String,
        /// Keys that are pressed together, one such after the other, as [`Chord::parse`](crate::keys::Chord::parse)
        /// takes them.
        keys: Vec<String>,
    },
    /// The live screen of a machine: data frames carry VNC (RFC 6143) both ways, as for [`Ask::Connect`].
    Screen {
        /// The machine.
        machine: String,
    },
    /// Stops all processes of a machine where they are. Answers [`Answer::Done`].
    Pause {
        /// The machine.
        machine: String,
    },
    /// Lets them go on. Answers [`Answer::Done`].
    Resume {
        /// The machine.
        machine: String,
    },
    /// Kills all processes of a machine, its process 1 included. Answers [`Answer::Done`] when none is left.
    KillMachine {
        /// The machine.
        machine: String,
    },
    /// What a service has written, as far as it is kept, in data frames
    /// ([`Stream::Output`](crate::frame::Stream::Output)). Answers [`Answer::Done`].
    Logs {
        /// The machine.
        machine: String,
        /// The service.
        service: String,
        /// Go on with what it writes from now on, until it ends.
        follow: bool,
    },
    /// Starts a program that outlives this channel. It reads nothing, and what it writes is kept as the log of a
    /// service that is called `exec-PID`. Answers [`Answer::Started`].
    Start {
        /// The machine.
        machine: String,
        /// The program; its `stdio` and `deadline_ms` do not count.
        run: Run,
    },
    /// Ends a machine: its programs are asked to end first. Its files stay. Answers [`Answer::Done`].
    StopMachine {
        /// The machine.
        machine: String,
    },
    /// Starts a machine that has ended, on its files as it left them. Answers [`Answer::Done`] when it is ready.
    StartMachine {
        /// The machine.
        machine: String,
    },
    /// Ends a machine and starts it again. Answers [`Answer::Done`] when it is ready.
    RestartMachine {
        /// The machine.
        machine: String,
        /// Its programs are not asked to end.
        hard: bool,
    },
    /// Takes a snapshot. Answers [`Answer::Done`].
    Snapshot {
        /// Its name.
        name: String,
        /// The machines; all if none.
        machines: Vec<String>,
    },
    /// Puts machines back on a snapshot. Answers [`Answer::Done`] when they are ready.
    Rollback {
        /// Its name.
        name: String,
        /// The machines; all of the snapshot if none.
        machines: Vec<String>,
    },
    /// Forgets a snapshot. Answers [`Answer::Done`].
    DeleteSnapshot {
        /// Its name.
        name: String,
        /// Those that were made above it go too.
        children: bool,
    },
    /// The snapshots, oldest first, from this one on; as many as fit. Answers [`Answer::Snapshots`].
    Snapshots {
        /// How many to leave out.
        from: u32,
    },
    /// What a machine has changed in its file system since it was made, in data frames
    /// ([`Stream::Output`](crate::frame::Stream::Output)): a line of JSON for each path. Answers [`Answer::Done`].
    Changes {
        /// The machine.
        machine: String,
    },
    /// Makes a second testbed beside this one, with the same machines, addresses and files. Answers [`Answer::Done`]
    /// when it is ready.
    Fork {
        /// The name of the new one.
        name: String,
        /// As it was in this snapshot; as it is now if none.
        snapshot: Option<String>,
    },
    /// Makes the files of a machine reachable if it has ended: until it starts again, requests for files that name it
    /// are carried out all the same. Answers [`Answer::Done`].
    Files {
        /// The machine.
        machine: String,
    },
    /// Publishes a port of a machine on the host. Answers [`Answer::Port`]. Only for clients on the host.
    OpenPort {
        /// The machine.
        machine: String,
        /// Its port.
        port: u16,
        /// Where the host listens; port 0 for a free one.
        host: SocketAddr,
    },
    /// Ends the publishing of a port. Answers [`Answer::Done`]. Only for clients on the host.
    ClosePort {
        /// Where the host listens.
        host: SocketAddr,
    },
    /// The value of a machine's variable. Answers [`Answer::Variable`].
    Variable {
        /// The machine.
        machine: String,
        /// The variable.
        key: String,
        /// How long to wait until it is set.
        wait_ms: u32,
    },
    /// Sets a machine's variable. Answers [`Answer::Done`].
    SetVariable {
        /// The machine.
        machine: String,
        /// The variable.
        key: String,
        /// Its value.
        value: String,
    },
    /// Forgets a machine's variable. Answers [`Answer::Variable`] with the value that it had.
    ForgetVariable {
        /// The machine.
        machine: String,
        /// The variable.
        key: String,
    },
    /// The variables of a machine, by key; as many as fit. Answers [`Answer::Variables`].
    Variables {
        /// The machine.
        machine: String,
        /// The last key of the previous page, or empty.
        after: String,
    },
    /// Ends the testbed. Answers [`Answer::Done`] when nothing of its machines is left.
    Down,
}

/// The end of an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done.
    Done,
    /// It could not be done.
    Failed(Fault),
    /// What there is.
    Status(Status),
    /// A capture has ended.
    Captured {
        /// Packets that matched and were written.
        packets: u64,
        /// Packets that the kernel dropped because nobody read fast enough.
        dropped: u64,
    },
    /// Snapshots.
    Snapshots {
        /// As many as fit.
        snapshots: Vec<SnapshotStatus>,
        /// There are more.
        more: bool,
    },
    /// Where the host listens.
    Port(SocketAddr),
    /// The value of a variable; none if it is not set.
    Variable(Option<String>),
    /// Variables and their values.
    Variables {
        /// As many as fit.
        variables: Vec<(String, String)>,
        /// There are more.
        more: bool,
    },
    /// A program runs.
    Started {
        /// Its number in the machine.
        pid: u32,
    },
}

/// A testbed that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub testbed: String,
    /// The folder of its file.
    pub folder: String,
    /// The names of its networks.
    pub networks: Vec<String>,
    /// Its machines, in the order of the file.
    pub machines: Vec<MachineStatus>,
    /// There are more machines.
    pub more: bool,
}

/// A machine of a testbed that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Its name.
    pub name: String,
    /// How it is.
    pub condition: Condition,
    /// Its process 1, as the host counts, while it lives.
    pub pid: Option<u32>,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceStatus>,
    /// Its services, and programs that were started to go on by themselves.
    pub services: Vec<ServiceStatus>,
    /// Its ports that the host publishes.
    pub ports: Vec<PortStatus>,
}

/// An interface of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name inside.
    pub name: String,
    /// The network it is on.
    pub network: String,
    /// Its addresses, as the file gives them.
    pub addresses: Vec<IpAddr>,
}

/// A service of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// How it ended, if it has: the status that a shell would show.
    pub ended: Option<i32>,
    /// Why it does not run: it could not be started, or its machine has gone.
    pub fault: Option<String>,
}

/// A port that the host publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// The machine's port.
    pub port: u16,
    /// Where the host listens.
    pub host: SocketAddr,
}

/// A snapshot of machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotStatus {
    /// Its name.
    pub name: String,
    /// The one that its machines stood on.
    pub parent: Option<String>,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// Its machines.
    pub machines: Vec<String>,
    /// The testbed's machines stand on it: it was made or rolled back to last.
    pub current: bool,
}

/// The state of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Asked for, not answering yet.
    Created,
    /// It runs.
    Running,
    /// All its processes stand still.
    Paused,
    /// It has ended.
    Stopped,
}

impl Condition {
    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Created => "created",
            Condition::Running => "running",
            Condition::Paused => "paused",
            Condition::Stopped => "stopped",
        }
    }
}
