//! The commands: their words, what they take, and their help.

use super::Wrong;
use super::arguments::Opt;
use std::fmt::Write as _;

/// A command.
#[derive(Debug)]
pub(super) struct Verb {
    /// Its word or words.
    pub(super) name: &'static str,
    /// What it takes beside options.
    takes: &'static str,
    about: &'static str,
    /// More for its own help.
    more: &'static str,
    pub(super) options: &'static [Opt],
    /// How many positional arguments are its own, if those behind are a program with its arguments.
    pub(super) own: Option<usize>,
}

impl Verb {
    const fn new(
        name: &'static str,
        takes: &'static str,
        about: &'static str,
        options: &'static [Opt],
    ) -> Verb {
        Verb { name, takes, about, more: "", options, own: None }
    }

    const fn more(self, more: &'static str) -> Verb {
        Verb { more, ..self }
    }

    /// One line.
    pub(super) fn usage(&self) -> String {
        let options = if self.options.is_empty() { "" } else { " [OPTIONS]" };
        let space = if self.takes.is_empty() { "" } else { " " };
        format!("testbed {}{options}{space}{}", self.name, self.takes)
    }

    /// All that there is to know.
    pub(super) fn help(&self) -> String {
        let mut text = format!("{}\n\nUsage: {}\n", self.about, self.usage());
        if !self.options.is_empty() {
            text.push_str("\nOptions:\n");
        }
        let width = self.options.iter().map(|o| o.shown().len()).max().unwrap_or(0);
        for option in self.options {
            let _ = writeln!(text, "  {:width$}  {}", option.shown(), option.about);
        }
        if !self.more.is_empty() {
            let _ = write!(text, "\n{}\n", self.more);
        }
        text
    }
}

const TIMEOUT: Opt = Opt::value(None, "timeout", "DURATION", "end after so long");
const FORMAT: Opt = Opt::value(None, "format", "FORMAT", "text or json [default: text]");
const ECHO: Opt = Opt::flag(None, "echo", "send back what comes");

const VERBS: &[Verb] = &[
    Verb::new("status", "", "Shows the machines of this testbed, and how they are", &[]),
    Verb {
        own: Some(1),
        ..Verb::new(
            "exec",
            "MACHINE [--] PROGRAM [ARGUMENT]...",
            "Runs a program on a machine, and ends as it does",
            &[
                Opt::flag(Some('d'), "detach", "do not wait; prints the process's number"),
                Opt::value(Some('e'), "env", "NAME=VALUE", "set a variable (may be repeated)"),
                Opt::flag(Some('t'), "terminal", "give it a terminal"),
                Opt::flag(Some('n'), "no-input", "give it nothing to read"),
                Opt::value(Some('s'), "script", "TEXT", "give it this text as a file, by its last argument"),
                Opt::value(Some('u'), "user", "USER", "run as this user: `name`, `name:group` or numbers"),
                Opt::value(Some('w'), "cwd", "FOLDER", "run in this folder; else in the user's home"),
                Opt::value(None, "timeout", "DURATION", "kill it after so long; the status is 124 then"),
            ],
        )
    }
    .more(
        "Standard input, output and error are the program's, and signals are passed on. The status is 125 if\n\
         it cannot be run. When this command is killed, the program is too, unless it is detached: then what\n\
         it writes is kept as the log of a service `exec-PID`.",
    ),
    Verb::new("cp", "SOURCE TARGET", "Copies a file or folder to or from a machine", &[]).more(
        "One of the two is MACHINE:PATH. If TARGET is a folder, the copy lands in it under its own name.",
    ),
    Verb::new(
        "wait",
        "MACHINE CONDITION",
        "Waits until something holds on a machine",
        &[
            Opt::value(None, "timeout", "DURATION", "how long at most [default: 30s]"),
            Opt::flag(None, "udp", "with `port`: UDP instead of TCP"),
            Opt::value(None, "address", "ADDRESS", "with `port`: at this address, or one that covers it"),
            Opt::value(None, "interval", "DURATION", "with `command`: between two tries [default: 100ms]"),
        ],
    )
    .more(
        "Conditions:
  port PORT         something listens there
  file PATH         the path exists
  line PATH TEXT    the file has a line with this text in it
  command TEXT      this text for `/bin/sh -c` ends with status 0
  exit PID          the process has ended
  address ADDRESS   the address is on an interface, and usable
  route ADDRESS     there is a route to it

The status is 1 if it does not hold in time.",
    ),
    Verb::new(
        "ping",
        "MACHINE HOST",
        "Sends ICMP echo requests from a machine; the status is 1 if no answer comes",
        &[
            Opt::value(Some('c'), "count", "NUMBER", "how many requests [default: 1]"),
            Opt::value(Some('i'), "interval", "DURATION", "between two requests [default: 200ms]"),
            Opt::value(Some('W'), "wait", "DURATION", "how long to wait for each answer [default: 1s]"),
            Opt::value(Some('s'), "size", "BYTES", "payload [default: 56]"),
            Opt::value(Some('I'), "interface", "NAME", "leave by this interface"),
            TIMEOUT,
        ],
    ),
    Verb::new(
        "trace",
        "MACHINE HOST",
        "Shows the routers between a machine and a host; the status is 1 if the host does not answer",
        &[
            Opt::value(None, "hops", "NUMBER", "the most hops [default: 30]"),
            Opt::value(Some('W'), "wait", "DURATION", "how long to wait for each [default: 1s]"),
            TIMEOUT,
        ],
    ),
    Verb::new(
        "tcp connect",
        "MACHINE HOST:PORT",
        "Connects from a machine, sends standard input and writes what comes back",
        &[
            Opt::value(None, "from", "ADDRESS", "from this address of the machine"),
            Opt::value(Some('W'), "wait", "DURATION", "how long connecting may take [default: 5s]"),
            Opt::value(None, "read", "BYTES", "end after so many; 0: as soon as all is sent"),
            TIMEOUT,
        ],
    )
    .more("The status is 1 if there is no connection."),
    Verb::new(
        "tcp listen",
        "MACHINE [ADDRESS:]PORT",
        "Accepts connections on a machine and writes what they send",
        &[
            Opt::value(Some('c'), "count", "NUMBER", "end after so many; 0 for never [default: 1]"),
            Opt::value(None, "greeting", "TEXT", "send this to each"),
            ECHO,
            TIMEOUT,
        ],
    )
    .more(LISTENING),
    Verb::new(
        "udp send",
        "MACHINE HOST:PORT TEXT",
        "Sends a datagram from a machine",
        &[Opt::value(Some('W'), "wait", "DURATION", "wait for an answer and write it"), TIMEOUT],
    )
    .more("With `--wait`, the status is 1 if no answer comes."),
    Verb::new(
        "udp listen",
        "MACHINE [ADDRESS:]PORT",
        "Receives datagrams on a machine, and writes each as a line: from where, and what",
        &[
            Opt::value(Some('c'), "count", "NUMBER", "end after so many; 0 for never [default: 1]"),
            ECHO,
            TIMEOUT,
        ],
    )
    .more(LISTENING),
    Verb::new(
        "http get",
        "MACHINE URL",
        "Gets a page from a machine and writes it; the status is 1 unless the answer is 2xx",
        &[
            Opt::value(None, "host", "NAME", "send this as Host"),
            Opt::value(Some('W'), "wait", "DURATION", "how long it may take [default: 5s]"),
            TIMEOUT,
        ],
    ),
    Verb::new(
        "http serve",
        "MACHINE [ADDRESS:]PORT",
        "Serves a folder of a machine, or one text",
        &[
            Opt::value(None, "folder", "PATH", "a folder of the machine"),
            Opt::value(None, "text", "TEXT", "the answer to every request"),
            Opt::value(Some('c'), "count", "NUMBER", "end after so many requests; 0 for never [default: 0]"),
            TIMEOUT,
        ],
    )
    .more(LISTENING),
    Verb::new(
        "net capture",
        "NETWORK|MACHINE:INTERFACE",
        "Captures packets of a network or an interface, as pcapng on standard output",
        &[
            Opt::value(Some('f'), "filter", "FILTER", "only what matches, as in pcap-filter(7)"),
            Opt::value(Some('c'), "count", "NUMBER", "end after so many; 0 for never [default: 0]"),
            Opt::value(Some('s'), "snap", "BYTES", "bytes kept of each packet; 0 for all [default: 0]"),
            Opt::value(Some('o'), "output", "FILE", "write to this file"),
            TIMEOUT,
        ],
    )
    .more(LISTENING),
    Verb::new(
        "net attach",
        "MACHINE NETWORK",
        "Puts a machine that runs on one more network",
        &[
            Opt::value(Some('a'), "address", "ADDRESS[/PREFIX]", "with this address (may be repeated)"),
            Opt::value(None, "name", "NAME", "the interface's name [default: the next free ethN]"),
        ],
    )
    .more("It has no address but those that are given here or by programs, and ends with the machine."),
    Verb::new("net detach", "MACHINE NETWORK", "Undoes `net attach`", &[]),
    Verb::new("net cut", "MACHINE [NETWORK]", "Takes a machine off its networks, or off one", &[]),
    Verb::new("net heal", "MACHINE [NETWORK]", "Undoes `net cut`", &[]),
    Verb::new(
        "file ls",
        "MACHINE:PATH",
        "Lists a folder of a machine, a name a line",
        &[FORMAT],
    ),
    Verb::new("file stat", "MACHINE:PATH", "Shows what stands at a path of a machine", &[FORMAT])
        .more("The status is 1 if nothing does."),
    Verb::new(
        "file exists",
        "MACHINE:PATH",
        "Ends with 0 if something stands at a path of a machine, and with 1 if not",
        &[],
    )
    .more("At a path that ends with `/` stands a folder, or a link to one."),
    Verb::new(
        "file mkdir",
        "MACHINE:PATH",
        "Makes a folder on a machine",
        &[Opt::flag(Some('p'), "parents", "make those above it, and accept one that exists")],
    ),
    Verb::new(
        "file rm",
        "MACHINE:PATH",
        "Removes a file or an empty folder of a machine",
        &[Opt::flag(Some('r'), "recursive", "a folder with all in it")],
    ),
    Verb::new("file mv", "MACHINE:PATH PATH", "Renames within a machine", &[]),
    Verb::new(
        "file temp",
        "MACHINE",
        "Makes an empty file on a machine, with a name that nothing had, and writes its path",
        &[Opt::flag(None, "folder", "make a folder")],
    ),
    Verb::new(
        "var get",
        "MACHINE KEY",
        "Writes a variable of a machine; the status is 1 if it is not set",
        &[Opt::value(Some('W'), "wait", "DURATION", "wait until it is set")],
    ),
    Verb::new("var set", "MACHINE KEY VALUE", "Sets a variable of a machine", &[]).more(
        "Variables are the machine's through all its starts, and part of no snapshot and no fork. Its own\n\
         programs can use them if it has `control`.",
    ),
    Verb::new("var list", "MACHINE", "Lists the variables of a machine", &[FORMAT]),
    Verb::new("var rm", "MACHINE KEY", "Forgets a variable of a machine; the status is 1 if it is not set", &[]),
    Verb::new(
        "address",
        "MACHINE",
        "Writes an address of a machine; the status is 1 if it has none",
        &[
            Opt::value(None, "network", "NETWORK", "on this network [default: the first it has one on]"),
            Opt::flag(Some('4'), "ipv4", "an IPv4 address"),
            Opt::flag(Some('6'), "ipv6", "an IPv6 address"),
            Opt::value(Some('W'), "wait", "DURATION", "wait until there is one"),
        ],
    )
    .more("It is what the machine has now, also what its programs have given it."),
    Verb::new("ps", "MACHINE", "Lists a machine's processes", &[]),
    Verb::new(
        "kill",
        "MACHINE PID...",
        "Signals processes of a machine",
        &[Opt::value(Some('s'), "signal", "SIGNAL", "its name or number [default: TERM]")],
    )
    .more("After `--`, a negative PID is a process group."),
    Verb::new(
        "console",
        "MACHINE",
        "Attaches the terminal to the console of a machine that has a kernel of its own",
        &[TIMEOUT],
    )
    .more(
        "It shows the last lines, and what comes. What is typed goes to the program that reads the console,\n\
         if one does; Ctrl-] leaves. Without a terminal it goes on when the input has ended, until the\n\
         machine ends.",
    ),
    Verb::new(
        "screenshot",
        "MACHINE FILE",
        "Writes what is on the screen of a machine to a file, as PNG; `-` is standard output",
        &[],
    ),
    Verb::new(
        "type",
        "MACHINE [TEXT]",
        "Types on the keyboard of a machine that has a screen, one of the United States",
        &[Opt::value(
            Some('k'),
            "key",
            "KEYS",
            "press these together: `ret`, `ctrl-alt-f2` (may be repeated)",
        )],
    )
    .more(
        "Keys come behind the text, in their order. Their names are those of QEMU's QKeyCode: letters and\n\
         digits, `f1`, `ret`, `esc`, `tab`, `spc`, `delete`, `up`, `pgup`, `ctrl`, `alt`, `shift` and others.",
    ),
    Verb::new("connect", "MACHINE PORT", "Relays standard input and output to a TCP port of a machine", &[]),
];

const LISTENING: &str = "Once it listens, it writes `ready` to standard error. When the timeout ends it before it has\n\
     what `--count` asks for, the status is 1.";

/// What only the host's command does.
const HOST_ONLY: &[&str] = &[
    "run",
    "up",
    "down",
    "ls",
    "port",
    "shell",
    "logs",
    "screen",
    "ssh-config",
    "pause",
    "resume",
    "stop",
    "start",
    "restart",
    "snapshot",
    "rollback",
    "fork",
    "changes",
    "plan",
    "check",
    "doctor",
    "image",
    "init",
    "completions",
];

/// What the first words of a call are.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A command, and what follows its words.
    Verb(&'static Verb, &'a [String]),
    /// A request for this text.
    Help(String),
}

/// Finds the command that is called.
pub(super) fn find(given: &[String]) -> Result<Found<'_>, Wrong> {
    let Some((first, rest)) = given.split_first() else { return Ok(Found::Help(help())) };
    if let Some(verb) = VERBS.iter().find(|verb| verb.name == first) {
        return Ok(Found::Verb(verb, rest));
    }
    let group: Vec<(&str, &Verb)> = VERBS
        .iter()
        .filter_map(|verb| Some((verb.name.strip_prefix(first)?.strip_prefix(' ')?, verb)))
        .collect();
    if group.is_empty() {
        let host_only = HOST_ONLY.contains(&first.as_str());
        return Err(if host_only {
            Wrong::new(format!("`{first}` is not there inside a machine")).hint("call it on the host")
        } else {
            Wrong::new(format!("there is no command `{first}`")).hint("`testbed --help` says what there is")
        });
    }
    let words = || group.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    let hint = || format!("after `{first}` comes one of {}", words());
    let Some((second, rest)) = rest.split_first() else {
        return Err(Wrong::new(format!("a word is missing after `{first}`")).hint(hint()));
    };
    if matches!(second.as_str(), "--help" | "-h") {
        return Ok(Found::Help(list(group.iter().map(|(_, verb)| *verb))));
    }
    match group.iter().find(|(word, _)| word == second) {
        Some((_, verb)) => Ok(Found::Verb(verb, rest)),
        None => Err(Wrong::new(format!("there is no `{first} {second}`")).hint(hint())),
    }
}

/// The help of all.
pub(super) fn help() -> String {
    format!(
        "Drives the machines and networks of this copy of the testbed\n\nUsage: testbed COMMAND\n\n{}\n\
         `testbed COMMAND --help` says more. Exit codes: 0 done, 1 no answer, refused or not in time, 2 the call is\n\
         wrong, 3 the testbed failed. `exec` ends as the program did, or with 125.\n",
        list(VERBS.iter())
    )
}

fn list(verbs: impl Iterator<Item = &'static Verb> + Clone) -> String {
    let width = verbs.clone().map(|verb| verb.name.len()).max().unwrap_or(0);
    let mut text = String::from("Commands:\n");
    for verb in verbs {
        let _ = writeln!(text, "  {:width$}  {}", verb.name, verb.about);
    }
    text
}

/// The words of all commands.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    VERBS.iter().map(|verb| verb.name)
}
