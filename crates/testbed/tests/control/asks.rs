//! What the keeper itself is asked.

use crate::{Served, eventually, runs, shell};
use std::time::{Duration, Instant};
use testbed::FaultKind;
use testbed::control::agent::{Note, Program, Request, Run, Steer};
use testbed::control::{Answer, Ask, Client, Condition, Happening, Talk};

const TWO: &str = "[networks]\nlan = { subnet = '10.1.0.0/24' }
[machines.a]\ninterfaces = { lan = '10.1.0.1' }\nservices = { noise = 'echo first; sleep 0.3; echo second; sleep 72.02' }
[machines.b]\ninterfaces = { lan = '10.1.0.2' }\nports = { 18080 = 80 }\n";

fn next(talk: &mut Talk) -> Happening {
    talk.next(Some(Instant::now() + Duration::from_secs(20))).unwrap()
}

fn reaches(client: &Client, to: &str) -> bool {
    use testbed::control::agent::{Reply, Report, Sink, Source, Tool, Tooling};
    let target = to.parse().unwrap();
    let tool = Tool::Ping { target, count: 1, interval_ms: 0, wait_ms: 300, size: 8, interface: None };
    let tooling = Tooling { tool, input: Source::Null, output: Sink::Null, deadline_ms: None, device: None };
    match client.request("a", Request::Tool(tooling)).unwrap() {
        Reply::Ended { report: Some(Report::Ping { received, .. }), .. } => received == 1,
        other => panic!("{other:?}"),
    }
}

#[test]
fn status_tells_what_there_is() {
    let served = Served::up(TWO);
    let status = served.client().status().unwrap();
    assert_eq!(status.networks, ["lan"]);
    let [a, b] = &status.machines[..] else { panic!("{status:?}") };
    assert_eq!((a.name.as_str(), a.condition), ("a", Condition::Running));
    assert_eq!(a.interfaces[0].addresses, ["10.1.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!((a.services[0].name.as_str(), a.services[0].ended), ("noise", None));
    assert_eq!((b.ports[0].port, b.ports[0].host), (80, served.bed.ports()[0].host));
    let root = std::fs::read_link(format!("/proc/{}/ns/pid", b.pid.unwrap())).unwrap();
    assert_ne!(root, std::fs::read_link("/proc/self/ns/pid").unwrap());
}

#[test]
fn machines_are_cut_paused_and_killed() {
    let served = Served::up(TWO);
    let client = served.client();
    let link = |cut| Ask::Link { machine: "b".into(), network: Some("lan".into()), cut };
    assert!(reaches(&client, "10.1.0.2"));
    assert_eq!(client.ask(&link(true)).unwrap(), Answer::Done);
    assert!(!reaches(&client, "10.1.0.2"));
    client.ask(&link(false)).unwrap();
    assert!(reaches(&client, "10.1.0.2"));

    let machine = || "b".to_owned();
    client.ask(&Ask::Pause { machine: machine() }).unwrap();
    assert_eq!(client.status().unwrap().machines[1].condition, Condition::Paused);
    let twice = client.ask(&Ask::Pause { machine: machine() }).unwrap_err();
    assert_eq!((twice.kind, twice.machine.as_deref()), (FaultKind::State, Some("b")));
    client.ask(&Ask::Resume { machine: machine() }).unwrap();
    client.ask(&Ask::KillMachine { machine: machine() }).unwrap();
    let stopped = client.status().unwrap();
    assert_eq!((stopped.machines[1].condition, stopped.machines[1].pid), (Condition::Stopped, None));
    for ask in [Ask::Pause { machine: machine() }, Ask::KillMachine { machine: machine() }] {
        assert_eq!(client.ask(&ask).unwrap_err().kind, FaultKind::State, "{ask:?}");
    }
    assert_eq!(client.ask(&Ask::Down).unwrap_err().kind, FaultKind::State);
}

#[test]
fn files_of_a_machine_that_has_ended_are_at_hand_until_it_starts() {
    let served = Served::up("[machines.m]\n");
    let (client, bed) = (served.client(), &served.bed);
    bed["m"].write_file("/srv/before", 0o644, b"kept").unwrap();
    bed["m"].kill(Duration::from_secs(10)).unwrap();
    let stat = |path: &str| client.request("m", Request::Stat { path: path.into() });
    assert_eq!(stat("/srv/before").unwrap_err().kind, FaultKind::State);
    client.ask(&Ask::Files { machine: "m".into() }).unwrap();
    assert!(stat("/srv/before").is_ok());
    // It has files, and no programs.
    assert_eq!(client.request("m", shell("true")).unwrap_err().kind, FaultKind::State);
    let put = Request::Put { path: "/srv/meanwhile".into(), mode: 0o600, content: b"new".to_vec() };
    client.request("m", put).unwrap();
    assert_eq!(bed["m"].condition(), Condition::Stopped);
    bed.start("m").unwrap();
    assert_eq!(bed["m"].read_file("/srv/meanwhile").unwrap(), b"new");
    assert_eq!(bed["m"].read_file("/srv/before").unwrap(), b"kept");

    // The same above a snapshot, which is not touched by it.
    bed["m"].kill(Duration::from_secs(10)).unwrap();
    bed.snapshot("ended", &[]).unwrap();
    bed.files("m").unwrap().write_file("/srv/before", 0o644, b"changed").unwrap();
    bed.start("m").unwrap();
    assert_eq!(bed["m"].read_file("/srv/before").unwrap(), b"changed");
    bed.rollback("ended", &[]).unwrap();
    assert_eq!(bed["m"].read_file("/srv/before").unwrap(), b"kept");

    bed["m"].kill(Duration::from_secs(10)).unwrap();
    let files = bed.files("m").unwrap();
    bed.kill(Duration::from_secs(10)).unwrap();
    assert_eq!(files.condition(), Condition::Stopped);
}

#[test]
fn a_capture_comes_live_and_ends_when_told() {
    let served = Served::up(TWO);
    let client = served.client();
    let ask = |filter: &str, count| Ask::Capture {
        network: "lan".into(),
        filter: filter.into(),
        count,
        snap: 0,
        deadline_ms: None,
    };
    let mut talk = client.begin(&ask("icmp", 0)).unwrap();
    let mut bytes = Vec::new();
    let mut ready = false;
    while !ready {
        match next(&mut talk) {
            Happening::Note(Note::Ready) => ready = true,
            Happening::Data(_, more) => bytes.extend(more),
            other => panic!("{other:?}"),
        }
    }
    assert!(reaches(&client, "10.1.0.2"));
    let mut packets = 0;
    while packets < 2 {
        let Happening::Data(_, more) = next(&mut talk) else { panic!("no packets") };
        bytes.extend(more);
        // Enhanced packet blocks (pcapng, section 4.3) of 42 bytes and more.
        packets = bytes.windows(4).filter(|w| *w == 6_u32.to_le_bytes()).count();
    }
    talk.steer(&Steer::Signal(2)).unwrap();
    let captured = loop {
        if let Happening::Answer(Answer::Captured { packets, .. }) = next(&mut talk) {
            break packets;
        }
    };
    assert_eq!(captured, 2);
    let wrong = client.begin(&ask("no such word", 1)).unwrap().next(None).unwrap_err();
    assert_eq!(wrong.kind, FaultKind::Invalid);
}

#[test]
fn logs_are_followed_and_programs_go_on_by_themselves() {
    let served = Served::up(TWO);
    let client = served.client();
    let logs = |service: &str, follow| Ask::Logs { machine: "a".into(), service: service.into(), follow };
    let mut talk = client.begin(&logs("noise", true)).unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"second\n") {
        if let Happening::Data(_, bytes) = next(&mut talk) {
            seen.extend(bytes);
        }
    }
    assert_eq!(seen, b"first\nsecond\n");
    talk.steer(&Steer::Signal(15)).unwrap();
    assert!(matches!(next(&mut talk), Happening::Answer(Answer::Done)));
    let missing = client.ask(&logs("nose", false)).unwrap_err();
    assert_eq!(missing.hint.as_deref(), Some("there are: noise"));

    let Request::Run(run) = shell("echo begun; sleep 73.03") else { unreachable!() };
    let ask = Ask::Start { machine: "a".into(), run };
    let Answer::Started { pid } = client.ask(&ask).unwrap() else { panic!("it was not started") };
    drop(client);
    let client = served.client();
    eventually("its log is kept", || {
        let mut talk = client.begin(&logs(&format!("exec-{pid}"), false)).unwrap();
        matches!(next(&mut talk), Happening::Data(_, bytes) if bytes == b"begun\n")
    });
    assert!(runs(&served.bed, "a", "sleep 73.03"));
    let program = Program::Argv(vec!["/no/such/program".into()]);
    let (env, cwd, user, deadline_ms) = (Vec::new(), None, None, None);
    let Request::Run(Run { stdio, .. }) = shell("") else { unreachable!() };
    let run = Run { program, script: None, env, cwd, user, stdio, deadline_ms };
    assert!(client.ask(&Ask::Start { machine: "a".into(), run }).is_err());
}

#[test]
fn a_connection_carries_both_ways() {
    let served = Served::up(
        r#"
        [machines.m]
        ready = { port = 7 }
        [machines.m.services]
        echo = """exec python3 -c '
import socket
s = socket.create_server(("127.0.0.1", 7))
c, _ = s.accept()
while (b := c.recv(65536)): c.sendall(b.upper())'
"""
        "#,
    );
    let client = served.client();
    let connect = |port| Ask::Connect { machine: "m".into(), port, wait_ms: 5000 };
    let mut talk = client.begin(&connect(7)).unwrap();
    assert!(matches!(next(&mut talk), Happening::Note(Note::Ready)));
    let credit = talk.credit();
    let sender = std::thread::spawn(move || {
        assert!(credit.send(&vec![b'a'; 1_000_000]));
        credit.finish();
    });
    let mut back = Vec::new();
    loop {
        match next(&mut talk) {
            Happening::Data(_, bytes) => back.extend(bytes),
            Happening::Answer(Answer::Done) => break,
            other => panic!("{other:?}"),
        }
    }
    sender.join().unwrap();
    assert!(back.len() == 1_000_000 && back.iter().all(|b| *b == b'A'), "{}", back.len());
    let refused = client.begin(&connect(9)).unwrap().next(None).unwrap_err();
    assert_eq!((refused.kind, refused.machine.as_deref()), (FaultKind::System, Some("m")));
}
