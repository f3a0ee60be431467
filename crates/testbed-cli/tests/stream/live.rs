//! Streams that are still being written.

use crate::call::{Folder, call, command, stream, wait};
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::time::{Duration, Instant};
use testbed_subunit::{Draft, Status};

/// The start of a packet of 4 MiB.
const CLAIM: &[u8] = b"\xb3\x20\x40\xbf\xff\xff";

#[test]
fn each_event_goes_on_when_it_comes() {
    for arguments in [&["cat"][..], &["filter", "-s"], &["tags", "x"], &["combine", "-"]] {
        let mut child = command(arguments).spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        for _ in 0..3 {
            stdin.write_all(&stream(&[Draft::test("t", Status::Fail)])).unwrap();
            // Blocks for ever if it is held back.
            assert!(stdout.read(&mut [0; 4096]).unwrap() > 8, "{arguments:?}");
        }
        drop(stdin);
        assert_eq!(wait(child).code, Some(0));
    }
}

#[test]
fn what_is_printed_between_lines_of_version_1_goes_on_when_it_comes() {
    let mut child = command(&["from-v1"]).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    for line in ["test: t\n", "printed\n", "and more\n", "success: t\n", "printed at last\n"] {
        stdin.write_all(line.as_bytes()).unwrap();
        // Blocks for ever if it is held back.
        assert!(stdout.read(&mut [0; 4096]).unwrap() > 8, "{line}");
    }
    drop(stdin);
    assert_eq!(wait(child).code, Some(0));
}

#[test]
fn a_false_start_holds_a_pipe_up_until_it_has_stalled() {
    let input = [&CLAIM.repeat(100)[..], &stream(&[Draft::test("t", Status::Fail)])].concat();
    let mut child = command(&["cat", "--no-passthrough", "--stall", "300ms"]).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let begun = Instant::now();
    stdin.write_all(&input).unwrap();
    let mut first = [0; 3];
    stdout.read_exact(&mut first).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300), "it did not wait: {:?}", begun.elapsed());
    drop(stdin);
    assert_eq!(wait(child).code, Some(0));
    // A file is there as a whole: the stall deadline means nothing to it.
    let folder = Folder::empty();
    let file = folder.write("false", &input);
    let called = call(&["ls", "--no-passthrough", "--stall", "1h", &file], b"");
    assert_eq!(called.text(), "t\n");
}

#[test]
fn several_inputs_are_read_at_once() {
    let folder = Folder::empty();
    let slow = folder.named("slow");
    rustix::fs::mknodat(rustix::fs::CWD, &*slow, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut child = command(&["combine", &slow, "-"]).spawn().unwrap();
    // Opened for reading, too, so that it has no end until this is closed.
    let fifo = OpenOptions::new().read(true).write(true).open(&slow).unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    stdin.write_all(&stream(&[Draft::test("quick", Status::Fail)])).unwrap();
    let mut packet = [0; 4096];
    let length = stdout.read(&mut packet).unwrap();
    assert!(packet[..length].windows(5).any(|window| window == b"quick"));
    drop((stdin, fifo));
    assert_eq!(wait(child).code, Some(0));
}

#[test]
fn what_runs_is_shown_with_how_long_it_has_been_running() {
    let mut child = command(&["show", "--follow"]).spawn().unwrap();
    let (mut stdin, stderr) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
    stdin.write_all(&stream(&[Draft::test("slow.test", Status::InProgress)])).unwrap();
    let mut line = String::new();
    BufReader::new(stderr).read_line(&mut line).unwrap();
    assert!(line.starts_with("  running slow.test (") && line.ends_with(" s)\n"), "{line}");
    stdin.write_all(&stream(&[Draft::test("slow.test", Status::Success)])).unwrap();
    drop(stdin);
    let called = wait(child);
    assert_eq!(called.code, Some(0));
    assert!(called.text().contains("ok slow.test"), "{called:?}");
}

#[test]
fn a_file_is_followed_as_it_grows() {
    let folder = Folder::empty();
    let path = folder.write("run", stream(&[Draft::test("first", Status::Success)]));
    let mut child = command(&["show", "--follow", &path]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(next(), "ok first");
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    for id in ["second", "third"] {
        let packet = stream(&[Draft::test(id, Status::Success)]);
        // Also when a packet comes in two pieces.
        file.write_all(&packet[..9]).unwrap();
        file.write_all(&packet[9..]).unwrap();
        assert_eq!(next(), format!("ok {id}"));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    assert_eq!((next(), next()), (String::new(), "interrupted: 3 passed".to_owned()));
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_false_start_holds_a_file_that_grows_up_until_it_has_stalled() {
    let folder = Folder::empty();
    let path = folder.write("run", [b"x", CLAIM, &stream(&[Draft::test("first", Status::Success)])].concat());
    let mut child = command(&["show", "--follow", "--stall", "300ms", &path]).spawn().unwrap();
    let mut line = String::new();
    // Blocks for ever if the file is taken for one that nobody writes to.
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "ok first");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    child.wait().unwrap();
}

#[test]
fn on_a_terminal_what_runs_is_redrawn_in_place() {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).unwrap();
    unlockpt(&ours).unwrap();
    let theirs = ioctl_tiocgptpeer(&ours, flags).unwrap();
    let mut follow = command(&["show", "--follow"]);
    let mut child = follow.stderr(theirs.try_clone().unwrap()).env("TERM", "xterm").spawn().unwrap();
    drop((follow, theirs));
    let mut terminal = std::fs::File::from(ours);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&stream(&[Draft::test("slow.test", Status::InProgress).route("w1")])).unwrap();
    let mut seen = String::new();
    let mut piece = [0; 4096];
    // Each time with another time; the view before is taken away first (ECMA-48: CUU, ED).
    while seen.matches("slow.test #w1").count() < 5 {
        let length = terminal.read(&mut piece).unwrap();
        seen.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    assert!(seen.contains("0 done") && seen.contains("\x1b[2A\x1b[J"), "{seen:?}");
    drop(stdin);
    assert_eq!(wait(child).code, Some(1));
}
