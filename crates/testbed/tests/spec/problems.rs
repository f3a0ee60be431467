//! What is wrong with single keys, files, images, tests and services.

use super::{files, problems};
use insta::assert_snapshot;
use testbed::spec::check;

#[test]
fn unknown_keys_name_the_nearest_one() {
    assert_snapshot!(problems(r#"
[machines.a]
interface = {}
imgae = "host"
password = "x"

[network]
"#), @r#"
    error[unknown-key]: unknown key `interface`
     --> testbed.toml:3:1
      |
    3 | interface = {}
      | ^^^^^^^^^
      |
      = help: did you mean `interfaces`?

    error[unknown-key]: unknown key `imgae`
     --> testbed.toml:4:1
      |
    4 | imgae = "host"
      | ^^^^^
      |
      = help: did you mean `image`?

    error[unknown-key]: unknown key `password`
     --> testbed.toml:5:1
      |
    5 | password = "x"
      | ^^^^^^^^
      |
      = help: `[machines.NAME]` has the keys `image`, `kernel`, `interfaces`, `gateway`, `routes`, `router`, `hostname`, `files`, `mounts`, `env`, `pass-env`, `services`, `ready`, `depends`, `limits`, `disk`, `needs`, `sysctls`, `ports`, `control`, `count`, `bridge`

    error[unknown-key]: unknown key `network`
     --> testbed.toml:7:2
      |
    7 | [network]
      |  ^^^^^^^
      |
      = help: did you mean `networks`?
    "#);
}

#[test]
fn several_syntax_errors_are_told_at_once() {
    assert_snapshot!(problems(r#"
[machines.a]
image = "host
router = yes
env = { A = "1", A = "2" }
disk = "lots"
[machines.a]
[machines.b
limits = {
"#), @r#"
    error[syntax]: not TOML: invalid basic string, expected `"`
     --> testbed.toml:3:14
      |
    3 | image = "host
      |              ^

    error[syntax]: not TOML: string values must be quoted, expected literal string
     --> testbed.toml:4:10
      |
    4 | router = yes
      |          ^^^

    error[syntax]: not TOML: duplicate key
     --> testbed.toml:5:18
      |
    5 | env = { A = "1", A = "2" }
      |                  ^

    error[bad-value]: `lots` is not a size
     --> testbed.toml:6:8
      |
    6 | disk = "lots"
      |        ^^^^^^
      |
      = help: a size is a number of bytes, or one with K, M, G or T (powers of 1024): "512M"

    error[syntax]: not TOML: duplicate key
     --> testbed.toml:7:11
      |
    7 | [machines.a]
      |           ^

    error[syntax]: not TOML: unclosed table, expected `]`
     --> testbed.toml:8:12
      |
    8 | [machines.b
      |            ^

    error[syntax]: not TOML: unclosed inline table, expected `}`
     --> testbed.toml:9:11
      |
    9 | limits = {
      |           ^
    "#);
}

#[test]
fn wrong_types_say_what_was_expected() {
    assert_snapshot!(problems(r#"
networks.lan = { subnet = 10, mtu = "1500" }
[machines.a]
router = "true"
hostname = 5
depends = "b"
disk = 256
limits = [1]
count = 2.5
interfaces = { lan = true }
[machines.b]
env = { WHEN = 2020-01-01 }
[[tests]]
name = "x"
on = "b"
run = "true"
timeout = 10
"#), @r#"
    error[wrong-type]: expected a subnet such as "10.1.0.0/24" or a list, found an integer
     --> testbed.toml:2:27
      |
    2 | networks.lan = { subnet = 10, mtu = "1500" }
      |                           ^^

    error[wrong-type]: expected an integer, found text
     --> testbed.toml:2:37
      |
    2 | networks.lan = { subnet = 10, mtu = "1500" }
      |                                     ^^^^^^
      |
      = help: write 1500, without quotes

    error[wrong-type]: expected true or false, found text
     --> testbed.toml:4:10
      |
    4 | router = "true"
      |          ^^^^^^
      |
      = help: write true, without quotes

    error[wrong-type]: expected a name, found an integer
     --> testbed.toml:5:12
      |
    5 | hostname = 5
      |            ^
      |
      = help: write "5"

    error[wrong-type]: expected a list, found text
     --> testbed.toml:6:11
      |
    6 | depends = "b"
      |           ^^^
      |
      = help: write ["b"]

    error[wrong-type]: expected a size such as "128M", found an integer
     --> testbed.toml:7:8
      |
    7 | disk = 256
      |        ^^^
      |
      = help: write "256M" for mebibytes

    error[wrong-type]: expected a table, found a list
     --> testbed.toml:8:10
      |
    8 | limits = [1]
      |          ^^^

    error[wrong-type]: expected an integer, found a number
     --> testbed.toml:9:9
      |
    9 | count = 2.5
      |         ^^^

    error[wrong-type]: expected an IP address such as "10.1.0.1", a list or a table, found true or false
      --> testbed.toml:10:22
       |
    10 | interfaces = { lan = true }
       |                      ^^^^

    error[wrong-type]: expected text, found a date or time
      --> testbed.toml:12:16
       |
    12 | env = { WHEN = 2020-01-01 }
       |                ^^^^^^^^^^

    error[wrong-type]: expected a duration such as "10s", found an integer
      --> testbed.toml:17:11
       |
    17 | timeout = 10
       |           ^^
       |
       = help: write "10s" for seconds
    "#);
}

#[test]
fn values_out_of_range_are_told() {
    assert_snapshot!(problems(r#"
[machines.a]
count = 0
kernel = "shard"
limits = { pids = 0, cpus = 0, memory = "1" }
ready = { port = 70000 }
"#), @r#"
    error[bad-value]: 0 is not from 1 to 2048
     --> testbed.toml:3:9
      |
    3 | count = 0
      |         ^

    error[bad-value]: `shard` is not one of `shared` and `own`
     --> testbed.toml:4:10
      |
    4 | kernel = "shard"
      |          ^^^^^^^
      |
      = help: did you mean `shared`?

    error[bad-value]: 0 is not from 1 to 4194304
     --> testbed.toml:5:19
      |
    5 | limits = { pids = 0, cpus = 0, memory = "1" }
      |                   ^

    error[bad-value]: 0 is not from 0.001 to 4096 processors
     --> testbed.toml:5:29
      |
    5 | limits = { pids = 0, cpus = 0, memory = "1" }
      |                             ^

    error[bad-value]: no machine runs in 1 of memory
     --> testbed.toml:5:41
      |
    5 | limits = { pids = 0, cpus = 0, memory = "1" }
      |                                         ^^^
      |
      = help: write "64M", for example

    error[bad-value]: 70000 is not from 1 to 65535
     --> testbed.toml:6:18
      |
    6 | ready = { port = 70000 }
      |                  ^^^^^
    "#);
}

#[test]
fn bad_durations_and_sizes_say_how_to_write_them() {
    assert_snapshot!(problems(r#"
[defaults]
deadlines = { test = "1 fortnight", start = "0s", stop = "9999h" }
[machines.a]
disk = "lots"
limits = { memory = "12Q" }
"#), @r#"
    error[bad-value]: `1 fortnight` is not a duration
     --> testbed.toml:3:22
      |
    3 | deadlines = { test = "1 fortnight", start = "0s", stop = "9999h" }
      |                      ^^^^^^^^^^^^^
      |
      = help: a duration is a number and a unit, ms, s, m or h: "500ms", "10s", "1h 30m"

    error[bad-value]: `0s` is not a duration
     --> testbed.toml:3:45
      |
    3 | deadlines = { test = "1 fortnight", start = "0s", stop = "9999h" }
      |                                             ^^^^
      |
      = help: a duration is at least 1 ms

    error[bad-value]: `9999h` is not a duration
     --> testbed.toml:3:58
      |
    3 | deadlines = { test = "1 fortnight", start = "0s", stop = "9999h" }
      |                                                          ^^^^^^^
      |
      = help: a duration is at most 31 days

    error[bad-value]: `lots` is not a size
     --> testbed.toml:5:8
      |
    5 | disk = "lots"
      |        ^^^^^^
      |
      = help: a size is a number of bytes, or one with K, M, G or T (powers of 1024): "512M"

    error[bad-value]: `12Q` is not a size
     --> testbed.toml:6:21
      |
    6 | limits = { memory = "12Q" }
      |                     ^^^^^
      |
      = help: a size is a number of bytes, or one with K, M, G or T (powers of 1024): "512M"
    "#);
}

#[test]
fn durations_of_tests_are_checked_too() {
    assert_snapshot!(problems(r#"
machines.a = {}
[[tests]]
name = "x"
run = "true"
timeout = "soon"
"#), @r#"
    error[bad-value]: `soon` is not a duration
     --> testbed.toml:6:11
      |
    6 | timeout = "soon"
      |           ^^^^^^
      |
      = help: a duration is a number and a unit, ms, s, m or h: "500ms", "10s", "1h 30m"
    "#);
}

#[test]
fn missing_files_and_mount_sources_are_told() {
    assert_snapshot!(problems(r#"
[machines.a]
files = { "/etc/x.conf" = "gw2.conf", "/etc/y" = { source = "none" }, "/etc/z" = {} }
mounts = { "/code" = { source = "src", writable = true }, "/more" = {} }
"#), @r#"
    error[missing-file]: there is no file or folder `gw2.conf`
     --> testbed.toml:3:27
      |
    3 | files = { "/etc/x.conf" = "gw2.conf", "/etc/y" = { source = "none" }, "/etc/z" = {} }
      |                           ^^^^^^^^^^ looked for /bed/gw2.conf
      |
      = help: did you mean `gw1.conf`?

    error[missing-file]: there is no file or folder `none`
     --> testbed.toml:3:61
      |
    3 | files = { "/etc/x.conf" = "gw2.conf", "/etc/y" = { source = "none" }, "/etc/z" = {} }
      |                                                             ^^^^^^ looked for /bed/none
      |
      = help: paths start from the folder of the file

    error[missing-key]: the file has neither `source` nor `content`
     --> testbed.toml:3:71
      |
    3 | files = { "/etc/x.conf" = "gw2.conf", "/etc/y" = { source = "none" }, "/etc/z" = {} }
      |                                                                       ^^^^^^^^
      |
      = help: write the path of a source, or { content = "text" }

    error[missing-file]: there is no file or folder `src`
     --> testbed.toml:4:33
      |
    4 | mounts = { "/code" = { source = "src", writable = true }, "/more" = {} }
      |                                 ^^^^^ looked for /bed/src
      |
      = help: paths start from the folder of the file

    error[missing-key]: the mount has no `source`
     --> testbed.toml:4:59
      |
    4 | mounts = { "/code" = { source = "src", writable = true }, "/more" = {} }
      |                                                           ^^^^^^^
      |
      = help: write the path of a file or folder of the host
    "#);
}

#[test]
fn places_inside_a_machine_are_absolute_and_its_own() {
    assert_snapshot!(problems(r#"
[machines.a]
files = { "etc/x" = "gw1.conf", "/etc/../x" = "gw1.conf", "/proc/x" = "gw1.conf", "/a" = "gw1.conf", "/a/." = "gw1.conf" }
mounts = { "/" = "." }
"#), @r#"
    error[bad-value]: `etc/x` is not an absolute path
     --> testbed.toml:3:11
      |
    3 | files = { "etc/x" = "gw1.conf", "/etc/../x" = "gw1.conf", "/proc/x" = "gw1.conf", "/a" = "gw1.conf", "/...
      |           ^^^^^^^
      |
      = help: write `/etc/x`

    error[bad-value]: `/etc/../x` is not a plain path
     --> testbed.toml:3:33
      |
    3 | files = { "etc/x" = "gw1.conf", "/etc/../x" = "gw1.conf", "/proc/x" = "gw1.conf", "/a" = "gw1.conf", "/...
      |                                 ^^^^^^^^^^^
      |
      = help: write it without `..`

    error[bad-value]: `/proc/x` belongs to the machine's own system
     --> testbed.toml:3:59
      |
    3 | files = { "etc/x" = "gw1.conf", "/etc/../x" = "gw1.conf", "/proc/x" = "gw1.conf", "/a" = "gw1.conf", "/...
      |                                                           ^^^^^^^^^
      |
      = help: choose a place outside of `/proc`

    error[duplicate]: the target `/a` is there twice
     --> testbed.toml:3:102
      |
    3 | ... "gw1.conf", "/proc/x" = "gw1.conf", "/a" = "gw1.conf", "/a/." = "gw1.conf" }
      |                                         ---- first here    ^^^^^^

    error[bad-value]: `/` is the whole machine
     --> testbed.toml:4:12
      |
    4 | mounts = { "/" = "." }
      |            ^^^
      |
      = help: name a file or folder in it
    "#);
}

#[test]
fn file_tables_are_checked() {
    assert_snapshot!(problems(r#"
[machines.a.files]
"/a" = { source = "gw1.conf", content = "x" }
"/b" = { content = "x", mode = "rwx", owner = "a b" }
[machines.a.mounts]
"/c" = { source = ".", owner = "me" }
"#), @r#"
    error[misfit]: a file has a `source` or a `content`, not both
     --> testbed.toml:3:41
      |
    3 | "/a" = { source = "gw1.conf", content = "x" }
      |                                         ^^^

    error[bad-value]: `rwx` is not a file mode
     --> testbed.toml:4:32
      |
    4 | "/b" = { content = "x", mode = "rwx", owner = "a b" }
      |                                ^^^^^
      |
      = help: write permission bits in octal: "0644"

    error[bad-value]: `a b` is not a user
     --> testbed.toml:4:47
      |
    4 | "/b" = { content = "x", mode = "rwx", owner = "a b" }
      |                                               ^^^^^
      |
      = help: write `name`, `name:group` or numbers

    error[bad-value]: `me` is not an owner
     --> testbed.toml:6:32
      |
    6 | "/c" = { source = ".", owner = "me" }
      |                                ^^^^
      |
      = help: write the host's user, or user and group, in numbers: "1000" or "1000:1000"
    "#);
}

#[test]
fn images_must_exist() {
    assert_snapshot!(problems(r#"
[images.vpn]
base = "debian:Bookworm"
[images.other]
base = "vpm"
[images.host]
[machines.a]
image = "nothing"
[machines.b]
image = "./rootfz"
"#), @r#"
    error[bad-value]: `Bookworm` is not a release of Debian
     --> testbed.toml:3:8
      |
    3 | base = "debian:Bookworm"
      |        ^^^^^^^^^^^^^^^^^
      |
      = help: write its code name: `debian:bookworm`

    error[unknown-name]: there is no image `vpm`
     --> testbed.toml:5:8
      |
    5 | base = "vpm"
      |        ^^^^^
      |
      = help: did you mean `vpn`? an image is one of [images], `host`, `debian:CODENAME`, or a path with a `/` in it; declared: `vpn`, `other` and `host`

    error[bad-name]: `host` is the host's own root
     --> testbed.toml:6:9
      |
    6 | [images.host]
      |         ^^^^
      |
      = help: choose a name of letters, digits, `.`, `_` and `-`

    error[unknown-name]: there is no image `nothing`
     --> testbed.toml:8:9
      |
    8 | image = "nothing"
      |         ^^^^^^^^^
      |
      = help: an image is one of [images], `host`, `debian:CODENAME`, or a path with a `/` in it; declared: `vpn`, `other` and `host`

    error[missing-file]: there is no file or folder `./rootfz`
      --> testbed.toml:10:9
       |
    10 | image = "./rootfz"
       |         ^^^^^^^^^^ looked for /bed/rootfz
       |
       = help: did you mean `rootfs`?
    "#);
}

#[test]
fn circles_of_images_are_found() {
    assert_snapshot!(problems(r#"
[images.a]
base = "b"
[images.b]
base = "c"
[images.c]
base = "a"
[images.d]
base = "d"
[machines.m]
image = "a"
"#), @r#"
    error[cycle]: the images `a`, `b` and `c` are each other's bases
     --> testbed.toml:3:8
      |
    3 | base = "b"
      |        ^^^ `a` is made from `b`
    4 | [images.b]
    5 | base = "c"
      |        --- `b` is made from `c`
    6 | [images.c]
    7 | base = "a"
      |        --- `c` is made from `a`
      |
      = help: one of them must have another base

    error[cycle]: the image `d` is its own base
     --> testbed.toml:9:8
      |
    9 | base = "d"
      |        ^^^ `d` is made from `d`
      |
      = help: one of them must have another base
    "#);
}

#[test]
fn circles_of_machines_are_found() {
    assert_snapshot!(problems(r#"
[machines.a]
depends = ["b"]
[machines.b]
depends = ["a"]
[machines.c]
depends = ["c", "d"]
"#), @r#"
    error[cycle]: the machines `a` and `b` depend on each other
     --> testbed.toml:3:12
      |
    3 | depends = ["b"]
      |            ^^^ `a` waits for `b`
    4 | [machines.b]
    5 | depends = ["a"]
      |            --- `b` waits for `a`
      |
      = help: one of them must start without the other

    error[cycle]: the machine `c` depends on itself
     --> testbed.toml:7:12
      |
    7 | depends = ["c", "d"]
      |            ^^^ `c` waits for `c`
      |
      = help: one of them must start without the other

    error[unknown-name]: there is no machine `d`
     --> testbed.toml:7:17
      |
    7 | depends = ["c", "d"]
      |                 ^^^
      |
      = help: declared: `a`, `b` and `c`
    "#);
}

#[test]
fn one_machine_of_several_cannot_wait_for_its_like() {
    assert_snapshot!(problems(r#"
[machines.a]
count = 2
depends = ["a-1"]
"#), @r#"
    error[cycle]: the machine `a` depends on itself
     --> testbed.toml:4:12
      |
    4 | depends = ["a-1"]
      |            ^^^^^ `a` waits for `a`
      |
      = help: one of them must start without the other
    "#);
}

#[test]
fn test_ids_are_unique() {
    assert_snapshot!(problems(r#"
machines.a = {}
[[tests]]
name = "x"
run = "true"
[[tests]]
name = "x"
run = "false"
[[tests]]
files = "tests/*"
[[tests]]
file = "tests/ping.sh"
"#), @r#"
    error[duplicate]: the test `x` is there twice
     --> testbed.toml:7:8
      |
    4 | name = "x"
      |        --- first here
    ...
    7 | name = "x"
      |        ^^^

    error[duplicate]: the test `tests/ping.sh` is there twice
      --> testbed.toml:12:8
       |
    10 | files = "tests/*"
       |         --------- first here
    11 | [[tests]]
    12 | file = "tests/ping.sh"
       |        ^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn tests_say_what_runs_and_where() {
    assert_snapshot!(problems(r#"
machines.a = {}
machines.b = {}
[[tests]]
name = "nowhere"
run = "true"
[[tests]]
name = "nothing"
on = "a"
[[tests]]
name = "both"
on = "a"
run = "true"
file = "tests/ping.sh"
[[tests]]
on = "a"
run = "true"
[[tests]]
name = "lost"
on = "c"
run = "true"
[[tests]]
name = "testbed/x"
on = "host"
user = "me"
run = " "
"#), @r#"
    error[missing-key]: the test does not say where it runs
     --> testbed.toml:4:1
      |
    4 | [[tests]]
      | ^^^^^^^^^
      |
      = help: write on = "host", or one of the machines: `a` and `b`

    error[missing-key]: the test runs nothing
     --> testbed.toml:7:1
      |
    7 | [[tests]]
      | ^^^^^^^^^
      |
      = help: write run = "…" for text for a shell, or `file` or `files` for executables

    error[misfit]: `file` does not fit a test that has `run`
      --> testbed.toml:14:8
       |
    14 | file = "tests/ping.sh"
       |        ^^^^^^^^^^^^^^^
       |
       = help: make two tests of it

    error[missing-key]: the test has no name
      --> testbed.toml:15:1
       |
    15 | [[tests]]
       | ^^^^^^^^^
       |
       = help: write name = "what it shows"

    error[unknown-name]: there is no machine `c`
      --> testbed.toml:20:6
       |
    20 | on = "c"
       |      ^^^
       |
       = help: declared: `a` and `b`

    error[bad-name]: `testbed/x` cannot be the name of a test: `testbed/` begins the names of machines in a report
      --> testbed.toml:23:8
       |
    23 | name = "testbed/x"
       |        ^^^^^^^^^^^

    error[misfit]: `user` does not fit a test on the host
      --> testbed.toml:25:8
       |
    25 | user = "me"
       |        ^^^^
       |
       = help: it runs as the user who runs the testbed

    error[bad-value]: the command is empty
      --> testbed.toml:26:7
       |
    26 | run = " "
       |       ^^^
    "#);
}

#[test]
fn test_files_must_be_executable() {
    assert_snapshot!(problems(r#"
machines.a = {}
[[tests]]
file = "tests/README"
[[tests]]
file = "tests"
[[tests]]
files = "tests/R*"
[[tests]]
files = ["none/*"]
"#), @r#"
    error[bad-value]: `tests/README` is not executable
     --> testbed.toml:4:8
      |
    4 | file = "tests/README"
      |        ^^^^^^^^^^^^^^
      |
      = help: chmod +x tests/README

    error[bad-value]: `tests` is a folder
     --> testbed.toml:6:8
      |
    6 | file = "tests"
      |        ^^^^^^^
      |
      = help: write files = "tests/*"

    error[missing-file]: no executable file matches `tests/R*`
     --> testbed.toml:8:9
      |
    8 | files = "tests/R*"
      |         ^^^^^^^^^^
      |
      = help: `tests/README` does, but is not executable

    error[missing-file]: no executable file matches `none/*`
      --> testbed.toml:10:10
       |
    10 | files = ["none/*"]
       |          ^^^^^^^^
       |
       = help: patterns start from the folder of the file; `*` stands for any part of a name
    "#);
}

#[test]
fn groups_and_freshness_fit_each_other() {
    assert_snapshot!(problems(r#"
machines.a = {}
[[tests]]
name = "x"
run = "true"
fresh = "group"
[[tests]]
name = "y"
run = "true"
fresh = "run"
group = "g"
tags = ["a b"]
needs = ["vlna", "module:", "magic"]
"#), @r#"
    error[missing-key]: `fresh = "group"` wants a `group`
     --> testbed.toml:6:9
      |
    6 | fresh = "group"
      |         ^^^^^^^
      |
      = help: write group = "NAME"; tests with the same one share a copy

    error[misfit]: `group` does not fit `fresh = "run"`
      --> testbed.toml:11:9
       |
    10 | fresh = "run"
       |         ----- says otherwise
    11 | group = "g"
       |         ^^^
       |
       = help: remove one of them

    error[bad-name]: `a b` cannot be a tag: it is empty, or has spaces or commas
      --> testbed.toml:12:9
       |
    12 | tags = ["a b"]
       |         ^^^^^

    error[unknown-name]: nothing is known of a need `vlna`
      --> testbed.toml:13:10
       |
    13 | needs = ["vlna", "module:", "magic"]
       |          ^^^^^^
       |
       = help: did you mean `vlan`?

    error[unknown-name]: nothing is known of a need `module:`
      --> testbed.toml:13:18
       |
    13 | needs = ["vlna", "module:", "magic"]
       |                  ^^^^^^^^^
       |
       = help: write `module:NAME` for a kernel module, or one of `bonding`, `bridge`, `dummy`, `ifb`, `ipvlan`, `macvlan`, `netem`, `nftables`, `tun`, `veth`, `vlan`, `vrf`, `vxlan`, `wireguard`

    error[unknown-name]: nothing is known of a need `magic`
      --> testbed.toml:13:29
       |
    13 | needs = ["vlna", "module:", "magic"]
       |                             ^^^^^^^
       |
       = help: write `module:NAME` for a kernel module, or one of `bonding`, `bridge`, `dummy`, `ifb`, `ipvlan`, `macvlan`, `netem`, `nftables`, `tun`, `veth`, `vlan`, `vrf`, `vxlan`, `wireguard`
    "#);
}

#[test]
fn names_are_host_labels() {
    assert_snapshot!(problems(r#"
[networks.My_Net]
raw = true
[machines.host]
[machines.GW]
[machines."ünü"]
hostname = "a..b"
"#), @r#"
    error[bad-name]: `My_Net` cannot be the name of a network
     --> testbed.toml:2:11
      |
    2 | [networks.My_Net]
      |           ^^^^^^ a name is a host label: letters a to z, digits and inner hyphens, at most 63
      |
      = help: `my-net` would do

    error[bad-name]: `host` cannot be the name of a machine
     --> testbed.toml:4:11
      |
    4 | [machines.host]
      |           ^^^^
      |
      = help: it stands for the host itself, where tests can run too

    error[bad-name]: `GW` cannot be the name of a machine
     --> testbed.toml:5:11
      |
    5 | [machines.GW]
      |           ^^ a name is a host label: letters a to z, digits and inner hyphens, at most 63
      |
      = help: `gw` would do

    error[bad-name]: `ünü` cannot be the name of a machine
     --> testbed.toml:6:11
      |
    6 | [machines."ünü"]
      |           ^^^^^ a name is a host label: letters a to z, digits and inner hyphens, at most 63

    error[bad-name]: `a..b` cannot be a host name
     --> testbed.toml:7:12
      |
    7 | hostname = "a..b"
      |            ^^^^^^ host labels with `.` between, at most 64 bytes in all
    "#);
}

#[test]
fn machine_names_and_host_names_are_unique() {
    assert_snapshot!(problems(r#"
[machines.a]
count = 2
hostname = "x"
[machines.a-1]
[machines.b]
hostname = "a-2"
"#), @r#"
    error[duplicate]: `a-1` and `a-2` have the same host name
     --> testbed.toml:4:12
      |
    4 | hostname = "x"
      |            ^^^

    error[duplicate]: the machine `a-1` is there twice
     --> testbed.toml:5:11
      |
    2 | [machines.a]
      |           - first here
    ...
    5 | [machines.a-1]
      |           ^^^

    error[duplicate]: `a-2` and `b` have the same host name
     --> testbed.toml:7:12
      |
    2 | [machines.a]
      |           - the other one
    ...
    7 | hostname = "a-2"
      |            ^^^^^
    "#);
}

#[test]
fn keys_that_do_not_fit_are_told() {
    assert_snapshot!(problems(r#"
[networks.wire]
raw = true
uplink = true
subnet = "10.0.0.0/24"
[images.vm]
base = "debian:bookworm"
[machines.a]
image = "host"
kernel = "own"
gateway = "10.0.0.1"
interfaces = { wire = "10.0.0.2" }
ready = { log = "up" }
[machines.b]
image = "vm"
kernel = "own"
[machines.c]
kernel = "own"
[machines.d]
sysctls = { "vm.swappiness" = 1, "net.ipv4.ip_forward" = 0, "kernel.domainname" = "x" }
router = true
"#), @r#"
    error[misfit]: `uplink` does not fit the raw network `wire`
     --> testbed.toml:4:10
      |
    4 | uplink = true
      |          ^^^^
      |
      = help: a raw network has no addresses: remove `uplink`, or `raw = true`

    error[misfit]: `subnet` does not fit the raw network `wire`
     --> testbed.toml:5:10
      |
    5 | subnet = "10.0.0.0/24"
      |          ^^^^^^^^^^^^^
      |
      = help: a raw network has no addresses: remove `subnet`, or `raw = true`

    error[misfit]: the host's root cannot run on a kernel of its own
      --> testbed.toml:10:10
       |
     9 | image = "host"
       |         ------ this image is the host's root
    10 | kernel = "own"
       |          ^^^^^
       |
       = help: give the machine another image, for example `debian:bookworm`

    error[misfit]: an address does not fit the raw network `wire`
      --> testbed.toml:12:23
       |
    12 | interfaces = { wire = "10.0.0.2" }
       |                       ^^^^^^^^^^
       |
       = help: the tests give addresses there: write wire = {}

    error[misfit]: `log` does not fit `a`: it has no services
      --> testbed.toml:13:17
       |
    13 | ready = { log = "up" }
       |                 ^^^^
       |
       = help: nothing writes a line; wait with `port`, `file` or `command`

    error[misfit]: the host's root cannot run on a kernel of its own
      --> testbed.toml:18:10
       |
    18 | kernel = "own"
       |          ^^^^^
       |
       = help: give the machine another image, for example `debian:bookworm`

    error[misfit]: the kernel parameter `vm.swappiness` is the host's
      --> testbed.toml:20:13
       |
    20 | sysctls = { "vm.swappiness" = 1, "net.ipv4.ip_forward" = 0, "kernel.domainname" = "x" }
       |             ^^^^^^^^^^^^^^^
       |
       = help: a machine that sets it needs kernel = "own"

    error[misfit]: `net.ipv4.ip_forward` does not fit `router = true`
      --> testbed.toml:20:58
       |
    20 | sysctls = { "vm.swappiness" = 1, "net.ipv4.ip_forward" = 0, "kernel.domainname" = "x" }
       |                                                          ^

    error[misfit]: the kernel parameter `kernel.domainname` is the host's
      --> testbed.toml:20:61
       |
    20 | sysctls = { "vm.swappiness" = 1, "net.ipv4.ip_forward" = 0, "kernel.domainname" = "x" }
       |                                                             ^^^^^^^^^^^^^^^^^^^
       |
       = help: a machine that sets it needs kernel = "own"
    "#);
}

#[test]
fn the_disk_lies_in_memory() {
    assert_snapshot!(problems(r#"
[machines.a]
disk = "1G"
limits = { memory = "512M" }
"#), @r#"
    warning[misfit]: the disk of 1G is not below the memory of 512M
     --> testbed.toml:3:8
      |
    3 | disk = "1G"
      |        ^^^^
      |
      = help: a machine's files lie in its memory: when they fill it, its programs die
    "#);
}

#[test]
fn a_host_port_is_published_once() {
    assert_snapshot!(problems(r#"
[machines.a]
ports = { "8080" = 80, "127.0.0.1:8080" = 81, "nowhere" = 80, "[::1]:90" = 80 }
[machines.b]
count = 2
ports = { "9000" = 80 }
"#), @r#"
    error[duplicate]: `a` and `a` both publish 127.0.0.1:8080
     --> testbed.toml:3:24
      |
    3 | ports = { "8080" = 80, "127.0.0.1:8080" = 81, "nowhere" = 80, "[::1]:90" = 80 }
      |           ------       ^^^^^^^^^^^^^^^^
      |           |
      |           first here
      |
      = help: the host has each of its ports once

    error[bad-value]: `nowhere` is not a port of the host
     --> testbed.toml:3:47
      |
    3 | ports = { "8080" = 80, "127.0.0.1:8080" = 81, "nowhere" = 80, "[::1]:90" = 80 }
      |                                               ^^^^^^^^^
      |
      = help: write "8080", or "ADDRESS:8080" for an address other than 127.0.0.1

    error[duplicate]: `b-1` and `b-2` both publish 127.0.0.1:9000
     --> testbed.toml:6:11
      |
    6 | ports = { "9000" = 80 }
      |           ^^^^^^
      |
      = help: the host has each of its ports once
    "#);
}

#[test]
fn rights_are_known() {
    assert_snapshot!(problems(r#"
networks.lan.subnet = "10.0.0.0/24"
[machines.a]
control = ["exec:b*", "exce", "capture:lan", "logs:a"]
"#), @r#"
    error[unknown-name]: there is no machine or network `b*`
     --> testbed.toml:4:12
      |
    4 | control = ["exec:b*", "exce", "capture:lan", "logs:a"]
      |            ^^^^^^^^^
      |
      = help: declared: `a` and `lan`

    error[unknown-name]: there is no right `exce`
     --> testbed.toml:4:23
      |
    4 | control = ["exec:b*", "exce", "capture:lan", "logs:a"]
      |                       ^^^^^^
      |
      = help: did you mean `exec`?
    "#);
}

#[test]
fn services_have_names_and_conditions_are_conditions() {
    assert_snapshot!(problems(r#"
[machines.a]
services = ["sleep 1", "FOO=1 exec /bin/sleep 2", ""]
ready = [{ timeout = "1s" }, { file = "x" }]
[machines.b]
services = { "a b" = "x", c = { user = "www-data" }, d = { run = "x", cwd = "y" } }
env = { "A-B" = "x", C = "\u0000" }
pass-env = ["1X"]
"#), @r#"
    error[duplicate]: two services are named `sleep` by their program
     --> testbed.toml:3:24
      |
    3 | services = ["sleep 1", "FOO=1 exec /bin/sleep 2", ""]
      |                        ^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write a table to name it yourself: services = { NAME = "…" }

    error[bad-value]: the command is empty
     --> testbed.toml:3:51
      |
    3 | services = ["sleep 1", "FOO=1 exec /bin/sleep 2", ""]
      |                                                   ^^

    error[missing-key]: `ready` has no condition
     --> testbed.toml:4:10
      |
    4 | ready = [{ timeout = "1s" }, { file = "x" }]
      |          ^^^^^^^^^^^^^^^^^^
      |
      = help: write ready = { port = 8080 }, or `log`, `file` or `command`

    error[bad-value]: `x` is not an absolute path
     --> testbed.toml:4:39
      |
    4 | ready = [{ timeout = "1s" }, { file = "x" }]
      |                                       ^^^

    error[bad-name]: `a b` cannot be the name of a service
     --> testbed.toml:6:14
      |
    6 | services = { "a b" = "x", c = { user = "www-data" }, d = { run = "x", cwd = "y" } }
      |              ^^^^^ letters, digits, `.`, `_` and `-`, at most 64

    error[missing-key]: the service `c` has no `run`
     --> testbed.toml:6:27
      |
    6 | services = { "a b" = "x", c = { user = "www-data" }, d = { run = "x", cwd = "y" } }
      |                           ^

    error[bad-value]: `y` is not an absolute path
     --> testbed.toml:6:77
      |
    6 | services = { "a b" = "x", c = { user = "www-data" }, d = { run = "x", cwd = "y" } }
      |                                                                             ^^^

    error[bad-name]: `A-B` cannot be the name of a variable
     --> testbed.toml:7:9
      |
    7 | env = { "A-B" = "x", C = "\u0000" }
      |         ^^^^^ letters, digits and `_`, not beginning with a digit

    error[bad-value]: a variable cannot hold a NUL character
     --> testbed.toml:7:26
      |
    7 | env = { "A-B" = "x", C = "\u0000" }
      |                          ^^^^^^^^

    error[bad-name]: `1X` cannot be the name of a variable
     --> testbed.toml:8:13
      |
    8 | pass-env = ["1X"]
      |             ^^^^ letters, digits and `_`, not beginning with a digit
    "#);
}

#[test]
fn a_testbed_has_machines() {
    assert_snapshot!(problems(r#"
networks.lan.subnet = "10.0.0.0/24"
"#), @"
    error[missing-key]: the testbed has no machines
     --> testbed.toml:1:1
      |
    1 |
      | ^
      |
      = help: write [machines.a] for one named `a`
    ");
}

#[test]
fn what_defaults_and_count_spread_is_told_once() {
    assert_snapshot!(problems(r#"
[defaults]
disk = "much"
image = "nowhere"
env = { "A B" = "x" }
[machines.a]
count = 3
[machines.b]
"#), @r#"
    error[bad-value]: `much` is not a size
     --> testbed.toml:3:8
      |
    3 | disk = "much"
      |        ^^^^^^
      |
      = help: a size is a number of bytes, or one with K, M, G or T (powers of 1024): "512M"

    error[unknown-name]: there is no image `nowhere`
     --> testbed.toml:4:9
      |
    4 | image = "nowhere"
      |         ^^^^^^^^^
      |
      = help: an image is one of [images], `host`, `debian:CODENAME`, or a path with a `/` in it

    error[bad-name]: `A B` cannot be the name of a variable
     --> testbed.toml:5:9
      |
    5 | env = { "A B" = "x" }
      |         ^^^^^ letters, digits and `_`, not beginning with a digit
    "#);
}

#[test]
fn problems_are_told_to_programs_too() {
    let text = "[machines.ä]\n[machines.b]\nhostname = \"b\"\n[machines.c]\nhostname = \"b\"\n";
    let (_, problems) = check(text, "testbed.toml", &files());
    assert_snapshot!(serde_json::to_string_pretty(&problems).unwrap(), @r#"
    {
      "version": 1,
      "problems": [
        {
          "severity": "error",
          "kind": "syntax",
          "message": "not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`",
          "path": "",
          "file": "testbed.toml",
          "line": 1,
          "column": 11,
          "end_line": 1,
          "end_column": 12,
          "source": "[machines.ä]"
        },
        {
          "severity": "error",
          "kind": "duplicate",
          "message": "`b` and `c` have the same host name",
          "path": "machines.c.hostname",
          "file": "testbed.toml",
          "line": 5,
          "column": 12,
          "end_line": 5,
          "end_column": 15,
          "source": "hostname = \"b\"",
          "related": [
            {
              "path": "machines.b.hostname",
              "file": "testbed.toml",
              "line": 3,
              "column": 12,
              "end_line": 3,
              "end_column": 15,
              "source": "hostname = \"b\"",
              "label": "the other one"
            }
          ]
        }
      ]
    }
    "#);
}

#[test]
fn what_a_file_says_cannot_drive_a_terminal() {
    let shown = problems("[machines.a]\nimage = \"\\u001b[2J\\u202e\"\n");
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
}
