//! Machines with kernels of their own that stop, start, are copied and go back.

use super::{SOON, answered, up};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testbed::bed::{Ending, SnapshotStatus};
use testbed::machine::Condition;
use testbed::{Bed, FaultKind};

/// How far the service has counted, as its machine knows it.
fn count(bed: &Bed) -> u32 {
    bed["vm"].succeed("cat /run/count").unwrap().trim().parse().unwrap()
}

/// Waits until the service has counted further, and its log says so.
fn counts_on(bed: &Bed) {
    let next = count(bed) + 5;
    bed["vm"].succeed(&format!("until [ $(cat /run/count) -ge {next} ]; do sleep 0.02; done")).unwrap();
    let log = bed.service_log("vm", "counter").unwrap().tail(4096);
    assert!(log.lines().any(|line| line == (next - 1).to_string()), "{next} in {log:?}");
}

fn pid_of_service(bed: &Bed) -> u32 {
    let all = bed["vm"].processes().unwrap();
    all.iter().find(|process| process.command.contains("/run/new")).expect("the service runs").pid
}

/// How much the clock of the machine is away from that of the host at least, in seconds.
fn clock_is_off(bed: &Bed) -> f64 {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let before = now();
    let its: f64 = bed["vm"].succeed("date +%s.%N").unwrap().trim().parse().unwrap();
    (before - its).max(its - now()).max(0.0)
}

fn uptime(bed: &Bed) -> f64 {
    let text = bed["vm"].succeed("cut -d' ' -f1 /proc/uptime").unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn a_snapshot_of_one_that_runs_holds_its_memory_and_its_disk() {
    let bed = up("states");
    let vm = &bed["vm"];
    vm.succeed("echo then > /root/disk; echo then > /dev/shm/memory").unwrap();
    let (then, pid, since) = (count(&bed), pid_of_service(&bed), uptime(&bed));
    bed.snapshot("then", &[]).unwrap();
    counts_on(&bed);
    vm.succeed("echo now > /root/disk; echo now > /dev/shm/memory; sync").unwrap();
    bed["plain"].write_file("/root/disk", 0o600, b"now").unwrap();
    bed.cut("vm", None).unwrap();
    bed.snapshot("now", &["vm"]).unwrap();

    // Back to where it was, with all that ran there.
    bed.rollback("then", &[]).unwrap();
    assert_eq!(vm.succeed("cat /root/disk /dev/shm/memory").unwrap(), "then\nthen\n");
    assert_eq!(pid_of_service(&bed), pid);
    let began = count(&bed);
    assert!((then..then + 400).contains(&began), "it goes on from {then}, not from {began}");
    counts_on(&bed);
    assert!(bed.services().iter().all(|service| service.ended.is_none() && service.fault.is_none()));
    assert!(clock_is_off(&bed) < 0.5, "{}", clock_is_off(&bed));
    let passed = uptime(&bed) - since;
    assert!((0.0..60.0).contains(&passed), "its kernel has lived {passed} s since");
    assert_eq!(answered(&bed, "plain", "10.0.0.2", 8), 3);
    assert!(bed["plain"].stat("/root/disk").is_err());

    // Another branch of it, beside it: the same machine, but for what nobody must share.
    let fork = bed.fork(Some("now")).unwrap();
    assert_eq!(fork["vm"].succeed("cat /root/disk /dev/shm/memory").unwrap(), "now\nnow\n");
    counts_on(&fork);
    counts_on(&bed);
    let random = |bed: &Bed| {
        let numbers = "cat /proc/sys/kernel/random/uuid; od -An -N16 -tx1 /dev/urandom";
        bed["vm"].succeed(numbers).unwrap()
    };
    let all = [random(&fork), random(&bed), random(&bed.fork(Some("now")).unwrap())];
    assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2], "{all:?}");
    // The cut is part of the snapshot.
    fork.heal("vm", None).unwrap();
    assert_eq!(answered(&fork, "plain", "10.0.0.2", 8), 3);

    // What a copy of a copy is like, now.
    fork["vm"].succeed("echo deep > /root/disk").unwrap();
    let deep = fork.fork(None).unwrap();
    assert_eq!(deep["vm"].succeed("cat /root/disk").unwrap(), "deep\n");
    counts_on(&deep);

    let tree: Vec<_> = bed.snapshots();
    let parents: Vec<_> = tree
        .iter()
        .map(|SnapshotStatus { name, parent, current, .. }| (name.as_str(), parent.as_deref(), *current))
        .collect();
    assert_eq!(parents, [("then", None, true), ("now", Some("then"), false)]);
    for (kind, result) in [
        (FaultKind::NotFound, bed.rollback("never", &[])),
        (FaultKind::Exists, bed.snapshot("now", &[])),
        (FaultKind::NotFound, bed.rollback("now", &["plain"])),
        (FaultKind::State, bed.delete_snapshot("then", false)),
    ] {
        assert_eq!(result.unwrap_err().kind, kind);
    }
    bed.delete_snapshot("then", true).unwrap();
    assert!(bed.snapshots().is_empty());
    counts_on(&fork);
}

#[test]
fn streams_do_not_notice_that_their_machine_is_copied() {
    let bed = up("states");
    let vm = &bed["vm"];
    // More than all that may be under way, both ways, so that every copy is taken in the midst of it.
    let sent: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| vm.command(["cat"]).input(sent.clone()).output().unwrap());
        let mut copies = 0;
        while !echo.is_finished() {
            bed.snapshot(&format!("s{copies}"), &["vm"]).unwrap();
            copies += 1;
        }
        let back = echo.join().unwrap().stdout;
        assert!(back == sent, "{} of {} bytes came back after {copies} copies", back.len(), sent.len());
        assert!(copies > 1);
    });
    // In a copy nobody reads what the program writes there, and nothing stands still for that.
    bed.rollback("s0", &["vm"]).unwrap();
    counts_on(&bed);
    vm.succeed("while pidof cat; do sleep 0.05; done").unwrap();
}

#[test]
fn it_keeps_its_files_when_it_starts_again() {
    let bed = up("states");
    let vm = &bed["vm"];
    vm.succeed("echo kept > /root/kept; rm /etc/motd; echo gone > /dev/shm/gone").unwrap();
    bed.restart("vm", Ending::Soft).unwrap();
    assert_eq!(vm.succeed("cat /root/kept; ls /etc/motd /dev/shm/gone 2>&1 | wc -l").unwrap(), "kept\n2\n");
    counts_on(&bed);
    assert_eq!(answered(&bed, "plain", "10.0.0.2", 8), 3);

    // As if its power was cut: what was written to the disk is there.
    vm.succeed("echo synced > /root/synced; sync").unwrap();
    bed.stop("vm", Ending::Hard).unwrap();
    assert_eq!(vm.condition(), Condition::Stopped);
    bed.snapshot("off", &["vm"]).unwrap();
    bed.start("vm").unwrap();
    assert_eq!(vm.succeed("cat /root/synced").unwrap(), "synced\n");
    vm.succeed("rm /root/kept /root/synced").unwrap();
    bed.rollback("off", &["vm"]).unwrap();
    assert_eq!(vm.succeed("cat /root/kept /root/synced").unwrap(), "kept\nsynced\n");
    counts_on(&bed);

    for (what, fault) in [
        ("start", bed.start("vm").unwrap_err()),
        ("resume", vm.resume().unwrap_err()),
        ("changes", bed.changes("vm").unwrap_err()),
    ] {
        assert!(matches!(fault.kind, FaultKind::State | FaultKind::Unsupported), "{what}: {fault:?}");
        assert_eq!(fault.machine.as_deref(), Some("vm"));
    }
    bed.stop("vm", Ending::Soft).unwrap();
    let fault = bed.stop("vm", Ending::Hard).unwrap_err();
    assert_eq!(fault.kind, FaultKind::State);
    assert_eq!(vm.shell("true").output().unwrap_err().kind, FaultKind::State);
}

#[test]
fn a_pause_does_not_count_inside_but_on_the_clock() {
    let bed = up("states");
    let (vm, before) = (&bed["vm"], uptime(&bed));
    vm.pause().unwrap();
    assert_eq!((vm.condition(), vm.pause().unwrap_err().kind), (Condition::Paused, FaultKind::State));
    let paused = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    // A machine that is paused can be copied too; the copy runs.
    let fork = bed.fork(None).unwrap();
    assert_eq!((fork["vm"].condition(), vm.condition()), (Condition::Running, Condition::Paused));
    counts_on(&fork);
    drop(fork);
    let stood = paused.elapsed().as_secs_f64();
    vm.resume().unwrap();
    assert!(clock_is_off(&bed) < 0.5, "{}", clock_is_off(&bed));
    let lived = uptime(&bed) - before;
    assert!(lived < stood, "{lived} s, and it stood for {stood} s");
    counts_on(&bed);
    vm.wait_for_file("/run/count", SOON).unwrap();
}
