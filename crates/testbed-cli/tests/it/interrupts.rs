//! Ctrl-C, and what is left after it.

use crate::call::{Called, Folder};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// The processes of this host that have this in their command line.
pub(crate) fn processes_with(text: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).split('\0').any(|argument| argument == text)
    })
    .collect()
}

fn mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    // Without the mount's number, which a mount elsewhere may have had in between.
    text.lines().filter_map(|line| Some(line.splitn(5, ' ').nth(4)?.to_owned())).collect()
}

/// The cgroup folders of this keeper, in all hierarchies.
fn cgroups_of(keeper: u32) -> Vec<String> {
    fn look(folder: &Path, name: &str, depth: u32, found: &mut Vec<String>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())) {
            if entry.file_name().to_string_lossy().starts_with(name) {
                found.push(entry.path().display().to_string());
            } else if depth > 0 {
                look(&entry.path(), name, depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    look(Path::new("/sys/fs/cgroup"), &format!("testbed-{keeper}-"), 6, &mut found);
    found
}

fn signal(target: &str, signal: &str) {
    let order = format!("kill -{signal} {target}");
    assert!(std::process::Command::new("/bin/sh").args(["-c", &order]).status().unwrap().success());
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn begin(folder: &Folder, arguments: &[&str]) -> Child {
    let mut command = folder.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap()
}

/// Two machines, a test on one and one on the host that would take a minute.
fn slow(mark: &str) -> Folder {
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
    let child = begin(&folder, &["run", "-j", "3"]);
    let keeper = child.id();
    eventually("both tests run", || processes_with("61.01").len() >= 5);
    // What a terminal does: the whole group gets it.
    signal(&format!("-{keeper}"), "INT");
    let begun = Instant::now();
    let called = Called::from(child.wait_with_output().unwrap());
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
    let child = begin(&folder, &["run"]);
    eventually("the service runs", || !processes_with("62.02").is_empty());
    let begun = Instant::now();
    signal(&child.id().to_string(), "INT");
    let called = Called::from(child.wait_with_output().unwrap());
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
    let mut child = begin(&folder, &["run", "--keep"]);
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
    let called = Called::from(child.wait_with_output().unwrap());
    assert_eq!(called.code, Some(1), "{called:?}");
    eventually("nothing is left", || processes_with("63.03").is_empty());
}

#[test]
fn a_kept_copy_goes_down_as_testbeds_do() {
    let folder = Folder::with(
        "[machines.a]\nservices = { idle = 'sleep 64.04' }
[[tests]]\nname = 't'\non = 'a'\nrun = 'false'",
    );
    let mut child = begin(&folder, &["run", "--keep"]);
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    let name = line.split("-t ").nth(1).unwrap().split(' ').next().unwrap();
    let down = folder.call(&["-t", name, "down"]);
    assert_eq!(down.code, Some(0), "{down:?}");
    assert_eq!(processes_with("64.04"), Vec::<u32>::new());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
