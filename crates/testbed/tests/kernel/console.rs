//! What is written and typed on consoles of machines with kernels of their own.

use super::{SOON, up};
use std::time::{Duration, Instant};
use testbed::bed::Ending;
use testbed::machine::{Console, Running};
use testbed::{Bed, FaultKind, spec};

/// Waits until the console has said something.
fn says(console: &Console, text: &str) {
    let (log, end, mut from) = (console.log(), Instant::now() + SOON, 0);
    while !log.tail(1 << 16).contains(text) {
        assert!(Instant::now() < end, "{text:?} in {:?}", log.tail(1 << 16));
        (_, from) = log.follow(from, Some(end)).unwrap();
    }
}

/// Has a program of the machine answer the next line that is typed on its console.
fn reader(bed: &Bed, name: &str) -> Running {
    let script = format!("exec < /dev/ttyS0 > /dev/ttyS0; echo {name} listens; read line; echo heard $line");
    let running = bed["vm"].shell(script).start().unwrap();
    says(&bed["vm"].console().unwrap(), &format!("{name} listens"));
    running
}

#[test]
fn what_is_typed_reaches_who_reads_it_and_what_is_said_is_kept() {
    let bed = up("alone");
    let vm = &bed["vm"];
    let console = vm.console().unwrap();
    let _first = reader(&bed, "first");
    console.write(b"one\n", SOON).unwrap();
    says(&console, "heard one");

    // The same, behind a snapshot that it goes back to, and behind a new start.
    let _second = reader(&bed, "second");
    bed.snapshot("reads", &[]).unwrap();
    bed.rollback("reads", &[]).unwrap();
    console.write(b"two\n", SOON).unwrap();
    says(&console, "heard two");
    bed.restart("vm", Ending::Hard).unwrap();
    let _third = reader(&bed, "third");
    console.write(b"three\n", SOON).unwrap();
    says(&console, "heard three");
    let all = bed.service_log("vm", testbed::bed::CONSOLE).unwrap().tail(1 << 16);
    for said in ["heard one", "heard two", "heard three"] {
        assert!(all.contains(said), "{said:?} in {all:?}");
    }
    let lines = console.log().last_lines(1);
    let last = console.log().follow(lines, None).unwrap().0;
    assert_eq!(String::from_utf8_lossy(&last).trim_end(), "heard three");

    // Nobody reads: what is typed waits, as far as there is room.
    let fault = console.write(&[b'x'; 4 << 20], Duration::from_millis(50)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Timeout, "{fault}");
    bed.stop("vm", Ending::Hard).unwrap();
    assert_eq!(console.write(b"four\n", SOON).unwrap_err().kind, FaultKind::State);
    assert_eq!(bed.console("vm").unwrap_err().kind, FaultKind::State);
}

#[test]
fn there_is_none_with_the_hosts_kernel() {
    let (testbed, problems) = spec::check("[machines.m]", "testbed.toml", &spec::FixedFiles::new("/"));
    let bed = testbed.unwrap_or_else(|| panic!("{problems}")).up().unwrap();
    let fault = bed.console("m").unwrap_err();
    assert_eq!((fault.kind, fault.machine.as_deref()), (FaultKind::Unsupported, Some("m")), "{fault}");
    assert!(fault.hint.unwrap().contains("testbed shell m"));
}
