//! The commands that speak to a testbed that lives.

use crate::call::Folder;
use crate::stays::{Up, eventually};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Stdio;

const TWO: &str = "[networks]\nlan = { subnet = '10.1.0.0/24' }
[machines.a]\ninterfaces = { lan = '10.1.0.1' }
[machines.b]\ninterfaces = { lan = '10.1.0.2' }\n";

#[test]
fn trees_go_in_and_come_back() {
    let up = Up::with("[machines.m]\n");
    let folder = up.folder.path();
    up.folder.write("tree/sub/text", "hello");
    up.folder.write("tree/program", "#!/bin/sh\necho ran\n");
    std::fs::set_permissions(folder.join("tree/program"), std::fs::Permissions::from_mode(0o750)).unwrap();
    symlink("sub/text", folder.join("tree/link")).unwrap();
    let large: String = "0123456789abcdef".repeat(100_000);
    up.folder.write("tree/large", &large);
    assert_eq!(up.call(&["cp", "tree", "m:/srv/there"]).code, Some(0));
    assert_eq!(up.call(&["exec", "m", "/srv/there/program"]).text(), "ran\n");
    assert_eq!(up.call(&["cp", "m:/srv/there", "back"]).code, Some(0));
    assert_eq!(up.folder.read("back/sub/text"), "hello");
    assert!(up.folder.read("back/large") == large);
    assert_eq!(std::fs::read_link(folder.join("back/link")).unwrap().to_str(), Some("sub/text"));
    let mode = std::fs::metadata(folder.join("back/program")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
    // A single file, into a folder that is there.
    std::fs::create_dir(folder.join("into")).unwrap();
    assert_eq!(up.call(&["cp", "m:/srv/there/sub/text", "into"]).code, Some(0));
    assert_eq!(up.folder.read("into/text"), "hello");
    let missing = up.call(&["cp", "m:/no/such", "x"]);
    assert!(missing.code == Some(3) && missing.stderr.contains("m: "), "{missing:?}");
}

#[test]
fn links_are_cut_and_packets_are_captured() {
    let up = Up::with(TWO);
    assert_eq!(up.call(&["ping", "a", "b"]).code, Some(0));
    assert_eq!(up.call(&["net", "cut", "b"]).code, Some(0));
    assert_eq!(up.call(&["ping", "a", "b", "-W", "200ms"]).code, Some(1));
    assert_eq!(up.call(&["net", "heal", "b"]).code, Some(0));

    let arguments = ["net", "capture", "lan", "--filter", "icmp", "--count", "2", "-o", "lan.pcapng"];
    let mut capture = up.folder.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut talk = BufReader::new(capture.stderr.take().unwrap());
    let mut line = String::new();
    talk.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    assert_eq!(up.call(&["ping", "a", "10.1.0.2"]).code, Some(0));
    assert_eq!(capture.wait().unwrap().code(), Some(0));
    let bytes = std::fs::read(up.folder.path().join("lan.pcapng")).unwrap();
    // A section header block (pcapng, section 4.1), and ICMP from one machine to the other.
    assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
    assert!(bytes.windows(8).any(|window| window == [10, 1, 0, 1, 10, 1, 0, 2]));

    // Ctrl-C ends a capture as it should be ended: what was seen is in it.
    let mut capture = up.folder.command(&["net", "capture", "lan"]);
    let mut capture = capture.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut talk = BufReader::new(capture.stderr.take().unwrap());
    talk.read_line(&mut String::new()).unwrap();
    assert_eq!(up.call(&["ping", "a", "b"]).code, Some(0));
    rustix::process::kill_process(rustix::process::Pid::from_child(&capture), rustix::process::Signal::INT)
        .unwrap();
    let mut bytes = Vec::new();
    capture.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(capture.wait().unwrap().code(), Some(0));
    assert!(bytes.windows(8).any(|window| window == [10, 1, 0, 1, 10, 1, 0, 2]));
    let wrong = up.call(&["net", "capture", "wan"]);
    assert!(wrong.code == Some(3) && wrong.stderr.contains("no network `wan`"), "{wrong:?}");
}

#[test]
fn ports_are_published_while_it_runs() {
    let up = Up::with(
        "[machines.m]\nservices = { web = 'python3 -m http.server --bind 127.0.0.1 80' }\nready = { port = 80 }",
    );
    let added = up.call(&["port", "add", "m", "80"]);
    let at: std::net::SocketAddr = added.text().trim().parse().unwrap();
    assert!(added.code == Some(0) && at.ip().is_loopback(), "{added:?}");
    let mut stream = std::net::TcpStream::connect(at).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.contains("200 OK"), "{page}");
    let port = at.port().to_string();
    let listed: serde_json::Value =
        serde_json::from_slice(&up.call(&["port", "ls", "--format", "json"]).stdout).unwrap();
    assert_eq!(listed, serde_json::json!([{ "machine": "m", "port": 80, "host": at.to_string() }]));
    assert!(up.call(&["status"]).text().contains(&format!("80 at {at}")));
    let taken = up.call(&["port", "add", "m", "80", "--at", &port]);
    assert!(taken.code == Some(3) && taken.stderr.contains("port 0 takes a free one"), "{taken:?}");
    assert_eq!(up.call(&["port", "rm", &port]).code, Some(0));
    assert!(std::net::TcpStream::connect(at).is_err());
    let gone = up.call(&["port", "rm", &at.to_string()]);
    assert!(gone.code == Some(3) && gone.stderr.contains("none is published at all"), "{gone:?}");
    for wrong in [&["port", "add", "m", "0"][..], &["port", "rm", "here"], &["port", "add", "m"]] {
        assert_eq!(up.call(wrong).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn variables_files_and_addresses_are_asked_for_on_the_host() {
    let up = Up::with(&format!("{TWO}control = ['var:b']\n"));
    assert_eq!(up.call(&["var", "set", "b", "question", "who?"]).code, Some(0));
    let text = "testbed var set b answer $(testbed var get b question | tr w W)";
    assert_eq!(up.call(&["exec", "b", "--", "sh", "-c", text]).code, Some(0));
    assert_eq!(up.call(&["var", "get", "b", "answer", "--wait", "10s"]).text(), "Who?\n");
    assert_eq!(up.call(&["restart", "--hard", "b"]).code, Some(0));
    assert_eq!(up.call(&["var", "list", "b"]).text(), "answer=Who?\nquestion=who?\n");
    assert_eq!(up.call(&["address", "a", "--wait", "10s"]).text(), "10.1.0.1\n");
    let temporary = up.call(&["file", "temp", "a"]).text();
    assert_eq!(up.call(&["file", "exists", &format!("a:{}", temporary.trim())]).code, Some(0));
    assert_eq!(up.call(&["stop", "--hard", "a"]).code, Some(0));
    let folder: serde_json::Value =
        serde_json::from_slice(&up.call(&["file", "ls", "a:/", "--format", "json"]).stdout).unwrap();
    assert!(folder.as_array().unwrap().iter().any(|entry| entry["name"] == "etc"), "{folder}");
}

#[test]
fn waits_end_when_it_holds_or_in_time() {
    let up = Up::with(TWO);
    up.call(&["exec", "-d", "a", "--", "sh", "-c", "sleep 0.2; echo now here > /run/file; exec sleep 84.04"]);
    assert_eq!(up.call(&["wait", "a", "file", "/run/file"]).code, Some(0));
    assert_eq!(up.call(&["wait", "a", "line", "/run/file", "here"]).code, Some(0));
    assert_eq!(up.call(&["wait", "a", "address", "10.1.0.1"]).code, Some(0));
    assert_eq!(up.call(&["wait", "a", "command", "test -e /run/file"]).code, Some(0));
    let late = up.call(&["wait", "a", "port", "7", "--udp", "--timeout", "200ms"]);
    assert!(late.code == Some(1) && late.stderr.contains("not within 0.2 s"), "{late:?}");
    assert_eq!(up.call(&["wait", "a", "nonsense"]).code, Some(2));
}

#[test]
fn status_tells_why_a_service_does_not_run() {
    let up = Up::with("[machines.m.services]\nweb = { run = 'exec sleep 87.07', user = 'daemon' }");
    assert_eq!(up.call(&["exec", "m", "--", "sed", "-i", "/^daemon:/d", "/etc/passwd"]).code, Some(0));
    let restarted = up.call(&["restart", "m"]);
    assert!(restarted.code == Some(3) && restarted.stderr.contains("`web`"), "{restarted:?}");
    let told = up.call(&["status"]).text();
    assert!(told.contains("web (failed: ") && told.contains("daemon"), "{told}");
    let status = up.call(&["status", "--format", "json"]).text();
    assert!(status.contains("daemon"), "{status}");
}

#[test]
fn detached_programs_have_a_number_a_log_and_an_end() {
    let up =
        Up::with("[machines.m]\nservices = { one = 'echo from-one', two = 'echo from-two; sleep 85.05' }");
    let started = up.call(&["exec", "-d", "m", "--", "sh", "-c", "echo begun; exec sleep 86.06"]);
    let pid = started.text().trim().to_owned();
    let service = format!("exec-{pid}");
    eventually("its log is there", || up.call(&["logs", "m", &service]).text() == "begun\n");
    let all = up.call(&["logs", "m"]).text();
    for line in ["one | from-one", "two | from-two", &format!("{service} | begun")] {
        assert!(all.lines().any(|found| found == line), "{line}\n{all}");
    }
    assert!(up.call(&["ps", "m"]).text().contains("sleep 86.06"));
    assert_eq!(up.call(&["kill", "m", &pid]).code, Some(0));
    assert_eq!(up.call(&["wait", "m", "exit", &pid]).code, Some(0));
    let status = up.call(&["status"]).text();
    assert!(status.contains(&format!("{service} (ended: 143)")), "{status}");

    let mut follow = up.folder.command(&["logs", "-f", "m", "two"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "from-two\n");
    follow.kill().unwrap();
    follow.wait().unwrap();
    let missing = up.call(&["logs", "m", "three"]);
    assert!(missing.code == Some(3) && missing.stderr.contains("there are: "), "{missing:?}");
}

#[test]
fn machines_are_paused_and_wrong_states_are_told() {
    let up = Up::with("[machines.m]\n");
    assert_eq!(up.call(&["pause", "m"]).code, Some(0));
    assert!(up.call(&["status"]).text().contains("m        paused"));
    let twice = up.call(&["pause", "m"]);
    assert!(
        twice.code == Some(3) && twice.stderr.contains("m: pause a machine that does not run"),
        "{twice:?}"
    );
    assert_eq!(up.call(&["resume", "m"]).code, Some(0));
    assert_eq!(up.call(&["exec", "m", "true"]).code, Some(0));
}

#[test]
fn a_port_is_reached_by_standard_streams_and_by_ssh() {
    let up = Up::with("[machines.m]\n");
    let listen = "import socket
s = socket.create_server((\"127.0.0.1\", 2222))
while True:
    c, _ = s.accept()
    c.sendall(b\"hello \" + c.recv(100))
    c.close()";
    up.call(&["exec", "-d", "m", "--", "python3", "-c", listen]);
    assert_eq!(up.call(&["wait", "m", "port", "2222"]).code, Some(0));
    let mut command = up.folder.command(&["connect", "m", "2222"]);
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    client.stdin.take().unwrap().write_all(b"you").unwrap();
    let output = client.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello you");
    let config = up.call(&["ssh-config"]).text();
    let proxy = config.lines().find_map(|line| line.trim().strip_prefix("ProxyCommand ")).unwrap();
    let shell = format!("printf you | {}", proxy.replace("%p", "2222"));
    let output = std::process::Command::new("sh").args(["-c", &shell]).current_dir("/").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello you", "{output:?}");
    assert!(config.starts_with("Host m\n"));
}

#[test]
fn tests_on_the_host_and_inside_drive_their_own_copy() {
    let folder = Folder::with(
        "[machines.m]\n[machines.driver]\ncontrol = true\n[machines.narrow]\ncontrol = ['exec:m']
[[tests]]\nname = 'on the host'\non = 'host'
run = 'test \"$(testbed exec m -- hostname)\" = m && testbed exec m -- touch /mark && test -S \"$TESTBED_CONTROL\"'
[[tests]]\nname = 'another copy'\non = 'host'\nrun = 'testbed exec m -- test ! -e /mark && testbed status | grep -q m'
[[tests]]\nname = 'inside'\non = 'driver'
run = 'test \"$(/run/testbed/bin/testbed exec m -- hostname)\" = m'
[[tests]]\nname = 'inside with less'\non = 'narrow'
run = '/run/testbed/bin/testbed exec m true && ! /run/testbed/bin/testbed exec driver true && ! /run/testbed/bin/testbed cp m:/etc/hostname /x'
[[tests]]\nname = 'not down'\non = 'host'\nrun = 'testbed down'\nexpect = 'failure'",
    );
    let called = folder.call(&["run"]);
    assert_eq!(called.code, Some(0), "{called:?}");
    assert!(called.verdict().starts_with("4 passed, 1 failed as expected"), "{called:?}");
}

#[test]
fn completions_name_the_commands() {
    let folder = Folder::empty();
    for shell in ["bash", "zsh", "fish"] {
        let called = folder.call(&["completions", shell]);
        assert!(called.code == Some(0) && called.text().contains("ssh-config"), "{shell}");
    }
}

#[test]
fn every_command_is_in_the_reference() {
    let reference = include_str!("../../../../docs/reference/commands.md");
    let help = Folder::empty().call(&["--help"]).text();
    let listed = help.split("Commands:\n").nth(1).unwrap().lines();
    let names: Vec<&str> = listed
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            // What follows at a column further right goes on with the line before.
            line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?.split(' ').next()
        })
        .filter(|name| *name != "help")
        .collect();
    assert!(names.len() > 20, "{help}");
    for name in names {
        assert!(
            reference.contains(&format!("`testbed {name}")),
            "{name} is not in docs/reference/commands.md"
        );
    }
}

#[test]
fn a_socket_has_a_short_path() {
    let folder = Folder::with("[machines.m]\n[[tests]]\nname = 't'\non = 'host'\nrun = 'true'");
    let long = folder.path().join("x".repeat(120));
    let called = folder.command(&["run"]).env("TESTBED_RUNTIME", &long).output().unwrap();
    let text = String::from_utf8_lossy(&called.stdout);
    assert_eq!(called.status.code(), Some(3), "{text}");
    assert!(text.contains("longer than 107 bytes") && text.contains("set TESTBED_RUNTIME"), "{text}");
    // Who needs no socket needs no folder for it.
    folder.write("testbed.toml", "[machines.m]\n[[tests]]\nname = 't'\non = 'm'\nrun = 'true'");
    let called = folder.command(&["run"]).env("TESTBED_RUNTIME", "/proc/nowhere").output().unwrap();
    assert_eq!(called.status.code(), Some(0), "{called:?}");
}

#[test]
fn the_words_inside_are_words_of_the_host() {
    use testbed_agent::client::{Parsed, parse};
    let help = |words: &[&str]| {
        let words: Vec<String> = words.iter().chain(&["--help"]).map(|word| (*word).to_owned()).collect();
        match parse(&words) {
            Ok(Parsed::Help(text)) => text,
            other => panic!("{words:?}: {other:?}"),
        }
    };
    let folder = Folder::empty();
    let mut compared = 0;
    for line in help(&[]).lines().filter_map(|line| line.strip_prefix("  ")) {
        let name = line.split("  ").next().unwrap_or_default();
        // What the status holds is the same; the host has more ways to show it.
        if name == "status" {
            continue;
        }
        let words: Vec<&str> = name.split(' ').collect();
        let called = folder.call(&[&words[..], &["--help"]].concat());
        assert_eq!((called.code, called.text()), (Some(0), help(&words)), "{name}");
        // What is wrong is wrong on both, and before any testbed is asked for.
        let called = folder.call(&[&words[..], &["--no-such-option"]].concat());
        let code = if name == "exec" { 125 } else { 2 };
        assert_eq!(called.code, Some(code), "{name}");
        assert!(called.stderr.contains("there is no option `--no-such-option`"), "{name}: {called:?}");
        compared += 1;
    }
    assert!(compared > 15, "{compared}");
}
