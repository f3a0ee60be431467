//! Names, keys that fit each other, services, ports.

use crate::problems;
use insta::assert_snapshot;

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
fn a_screen_needs_a_kernel_of_its_own() {
    assert_snapshot!(problems(r#"
[machines.a]
screen = true
[machines.b]
image = "debian:sid"
kernel = "shared"
screen = true
[machines.c]
image = "debian:sid"
screen = true
sysctls = { "vm.swappiness" = 1 }
[machines.d]
image = "debian:sid"
screen = "yes"
"#), @r#"
    error[misfit]: the host's root cannot run on a kernel of its own, which a screen needs
     --> testbed.toml:3:10
      |
    3 | screen = true
      |          ^^^^
      |
      = help: give the machine another image, for example `debian:bookworm`

    error[misfit]: a machine with the host's kernel has no screen
     --> testbed.toml:7:10
      |
    6 | kernel = "shared"
      |          -------- this asks for the host's kernel
    7 | screen = true
      |          ^^^^
      |
      = help: write `kernel = "own"`, or leave it away

    error[wrong-type]: expected true or false, found text
      --> testbed.toml:14:10
       |
    14 | screen = "yes"
       |          ^^^^^
    "#);
}

#[test]
fn a_capsule_has_no_screens() {
    let text = problems("capsule = true\n[machines.a]\nimage = \"debian:sid\"\nscreen = true\n");
    assert!(text.contains("error[misfit]: a machine in a capsule has no screen"), "{text}");
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
      = help: an image is one of [images], one that was imported, `host`, `debian:CODENAME`, or a path with a `/` in it

    error[bad-name]: `A B` cannot be the name of a variable
     --> testbed.toml:5:9
      |
    5 | env = { "A B" = "x" }
      |         ^^^^^ letters, digits and `_`, not beginning with a digit
    "#);
}
