//! The agent's own tools: what they are told, and what they report.

use super::{Program, Sink, Source};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

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
    /// In a [capsule](crate::capsule): what it works on is what the order of this channel has opened.
    pub device: Option<u32>,
}

/// What the agent can do without any program in the machine. Each runs as a process of its own (a fork of the
/// agent), reads its input stream, writes its output stream, and ends with a [`Report`] or a fault. One that would go
/// on for ever ends with its report when it is told to stop by SIGINT or SIGTERM ([`Steer::Signal`](super::Steer::Signal)).
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
    /// side ends (or `read` bytes came). Notes [`Note::Ready`](super::Note::Ready) once connected. Reports [`Report::Connection`].
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
    /// Listens on TCP (notes [`Note::Ready`](super::Note::Ready) when it does), accepts `accept` connections one after another; each is
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
    /// Listens on UDP (notes [`Note::Ready`](super::Note::Ready)), ends after `count` datagrams. Reports [`Report::Datagrams`].
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
    /// Serves a folder's files, or one text, over HTTP/1.1 (notes [`Note::Ready`](super::Note::Ready)); ends after `count` requests.
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
    /// Passes Ethernet frames between a network's trunk, its device, and a stream both ways, on which each frame stands
    /// behind its length: 32 bits, the most significant byte first. Ends with the stream. Reports [`Report::Done`].
    Trunk,
    /// Captures packets of an interface, or of the network that its device is, to the output stream as pcapng (notes [`Note::Ready`](super::Note::Ready) once it sees, and by then
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
    /// Writes the pages of a part of a process's memory that are its own to a file, at the same places; the rest of that
    /// file is holes, or `whole` as in the file that is mapped there. The process must stand still. Reports
    /// [`Report::Bytes`].
    SaveMemory {
        /// The process.
        pid: u32,
        /// Which part.
        part: Mapping,
        /// The file to be made.
        to: String,
        /// Write what it has not changed, too.
        whole: bool,
    },
    /// Undoes [`Tool::SaveMemory`] in another process that has the same. Reports [`Report::Bytes`].
    LoadMemory {
        /// The process.
        pid: u32,
        /// Which part.
        part: Mapping,
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

/// A part of a process's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mapping {
    /// A file that it has mapped, for itself alone.
    File(String),
    /// What lies there and is no file's, from the beginning of a page on.
    Range {
        /// Its address.
        start: u64,
        /// Its length in bytes.
        length: u64,
    },
}
