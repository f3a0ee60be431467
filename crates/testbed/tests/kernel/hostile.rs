//! Machines with kernels of their own whose root does what it likes.

use super::{SOON, up};
use std::time::{Duration, Instant};
use testbed::FaultKind;
use testbed::machine::Condition;

/// Takes what process 1 speaks to its keeper by, and writes to it (pidfd_open(2), pidfd_getfd(2)).
const GARBAGE: &str = r#"
    opendir(my $all, '/proc/1/fd') or die;
    my ($port) = grep { (readlink("/proc/1/fd/$_") // '') =~ m{/dev/vport} } readdir $all;
    my $process = syscall(434, 1, 0);
    my $taken = syscall(438, $process, $port + 0, 0);
    die "$!" if $taken < 0;
    open(my $out, '>&=', $taken) or die;
    syswrite($out, "\xff" x 4096) while 1;
"#;

#[test]
fn garbage_from_an_agent_is_one_fault() {
    let bed = up("alone");
    let vm = &bed["vm"];
    let fault = vm.command(["perl", "-e", GARBAGE]).output().unwrap_err();
    assert_eq!((fault.kind, fault.machine.as_deref()), (FaultKind::Protocol, Some("vm")), "{fault:?}");
    vm.wait_ended(SOON).unwrap();
    assert_eq!(vm.condition(), Condition::Stopped);
    // Whoever asks later hears the same, at once.
    let asked = Instant::now();
    assert!(vm.shell("true").output().is_err() && asked.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_kernel_that_stalls_is_one_fault() {
    let bed = up("alone");
    let vm = &bed["vm"];
    let stall =
        "cd /sys/fs/cgroup && mkdir still && echo 1 > still/cgroup.procs && echo 1 > still/cgroup.freeze";
    let (_stalling, _pipes) = vm.shell(stall).spawn().unwrap();
    let end = Instant::now() + SOON;
    let fault = loop {
        match vm.shell("true").deadline(Duration::from_millis(500)).output() {
            Ok(_) => assert!(Instant::now() < end, "it does not stall"),
            Err(fault) => break fault,
        }
    };
    assert_eq!((fault.kind, fault.machine.as_deref()), (FaultKind::Timeout, Some("vm")), "{fault:?}");
    // It can be paused and ended all the same, but not be copied.
    vm.pause().unwrap();
    let fault = bed.snapshot("stalled", &[]).unwrap_err();
    assert_eq!((fault.kind, fault.machine.as_deref()), (FaultKind::State, Some("vm")), "{fault:?}");
    vm.resume().unwrap();
    vm.kill(SOON).unwrap();
}
