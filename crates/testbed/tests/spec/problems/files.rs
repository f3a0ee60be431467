//! Files of the host, places in a machine, images.

use crate::problems;
use insta::assert_snapshot;

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
      = help: did you mean `vpn`? an image is one of [images], one that was imported, `host`, `debian:CODENAME`, or a path with a `/` in it; declared: `vpn`, `other` and `host`

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
      = help: an image is one of [images], one that was imported, `host`, `debian:CODENAME`, or a path with a `/` in it; declared: `vpn`, `other` and `host`

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
