//! Disks of the host that are full.

use crate::begun::{Begun, cgroups_of, mounts, processes_with};
use crate::call::{Called, Folder};
use std::process::Command;
use std::time::{Duration, Instant};

/// Calls the command where `disk` of the folder is a small file system that is full: a mount that only this call sees.
/// Of `what` it has nothing left.
fn call(folder: &Folder, what: &str, variable: &str, mark: &str, arguments: &[&str]) -> Called {
    let (before, begun) = (mounts(), Instant::now());
    let disk = folder.path().join("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let script = match what {
        "space" => {
            "mount -t tmpfs -o size=64k full \"$0\" && { cat /dev/zero >\"$0/filler\" 2>/dev/null; exec \"$@\"; }"
        }
        _ => "mount -t tmpfs -o nr_inodes=1 full \"$0\" && exec \"$@\"",
    };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&disk);
    command.arg(env!("CARGO_BIN_EXE_testbed")).args(arguments).current_dir(folder.path());
    command.env("NO_COLOR", "1").env(variable, &disk).stdin(std::process::Stdio::null());
    let run = Begun::spawn(command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()));
    // Nothing in between has become another process.
    let keeper = run.id();
    let called = run.finish();
    assert!(begun.elapsed() < Duration::from_secs(20), "{called:?}");
    assert_eq!(processes_with(mark), Vec::<u32>::new(), "{called:?}");
    assert_eq!(cgroups_of(keeper), Vec::<String>::new(), "{called:?}");
    assert_eq!(mounts(), before);
    called
}

/// It ended as a testbed that failed, and says what could not be written.
fn is_told(called: &Called, place: &str) {
    assert_eq!(called.code, Some(3), "{called:?}");
    let told = called.stderr.contains(place) && called.stderr.contains("No space left on device");
    assert!(told, "not of {place}: {called:?}");
}

fn file(mark: &str, rest: &str) -> String {
    format!(
        "[machines.m]\nservices = {{ idle = 'sleep {mark}' }}\n{rest}\n[[tests]]\nname = 't'\non = 'm'\nrun = 'true'\n"
    )
}

#[test]
fn a_report_that_cannot_be_written_is_told_at_the_end() {
    let folder = Folder::with(&file("68.01", ""));
    let called = call(&folder, "space", "UNUSED", "68.01", &["run", "--junit", "disk/report.xml"]);
    is_told(&called, "disk/report.xml");
    // What was found out is not lost.
    assert_eq!(called.word("t").as_deref(), Some("ok"), "{called:?}");
    let called = call(&folder, "inodes", "UNUSED", "68.01", &["run", "--junit", "disk/report.xml"]);
    is_told(&called, "disk/report.xml");
}

#[test]
fn output_that_cannot_be_written_is_told() {
    let folder = Folder::with(&file("69.01", ""));
    for arguments in [
        &["run"][..],
        &["run", "--subunit"],
        &["run", "--format", "json"],
        &["plan"],
        &["plan", "--format", "json"],
    ] {
        let mut command = folder.command(arguments);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let called = Called::from(command.stdout(full).output().unwrap());
        is_told(&called, "standard output");
        assert_eq!(processes_with("69.01"), Vec::<u32>::new());
    }
}

#[test]
fn a_layer_that_does_not_fit_is_told_and_not_kept() {
    let image = "image = 'i'\n[images.i]\nfiles = { '/etc/big' = { source = 'big' } }";
    let folder = Folder::with(&file("70.01", image));
    folder.write("big", "x".repeat(200_000));
    for command in ["run", "up"] {
        for what in ["space", "inodes"] {
            let called = call(&folder, what, "TESTBED_CACHE", "70.01", &[command]);
            is_told(&called, "disk");
        }
    }
}

#[test]
fn a_testbed_stays_only_if_others_can_be_told_of_it() {
    let folder = Folder::with(&file("71.01", ""));
    for (what, variable) in
        [("space", "TESTBED_STATE"), ("inodes", "TESTBED_STATE"), ("inodes", "TESTBED_RUNTIME")]
    {
        let called = call(&folder, what, variable, "71.01", &["up"]);
        is_told(&called, "disk");
    }
}

#[test]
fn a_test_on_the_host_needs_a_socket() {
    let folder = Folder::with(
        "[machines.m]\nservices = { idle = 'sleep 72.01' }\n[[tests]]\nname = 't'\non = 'host'\nrun = 'true'\n",
    );
    let called = call(&folder, "inodes", "TESTBED_RUNTIME", "72.01", &["run"]);
    assert_eq!(called.code, Some(3), "{called:?}");
    assert_eq!(called.word("t").as_deref(), Some("error"), "{called:?}");
    let text = called.text();
    assert!(text.contains("disk") && text.contains("No space left on device"), "{called:?}");
}
