use super::machine::{FILE, MACHINE, NEEDS_KEY};
use super::{ENV, Form, Kind, TEXT, TEXTS, Table, key};

/// The whole file.
pub(in crate::spec) static TESTBED: Table = Table {
    title: "testbed.toml",
    name: "testbed",
    doc: "The tables of the file. Only `machines` is required.",
    includes: None,
    keys: &[
        key("name", Kind::Text(Form::Name), "the folder's name", "The testbed's name: a host label."),
        key(
            "images",
            Kind::Map { key: "NAME", value: &Kind::Table(&IMAGE) },
            "",
            "What the root file systems of machines are made of.",
        ),
        key(
            "networks",
            Kind::Map { key: "NAME", value: &Kind::Table(&NETWORK) },
            "",
            "The networks: L2 segments.",
        ),
        key(
            "machines",
            Kind::Map { key: "NAME", value: &Kind::Table(&MACHINE) },
            "",
            "The machines. A name is a host label; `host` is taken.",
        ),
        key(
            "defaults",
            Kind::Table(&DEFAULTS),
            "",
            "What holds for every machine that does not say otherwise.",
        ),
        key("tests", Kind::List(&Kind::Table(&TEST)), "", "The tests."),
        key(
            "capsule",
            Kind::Any(&[Kind::Bool, Kind::Table(&CAPSULE)]),
            "false",
            "All machines and networks are in one machine with a kernel of its own: what one kernel has (`needs`), all of \
             them have, and the whole network is kept and forked as it runs, connections included.",
        ),
    ],
};

static CAPSULE: Table = Table {
    title: "capsule",
    name: "capsule",
    doc: "The machine that holds all others.",
    includes: None,
    keys: &[
        key(
            "memory",
            Kind::Text(Form::Size),
            "`512M`, and more for more than four machines",
            "How much memory all machines have together, what they write to files included.",
        ),
        key("cpus", Kind::Integer { min: 1, max: 64 }, "1", "How many processors they have together."),
    ],
};

static IMAGE: Table = Table {
    title: "[images.NAME]",
    name: "image",
    doc: "What a machine's root file system is made of: a base, and layers on it in the order packages, files, run. \
          Each layer is built once and shared by all testbeds of the user.",
    includes: None,
    keys: &[
        key(
            "base",
            TEXT,
            "`host`",
            "What lies below: `host` (the host's own root, read-only, secrets masked), `debian:CODENAME`, the path of \
             a folder, of a tar file or of a folder in OCI image layout, the name of another image, or one that \
             `testbed image import` gave; for machines with `agent = false` the path of a disk: `.qcow2`, or `.raw` or \
             `.img` for one that is there byte by byte.",
        ),
        key("packages", TEXTS, "", "Packages of the base's distribution."),
        key(
            "files",
            Kind::Map { key: "TARGET", value: &FILE },
            "",
            "Files to put in place: the absolute target, and a source path or a table.",
        ),
        key(
            "run",
            Kind::Any(&[Kind::Text(Form::Shell), Kind::List(&Kind::Text(Form::Shell))]),
            "",
            "Texts for `/bin/sh -c`, each run as root in a throwaway machine with a way out; each makes a layer.",
        ),
        key("env", ENV, "", "Variables of the `run` steps and of every machine made from the image."),
    ],
};

static NETWORK: Table = Table {
    title: "[networks.NAME]",
    name: "network",
    doc: "One L2 segment: addressed (`subnet`) or raw. A name is a host label.",
    includes: None,
    keys: &[
        key(
            "subnet",
            Kind::Any(&[Kind::Text(Form::Subnet), Kind::List(&Kind::Text(Form::Subnet))]),
            "",
            "Its subnet, of IPv4 or IPv6, or a list with one of each. Subnets of a testbed may not overlap.",
        ),
        key(
            "raw",
            Kind::Bool,
            "false",
            "The tests own the network: no addresses, and tagged and unknown frames pass.",
        ),
        key(
            "uplink",
            Kind::Any(&[Kind::Bool, Kind::Text(Form::Address), Kind::List(&Kind::Text(Form::Address))]),
            "false",
            "A way out through the host. Its gateway has the first address of each subnet, or the address given here; \
             machines on the network without a `gateway` of their own use it.",
        ),
        key(
            "mtu",
            Kind::Integer { min: 68, max: 65521 },
            "1500",
            "The largest packet of its links, in bytes.",
        ),
    ],
};

static DEFAULTS: Table = Table {
    title: "[defaults]",
    name: "defaults",
    doc: "Any key of a machine, for every machine that does not have it. Where both have a table (`env`, `limits`, \
          `sysctls`, …), the entries are merged and the machine's win. Also:",
    includes: Some(&MACHINE),
    keys: &[key(
        "deadlines",
        Kind::Table(&DEADLINES),
        "",
        "How long the parts of a testbed's life may take.",
    )],
};

static DEADLINES: Table = Table {
    title: "defaults.deadlines",
    name: "deadlines",
    doc: "How long the parts of a testbed's life may take.",
    includes: None,
    keys: &[
        key(
            "start",
            Kind::Text(Form::Duration),
            "`10s`",
            "From the order to make a machine until its agent answers.",
        ),
        key(
            "ready",
            Kind::Text(Form::Duration),
            "`30s`",
            "From the start of a machine's services until it is ready.",
        ),
        key("test", Kind::Text(Form::Duration), "`60s`", "One test."),
        key("layer-step", Kind::Text(Form::Duration), "`15m`", "One layer of an image."),
        key(
            "stop",
            Kind::Text(Form::Duration),
            "`5s`",
            "From the request to stop until what is left is killed.",
        ),
    ],
};

static TEST: Table = Table {
    title: "[[tests]]",
    name: "test",
    doc: "A test, or with `files` one of every executable there. Exactly one of `run`, `file` and `files` is required.",
    includes: None,
    keys: &[
        key(
            "name",
            TEXT,
            "the path, with `file` and `files`",
            "The test's id, unique in the testbed. With `files`, the ids are `NAME/FILE`.",
        ),
        key(
            "on",
            Kind::Text(Form::Name),
            "the machine, if there is only one",
            "Where it runs: a machine, or `host`, where the command `testbed` speaks to the test's own copy.",
        ),
        key("run", Kind::Text(Form::Shell), "", "Text for `/bin/sh -c`."),
        key("file", Kind::Text(Form::Path), "", "An executable file of the host."),
        key(
            "files",
            Kind::Any(&[Kind::Text(Form::Path), Kind::List(&Kind::Text(Form::Path))]),
            "",
            "Paths in which `*` stands for any part of a name and `**` for any folders: every executable there is \
             one test.",
        ),
        key(
            "timeout",
            Kind::Text(Form::Duration),
            "`deadlines.test`",
            "A test that takes longer has failed.",
        ),
        key(
            "fresh",
            Kind::Choice(&["testbed", "group", "run"]),
            "`testbed`, or `group` with `group`",
            "With whom it shares a copy of the testbed: with nobody, with its `group`, or with all such tests of the \
             run. Tests that share a copy run one after another, in file order.",
        ),
        key("group", TEXT, "", "The name of its group."),
        key(
            "expect",
            Kind::Choice(&["success", "failure"]),
            "`success`",
            "Which end is the good one. A deadline's passing is a failure, and so meets `failure`.",
        ),
        NEEDS_KEY,
        key("tags", TEXTS, "", "Names to choose tests by."),
        key("env", ENV, "", "Variables beyond those of its place."),
        key("user", Kind::Text(Form::User), "root", "The user on the machine that it runs as."),
    ],
};
