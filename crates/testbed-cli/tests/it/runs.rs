//! What becomes of tests.

use crate::call::{Called, Folder};
use std::time::{Duration, Instant};

/// A testbed of one machine and these tests, each a table of keys.
fn one(tests: &[&str]) -> Folder {
    let tests: String = tests.iter().map(|keys| format!("[[tests]]\n{keys}\n")).collect();
    Folder::with(&format!("[machines.m]\n{tests}"))
}

#[test]
fn every_outcome_has_its_word_and_its_code() {
    let folder = one(&[
        "name = 'passes'\non = 'm'\nrun = 'echo hidden'",
        "name = 'fails'\non = 'm'\nrun = 'echo to-out; echo to-err >&2; exit 7'",
        "name = 'hangs'\non = 'm'\nrun = 'sleep 100'\ntimeout = '300ms'",
        "name = 'hangs as expected'\non = 'm'\nrun = 'sleep 100'\ntimeout = '300ms'\nexpect = 'failure'",
        "name = 'fails as expected'\non = 'm'\nrun = 'false'\nexpect = 'failure'",
        "name = 'passes surprisingly'\non = 'm'\nrun = 'true'\nexpect = 'failure'",
        "name = 'needs more'\non = 'm'\nrun = 'true'\nneeds = ['module:no_such_module']",
        "name = 'is killed'\non = 'm'\nrun = 'kill -9 $$'",
    ]);
    let begun = Instant::now();
    let called = folder.call(&["run"]);
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(called.code, Some(1), "{called:?}");
    for (test, word) in [
        ("passes", "ok"),
        ("fails", "FAIL"),
        ("hangs", "FAIL"),
        ("hangs as expected", "xfail"),
        ("fails as expected", "xfail"),
        ("passes surprisingly", "uxsuccess"),
        ("needs more", "skip"),
        ("is killed", "FAIL"),
    ] {
        assert_eq!(called.word(test).as_deref(), Some(word), "{test}\n{}", called.text());
    }
    let text = called.text();
    for shown in ["exit status 7", "to-out", "to-err", "not done within 0.3 s", "killed by signal 9"] {
        assert!(text.contains(shown), "{shown}\n{text}");
    }
    assert!(text.contains("has no module:no_such_module"), "{text}");
    assert!(!text.contains("hidden"), "{text}");
    let verdict = called.verdict();
    let figures = "1 passed, 2 failed as expected, 3 failed, 1 passed against expectation, 1 skipped in ";
    assert!(verdict.starts_with(figures), "{verdict}");
}

#[test]
fn tests_on_kernels_of_their_own_are_skipped_by_what_these_lack() {
    let folder = Folder::with(
        "[images.debian]
         base = 'debian:bookworm'
         [machines.m]
         image = 'debian'
         kernel = 'own'
         [[tests]]
         name = 'has'
         on = 'm'
         run = 'test -e /sys/module/nlmon'
         needs = ['module:nlmon']
         fresh = 'run'
         [[tests]]
         name = 'lacks'
         on = 'm'
         run = 'true'
         needs = ['module:no_such_module']
         fresh = 'run'",
    );
    let called = folder.call(&["run"]);
    assert_eq!(called.code, Some(0), "{called:?}");
    let text = called.text();
    assert_eq!((called.word("has").as_deref(), called.word("lacks").as_deref()), (Some("ok"), Some("skip")));
    assert!(text.contains("m: load the module `no_such_module`: the kernel 6."), "{text}");
}

#[test]
fn fresh_copies_do_not_see_each_other() {
    let mark = "on = 'm'\nrun = 'test ! -e /root/mark && echo x > /root/mark && hostname new && sleep 0.1'";
    let folder = one(&[&format!("name = 'a'\n{mark}"), &format!("name = 'b'\n{mark}")]);
    for jobs in ["1", "2"] {
        let called = folder.call(&["run", "-j", jobs]);
        assert_eq!(called.code, Some(0), "{called:?}");
        assert!(called.verdict().starts_with("2 passed in"), "{called:?}");
    }
}

#[test]
fn a_group_shares_a_copy_in_the_order_of_the_file() {
    let folder = one(&[
        "name = 'first'\non = 'm'\nrun = 'echo 1 > /root/mark'\ngroup = 'g'",
        "name = 'other'\non = 'm'\nrun = 'test ! -e /root/mark'\ngroup = 'h'",
        "name = 'second'\non = 'm'\nrun = 'grep 1 /root/mark; echo 2 > /root/mark'\ngroup = 'g'",
        "name = 'third'\non = 'm'\nrun = 'grep 2 /root/mark'\ngroup = 'g'",
    ]);
    let called = folder.call(&["run"]);
    assert_eq!(called.code, Some(0), "{called:?}");
}

#[test]
fn a_deadline_ends_the_copy_and_the_group_goes_on_with_a_new_one() {
    let folder = one(&[
        "name = 'hangs'\non = 'm'\nrun = 'touch /root/mark; sleep 100'\ntimeout = '200ms'\nfresh = 'run'",
        "name = 'after'\non = 'm'\nrun = 'test ! -e /root/mark'\nfresh = 'run'",
    ]);
    let called = folder.call(&["run"]);
    assert_eq!(called.code, Some(1), "{called:?}");
    assert_eq!(called.word("after").as_deref(), Some("ok"), "{called:?}");
}

#[test]
fn tests_run_at_the_same_time() {
    let tests: Vec<String> = (0..4).map(|n| format!("name = 't{n}'\non = 'm'\nrun = 'sleep 0.5'")).collect();
    let folder = one(&tests.iter().map(String::as_str).collect::<Vec<_>>());
    let timed = |jobs| {
        let begun = Instant::now();
        let called = folder.call(&["run", "-j", jobs]);
        assert_eq!(called.code, Some(0), "{called:?}");
        begun.elapsed()
    };
    let (alone, together) = (timed("1"), timed("4"));
    assert!(alone >= Duration::from_secs(2), "{alone:?}");
    assert!(together < alone / 2, "{together:?} against {alone:?}");
}

#[test]
fn after_the_first_failure_nothing_begins() {
    let folder = one(&[
        "name = 'fails'\non = 'm'\nrun = 'false'",
        "name = 'later'\non = 'm'\nrun = 'true'",
        "name = 'last'\non = 'm'\nrun = 'true'",
    ]);
    let called = folder.call(&["run", "-j", "1", "--fail-fast"]);
    assert_eq!(called.code, Some(1), "{called:?}");
    assert_eq!(called.word("later"), None, "{called:?}");
    assert!(called.verdict().starts_with("1 failed, 2 not run in"), "{called:?}");
}

#[test]
fn repetitions_are_told_apart() {
    let folder = one(&["name = 't'\non = 'm'\nrun = 'test ! -e /root/mark && touch /root/mark'"]);
    let called = folder.call(&["run", "--repeat", "3"]);
    assert_eq!(called.code, Some(0), "{called:?}");
    let text = called.text();
    assert!((1..=3).all(|number| text.contains(&format!("ok t #{number} "))), "{text}");
    assert!(called.verdict().starts_with("3 passed in"), "{text}");
}

#[test]
fn a_seed_names_an_order() {
    let tests: Vec<String> = (0..6).map(|n| format!("name = 't{n}'\non = 'm'\nrun = 'true'")).collect();
    let folder = one(&tests.iter().map(String::as_str).collect::<Vec<_>>());
    let order = |arguments: &[&str]| {
        let called = folder.call(&[&["run", "-j", "1"], arguments].concat());
        assert_eq!(called.code, Some(0), "{called:?}");
        let text = called.text();
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("ok ")?.split(' ').next());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(order(&[]), ["t0", "t1", "t2", "t3", "t4", "t5"]);
    let seven = order(&["--shuffle", "7"]);
    assert_eq!(seven, order(&["--shuffle", "7"]));
    assert_ne!(seven, order(&["--shuffle", "8"]));
}

#[test]
fn filters_choose_by_name_and_tag() {
    let folder = one(&[
        "name = 'ping'\non = 'm'\nrun = 'true'\ntags = ['net']",
        "name = 'ping far'\non = 'm'\nrun = 'true'\ntags = ['net', 'slow']",
        "name = 'boot'\non = 'm'\nrun = 'true'",
    ]);
    let passed = |arguments: &[&str]| {
        let called = folder.call(&[&["run"], arguments].concat());
        (called.code, called.verdict().split(' ').next().map(str::to_owned))
    };
    assert_eq!(passed(&["ping"]), (Some(0), Some("2".into())));
    assert_eq!(passed(&["=ping"]), (Some(0), Some("1".into())));
    assert_eq!(passed(&["-t", "net", "-t", "!slow"]), (Some(0), Some("1".into())));
    assert_eq!(passed(&["ping", "boot"]), (Some(0), Some("3".into())));
    assert_eq!(folder.call(&["run", "none"]).code, Some(4));
    assert_eq!(Folder::with("[machines.m]").call(&["run"]).code, Some(4));
}

#[test]
fn a_file_is_a_test() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::empty();
    folder.write("tests/one", "#!/bin/sh\ntest \"$(hostname)\" = m && test \"$COLOUR\" = red\n");
    let path = folder.path().join("tests/one");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder.write(
        "testbed.toml",
        "[machines.m]\n[[tests]]\non = 'm'\nfiles = 'tests/*'\nenv = { COLOUR = 'red' }",
    );
    let called = folder.call(&["run"]);
    assert_eq!(called.code, Some(0), "{called:?}");
    assert!(called.verdict().starts_with("1 passed in"), "{called:?}");
}

#[test]
fn a_test_on_the_host_runs_beside_its_file() {
    let folder = Folder::with(
        "[machines.m]\n[[tests]]\nname = 'h'\non = 'host'\nrun = 'test -f testbed.toml && command -v testbed'
[[tests]]\nname = 'hangs'\non = 'host'\nrun = 'sleep 47.11 & sleep 47.11'\ntimeout = '200ms'\nexpect = 'failure'",
    );
    let called = folder.call(&["run"]);
    assert_eq!(called.code, Some(0), "{called:?}");
    assert_eq!(crate::begun::processes_with("47.11"), Vec::<u32>::new());
}

#[test]
fn a_service_that_dies_is_the_testbeds_failure() {
    let folder = Folder::with(
        "[machines.good]
[machines.bad]\nservices = { daemon = 'echo cannot bind; exit 3' }\nready = { port = 1234, timeout = '3s' }
[[tests]]\nname = 't'\non = 'good'\nrun = 'true'
[[tests]]\nname = 'expects failure'\non = 'good'\nrun = 'true'\nexpect = 'failure'",
    );
    let called = folder.call(&["run", "-j", "1"]);
    assert_eq!(called.code, Some(3), "{called:?}");
    let text = called.text();
    assert_eq!(called.word("t").as_deref(), Some("error"), "{text}");
    assert!(text.contains("cannot bind"), "{text}");
    assert!(text.contains("not run"), "{text}");
    assert!(!text.contains("xfail"), "{text}");
}

#[test]
fn more_machines_than_files_may_be_open_and_programs_find_the_limit_of_before() {
    let folder = Folder::with(
        "[machines.m]\ncount = 80\n\
         [[tests]]\nname = 'inside'\non = 'm-80'\nrun = 'test $(ulimit -Sn) = 64'\n\
         [[tests]]\nname = 'outside'\nrun = 'test $(ulimit -Sn) = 64'\non = 'host'\n",
    );
    let testbed = env!("CARGO_BIN_EXE_testbed");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("ulimit -Sn 64; exec {testbed} run --jobs 1")]);
    let called = Called::from(shell.current_dir(folder.path()).output().unwrap());
    assert_eq!(called.code, Some(0), "{called:?}");
}
