//! The console of a machine with a kernel of its own, by the command.

use crate::begun::Begun;
use crate::stays::Up;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::tcgetattr;
use std::fs::File;
use std::io::{Read, Write as _};
use std::process::Stdio;

const OWN: &str = "[machines.vm]\nimage = 'debian:bookworm'\nkernel = 'own'
services = { echo = 'exec < /dev/ttyS0 > /dev/ttyS0; echo listens; while read line; do echo heard $line; done' }
[machines.plain]\nimage = 'debian:bookworm'\n";

/// Reads until something has come.
fn read_until(from: &mut impl Read, wanted: &str) {
    let (mut seen, mut buffer) = (String::new(), [0; 1000]);
    while !seen.contains(wanted) {
        let length = from.read(&mut buffer).unwrap();
        assert!(length > 0, "no {wanted:?} in {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
}

#[test]
fn all_who_attach_to_a_console_see_it_and_may_type() {
    let up = Up::with(OWN);
    read_until(&mut up.call(&["console", "vm", "--timeout", "3s"]).stdout.as_slice(), "listens");
    let attach = |arguments: &[&str]| {
        let mut command = up.folder.command(&[&["console", "vm"], arguments].concat());
        Begun::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    };
    let (mut one, mut other) = (attach(&[]), attach(&[]));
    for (typing, word) in [(&mut one, "first"), (&mut other, "second")] {
        typing.stdin.as_mut().unwrap().write_all(format!("{word}\n").as_bytes()).unwrap();
    }
    for word in ["first", "second"] {
        // In whichever order they came.
        let heard = format!("heard {word}");
        let mut late = attach(&[]);
        read_until(late.stdout.as_mut().unwrap(), &heard);
    }
    // Whoever has nothing more to type goes on seeing.
    drop(one.stdin.take());
    other.stdin.as_mut().unwrap().write_all(b"third\n").unwrap();
    read_until(one.stdout.as_mut().unwrap(), "heard third");
    kill_process(Pid::from_child(&one), Signal::TERM).unwrap();
    assert_eq!(one.finish().code, Some(0));

    on_a_terminal(&up);

    let shared = up.call(&["console", "plain"]);
    assert!(shared.code == Some(3) && shared.stderr.contains("`testbed shell plain`"), "{shared:?}");
    assert_eq!(up.call(&["stop", "--hard", "vm"]).code, Some(0));
    // All that are attached hear of the end.
    let ended = other.finish();
    assert!(ended.code == Some(0) && ended.text().contains("heard third"), "{ended:?}");
    let stopped = up.call(&["console", "vm"]);
    assert!(stopped.code == Some(3) && stopped.stderr.contains("`testbed logs vm console`"), "{stopped:?}");
    assert!(up.call(&["logs", "vm", "console"]).text().contains("heard first"));
}

fn on_a_terminal(up: &Up) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).unwrap();
    unlockpt(&ours).unwrap();
    let theirs = ioctl_tiocgptpeer(&ours, flags).unwrap();
    let before = format!("{:?}", tcgetattr(&theirs).unwrap());
    let mut command = up.folder.command(&["console", "vm"]);
    let end = || theirs.try_clone().unwrap();
    let child = Begun::spawn(command.stdin(end()).stdout(end()).stderr(end()));
    drop(command);
    let mut terminal = File::from(ours);
    read_until(&mut terminal, "testbed: on the console of vm; Ctrl-] leaves\r\n");
    // Ctrl-C is the machine's: its terminal shows it as it does.
    terminal.write_all(b"fourth\r").unwrap();
    read_until(&mut terminal, "heard fourth");
    terminal.write_all(b"\x1d").unwrap();
    assert_eq!(child.finish().code, Some(0));
    assert_eq!(format!("{:?}", tcgetattr(&theirs).unwrap()), before, "the terminal is as it was");
}
