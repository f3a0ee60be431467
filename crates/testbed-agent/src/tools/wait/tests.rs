use super::super::harness::{self, Net, Started, Streams, start};
use super::*;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;
use std::time::Instant;
use testbed_agent::agent::Tool;

fn begin(condition: Condition) -> Started {
    start(&Tool::Wait(condition), Streams::default())
}

/// The condition holds already.
fn holds(condition: Condition) {
    assert_eq!(begin(condition).end().report(), Report::Done);
}

/// The wait goes on until `cause` has happened, and ends soon after.
#[track_caller]
fn wakes(condition: Condition, cause: impl FnOnce()) {
    let waiting = begin(condition);
    std::thread::sleep(Duration::from_millis(60));
    assert!(!waiting.ended());
    cause();
    let caused = Instant::now();
    assert_eq!(waiting.end().report(), Report::Done);
    // Far below the backstop: an event woke it.
    assert!(caused.elapsed() < Duration::from_millis(250), "{:?}", caused.elapsed());
}

/// The wait does not end by itself.
#[track_caller]
fn goes_on(condition: Condition) {
    let waiting = begin(condition);
    std::thread::sleep(Duration::from_millis(60));
    assert!(!waiting.ended());
    assert_eq!(waiting.stop().fault().kind, FaultKind::Interrupted);
}

#[test]
fn ports() {
    let Some(net) = Net::new() else { return };
    net.enter();
    let port = |udp, port, address: Option<&str>| Condition::Port {
        udp,
        port,
        address: address.map(|address| address.parse().unwrap()),
    };
    let mut held = None;
    wakes(port(false, 700, None), || held = Some(TcpListener::bind("127.0.0.1:700").unwrap()));
    holds(port(false, 700, Some("127.0.0.1")));
    goes_on(port(false, 700, Some("127.0.0.2")));
    goes_on(port(true, 700, None));
    goes_on(port(false, 701, None));
    let _wide = TcpListener::bind("0.0.0.0:702").unwrap();
    holds(port(false, 702, Some("10.1.2.3")));
    goes_on(port(false, 702, Some("fd00::1")));
    let _wide6 = TcpListener::bind("[::]:703").unwrap();
    holds(port(false, 703, Some("fd00::1")));
    holds(port(false, 703, Some("10.1.2.3")));
    let mut held = None;
    wakes(port(true, 704, Some("::1")), || held = Some(UdpSocket::bind("[::1]:704").unwrap()));
    // A connection is no listener.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let at = client.local_addr().unwrap().port();
    goes_on(port(false, at, None));
    assert_eq!(begin(port(false, 0, None)).end().fault().kind, FaultKind::Invalid);
}

#[test]
fn files() {
    let folder = harness::folder();
    let file = |name: &str| Condition::File { path: folder.path(name) };
    std::fs::write(folder.path("there"), "").unwrap();
    holds(file("there"));
    wakes(file("new"), || std::fs::write(folder.path("new"), "").unwrap());
    wakes(file("deep/er/file"), || {
        std::fs::create_dir_all(folder.path("deep/er")).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(folder.path("deep/er/file"), "").unwrap();
    });
    wakes(file("moved"), || std::fs::rename(folder.path("new"), folder.path("moved")).unwrap());
    wakes(file("dangling"), || std::os::unix::fs::symlink("nowhere", folder.path("dangling")).unwrap());
    goes_on(file("there/not-a-folder"));
    let relative = begin(Condition::File { path: "there".into() });
    assert_eq!(relative.end().fault().kind, FaultKind::Invalid);
}

#[test]
fn lines() {
    let folder = harness::folder();
    let log = folder.path("log");
    let line = |text: &str| Condition::Line { path: log.clone(), text: text.into() };
    let append = |text: &str| {
        let mut file = OpenOptions::new().append(true).create(true).open(&log).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    wakes(line("ready"), || append("starting\nready to serve\n"));
    holds(line("starting"));
    // A text that comes in pieces, over the border of two reads.
    append(&"x".repeat(16 * 1024 - 70));
    wakes(line("Initialization Complete"), || {
        append("Initialization Com");
        std::thread::sleep(Duration::from_millis(20));
        append("plete");
    });
    goes_on(line("never there"));
    // Cut and written again, as a log that is rotated by copying.
    wakes(line("second life"), || {
        std::fs::write(&log, "").unwrap();
        append("second life\n");
    });
    // Replaced, as a log that is rotated by renaming.
    wakes(line("third life"), || {
        std::fs::rename(&log, folder.path("log.1")).unwrap();
        append("third life\n");
    });
    for text in ["", "a\nb"] {
        assert_eq!(begin(line(text)).end().fault().kind, FaultKind::Invalid);
    }
}

#[test]
fn processes() {
    let mut child = Command::new("sleep").arg("100").spawn().unwrap();
    let pid = child.id();
    // Not waited for yet: it has ended all the same.
    wakes(Condition::Exit { pid }, || child.kill().unwrap());
    child.wait().unwrap();
    holds(Condition::Exit { pid });
    assert_eq!(begin(Condition::Exit { pid: 0 }).end().fault().kind, FaultKind::Invalid);
}

#[test]
fn addresses_and_routes() {
    let Some(net) = Net::new() else { return };
    net.ip("link add d0 type veth peer name d1; link set d1 up");
    net.enter();
    let address = |text: &str| Condition::Address { address: text.parse().unwrap() };
    let route = |text: &str| Condition::Route { to: text.parse().unwrap() };
    holds(address("127.0.0.1"));
    holds(address("::1"));
    holds(route("127.0.0.1"));
    net.ip("addr add 10.0.0.1/24 dev d0");
    goes_on(address("10.0.0.1"));
    wakes(address("10.0.0.1"), || net.ip("link set d0 up"));
    wakes(address("fd00::1"), || net.ip("-6 addr add fd00::1/64 dev d0 nodad"));
    goes_on(address("10.0.0.2"));
    holds(route("10.0.0.7"));
    wakes(route("192.0.2.1"), || net.ip("route add default via 10.0.0.2"));
    wakes(route("fd07::1"), || net.ip("-6 route add default via fd00::2"));
    net.ip("route add unreachable 198.51.100.0/24");
    goes_on(route("198.51.100.1"));
}

#[test]
fn addresses_under_check_are_not_usable() {
    let (Some(net), Some(other)) = (Net::new(), Net::new()) else { return };
    net.ip(&format!("link add va type veth peer name vb netns {}", other.file()));
    net.set("ipv6/conf/va/accept_dad", "1");
    other.ip("link set vb up");
    net.ip("link set va up");
    net.enter();
    let begun = Instant::now();
    net.ip("-6 addr add fd00::1/64 dev va");
    holds(Condition::Address { address: "fd00::1".parse().unwrap() });
    assert!(begun.elapsed() > Duration::from_millis(300), "the check takes about a second");
    // Usable means that it can be bound now.
    UdpSocket::bind("[fd00::1]:0").unwrap();
}

#[test]
fn commands() {
    let folder = harness::folder();
    let flag = folder.path("flag");
    let shell = |text: String| Condition::Success { program: Program::Shell(text), interval_ms: 10 };
    wakes(shell(format!("test -e {flag}")), || std::fs::write(&flag, "").unwrap());
    let argv = Program::Argv(vec!["test".into(), "-e".into(), flag.clone()]);
    holds(Condition::Success { program: argv, interval_ms: 10 });
    let outcome = begin(shell("echo out; echo err >&2; test $PATH = /usr/bin:/bin".into())).end();
    assert_eq!(outcome.output, b"out\nerr\n");
    goes_on(shell("exec sleep 100".into()));
    goes_on(Condition::Success { program: Program::Argv(vec!["no-such-program".into()]), interval_ms: 10 });
    let nothing = Condition::Success { program: Program::Argv(vec![]), interval_ms: 10 };
    assert_eq!(begin(nothing).end().fault().kind, FaultKind::Invalid);
}
