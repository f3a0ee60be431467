//! The agent protocol: what a keeper asks of process 1 of a machine.

mod tool;

pub use tool::{
    Condition, Family, Hop, MAX_ADDRESSES, MAX_CONNECTIONS, MAX_DATAGRAM_BYTES, MAX_PINGS, Mapping, Report,
    Tool, Tooling,
};

use crate::fault::Fault;
use crate::launch::Machine;
use serde::{Deserialize, Serialize};

/// The body of a [`Kind::Open`](crate::frame::Kind::Open) frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The machine. Relays route by it: a keeper by its name, the agent of a [capsule](crate::capsule) by its number. Any
    /// other agent ignores it.
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
    /// Makes the machine one that holds the machines of a testbed, with a launcher for them: a [capsule](crate::capsule).
    /// The roots of their images are on disks. Only for agents behind a port, once. Replies [`Reply::Done`].
    Enclose {
        /// How many images.
        images: u32,
    },
    /// Has this program go on as process 1, with the agent as its child. Only for agents behind a port that are in their
    /// root, once. Replies [`Reply::Done`].
    HandOver {
        /// Its file.
        program: String,
    },
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
    /// The three standard streams. Descriptors that come with the frame beyond those are the program's from 3 on.
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
