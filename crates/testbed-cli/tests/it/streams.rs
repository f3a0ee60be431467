//! `exec`: the streams, the status, the signals and the terminal of a program on a machine.

use crate::begun::processes_with;
use crate::call::Called;
use crate::stays::{Up, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Stdio};

fn piped(up: &Up, arguments: &[&str]) -> Child {
    let mut command = up.folder.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn the_status_and_the_streams_are_the_programs() {
    let up = Up::with("[machines.m]\n");
    let called = up.call(&["exec", "m", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((called.code, called.text().as_str(), called.stderr.as_str()), (Some(7), "out\n", "err\n"));
    let called = up.call(&[
        "exec",
        "-e",
        "A=b c",
        "-w",
        "/usr",
        "-u",
        "nobody",
        "m",
        "sh",
        "-c",
        "echo $A $PWD; id -un",
    ]);
    assert_eq!(called.text(), "b c /usr\nnobody\n", "{called:?}");
    assert_eq!(up.call(&["exec", "m", "--", "sh", "-c", "kill -9 $$"]).code, Some(137));
    for wrong in [&["exec", "m"][..], &["exec", "n", "true"], &["exec", "m", "/no/such/program"]] {
        let called = up.call(wrong);
        assert!(called.code == Some(125) && !called.stderr.is_empty(), "{called:?}");
    }
    let late = up.call(&["exec", "--timeout", "200ms", "m", "sleep", "87.07"]);
    assert_eq!(late.code, Some(124), "{late:?}");

    let mut child = piped(&up, &["exec", "m", "--", "sha256sum"]);
    let sent = vec![b'x'; 5_000_000];
    child.stdin.take().unwrap().write_all(&sent).unwrap();
    let called = Called::from(child.wait_with_output().unwrap());
    let mut here = std::process::Command::new("sha256sum");
    let mut here = here.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    here.stdin.take().unwrap().write_all(&sent).unwrap();
    assert_eq!(called.stdout, here.wait_with_output().unwrap().stdout);

    // Who reads no further ends the program.
    let mut child = piped(&up, &["exec", "m", "yes", "88.08"]);
    child.stdout.take().unwrap().read_exact(&mut [0; 100]).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    eventually("the program has ended", || processes_with("88.08").is_empty());
}

#[test]
fn many_calls_at_once_do_not_mix() {
    let up = Up::with("[machines.a]\n[machines.b]\n");
    std::thread::scope(|scope| {
        for number in 0..20 {
            let up = &up;
            scope.spawn(move || {
                let machine = if number % 2 == 0 { "a" } else { "b" };
                let called =
                    up.call(&["exec", machine, "--", "sh", "-c", &format!("hostname; echo {number}")]);
                assert_eq!(called.text(), format!("{machine}\n{number}\n"));
            });
        }
    });
}

#[test]
fn signals_are_passed_on_and_a_killed_call_kills_the_program() {
    let up = Up::with("[machines.m]\n");
    let script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.02; done";
    let mut child = piped(&up, &["exec", "m", "--", "sh", "-c", script]);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    lines.read_line(&mut line).unwrap();
    assert_eq!((line.as_str(), child.wait().unwrap().code()), ("ready\ncaught\n", Some(9)));

    let mut child = piped(&up, &["exec", "m", "--", "sleep", "89.09"]);
    eventually("it runs", || up.call(&["ps", "m"]).text().contains("sleep 89.09"));
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("it was killed", || !up.call(&["ps", "m"]).text().contains("sleep 89.09"));
}

#[test]
fn a_program_has_a_terminal_of_the_size_of_ours() {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
    let up = Up::with("[machines.m]\n");
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).unwrap();
    unlockpt(&ours).unwrap();
    let theirs = ioctl_tiocgptpeer(&ours, flags).unwrap();
    let size = |rows, columns| Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&ours, size(33, 101)).unwrap();
    let before = format!("{:?}", tcgetattr(&theirs).unwrap());
    let script = "test -t 0 && test -t 1 && stty size; read line; echo \"got $line\"; stty size; exit 5";
    let mut command = up.folder.command(&["exec", "-t", "m", "--", "sh", "-c", script]);
    command.stdin(theirs.try_clone().unwrap()).stdout(theirs.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut terminal = std::fs::File::from(ours.try_clone().unwrap());
    let mut seen = String::new();
    let mut read_until = |wanted: &str| {
        let mut buffer = [0; 1000];
        while !seen.contains(wanted) {
            let length = terminal.read(&mut buffer).unwrap();
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    };
    read_until("33 101");
    tcsetwinsize(&ours, size(44, 122)).unwrap();
    kill_process(Pid::from_child(&child), Signal::WINCH).unwrap();
    // Typed as it is: the terminal inside makes a line of it.
    std::fs::File::from(ours.try_clone().unwrap()).write_all(b"hello\r").unwrap();
    read_until("got hello");
    read_until("44 122");
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert_eq!(format!("{:?}", tcgetattr(&theirs).unwrap()), before, "the terminal is as it was");
}
