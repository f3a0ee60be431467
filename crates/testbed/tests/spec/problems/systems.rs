//! Machines without an agent.

use super::super::{problems, testbed};
use std::path::Path;
use testbed::spec::{Base, DiskFormat, GuestKernel, Init, Kernel};

/// The first lines of all problems, in their order.
fn messages(text: &str) -> Vec<String> {
    let all = problems(text);
    all.lines().filter_map(|line| Some(line.split_once("]: ")?.1.to_owned())).collect()
}

#[test]
fn what_an_agent_does_does_not_fit() {
    assert_eq!(
        messages(
            r#"
            images.disk.base = "disk.qcow2"
            [machines.a]
            image = "disk"
            agent = false
            kernel = "shared"
            services = ["daemon"]
            env = { A = "b" }
            files = { "/a" = { content = "" } }
            ports = { 80 = 80 }
            needs = ["vlan"]
            ready = [{ port = 80 }, { command = "true" }, { file = "/a" }, { log = "up" }]
            [[tests]]
            name = "t"
            run = "true"
            on = "a"
            "#
        ),
        [
            "a machine without an agent does not run on the host's kernel",
            "`services` does not fit a machine without an agent",
            "`env` does not fit a machine without an agent",
            "`files` does not fit a machine without an agent",
            "`ports` does not fit a machine without an agent",
            "`needs` does not fit a machine without an agent",
            "`port` does not fit a machine without an agent",
            "`command` does not fit a machine without an agent",
            "`file` does not fit a machine without an agent",
            "no test runs on `a`, which has no agent",
        ]
    );
}

#[test]
fn there_must_be_something_to_boot_from_and_nobody_else_boots_from_it() {
    assert_eq!(
        messages(
            r#"
            images.packed = { base = "disk.qcow2", packages = ["tcpdump"] }
            [machines]
            a = { agent = false }
            b = { agent = false, image = "debian:bookworm" }
            c = { agent = false, cdrom = "tests" }
            d = { image = "disk.img" }
            e = { cdrom = "cd.iso" }
            f = { agent = false, image = "no.qcow2" }
            "#
        ),
        [
            "`packages` does not fit an image that is a disk",
            "the machine has nothing to boot from",
            "`debian:bookworm` is not a disk that a system could boot from",
            "`tests` is a folder",
            "there is no agent on the disk `disk.img`",
            "`cdrom` does not fit a machine with an agent",
            "there is no file or folder `no.qcow2`",
        ]
    );
}

#[test]
fn a_name_says_how_a_disk_is_there() {
    let testbed = testbed(
        r#"
        [defaults]
        env = { A = "b" }
        gateway = "10.0.0.1"
        ready = { port = 80 }
        [networks]
        lan = { subnet = "10.0.0.0/24", uplink = true }
        [machines]
        a = { agent = false, image = "disk.qcow2", interfaces = { lan = {} } }
        b = { agent = false, image = "./disk.img" }
        c = { agent = false, cdrom = "cd.iso" }
        "#,
    );
    let base = |name: &str| testbed.image(testbed.machine(name).unwrap().image()).unwrap().base();
    assert_eq!(*base("a"), Base::Disk("/bed/disk.qcow2".into(), DiskFormat::Qcow2));
    assert_eq!(*base("b"), Base::Disk("/bed/disk.img".into(), DiskFormat::Raw));
    assert_eq!(*base("c"), Base::Blank);
    let c = testbed.machine("c").unwrap();
    assert_eq!((c.cdrom(), c.kernel(), c.has_agent()), (Some(Path::new("/bed/cd.iso")), Kernel::Own, false));
    // What holds for every machine holds for those that it can hold for.
    let a = testbed.machine("a").unwrap();
    assert!(a.env().is_empty() && a.gateways().is_empty() && a.ready().is_empty(), "{a:?}");
    assert!(testbed.hosts_file().contains("10.0.0.2 a a.lan"), "{}", testbed.hosts_file());
}

#[test]
fn a_kernel_of_its_own_may_be_another() {
    let testbed = testbed(
        r#"
        [defaults]
        image = "debian:bookworm"
        [machines]
        a = { kernel = { own = "image" } }
        b = { kernel = { own = "./cd.iso", modules = "tests" } }
        c = { kernel = "own" }
        d = { init = "systemd" }
        "#,
    );
    assert_eq!(testbed.machine("d").unwrap().init(), Init::Systemd);
    let kernel = |name: &str| testbed.machine(name).unwrap().guest_kernel();
    assert!(testbed.machines().iter().all(|machine| machine.kernel() == Kernel::Own));
    assert_eq!(*kernel("a"), GuestKernel::OfImage);
    let file = GuestKernel::File { path: "/bed/./cd.iso".into(), modules: Some("/bed/tests".into()) };
    assert_eq!(*kernel("b"), file);
    assert_eq!(*kernel("c"), GuestKernel::Ours);
    assert_eq!(
        messages(
            r#"
            [machines]
            a = { image = "debian:bookworm", kernel = { modules = "tests" } }
            b = { image = "debian:bookworm", kernel = { own = "image", modules = "tests" } }
            c = { image = "debian:bookworm", kernel = { own = "tests", modules = "cd.iso" } }
            d = { kernel = { own = "image" } }
            e = { agent = false, image = "disk.img", kernel = { own = "image" } }
            f = { agent = false, image = "disk.img", init = "systemd" }
            g = { image = "debian:bookworm", kernel = "shared", init = "systemd" }
            "#
        ),
        [
            "`kernel` does not say which",
            "`modules` does not fit the image's kernel",
            "`tests` is a folder",
            "`cd.iso` is no folder",
            "the host's root cannot run on a kernel of its own",
            "a machine without an agent has the kernel that is on its disk",
            "`init` does not fit a machine without an agent",
            "`init` does not fit a machine on the host's kernel",
        ]
    );
}
