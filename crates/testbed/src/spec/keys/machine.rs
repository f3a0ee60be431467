use super::{ENV, Form, Key, Kind, TEXT, TEXTS, Table, key};

pub(super) const NEEDS_KEY: Key = key(
    "needs",
    TEXTS,
    "",
    "What the kernel must be able to do: `vlan`, `netem`, … (the list is under Needs), or `module:NAME`. Decides which \
     kernel a machine gets; a test is skipped where the kernel of its machine cannot do it.",
);

const ADDRESS: Kind = Kind::Any(&[Kind::Text(Form::Address), Kind::List(&Kind::Text(Form::Address))]);
const SHELL: Kind = Kind::Text(Form::Shell);
const PATH: Kind = Kind::Text(Form::Path);
const DURATION: Kind = Kind::Text(Form::Duration);
const SIZE: Kind = Kind::Text(Form::Size);
const PORT: Kind = Kind::Integer { min: 1, max: 65535 };

pub(super) const FILE: Kind = Kind::Any(&[PATH, Kind::Table(&FILE_TABLE)]);

pub(super) static MACHINE: Table = Table {
    title: "[machines.NAME]",
    name: "machine",
    doc: "One throwaway computer: own root file system, processes, host name and network stack.",
    includes: None,
    keys: &[
        key("image", TEXT, "`host`", "The name of an image, or whatever an image may have as its `base`."),
        key(
            "kernel",
            Kind::Any(&[Kind::Choice(&["shared", "own"]), Kind::Table(&KERNEL)]),
            "what `needs` and `screen` ask for",
            "The host's kernel, or one of its own in a virtual machine: with a table not Debian's for clouds, but which.",
        ),
        key(
            "screen",
            Kind::Bool,
            "false",
            "It has a screen and a keyboard, and for these a kernel of its own.",
        ),
        key(
            "interfaces",
            Kind::Map {
                key: "NETWORK",
                value: &Kind::Any(&[
                    Kind::Text(Form::Address),
                    Kind::List(&Kind::Text(Form::Address)),
                    Kind::Table(&INTERFACE),
                ]),
            },
            "",
            "Its attachments: the network, and an address, a list of addresses, or a table. `{}` on an addressed \
             network takes the next free address of each subnet; on a raw one there are no addresses.",
        ),
        key(
            "gateway",
            ADDRESS,
            "the uplink",
            "The router of its default route; a list for one of each family.",
        ),
        key(
            "routes",
            Kind::Map { key: "SUBNET", value: &Kind::Text(Form::Address) },
            "",
            "Further routes: the destination, and the next router.",
        ),
        key("router", Kind::Bool, "false", "It forwards packets between its networks, of IPv4 and IPv6."),
        key("hostname", Kind::Text(Form::Name), "its name", "The host name inside."),
        key(
            "files",
            Kind::Map { key: "TARGET", value: &FILE },
            "",
            "Files to put in place before its services start: the absolute target, and a source path or a table.",
        ),
        key(
            "mounts",
            Kind::Map { key: "TARGET", value: &Kind::Any(&[PATH, Kind::Table(&MOUNT)]) },
            "",
            "Files and folders of the host that it sees live: the absolute target, and a source path or a table.",
        ),
        key("env", ENV, "", "What its programs find in their environment."),
        key("pass-env", TEXTS, "", "Names of variables of the host that it gets too."),
        key(
            "services",
            Kind::Any(&[
                Kind::List(&SHELL),
                Kind::Map { key: "NAME", value: &Kind::Any(&[SHELL, Kind::Table(&SERVICE)]) },
            ]),
            "",
            "What runs on it from its start on: the name, and a command or a table. A list names each by its program.",
        ),
        key(
            "ready",
            Kind::Any(&[Kind::Table(&READY), Kind::List(&Kind::Table(&READY))]),
            "",
            "What must hold before it counts as ready; of several conditions, all.",
        ),
        key("depends", TEXTS, "", "Machines that must be ready before this one starts."),
        key("limits", Kind::Table(&LIMITS), "", "What it may use."),
        key("disk", SIZE, "", "How much it may change of its file system."),
        NEEDS_KEY,
        key(
            "sysctls",
            Kind::Map {
                key: "NAME",
                value: &Kind::Any(&[TEXT, Kind::Integer { min: i64::MIN, max: i64::MAX }, Kind::Bool]),
            },
            "",
            "Kernel parameters of its own namespaces: `net.*`, System V IPC and POSIX message queues; any with \
             `kernel = \"own\"`.",
        ),
        key(
            "ports",
            Kind::Map { key: "HOST", value: &PORT },
            "",
            "TCP ports that the host publishes: `ADDRESS:PORT` or `PORT` (of 127.0.0.1) on the host, and the machine's \
             port. A fresh copy gets a free host port instead.",
        ),
        key(
            "control",
            Kind::Any(&[Kind::Bool, TEXTS]),
            "false",
            "Programs on it may drive this copy of the testbed: all of it, or only what the list names (`exec`, `cp`, \
             `logs`, `connect`, `pause`, `restart`, `snapshot`, `cut`, `capture`, `var`), each with `:NAME` for some machines \
             or networks only, in which `*` stands for any text.",
        ),
        key(
            "init",
            Kind::Choice(&["systemd"]),
            "our agent",
            "What is process 1: `systemd` boots the whole system that is in the image, on a kernel of its own, with our agent \
             beside it. The machine is ready when that is.",
        ),
        key(
            "agent",
            Kind::Bool,
            "true",
            "`false` for a system of its own, which boots from a disk (its `image`) or a `cdrom` and has no agent of ours: \
             console, screen, power, snapshots and networks are there, and what needs an agent is an error.",
        ),
        key("cdrom", PATH, "", "What is in its CD drive: a file, with `agent = false`."),
        key(
            "count",
            Kind::Integer { min: 1, max: 2048 },
            "1",
            "So many alike, named `NAME-1`, `NAME-2`, …; an address that ends in `+` counts up.",
        ),
    ],
};

static KERNEL: Table = Table {
    title: "kernel",
    name: "kernel",
    doc: "Which kernel of its own a machine has.",
    includes: None,
    keys: &[
        key(
            "own",
            TEXT,
            "",
            "`image` for the one that its image has, or the path of a bzImage or vmlinux. Required.",
        ),
        key(
            "modules",
            PATH,
            "",
            "With a path: the folder of the kernel's modules, as `/lib/modules/VERSION`. Without, all that is needed must be in the \
             kernel.",
        ),
    ],
};

static INTERFACE: Table = Table {
    title: "interfaces.NETWORK",
    name: "interface",
    doc: "A machine's attachment to a network.",
    includes: None,
    keys: &[
        key(
            "address",
            ADDRESS,
            "the next free ones",
            "Its address or addresses, without prefix lengths: the subnet's holds. An empty list for none.",
        ),
        key("mac", Kind::Text(Form::Mac), "derived from the names", "Its address on the link."),
        key("mtu", Kind::Integer { min: 68, max: 65521 }, "the network's", "Its largest packet, in bytes."),
        key("name", TEXT, "`eth0`, `eth1`, …", "Its name inside, at most 15 bytes."),
    ],
};

static FILE_TABLE: Table = Table {
    title: "files.TARGET",
    name: "file",
    doc: "A file, or a folder with all in it. Exactly one of `source` and `content` is required.",
    includes: None,
    keys: &[
        key("source", PATH, "", "The path on the host."),
        key("content", TEXT, "", "The text it holds."),
        key("mode", TEXT, "the source's, or `0644`", "Permission bits, in octal: `\"0755\"`."),
        key("owner", Kind::Text(Form::User), "root", "The user inside: `name`, `name:group` or numbers."),
    ],
};

static MOUNT: Table = Table {
    title: "mounts.TARGET",
    name: "mount",
    doc: "A file or folder of the host, live.",
    includes: None,
    keys: &[
        key("source", PATH, "", "The path on the host. Required."),
        key("writable", Kind::Bool, "false", "What is written inside is written on the host."),
        key(
            "owner",
            TEXT,
            "the source's",
            "The host's user that root inside acts as, in numbers: `\"1000\"` or `\"1000:1000\"`.",
        ),
    ],
};

static SERVICE: Table = Table {
    title: "services.NAME",
    name: "service",
    doc: "A program that runs from the machine's start on.",
    includes: None,
    keys: &[
        key("run", SHELL, "", "Text for `/bin/sh -c`. Required."),
        key("user", Kind::Text(Form::User), "root", "The user it runs as."),
        key("env", ENV, "", "Variables beyond the machine's."),
        key("cwd", Kind::Text(Form::Inside), "the user's home", "Its working folder."),
    ],
};

static READY: Table = Table {
    title: "ready",
    name: "ready",
    doc: "Conditions of readiness; with several, all must hold.",
    includes: None,
    keys: &[
        key(
            "log",
            TEXT,
            "",
            "A service has written a line with this text in it; without an agent, the console.",
        ),
        key("port", PORT, "", "Somebody listens on this TCP port."),
        key("command", SHELL, "", "This text, run by `/bin/sh -c`, ends with status 0."),
        key("file", Kind::Text(Form::Inside), "", "This path exists."),
        key("timeout", DURATION, "`deadlines.ready`", "How long that may take."),
    ],
};

static LIMITS: Table = Table {
    title: "limits",
    name: "limits",
    doc: "What a machine may use.",
    includes: None,
    keys: &[
        key("memory", SIZE, "", "Memory, its own files in memory included."),
        key("cpus", Kind::Number, "", "Processors; parts of one are legal."),
        key("pids", Kind::Integer { min: 1, max: 4_194_304 }, "", "Processes and threads."),
    ],
};
