use crate::{SOON, up};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use testbed::net::forward;
use testbed_agent::FaultKind;

const SERVER: &str = r#"
    [networks]
    lan = { subnet = ["10.0.0.0/24", "fd00::/64"] }
    [machines.server]
    interfaces = { lan = ["10.0.0.1", "fd00::1"] }
    ports = { "127.0.0.1:8080" = 7 }
"#;

/// Echoes; told the addresses to listen at.
const ECHO: &str = r#"
import socket, sys, threading
def serve(c):
    while data := c.recv(65536): c.sendall(data)
    c.close()
def listen(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.create_server((address, 7), family=family, backlog=200)
    while True: threading.Thread(target=serve, args=(s.accept()[0],)).start()
listen(sys.argv[1])
"#;

const ANY: &str = "127.0.0.1:0";

fn exchange(at: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let copy = bytes.to_vec();
    let sender = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    sender.join().unwrap();
    back
}

#[test]
fn a_published_port_relays_both_ways_wherever_the_service_listens() {
    for address in ["127.0.0.1", "0.0.0.0", "10.0.0.1", "fd00::1", "::1"] {
        let bed = up(SERVER);
        let (_running, _pipes) = bed["server"].command(["python3", "-c", ECHO, address]).spawn().unwrap();
        bed["server"].wait_for_port(7, SOON).unwrap();
        let published = bed.publish_ports(|_, _| ANY.parse().unwrap()).unwrap();
        assert_eq!((published.len(), published[0].port), (1, 7));
        let text: Vec<u8> = (0..3_000_000_u32).map(|n| ((n * 7) >> 3) as u8).collect();
        assert!(exchange(published[0].host, &text) == text, "{address}");
        // Many at once, and each gets its own.
        let many: Vec<_> = (0..50_u8)
            .map(|n| {
                let at = published[0].host;
                std::thread::spawn(move || assert_eq!(exchange(at, &[n; 999]), [n; 999]))
            })
            .collect();
        many.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn a_port_that_nobody_listens_on_ends_the_connection() {
    let bed = up(SERVER);
    let forward = bed.publish("server", 7, ANY.parse().unwrap()).unwrap();
    let mut stream = TcpStream::connect(forward.local_addr()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let end = stream.read(&mut [0; 10]);
    assert!(matches!(end, Ok(0)) || end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    let fault = bed.connect("server", 7, SOON).unwrap_err();
    assert_eq!(fault.errno, Some(111), "{fault}");
    assert_eq!(bed.publish("nobody", 7, ANY.parse().unwrap()).unwrap_err().kind, FaultKind::NotFound);
    let at = forward.local_addr();
    drop(forward);
    assert!(TcpStream::connect(at).is_err(), "the port is closed with its forward");
}

#[test]
fn connections_end_with_their_machine() {
    let bed = up(SERVER);
    let (_running, _pipes) = bed["server"].command(["python3", "-c", ECHO, "0.0.0.0"]).spawn().unwrap();
    bed["server"].wait_for_port(7, SOON).unwrap();
    let forward = bed.publish("server", 7, ANY.parse().unwrap()).unwrap();
    let mut stream = TcpStream::connect(forward.local_addr()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let start = Instant::now();
    bed["server"].kill(SOON).unwrap();
    assert!(matches!(stream.read(&mut [0; 10]), Ok(0) | Err(_)));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_connection_on_standard_streams_is_a_proxy_command() {
    let bed = up(SERVER);
    let (_running, _pipes) = bed["server"].command(["python3", "-c", ECHO, "127.0.0.1"]).spawn().unwrap();
    bed["server"].wait_for_port(7, SOON).unwrap();
    let socket = bed.connect("server", 7, SOON).unwrap();
    let mut back = Vec::new();
    forward::join(socket, &b"there and back"[..], &mut back).unwrap();
    assert_eq!(back, b"there and back");
}
