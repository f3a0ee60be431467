//! Systems that boot by themselves, and have no agent.

use crate::screen::Picture;
use crate::{SOON, answered, testbed};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use testbed::bed::{CONSOLE, Ending};
use testbed::machine::Condition;
use testbed::spec::{HostFiles, check};
use testbed::{Bed, FaultKind, Testbed};

/// A folder with a small system in three forms, made once.
struct Forms(PathBuf);

impl Forms {
    fn made() -> &'static Forms {
        static FORMS: OnceLock<Forms> = OnceLock::new();
        FORMS.get_or_init(|| {
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("systems");
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            let maker = testbed("systems")
                .up()
                .unwrap_or_else(|fault| panic!("{fault}\n{}", fault.log.clone().unwrap_or_default()));
            for name in ["system.iso", "system.raw", "system.qcow2"] {
                let content = maker["maker"].read_file(&format!("/srv/{name}")).unwrap();
                std::fs::write(folder.join(name), content).unwrap();
            }
            // As a guest that may write to its disk could have left it.
            std::fs::copy(folder.join("system.qcow2"), folder.join("mean.raw")).unwrap();
            Forms(folder)
        })
    }

    fn testbed(&self, text: &str) -> Testbed {
        let (testbed, problems) = check(text, "testbed.toml", &HostFiles::new(&self.0).unwrap());
        testbed.unwrap_or_else(|| panic!("{problems}"))
    }
}

fn up(text: &str) -> Bed {
    Forms::made()
        .testbed(text)
        .up()
        .unwrap_or_else(|fault| panic!("{fault}\n{}", fault.log.clone().unwrap_or_default()))
}

/// Waits until the console has said this.
fn hears(bed: &Bed, machine: &str, text: &str) {
    let console = bed.service_log(machine, CONSOLE).unwrap();
    assert!(console.wait_for(text, Instant::now() + SOON), "{text:?} in {}", console.tail(2000));
}

/// The last of what its console has counted in memory.
fn ticks(bed: &Bed, machine: &str) -> u32 {
    let console = bed.service_log(machine, CONSOLE).unwrap().tail(2000);
    let last = console.lines().rev().find_map(|line| line.trim_end().rsplit_once(" tick ")?.1.parse().ok());
    last.unwrap_or_else(|| panic!("{console}"))
}

#[test]
fn a_disk_boots_and_lives_like_any_machine() {
    let bed = up(r#"
        networks.lan.subnet = "10.0.0.0/24"
        [machines.box]
        image = "./system.qcow2"
        agent = false
        interfaces = { lan = "10.0.0.9" }
        ready = { log = "system is up" }
        [machines.peer]
        interfaces = { lan = "10.0.0.1" }
    "#);
    let vm = &bed["box"];
    hears(&bed, "box", "system is up, start 1");
    assert_eq!(vm.condition(), Condition::Running);
    assert_eq!(answered(&bed, "peer", "10.0.0.9", 8), 3);
    assert_eq!(bed["peer"].succeed("getent hosts box").unwrap().split_whitespace().next(), Some("10.0.0.9"));

    for fault in [
        vm.shell("true").output().unwrap_err(),
        vm.read_file("/etc/motd").unwrap_err(),
        vm.processes().unwrap_err(),
        bed.connect("box", 80, SOON).unwrap_err(),
    ] {
        assert_eq!((fault.kind, fault.machine.as_deref()), (FaultKind::Unsupported, Some("box")), "{fault}");
        assert!(fault.hint.as_deref().is_some_and(|hint| hint.contains("`agent = false`")), "{fault:?}");
    }

    hears(&bed, "box", "tick 2");
    vm.pause().unwrap();
    assert_eq!(vm.condition(), Condition::Paused);
    let before = ticks(&bed, "box");
    vm.resume().unwrap();
    hears(&bed, "box", &format!("tick {}", before + 3));

    // Memory and all: it goes on counting, and does not start.
    bed.snapshot("warm", &[]).unwrap();
    let at = ticks(&bed, "box");
    hears(&bed, "box", &format!("tick {}", at + 20));
    bed.rollback("warm", &[]).unwrap();
    // A whole line, so that none from before is taken for the last.
    hears(&bed, "box", "\r\nstart 1 tick ");
    let after = ticks(&bed, "box");
    assert!((at..at + 15).contains(&after), "{at}, then {after}");
    let fork = bed.fork(Some("warm")).unwrap();
    hears(&fork, "box", "start 1 tick ");
    assert_eq!(answered(&fork, "peer", "10.0.0.9", 8), 3);
    drop(fork);

    // It hears its power button, and finds its disk as it left it.
    let began = Instant::now();
    bed.stop("box", Ending::Soft).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(
        vm.console().unwrap().log().tail(500).contains("button pressed"),
        "{}",
        vm.console().unwrap().log().tail(500)
    );
    assert_eq!(vm.condition(), Condition::Stopped);
    bed.start("box").unwrap();
    hears(&bed, "box", "system is up, start 2");
    bed.restart("box", Ending::Hard).unwrap();
    hears(&bed, "box", "system is up, start 3");
    vm.kill(SOON).unwrap();
}

#[test]
fn a_cd_boots_before_an_empty_disk_and_raw_disks_are_never_taken_for_others() {
    let bed = up(r#"
        [defaults]
        agent = false
        disk = "64M"
        ready = { log = "system is up, start 1" }
        [machines.cd]
        cdrom = "system.iso"
        screen = true
        [machines.raw]
        image = "system.raw"
    "#);
    // Its boot loader writes on the screen, and its program ends with the first key.
    let text = Picture::decode(&bed["cd"].screenshot().unwrap());
    assert!((10..500).contains(&(1000 - text.share([0; 3]))), "{}", text.share([0; 3]));
    bed["cd"].type_text("x").unwrap();
    hears(&bed, "cd", "button pressed");
    assert_eq!(bed["raw"].screenshot().unwrap_err().kind, FaultKind::Unsupported);
    // Each copy writes to a disk of its own.
    drop(bed);
    let bed = up(r#"
        [machines.raw]
        image = "system.raw"
        agent = false
        ready = { log = "system is up, start 1" }
    "#);
    drop(bed);

    let mean = "machines.m = { image = \"mean.raw\", agent = false }";
    let fault = Forms::made().testbed(mean).up().err().unwrap();
    assert_eq!((fault.kind, fault.machine.as_deref()), (FaultKind::Image, Some("m")), "{fault}");
    assert!(fault.to_string().contains("as if it was there byte by byte"), "{fault}");
}
