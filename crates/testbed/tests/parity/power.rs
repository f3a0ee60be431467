//! start, stop, reset, suspend, pause, and what is told of it.

use crate::{HELLO, SOON, TWO, reaches, up};
use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;
use testbed::FaultKind;
use testbed::bed::Ending;
use testbed::machine::Condition;
use testbed_agent::agent::Process;

#[test]
fn stop_and_start_keep_the_disk() {
    let bed = up(TWO);
    for ending in [Ending::Soft, Ending::Hard] {
        bed["a"].succeed("echo x >>/root/kept; echo x >/run/lost").unwrap();
        bed.stop("a", ending).unwrap();
        assert_eq!(bed["a"].condition(), Condition::Stopped);
        bed.start("a").unwrap();
        assert!(!bed["a"].exists("/run/lost").unwrap());
    }
    assert_eq!(bed["a"].succeed("cat /root/kept").unwrap(), "x\nx\n");
    assert!(reaches(&bed, "a", "10.1.0.2"));
}

#[test]
fn reset_is_a_new_start() {
    let bed = up(TWO);
    for ending in [Ending::Soft, Ending::Hard] {
        let (_running, _pipes) = bed["a"].command(["sleep", "71.07"]).spawn().unwrap();
        bed.restart("a", ending).unwrap();
        assert!(!bed["a"].processes().unwrap().iter().any(|process| process.command.contains("71.07")));
    }
}

#[test]
fn pause_and_unpause_stop_programs_where_they_are() {
    let bed = up(HELLO);
    let begun = bed["a"].processes().unwrap();
    bed["a"].pause().unwrap();
    assert_eq!(bed["a"].condition(), Condition::Paused);
    let mut stream = TcpStream::from(bed.connect("a", 7, SOON).unwrap());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut text = String::new();
    assert!(stream.read_to_string(&mut text).is_err(), "the kernel connects, and no program answers: {text}");
    bed["a"].resume().unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), bed["a"].condition()), ("hello", Condition::Running));
    let pids = |all: Vec<Process>| all.into_iter().map(|process| process.pid).collect::<Vec<_>>();
    assert_eq!(pids(bed["a"].processes().unwrap()), pids(begun));
}

#[test]
fn wrong_states_are_errors_of_their_own_kind() {
    let bed = up(TWO);
    let kind = |result: Result<(), testbed::Fault>| {
        let fault = result.unwrap_err();
        assert_eq!(fault.machine.as_deref(), Some("a"), "{fault}");
        fault.kind
    };
    assert_eq!(kind(bed.start("a")), FaultKind::State, "start when on");
    assert_eq!(kind(bed["a"].resume()), FaultKind::State, "resume when running");
    bed["a"].pause().unwrap();
    assert_eq!(kind(bed["a"].pause()), FaultKind::State, "pause when paused");
    bed["a"].resume().unwrap();
    bed.stop("a", Ending::Hard).unwrap();
    assert_eq!(kind(bed.stop("a", Ending::Soft)), FaultKind::State, "stop when off");
    assert_eq!(kind(bed["a"].pause()), FaultKind::State, "pause when off");
    assert_eq!(kind(bed["a"].shell("true").status().map(drop)), FaultKind::State, "run when off");
    assert_eq!(kind(bed["a"].processes().map(drop)), FaultKind::State, "list when off");
    assert_eq!(bed.stop("c", Ending::Soft).unwrap_err().kind, FaultKind::NotFound, "no such machine");
}

#[test]
fn tools_state_is_known_and_waited_for() {
    let bed = up(TWO);
    assert_eq!(bed["a"].condition(), Condition::Running);
    bed["a"].wait_started(SOON).unwrap();
    bed.stop("a", Ending::Hard).unwrap();
    assert!(bed["a"].wait_started(SOON).is_err(), "nobody waits for what has ended");
    bed.start("a").unwrap();
    bed["a"].wait_started(SOON).unwrap();
}

#[test]
fn delete_leaves_nothing() {
    let bed = up(TWO);
    let pids: Vec<u32> = bed.machines().map(|machine| machine.pid().unwrap()).collect();
    bed["b"].pause().unwrap();
    bed.kill(SOON).unwrap();
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
    assert_eq!(bed["a"].condition(), Condition::Stopped);
}
