//! Ctrl-C, and what is left after it.

use crate::begun::{Begun, cgroups_of, mounts, processes_with, signal};
use crate::call::Folder;
use crate::stays::eventually;
use std::time::{Duration, Instant};

/// Two machines, a test on one and one on the host that would take a minute.
pub(crate) fn slow(mark: &str) -> Folder {
    Folder::with(&format!(
        "[machines.a]\nservices = {{ idle = 'sleep {mark}' }}\n[machines.b]
[[tests]]\nname = 'quick'\non = 'a'\nrun = 'true'
[[tests]]\nname = 'inside'\non = 'b'\nrun = 'sleep {mark}'
[[tests]]\nname = 'outside'\non = 'host'\nrun = 'sleep {mark} & sleep {mark}'"
    ))
}

#[test]
fn ctrl_c_ends_the_run_and_leaves_nothing() {
    let folder = slow("61.01");
    let before = mounts();
    let child = Begun::in_group(&folder, &["run", "-j", "3"]);
    let keeper = child.id();
    eventually("both tests run", || processes_with("61.01").len() >= 5);
    // What a terminal does: the whole group gets it.
    signal(&format!("-{keeper}"), "INT");
    let begun = Instant::now();
    let called = child.finish();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(called.code, Some(130), "{called:?}");
    assert_eq!(called.word("quick").as_deref(), Some("ok"), "{called:?}");
    assert!(called.verdict().starts_with("interrupted: 1 passed, 2 cut off"), "{called:?}");
    assert_eq!(processes_with("61.01"), Vec::<u32>::new());
    assert_eq!(mounts(), before);
    assert_eq!(cgroups_of(keeper), Vec::<String>::new());
}

#[test]
fn ctrl_c_while_a_copy_is_made_ends_the_run() {
    let folder = Folder::with(
        "[machines.a]\nservices = { idle = 'sleep 62.02' }\nready = { port = 1, timeout = '60s' }
[[tests]]\nname = 't'\non = 'a'\nrun = 'true'",
    );
    let child = Begun::in_group(&folder, &["run"]);
    eventually("the service runs", || !processes_with("62.02").is_empty());
    let begun = Instant::now();
    signal(&child.id().to_string(), "INT");
    let called = child.finish();
    assert!(begun.elapsed() < Duration::from_secs(10), "{called:?}");
    assert_eq!(called.code, Some(130), "{called:?}");
    assert!(called.verdict().contains("1 not run"), "{called:?}");
    assert_eq!(processes_with("62.02"), Vec::<u32>::new());
}

#[test]
fn a_kept_copy_lives_until_ctrl_c() {
    let folder = Folder::with(
        "[machines.a]\nservices = { idle = 'sleep 63.03' }
[[tests]]\nname = 't'\non = 'a'\nrun = 'false'",
    );
    let mut child = Begun::in_group(&folder, &["run", "--keep"]);
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    assert!(line.contains("copy 1 of `t` is kept until Ctrl-C: a"), "{line}");
    eventually("its service runs", || !processes_with("63.03").is_empty());
    let name = line.split("-t ").nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(folder.call(&["-t", name, "exec", "a", "hostname"]).text(), "a\n");
    assert!(folder.call(&["ls"]).text().contains(name));
    // From its folder one reaches what is up, and that is no copy of a test.
    assert_eq!(folder.call(&["status"]).code, Some(2));
    signal(&child.id().to_string(), "INT");
    let called = child.finish();
    assert_eq!(called.code, Some(1), "{called:?}");
    eventually("nothing is left", || processes_with("63.03").is_empty());
}

#[test]
fn a_kept_copy_goes_down_as_testbeds_do() {
    let folder = Folder::with(
        "[machines.a]\nservices = { idle = 'sleep 64.04' }
[[tests]]\nname = 't'\non = 'a'\nrun = 'false'",
    );
    let mut child = Begun::in_group(&folder, &["run", "--keep"]);
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    let name = line.split("-t ").nth(1).unwrap().split(' ').next().unwrap();
    let down = folder.call(&["-t", name, "down"]);
    assert_eq!(down.code, Some(0), "{down:?}");
    assert_eq!(processes_with("64.04"), Vec::<u32>::new());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
