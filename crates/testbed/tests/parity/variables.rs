//! Variables: the mailbox between a machine and those who test it.

use crate::{TWO, up};
use std::time::Duration;
use testbed::FaultKind;
use testbed::bed::Ending;
use testbed::machine::{MAX_KEY, MAX_VALUE, MAX_VARIABLES};

#[test]
fn guest_variables_are_written_and_read() {
    let bed = up(TWO);
    let (a, b) = (bed["a"].variables(), bed["b"].variables());
    a.set("role", "server").unwrap();
    a.set("guestinfo.ip", "10.1.0.1\nand more \u{fc}").unwrap();
    a.set("role", "client").unwrap();
    assert_eq!((a.get("role").as_deref(), b.get("role")), (Some("client"), None), "each machine has its own");
    let all = [("guestinfo.ip".into(), "10.1.0.1\nand more \u{fc}".into()), ("role".into(), "client".into())];
    assert_eq!(a.all(), all);
    assert_eq!((a.remove("role").as_deref(), a.remove("role")), (Some("client"), None));
}

#[test]
fn a_variable_is_waited_for() {
    let bed = up(TWO);
    let variables = bed["a"].variables();
    assert_eq!(variables.wait("late", Duration::from_millis(50)), None);
    let waiting = {
        let variables = variables.clone();
        std::thread::spawn(move || variables.wait("late", Duration::from_secs(20)))
    };
    variables.set("other", "x").unwrap();
    variables.set("late", "here").unwrap();
    assert_eq!(waiting.join().unwrap().as_deref(), Some("here"));
}

#[test]
fn variables_are_no_part_of_the_disk() {
    let bed = up(TWO);
    bed["a"].variables().set("k", "before").unwrap();
    bed.snapshot("s", &[]).unwrap();
    bed["a"].variables().set("k", "after").unwrap();
    bed.restart("a", Ending::Hard).unwrap();
    bed.rollback("s", &[]).unwrap();
    assert_eq!(bed["a"].variables().get("k").as_deref(), Some("after"), "a start and a way back change none");
    assert_eq!(bed.fork(Some("s")).unwrap()["a"].variables().all(), [], "a fork begins without");
}

#[test]
fn variables_are_bounded() {
    let bed = up(TWO);
    let variables = bed["a"].variables();
    let kind = |key: &str, value: &str| variables.set(key, value).map_err(|fault| fault.kind);
    for key in ["", "two words", "line\nend", &"k".repeat(MAX_KEY + 1)] {
        assert_eq!(kind(key, "x"), Err(FaultKind::Invalid), "{key:?}");
    }
    assert_eq!(kind("k", &"v".repeat(MAX_VALUE + 1)), Err(FaultKind::Exhausted));
    let value = "v".repeat(MAX_VALUE);
    let fit = (0..).take_while(|n| variables.set(&format!("k{n}"), &value).is_ok()).count();
    assert_eq!(fit, MAX_VARIABLES / (MAX_VALUE + 3));
    assert_eq!(kind("one-more", &value), Err(FaultKind::Exhausted));
    assert_eq!(kind("k0", "short"), Ok(()), "what is there can change");
    assert_eq!(variables.all().len(), fit);
}
