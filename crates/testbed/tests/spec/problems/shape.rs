//! Keys, types and values.

use crate::problems;
use insta::assert_snapshot;

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
      = help: `[machines.NAME]` has the keys `image`, `kernel`, `screen`, `interfaces`, `gateway`, `routes`, `router`, `hostname`, `files`, `mounts`, `env`, `pass-env`, `services`, `ready`, `depends`, `limits`, `disk`, `needs`, `sysctls`, `ports`, `control`, `init`, `agent`, `cdrom`, `count`

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
