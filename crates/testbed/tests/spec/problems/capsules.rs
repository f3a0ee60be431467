//! Testbeds whose machines are all in one.

use super::super::{problems, testbed};

/// The first lines of all problems, in their order.
fn messages(text: &str) -> Vec<String> {
    let all = problems(text);
    all.lines().filter_map(|line| Some(line.split_once("]: ")?.1.to_owned())).collect()
}

#[test]
fn what_cannot_be_in_one() {
    assert_eq!(
        messages(
            r#"
            capsule = { memory = "64M", cpus = 2 }
            images.disk.base = "disk.qcow2"
            [machines.own]
            image = "debian:bookworm"
            kernel = "own"
            [machines.image]
            image = "debian:bookworm"
            kernel = { own = "image" }
            [machines.booted]
            image = "debian:bookworm"
            init = "systemd"
            [machines.alone]
            image = "disk"
            agent = false
            [machines.plain]
            [machines.live]
            image = "debian:bookworm"
            mounts = { "/code" = "." }
            "#
        ),
        [
            "no capsule runs in 64M of memory",
            "a machine in a capsule has no kernel of its own",
            "a machine in a capsule has no kernel of its own",
            "a machine in a capsule boots no system",
            "a machine in a capsule has an agent",
            "the host's root cannot be in a capsule",
            "no folder of the host can be live in a capsule",
        ]
    );
}

#[test]
fn what_one_has() {
    let machine = "[machines.m]\nimage = \"debian:bookworm\"";
    let of = |text: &str| {
        testbed(&format!("{text}\n{machine}")).capsule().map(|c| (c.memory() >> 20, c.processors()))
    };
    assert_eq!(of(""), None);
    assert_eq!(of("capsule = false"), None);
    assert_eq!(of("capsule = true"), Some((512, 1)));
    assert_eq!(of("capsule = { memory = \"1G\" }"), Some((1024, 1)));
    assert_eq!(of("capsule = { cpus = 2 }"), Some((512, 2)));
}
