//! Consoles, screens and keyboards of machines with kernels of their own, and what else is done with them, by the command.

use crate::begun::Begun;
use crate::stays::Up;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::tcgetattr;
use std::fs::File;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
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

const SCREEN: &str = "[networks]\nlan = { subnet = '10.1.0.0/24' }
[machines.vm]\nimage = 'debian:bookworm'\nscreen = true\ninterfaces = { lan = '10.1.0.2' }
[machines.plain]\nimage = 'debian:bookworm'\n";

#[test]
fn a_screen_is_seen_and_typed_on() {
    let up = Up::with(SCREEN);
    let path = up.folder.path().join("now.png");
    let taken = up.call(&["screenshot", "vm", "now.png"]);
    assert_eq!(taken.code, Some(0), "{taken:?}");
    let before = std::fs::read(path).unwrap();
    // The signature, and width and height at the beginning of the first part (RFC 2083).
    assert_eq!(before[..8], *b"\x89PNG\r\n\x1a\n");
    assert_eq!(before[16..24], [720_u32.to_be_bytes(), 400_u32.to_be_bytes()].concat());

    let reader = ["exec", "vm", "--", "sh", "-c", "exec < /dev/tty1; echo reads; head -n 1"];
    let mut reads = up.folder.command(&reader);
    let mut reads = Begun::spawn(reads.stdout(Stdio::piped()));
    read_until(reads.stdout.as_mut().unwrap(), "reads\n");
    let typed = up.call(&["type", "vm", "Uname -a | less", "--key", "shift-1", "--key", "ret"]);
    assert_eq!(typed.code, Some(0), "{typed:?}");
    assert_eq!(reads.finish().text(), "Uname -a | less!\n");
    // The terminal has shown what was typed.
    let after = up.call(&["screenshot", "vm", "-"]).stdout;
    assert!(after.starts_with(&before[..24]) && after != before);

    is_shown_live(&up);
    let wrong = up.call(&["type", "vm", "--key", "hyper-q"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("no key is called `hyper`"), "{wrong:?}");
    for call in [&["screenshot", "plain", "no.png"][..], &["type", "plain", "x"], &["screen", "plain"]] {
        let none = up.call(call);
        assert!(none.code == Some(3) && none.stderr.contains("`screen = true`"), "{none:?}");
    }
    assert!(!up.folder.path().join("no.png").exists());
    does_what_vmrun_does(&up);
}

fn is_shown_live(up: &Up) {
    let path = up.folder.path().join("live");
    let shown = || {
        let mut command = up.folder.command(&["screen", "vm", "--at", "live"]);
        let mut shown = Begun::spawn(command.stdout(Stdio::piped()));
        read_until(shown.stdout.as_mut().unwrap(), "live\n");
        shown
    };
    // One that was killed has left its socket behind.
    let mut killed = shown();
    killed.kill().unwrap();
    killed.wait().unwrap();
    let shown = shown();
    let viewers = [(); 2].map(|()| UnixStream::connect(&path).unwrap());
    for mut viewer in &viewers {
        let mut version = [0; 12];
        viewer.read_exact(&mut version).unwrap();
        assert_eq!(version, *b"RFB 003.008\n");
        viewer.write_all(&version).unwrap();
        viewer.read_exact(&mut [0; 2]).unwrap();
        // No password, and shared with others (RFC 6143, section 7).
        viewer.write_all(&[1]).unwrap();
        viewer.read_exact(&mut [0; 4]).unwrap();
        viewer.write_all(&[1]).unwrap();
        let mut begin = [0; 28];
        viewer.read_exact(&mut begin).unwrap();
        assert_eq!(begin[..4], [720_u16.to_be_bytes(), 400_u16.to_be_bytes()].concat());
        assert_eq!(begin[24..], *b"QEMU");
    }
    kill_process(Pid::from_child(&shown), Signal::INT).unwrap();
    assert_eq!(shown.finish().code, Some(0));
    assert!(!path.exists());
    for mut viewer in viewers {
        assert_eq!(viewer.read(&mut [0]).unwrap(), 0, "the screen is shown no more");
    }
}

/// The other verbs of docs/reference/vmrun.md, on a kernel of its own.
fn does_what_vmrun_does(up: &Up) {
    let said = |arguments: &[&str]| {
        let called = up.call(arguments);
        assert_eq!(called.code, Some(0), "{arguments:?}: {called:?}");
        called.text()
    };
    said(&["var", "set", "vm", "phase", "two"]);
    assert_eq!(said(&["var", "get", "vm", "phase"]), "two\n");
    assert_eq!(said(&["var", "list", "vm"]), "phase=two\n");
    assert_eq!(said(&["address", "vm", "--wait", "10s"]), "10.1.0.2\n");
    assert_eq!(said(&["exec", "-s", "print 6 * 7, qq(\\n)", "vm", "perl"]), "42\n");

    said(&["file", "mkdir", "-p", "vm:/srv/a/b"]);
    up.folder.write("page", "from the host\n");
    said(&["cp", "page", "vm:/srv/a/page"]);
    assert_eq!(said(&["file", "ls", "vm:/srv/a"]), "b\npage\n");
    said(&["file", "mv", "vm:/srv/a/page", "/srv/a/other"]);
    assert_eq!(up.call(&["file", "exists", "vm:/srv/a/page"]).code, Some(1));
    said(&["cp", "vm:/srv/a/other", "back"]);
    assert_eq!(up.folder.read("back"), "from the host\n");
    let about = said(&["file", "stat", "vm:/srv/a/other", "--format", "json"]);
    assert!(about.contains("\"size\": 14"), "{about}");
    let temporary = said(&["file", "temp", "vm"]);
    said(&["file", "exists", &format!("vm:{}", temporary.trim())]);
    said(&["file", "rm", "-r", "vm:/srv/a"]);
    assert_eq!(up.call(&["file", "exists", "vm:/srv/a"]).code, Some(1));

    let serve = ["http", "serve", "vm", "80", "--text", "from inside", "--count", "1"];
    let mut serves = up.folder.command(&serve);
    let mut serves = Begun::spawn(serves.stdout(Stdio::piped()).stderr(Stdio::piped()));
    read_until(serves.stderr.as_mut().unwrap(), "ready\n");
    let host = said(&["port", "add", "vm", "80"]);
    assert!(said(&["port", "ls"]).contains(host.trim()));
    let mut page = String::new();
    let mut connection = TcpStream::connect(host.trim()).unwrap();
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    connection.read_to_string(&mut page).unwrap();
    assert!(page.ends_with("from inside"), "{page}");
    said(&["port", "rm", host.trim()]);
    assert!(TcpStream::connect(host.trim()).is_err());
}
