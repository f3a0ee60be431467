//! What is to be run, where, and after what.

use crate::problems;
use insta::assert_snapshot;

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
