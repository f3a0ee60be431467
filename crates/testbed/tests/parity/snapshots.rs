//! Snapshots with their tree, and clones.

use crate::{SOON, TWO, reaches, up};
use testbed::FaultKind;
use testbed::bed::{Bed, Ending};
use testbed::machine::Condition;

fn content(bed: &Bed, machine: &str) -> String {
    bed[machine].succeed("cat /root/f").unwrap()
}

fn put(bed: &Bed, machine: &str, text: &str) {
    bed[machine].write_file("/root/f", 0o644, text.as_bytes()).unwrap();
}

/// Name and parent of each.
fn tree(bed: &Bed) -> Vec<(String, Option<String>)> {
    bed.snapshots().into_iter().map(|its| (its.name, its.parent)).collect()
}

#[test]
fn a_snapshot_is_gone_back_to_whatever_the_state() {
    let bed = up(TWO);
    put(&bed, "a", "then");
    bed.snapshot("s", &[]).unwrap();
    for state in [Condition::Running, Condition::Paused, Condition::Stopped] {
        put(&bed, "a", "later");
        match state {
            Condition::Paused => bed["a"].pause().unwrap(),
            Condition::Stopped => bed.stop("a", Ending::Hard).unwrap(),
            _ => {}
        }
        bed.rollback("s", &["a"]).unwrap();
        assert_eq!(
            bed["a"].condition(),
            Condition::Running,
            "ready again, with nothing to wait for: {state:?}"
        );
        assert_eq!(content(&bed, "a"), "then");
    }
    assert!(reaches(&bed, "a", "10.1.0.2"));
}

#[test]
fn going_back_ends_what_ran_and_its_sessions() {
    let bed = up(TWO);
    bed.snapshot("s", &[]).unwrap();
    let (mut running, _pipes) = bed["a"].command(["sleep", "72.07"]).spawn().unwrap();
    bed.rollback("s", &[]).unwrap();
    let fault = running.wait(Some(SOON)).unwrap_err();
    assert_eq!((fault.kind, fault.machine.as_deref()), (FaultKind::State, Some("a")), "{fault}");
    assert!(!bed["a"].processes().unwrap().iter().any(|process| process.command.contains("72.07")));
}

#[test]
fn snapshots_branch_from_where_one_stands() {
    let bed = up(TWO);
    bed.snapshot("root", &[]).unwrap();
    bed.snapshot("left", &[]).unwrap();
    bed.rollback("root", &[]).unwrap();
    bed.snapshot("right", &[]).unwrap();
    let child = |name: &str| (name.to_owned(), Some("root".to_owned()));
    assert_eq!(tree(&bed), [("root".into(), None), child("left"), child("right")]);
    let current: Vec<_> = bed.snapshots().into_iter().filter(|its| its.current).map(|its| its.name).collect();
    assert_eq!(current, ["right"]);
}

#[test]
fn names_of_snapshots_are_unique() {
    let bed = up(TWO);
    bed.snapshot("s", &[]).unwrap();
    assert_eq!(bed.snapshot("s", &[]).unwrap_err().kind, FaultKind::Exists);
    assert_eq!(bed.snapshot("s", &["b"]).unwrap_err().kind, FaultKind::Exists);
    let unknown = bed.rollback("t", &[]).unwrap_err();
    assert_eq!((unknown.kind, unknown.hint.as_deref()), (FaultKind::NotFound, Some("there are: s")));
    assert_eq!(bed.delete_snapshot("t", false).unwrap_err().kind, FaultKind::NotFound);
    assert_eq!(bed.fork(Some("t")).map(drop).unwrap_err().kind, FaultKind::NotFound);
    assert_eq!(tree(&bed).len(), 1, "what failed left nothing");
}

#[test]
fn deleting_a_snapshot_spares_or_takes_its_children() {
    let bed = up(TWO);
    for name in ["one", "two", "three"] {
        put(&bed, "a", name);
        bed.snapshot(name, &[]).unwrap();
    }
    let middle = bed.delete_snapshot("two", false).unwrap_err();
    assert!(middle.kind == FaultKind::State && middle.operation.contains("three"), "{middle}");
    bed.rollback("three", &[]).unwrap();
    bed.delete_snapshot("two", true).unwrap();
    assert_eq!(tree(&bed), [("one".into(), None)]);
    assert_eq!(content(&bed, "a"), "three", "what stands on it goes on");
}

#[test]
fn five_clones_at_once_do_not_touch_their_origin() {
    let bed = up(TWO);
    put(&bed, "a", "origin");
    bed.snapshot("base", &[]).unwrap();
    let forks: Vec<Bed> = std::thread::scope(|scope| {
        let begun: Vec<_> = (0..5).map(|_| scope.spawn(|| bed.fork(Some("base")).unwrap())).collect();
        begun.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (fork, n) in forks.iter().zip(0..) {
        assert_eq!(content(fork, "a"), "origin");
        put(fork, "a", &format!("clone {n}"));
        assert!(reaches(fork, "a", "10.1.0.2"));
    }
    assert_eq!(content(&bed, "a"), "origin");
    for (fork, n) in forks.iter().zip(0..) {
        assert_eq!(content(fork, "a"), format!("clone {n}"));
    }
    assert_eq!(content(&forks[0].fork(None).unwrap(), "a"), "clone 0", "a clone of a clone");
}

#[test]
fn a_clone_needs_neither_its_origin_nor_its_snapshot() {
    let bed = up(TWO);
    put(&bed, "a", "origin");
    bed.snapshot("base", &[]).unwrap();
    let fork = bed.fork(Some("base")).unwrap();
    bed.delete_snapshot("base", false).unwrap();
    assert_eq!(content(&fork, "a"), "origin");
    bed.kill(SOON).unwrap();
    drop(bed);
    assert_eq!(content(&fork, "a"), "origin");
    fork.restart("a", Ending::Hard).unwrap();
    assert_eq!(content(&fork, "a"), "origin");
}
