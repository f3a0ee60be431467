//! The agent protocol: what a keeper asks of process 1 of a machine.

use crate::fault::Fault;
use crate::launch::Machine;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// The body of a [`Kind::Open`](crate::frame::Kind::Open) frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The machine's path: a name, or names of nested testbeds with `/` between. Relays route by it; an agent
    /// ignores it.
    pub machine: String,
    /// What to do there.
    pub request: Request,
}

/// What an agent can be asked. Paths are absolute and the machine's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Runs a program until it ends. Replies [`Reply::Ended`].
    Run(Run),
    /// Runs one of the agent's own tools as a process of its own. Replies [`Reply::Ended`] with a report.
    Tool(Tooling),
    /// What stands at a path (not following a symbolic link). Replies [`Reply::Entry`].
    Stat {
        /// The path.
        path: String,
    },
    /// The entries of a folder, sorted by name, from `after` on; as many as fit. Replies [`Reply::Entries`].
    List {
        /// The folder.
        path: String,
        /// The last name of the previous page, or empty.
        after: String,
    },
    /// Makes a folder. Replies [`Reply::Done`].
    MakeDir {
        /// The folder.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Make missing parents, and accept one that exists.
        parents: bool,
    },
    /// Removes a file, or a folder and all in it. Replies [`Reply::Done`].
    Remove {
        /// The path.
        path: String,
        /// Folders may go, with their content.
        recursive: bool,
    },
    /// Makes an empty file or folder with a name that nothing had, in `/tmp`, for root alone. Replies [`Reply::Entry`].
    MakeTemporary {
        /// A folder rather than a file.
        folder: bool,
    },
    /// Renames. Replies [`Reply::Done`].
    Rename {
        /// The old path.
        from: String,
        /// The new path.
        to: String,
    },
    /// Writes a small file whole, making parents. Larger ones go through [`Tool::Write`]. Replies [`Reply::Done`].
    Put {
        /// The path.
        path: String,
        /// Permission bits.
        mode: u32,
        /// All that the file holds; at most [`crate::frame::MAX_DATA`].
        content: Vec<u8>,
    },
    /// All processes of the machine, from the number `after` on; as many as fit. Replies [`Reply::Processes`].
    Processes {
        /// The last process number of the previous page, or 0.
        after: u32,
    },
    /// Changes over from the initial root to the machine's own. Only for agents behind a port, once. Replies
    /// [`Reply::Done`].
    EnterRoot,
    /// Makes the machine the one that it is to be, before its first program and in its root. Only for agents behind a port;
    /// others were born as who they are. Replies [`Reply::Done`].
    Become {
        /// The machine.
        machine: Box<Machine>,
        /// What tells it from all others, if it starts for the first time.
        identity: Option<Identity>,
    },
    /// Loads modules of the machine's own kernel, by their names, each with those that it needs. Only for agents behind a
    /// port, in the machine's root. Replies [`Reply::Done`], or a fault of
    /// [`FaultKind::Unsupported`](crate::FaultKind::Unsupported) where the kernel has none of such a name.
    Load {
        /// The modules.
        modules: Vec<String>,
    },
    /// Has the agent stand still behind its answer, neither reading nor writing, until it is [woken](Wake): so that nothing
    /// is under way when the machine is copied. Only for agents behind a port. Replies [`Reply::Done`].
    Rest,
    /// Takes up a program that has run on this channel since before the machine was copied: what it writes from now on
    /// comes again. Where its streams went is not changed. Replies [`Reply::Ended`].
    TakeUp(Stdio),
    /// Writes all to disks that is not there yet. Only for agents behind a port: others share their kernel. Replies
    /// [`Reply::Done`].
    Sync,
    /// Sends a signal. Replies [`Reply::Done`].
    Kill {
        /// The process; negative for a process group.
        pid: i32,
        /// The signal's number.
        signal: i32,
    },
}

/// What a machine has in its files that no other machine of its image may have, where the image has such files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// For `/etc/machine-id` (machine-id(5)): 32 hexadecimal digits.
    pub machine_id: String,
    /// For sshd: an Ed25519 key in OpenSSH's form, and its public half. Keys of other kinds are removed.
    pub host_key: (String, String),
}

/// What an agent hears that has rested ([`Request::Rest`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// The time: nanoseconds since 1970.
    pub now_ns: i64,
    /// What the kernel's random numbers are stirred with.
    pub seed: [u8; 32],
    /// The machine is a copy, and its keeper another one: it knows of nothing that runs there. What runs goes on, and
    /// what it writes is lost until it is [taken up](Request::TakeUp).
    pub is_copy: bool,
}

/// A program and how to run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What to run.
    pub program: Program,
    /// Text that the program is given as a file, by its last argument. The file is in memory, and gone with the program.
    pub script: Option<String>,
    /// Variables beyond the machine's own.
    pub env: Vec<(String, String)>,
    /// Working folder; the user's home if none.
    pub cwd: Option<String>,
    /// `name`, `name:group` or numbers; root if none.
    pub user: Option<String>,
    /// The three standard streams.
    pub stdio: Stdio,
    /// Kill the program's process group after so many milliseconds.
    pub deadline_ms: Option<u64>,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// A program with its arguments; looked up in PATH unless it has a slash.
    Argv(Vec<String>),
    /// Text for `/bin/sh -c`.
    Shell(String),
}

/// Where a program's standard streams go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// Three streams apart.
    Apart {
        /// Standard input.
        input: Source,
        /// Standard output.
        output: Sink,
        /// Standard error.
        error: ErrorSink,
    },
    /// A terminal of the machine's own, carried by data frames ([`crate::frame::Stream::Input`] and `Output`).
    Terminal {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
        /// The value of TERM.
        term: String,
    },
}

/// Standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// `/dev/null`.
    Null,
    /// The next descriptor that came with the frame.
    Handed,
    /// Data frames.
    Channel,
}

/// Standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sink {
    /// `/dev/null`.
    Null,
    /// The next descriptor that came with the frame.
    Handed,
    /// Data frames.
    Channel,
}

/// Standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorSink {
    /// `/dev/null`.
    Null,
    /// The next descriptor that came with the frame.
    Handed,
    /// Data frames.
    Channel,
    /// The same as standard output.
    Output,
}

/// A tool, where its streams go, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tooling {
    /// Which tool.
    pub tool: Tool,
    /// What it reads; most tools read nothing.
    pub input: Source,
    /// What it writes; most tools report and write nothing.
    pub output: Sink,
    /// Kill it after so many milliseconds; it then ends as timed out.
    pub deadline_ms: Option<u64>,
}

/// What the agent can do without any program in the machine. Each runs as a process of its own (a fork of the
/// agent), reads its input stream, writes its output stream, and ends with a [`Report`] or a fault. One that would go
/// on for ever ends with its report when it is told to stop by SIGINT or SIGTERM ([`Steer::Signal`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tool {
    /// Writes a file's bytes to the output stream.
    Read {
        /// The file.
        path: String,
    },
    /// Writes the input stream to a file.
    Write {
        /// The file; its folder must exist.
        path: String,
        /// Permission bits of a new file.
        mode: u32,
        /// Add to the end instead of replacing.
        append: bool,
    },
    /// Writes a file or folder to the output stream as a tar archive (names relative to the path's parent).
    Pack {
        /// The file or folder.
        path: String,
    },
    /// Unpacks a tar archive from the input stream below a folder that exists.
    Unpack {
        /// The folder.
        path: String,
        /// Keep numeric owners and times as the archive says; otherwise all belongs to root.
        owners: bool,
    },
    /// ICMP echo. Reports [`Report::Ping`].
    Ping {
        /// Whom.
        target: IpAddr,
        /// How many echo requests, at least 1 and at most [`MAX_PINGS`].
        count: u32,
        /// Between two requests.
        interval_ms: u32,
        /// How long to wait for each answer.
        wait_ms: u32,
        /// Payload bytes.
        size: u16,
        /// Leave by this interface.
        interface: Option<String>,
    },
    /// The routers on the way, by UDP probes of growing TTL. Reports [`Report::Trace`].
    Trace {
        /// Whom.
        target: IpAddr,
        /// The most hops.
        max_hops: u8,
        /// How long to wait for each hop.
        wait_ms: u32,
    },
    /// Opens a TCP connection, sends the input stream, writes what comes back to the output stream until the other
    /// side ends (or `read` bytes came). Notes [`Note::Ready`] once connected. Reports [`Report::Connection`].
    TcpConnect {
        /// To where.
        to: SocketAddr,
        /// From this address.
        from: Option<IpAddr>,
        /// How long connecting may take.
        wait_ms: u32,
        /// Stop after so many bytes; 0: as soon as all input is sent.
        read: Option<u64>,
    },
    /// Listens on TCP (notes [`Note::Ready`] when it does), accepts `accept` connections one after another; each is
    /// sent `greeting`, and what it sends goes to the output stream. Reports [`Report::Connections`].
    TcpListen {
        /// Where.
        at: SocketAddr,
        /// End after so many connections; 0 for never.
        accept: u32,
        /// Sent to each.
        greeting: Vec<u8>,
        /// Send back what came.
        echo: bool,
    },
    /// Sends one UDP datagram and waits for an answer if `wait_ms` is not 0. Reports [`Report::Datagrams`], empty if none
    /// came.
    UdpSend {
        /// To where.
        to: SocketAddr,
        /// What.
        payload: Vec<u8>,
        /// How long to wait for an answer.
        wait_ms: u32,
    },
    /// Listens on UDP (notes [`Note::Ready`]), ends after `count` datagrams. Reports [`Report::Datagrams`].
    UdpListen {
        /// Where.
        at: SocketAddr,
        /// End after so many; 0 for never.
        count: u32,
        /// Send each back.
        echo: bool,
    },
    /// One HTTP/1.1 GET; the body goes to the output stream. Reports [`Report::Http`].
    HttpGet {
        /// `http://ADDRESS[:PORT]/PATH`, the address literal.
        url: String,
        /// Sent as Host.
        host: Option<String>,
        /// How long the whole may take.
        wait_ms: u32,
    },
    /// Serves a folder's files, or one text, over HTTP/1.1 (notes [`Note::Ready`]); ends after `count` requests.
    /// Reports [`Report::Connections`].
    HttpServe {
        /// Where.
        at: SocketAddr,
        /// A folder of files.
        folder: Option<String>,
        /// The answer to every request if no folder.
        text: String,
        /// End after so many; 0 for never.
        count: u32,
    },
    /// Captures packets of an interface to the output stream as pcapng (notes [`Note::Ready`] once it sees, and by then
    /// the output has the blocks in front of the packets). Reports [`Report::Capture`].
    Capture {
        /// The interface; all of the machine's if none.
        interface: Option<String>,
        /// A filter in the form that docs/reference/filters.md describes; empty for all.
        filter: String,
        /// End after so many packets; 0 for never.
        count: u64,
        /// Bytes kept of each packet; 0 for all.
        snap: u32,
    },
    /// Waits until a condition holds. Reports [`Report::Done`].
    Wait(Condition),
    /// The usable addresses of the machine's interfaces that others can reach. Reports [`Report::Addresses`].
    Addresses {
        /// Those of this interface alone.
        interface: Option<String>,
        /// Wait until there is one of this kind.
        wait: Option<Family>,
    },
    /// Carries frames between a keeper (the output stream, a socket) and an agent that is reached by bytes alone (the
    /// input stream), both ways, until one of them closes. The agent rests at first. Reports [`Report::Done`].
    Carry,
    /// Writes the memory of a process in which it differs from a file that the process has mapped for itself alone, to
    /// another file, at the same places; the rest of that file is holes. The process must stand still. Reports
    /// [`Report::Bytes`].
    SaveMemory {
        /// The process.
        pid: u32,
        /// What it has mapped.
        mapped: String,
        /// The file to be made.
        to: String,
    },
    /// Undoes [`Tool::SaveMemory`] in another process that has the same file mapped. Reports [`Report::Bytes`].
    LoadMemory {
        /// The process.
        pid: u32,
        /// What it has mapped.
        mapped: String,
        /// The file that was made.
        from: String,
    },
    /// Writes what [`Tool::SaveMemory`] would write of a process whose memory is a file, and which has another one mapped of
    /// the same length. Reports [`Report::Bytes`].
    CompareMemory {
        /// The file that is its memory.
        memory: String,
        /// What it has mapped.
        mapped: String,
        /// The file to be made.
        to: String,
    },
}

/// A kind of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// Either.
    Any,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Whether an address is of this kind.
    pub fn holds(self, address: IpAddr) -> bool {
        match self {
            Family::Any => true,
            Family::Ipv4 => address.is_ipv4(),
            Family::Ipv6 => address.is_ipv6(),
        }
    }
}

/// What can be waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Something listens (TCP) or is bound (UDP) on the port, at the address if one is given.
    Port {
        /// UDP instead of TCP.
        udp: bool,
        /// The port.
        port: u16,
        /// At this address, or at one that covers it.
        address: Option<IpAddr>,
    },
    /// The path exists.
    File {
        /// The path.
        path: String,
    },
    /// The file has a line that contains the text (from its beginning, and as it grows).
    Line {
        /// The file.
        path: String,
        /// The text.
        text: String,
    },
    /// The process has ended.
    Exit {
        /// Its number.
        pid: u32,
    },
    /// The address is on an interface and usable.
    Address {
        /// The address.
        address: IpAddr,
    },
    /// There is a route to the destination.
    Route {
        /// The destination.
        to: IpAddr,
    },
    /// The command ends with status 0; run again after `interval_ms` until it does. What it prints goes to the output
    /// stream.
    Success {
        /// What to run.
        program: Program,
        /// Between two tries.
        interval_ms: u32,
    },
}

/// The most connections that a [`Report::Connections`] lists.
pub const MAX_CONNECTIONS: usize = 1024;
/// The most payload bytes that a [`Report::Datagrams`] holds; the first datagram is always there.
pub const MAX_DATAGRAM_BYTES: usize = 64 * 1024;
/// The most addresses that a [`Report::Addresses`] lists.
pub const MAX_ADDRESSES: usize = 1024;
/// The most echo requests of a [`Tool::Ping`].
pub const MAX_PINGS: u32 = 10_000;

/// What a tool found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// No more than that it was done.
    Done,
    /// Bytes moved.
    Bytes(u64),
    /// Echo requests.
    Ping {
        /// Requests sent.
        sent: u32,
        /// Answers received.
        received: u32,
        /// Round-trip times in microseconds, one per answer.
        times_us: Vec<u32>,
        /// What the network said instead, if anything: `host unreachable from 10.0.0.1`.
        refused: Option<String>,
    },
    /// The hops of a trace; none where nobody answered.
    Trace {
        /// One per TTL, from 1 on.
        hops: Vec<Option<Hop>>,
        /// The target itself answered.
        reached: bool,
        /// What the network said that ended the trace: `host unreachable from 10.0.0.1`.
        refused: Option<String>,
    },
    /// One TCP connection.
    Connection {
        /// Our end.
        local: SocketAddr,
        /// The other end.
        peer: SocketAddr,
        /// Bytes sent.
        sent: u64,
        /// Bytes received.
        received: u64,
    },
    /// What a TCP or HTTP listener saw.
    Connections {
        /// The first [`MAX_CONNECTIONS`]: where from, and how many bytes came (TCP) or were sent (HTTP).
        first: Vec<(SocketAddr, u64)>,
        /// How many there were.
        all: u64,
    },
    /// Datagrams received.
    Datagrams {
        /// The first ones, whole, up to [`MAX_DATAGRAM_BYTES`]: where from and what.
        first: Vec<(SocketAddr, Vec<u8>)>,
        /// How many there were.
        all: u64,
    },
    /// An HTTP answer.
    Http {
        /// Its status.
        status: u16,
        /// Its headers, names in lower case.
        headers: Vec<(String, String)>,
    },
    /// A capture.
    Capture {
        /// Packets that matched and were written.
        packets: u64,
        /// Packets the kernel dropped because nobody read fast enough.
        dropped: u64,
    },
    /// Addresses, in the order of the interfaces' numbers, IPv4 first: the name of the interface, and the address.
    Addresses(Vec<(String, IpAddr)>),
}

/// A router that answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// Who answered.
    pub address: IpAddr,
    /// After how many microseconds.
    pub time_us: u32,
}

/// Something to do to what runs on a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Steer {
    /// Send a signal to its process group.
    Signal(i32),
    /// Its terminal has a new size.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
}

/// Something that happened on a channel before its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// The program or tool runs, as this process of the machine.
    Started {
        /// Its number in the machine.
        pid: u32,
    },
    /// The tool does what was asked: it listens, it sees packets.
    Ready,
}

/// The end of a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Done; nothing to say.
    Done,
    /// It could not be done.
    Failed(Fault),
    /// A program or tool ended.
    Ended {
        /// How.
        how: Exit,
        /// Its deadline passed and it was killed.
        timed_out: bool,
        /// A tool's report.
        report: Option<Report>,
    },
    /// What stands at a path.
    Entry(Entry),
    /// Entries of a folder.
    Entries {
        /// In the order of names.
        entries: Vec<Entry>,
        /// There are more.
        more: bool,
    },
    /// Processes.
    Processes {
        /// In the order of numbers.
        processes: Vec<Process>,
        /// There are more.
        more: bool,
    },
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// Ended with status 0.
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }

    /// The status a shell would show: the code, or 128 plus the signal's number.
    pub fn shell_code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// Where [`Request::MakeTemporary`] makes files.
pub const TEMPORARY: &str = "/tmp";

/// An entry of a file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name, without folders.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Last change, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Where a symbolic link points.
    pub target: Option<String>,
}

impl Entry {
    /// The path of what [`Request::MakeTemporary`] made.
    pub fn temporary_path(&self) -> String {
        format!("{TEMPORARY}/{}", self.name)
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device.
    Device,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
}

/// A process of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number in the machine.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// Its user's number.
    pub uid: u32,
    /// Its state letter, as in proc_pid_stat(5).
    pub state: char,
    /// Resident memory, bytes.
    pub memory: u64,
    /// Its arguments, with spaces between; the name in brackets if it has none.
    pub command: String,
}
