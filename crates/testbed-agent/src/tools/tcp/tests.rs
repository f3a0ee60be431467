use super::super::harness::{self, Net, Outcome, Streams, start};
use super::*;
use std::time::Duration;
use testbed_agent::agent::Tool;

fn connect_to(to: SocketAddr, read: Option<u64>) -> Tool {
    Tool::TcpConnect { to, from: None, wait_ms: 3000, read }
}

fn listen_at(at: SocketAddr, accept: u32, greeting: &[u8], echo: bool) -> Tool {
    Tool::TcpListen { at, accept, greeting: greeting.to_vec(), echo }
}

fn counts(outcome: Outcome) -> (u64, u64) {
    match outcome.report() {
        Report::Connection { sent, received, .. } => (sent, received),
        other => panic!("{other:?}"),
    }
}

#[test]
fn much_data_goes_both_ways_at_once() {
    let Some(net) = Net::new() else { return };
    net.enter();
    let content: Vec<u8> = (0..2_000_000u32).flat_map(u32::to_le_bytes).collect();
    let size = content.len() as u64;
    for at in ["127.0.0.1:700", "[::1]:700"] {
        let at: SocketAddr = at.parse().unwrap();
        let server = start(&listen_at(at, 1, b"", true), Streams::default()).ready();
        let client = harness::run(&connect_to(at, None), Streams::input(content.clone()));
        assert!(client.output == content);
        assert_eq!(counts(client), (size, size));
        let server = server.end();
        assert!(server.output == content);
        let Report::Connections { first, all } = server.report() else { panic!() };
        assert_eq!((all, first[0].0.ip(), first[0].1), (1, at.ip(), size));
    }
}

#[test]
fn a_greeting_is_read_and_connections_follow_one_another() {
    let Some(net) = Net::new() else { return };
    net.enter();
    let at: SocketAddr = "127.0.0.1:701".parse().unwrap();
    let server = start(&listen_at(at, 3, b"hello", false), Streams::default()).ready();
    for text in ["one ", "two ", "three"] {
        let client = harness::run(&connect_to(at, None), Streams::input(text.into()));
        assert_eq!(client.output, b"hello");
        assert_eq!(counts(client), (text.len() as u64, 5));
    }
    let server = server.end();
    assert_eq!(server.output, b"one two three");
    let Report::Connections { first, all: 3 } = server.report() else { panic!() };
    assert_eq!(first.iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>(), [4, 4, 5]);
}

#[test]
fn reading_can_be_limited() {
    let Some(net) = Net::new() else { return };
    net.enter();
    let at: SocketAddr = "127.0.0.1:702".parse().unwrap();
    let server = start(&listen_at(at, 0, b"0123456789", true), Streams::default()).ready();
    let some = harness::run(&connect_to(at, Some(4)), Streams::default());
    assert_eq!(some.output, b"0123");
    let none = harness::run(&connect_to(at, Some(0)), Streams::input(b"only sent".to_vec()));
    assert_eq!(none.output, b"");
    assert_eq!(counts(none), (9, 0));
    let outcome = server.stop();
    assert!(matches!(outcome.report(), Report::Connections { all: 2.., .. }));
}

#[test]
fn refusal_silence_and_nonsense_are_told_apart() {
    let Some(net) = Net::new() else { return };
    net.ip("link add d0 type veth peer name d1; addr add 10.0.0.1/24 dev d0; link set d0 up; link set d1 up;
            neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev d0");
    net.enter();
    let run = |tool: &Tool| harness::run(tool, Streams::default()).fault();
    let refused = run(&connect_to("127.0.0.1:9".parse().unwrap(), None));
    assert_eq!(refused.errno, Some(libc::ECONNREFUSED));
    assert_eq!(refused.operation, "connect to 127.0.0.1:9");
    let unreachable = run(&connect_to("192.0.2.1:9".parse().unwrap(), None));
    assert_eq!(unreachable.errno, Some(libc::ENETUNREACH));
    let to = "10.0.0.2:9".parse().unwrap();
    let started = Instant::now();
    let silent = run(&Tool::TcpConnect { to, from: None, wait_ms: 60, read: None });
    assert_eq!(silent.kind, FaultKind::Timeout);
    assert!((60..1000).contains(&started.elapsed().as_millis()));
    let foreign = Some("10.0.0.9".parse().unwrap());
    let from = run(&Tool::TcpConnect { to, from: foreign, wait_ms: 60, read: None });
    assert_eq!(from.errno, Some(libc::EADDRNOTAVAIL));
    let taken: SocketAddr = "127.0.0.1:703".parse().unwrap();
    let _holder = TcpListener::bind(taken).unwrap();
    let twice = run(&listen_at(taken, 1, b"", false));
    assert_eq!(twice.hint.as_deref(), Some("something else listens there"));
}

#[test]
fn the_own_address_can_be_chosen() {
    let Some(net) = Net::new() else { return };
    net.ip("addr add 10.0.0.5/32 dev lo");
    net.enter();
    let at: SocketAddr = "127.0.0.1:704".parse().unwrap();
    let server = start(&listen_at(at, 1, b"", false), Streams::default()).ready();
    let from = "10.0.0.5".parse().unwrap();
    let client = Tool::TcpConnect { to: at, from: Some(from), wait_ms: 1000, read: None };
    let Report::Connection { local, peer, .. } = harness::run(&client, Streams::default()).report() else {
        panic!()
    };
    assert_eq!((local.ip(), peer), (from, at));
    let Report::Connections { first, .. } = server.end().report() else { panic!() };
    assert_eq!(first, [(local, 0)]);
}

#[test]
fn a_client_that_breaks_off_does_not_end_the_listener() {
    let Some(net) = Net::new() else { return };
    net.enter();
    let at: SocketAddr = "127.0.0.1:705".parse().unwrap();
    let server = start(&listen_at(at, 2, &vec![7; 3_000_000], false), Streams::default()).ready();
    let client = TcpStream::connect(at).unwrap();
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    let whole = harness::run(&connect_to(at, Some(3_000_000)), Streams::default());
    assert_eq!(whole.output.len(), 3_000_000);
    let Report::Connections { all, .. } = server.end().report() else { panic!() };
    assert_eq!(all, 2);
}
