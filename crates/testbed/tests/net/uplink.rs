use crate::{SOON, ping, reaches, up_with};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testbed::bed::{self, Bed};
use testbed::net::uplink::Options;
use testbed_agent::agent::{Report, Tool};

const OUT: &str = r#"
    [networks]
    lan = { subnet = ["10.77.0.0/24", "fd77::/64"], uplink = true }
    [machines.a]
    interfaces = { lan = ["10.77.0.10", "fd77::10"] }
    [machines.b]
    interfaces = { lan = ["10.77.0.11", "fd77::11"] }
"#;

/// An address of this host that is not its loopback: what stands for the world, as far as a test may go.
fn world() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let found = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()).ok();
    let found = found.map(|a| a.ip()).filter(|ip| !ip.is_loopback());
    assert!(found.is_some() || std::env::var_os("TESTBED_STRICT").is_none(), "this host has no address");
    if found.is_none() {
        eprintln!("SKIPPED: the host has no address but its loopback");
    }
    found
}

fn open() -> Options {
    Options { to_host: true, ..Options::default() }
}

fn bed(options: &Options) -> Bed {
    up_with(OUT, &bed::Options { uplink: options.clone(), ..bed::Options::default() })
}

fn gateway() -> IpAddr {
    Ipv4Addr::new(10, 77, 0, 1).into()
}

/// A server on this host whose connections each are served by `serve`.
fn serve(at: IpAddr, serve: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((at, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

fn echo(mut stream: std::net::TcpStream) {
    let mut buffer = [0; 65536];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

fn python(bed: &Bed, script: &str) -> String {
    let output = bed["a"].command(["python3", "-c", script]).output().unwrap();
    assert!(output.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.text().trim().to_owned()
}

#[test]
fn the_gateway_answers_and_nothing_but_tcp_and_udp_passes() {
    let bed = bed(&Options::default());
    assert!(reaches(&bed, "a", "10.77.0.1"));
    assert!(reaches(&bed, "b", "fd77::1"));
    assert_eq!(ping(&bed, "a", "10.77.0.1", 20, 1400).0, 20);
    let (received, refused) = ping(&bed, "a", "198.51.100.1", 1, 8);
    assert_eq!(received, 0);
    assert!(refused.unwrap().contains("10.77.0.1"));
    assert!(reaches(&bed, "a", "10.77.0.11"), "neighbours are reached as ever");
}

#[test]
fn connections_are_opened_again_from_the_host() {
    let Some(world) = world() else { return };
    let bed = bed(&open());
    let server = serve(world, echo);
    let (at, port) = (server.ip(), server.port());
    let text = python(
        &bed,
        &format!(
            "
import socket, threading, hashlib
s = socket.create_connection(('{at}', {port}))
data = bytes((n * 7 >> 3) & 255 for n in range(1000)) * 4000
threading.Thread(target=lambda: (s.sendall(data), s.shutdown(1))).start()
h = hashlib.sha256(); n = 0
while d := s.recv(65536): h.update(d); n += len(d)
print(n, h.digest() == hashlib.sha256(data).digest())
"
        ),
    );
    assert_eq!(text, "4000000 True");
}

#[test]
fn endings_and_refusals_arrive_as_they_are() {
    let Some(world) = world() else { return };
    let bed = bed(&open());
    // The server ends first, and still hears the rest.
    let (told, heard) = std::sync::mpsc::channel();
    let server = serve(world, move |mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        told.send(rest).unwrap();
    });
    let at = (server.ip(), server.port());
    let text = python(
        &bed,
        &format!(
            "
import socket
s = socket.create_connection(('{}', {}))
print(s.recv(9), s.recv(9))
s.sendall(b'still here'); s.close()
",
            at.0, at.1
        ),
    );
    assert_eq!(text, "b'bye' b''");
    assert_eq!(heard.recv_timeout(SOON).unwrap(), "still here");
    // Nobody listens: refused at once.
    let closed = TcpListener::bind((world, 0)).unwrap().local_addr().unwrap();
    let start = Instant::now();
    let connect = Tool::TcpConnect { to: closed, from: None, wait_ms: 5000, read: None };
    let fault = bed["a"].tool(connect, SOON).unwrap_err();
    assert_eq!(fault.errno, Some(111), "{fault}");
    assert!(start.elapsed() < Duration::from_secs(2));
    // A reset is a reset; one that comes before the machine has its connection is a refusal to it.
    let server = serve(world, |stream| {
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    let text = python(
        &bed,
        &format!(
            "
import socket
try: print(socket.create_connection(('{}', {})).recv(9))
except (ConnectionResetError, ConnectionRefusedError): print('reset')
",
            server.ip(),
            server.port()
        ),
    );
    assert_eq!(text, "reset");
}

#[test]
fn the_host_cannot_be_reached_unless_it_is_asked_for() {
    let Some(world) = world() else { return };
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = hits.clone();
    let on_all = serve("0.0.0.0".parse().unwrap(), move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let port = on_all.port();
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    udp.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let bed = bed(&Options::default());
    for to in [world, gateway(), "127.0.0.1".parse().unwrap(), "169.254.169.254".parse().unwrap()] {
        let to = SocketAddr::new(to, port);
        let connect = Tool::TcpConnect { to, from: None, wait_ms: 500, read: None };
        assert!(bed["a"].tool(connect, SOON).is_err(), "{to}");
    }
    // Straight to the gateway's link address: the machine's own routes do not keep it from trying.
    let script = format!("
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0))
def check(b): 
    t = sum(struct.unpack('>%dH' % (len(b) // 2), b)); t = (t >> 16) + (t & 65535); t += t >> 16
    return ~t & 65535
ip = lambda a: socket.inet_aton(a)
for to in ['127.0.0.1', '0.0.0.0', '{world}', '10.77.0.1']:
    for proto, body in [(6, struct.pack('>HHIIBBHHH', 4444, {port}, 1, 0, 0x50, 2, 1000, 0, 0)), (17, struct.pack('>HHHH', 4444, {}, 8, 0))]:
        pseudo = ip('10.77.0.10') + ip(to) + struct.pack('>BBH', 0, proto, len(body))
        body = body[:16] + struct.pack('>H', check(pseudo + body)) + body[18:] if proto == 6 else body
        head = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(body), 1, 0, 64, proto, 0, ip('10.77.0.10'), ip(to))
        head = head[:10] + struct.pack('>H', check(head)) + head[12:]
        s.send(bytes.fromhex('067570000000') + b'\\x02' + b'\\0' * 5 + b'\\x08\\0' + head + body)
", udp.local_addr().unwrap().port());
    python(&bed, &script);
    let send = Tool::UdpSend {
        to: SocketAddr::new(world, udp.local_addr().unwrap().port()),
        payload: b"x".to_vec(),
        wait_ms: 100,
    };
    let _ = bed["a"].tool(send, SOON);
    assert!(udp.recv(&mut [0; 10]).is_err(), "no datagram reached the host");
    assert_eq!(hits.load(Ordering::SeqCst), 0, "no connection reached the host");
}

#[test]
fn datagrams_find_their_way_and_back() {
    let Some(world) = world() else { return };
    let bed = bed(&open());
    let server = UdpSocket::bind((world, 0)).unwrap();
    let to = server.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok((_, from)) = server.recv_from(&mut buffer) {
            // More than one packet of the network carries.
            server.send_to(&[buffer[0]; 9000], from).unwrap();
        }
    });
    let send = |to| Tool::UdpSend { to, payload: b"Q".to_vec(), wait_ms: 2000 };
    for _ in 0..3 {
        match bed["a"].tool(send(to), SOON).unwrap() {
            Report::Datagrams { first, all: 1 } => assert_eq!(first, [(to, vec![b'Q'; 9000])]),
            other => panic!("{other:?}"),
        }
    }
    let nobody = UdpSocket::bind((world, 0)).unwrap().local_addr().unwrap();
    let fault = bed["a"].tool(send(nobody), SOON);
    assert!(fault.as_ref().is_err_and(|f| f.errno == Some(111)), "told that nobody is there: {fault:?}");
}

#[test]
fn port_53_of_the_gateway_is_the_host_s_name_server() {
    // The name server may be the host's own, on its loopback.
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let tcp = TcpListener::bind(address).unwrap();
    thread::spawn(move || echo(tcp.accept().unwrap().0));
    thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((length, from)) = server.recv_from(&mut buffer) {
            buffer[..length].reverse();
            server.send_to(&buffer[..length], from).unwrap();
        }
    });
    // The first one is dead: the second is asked when the machine asks again.
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bed = bed(&Options { name_servers: vec![dead, address], ..Options::default() });
    assert_eq!(bed["a"].succeed("cat /etc/resolv.conf").unwrap().trim(), "nameserver 10.77.0.1");
    let to = SocketAddr::new(gateway(), 53);
    let ask = || bed["a"].tool(Tool::UdpSend { to, payload: b"abc".to_vec(), wait_ms: 1000 }, SOON);
    let _ = ask();
    match ask().unwrap() {
        Report::Datagrams { first, .. } => assert_eq!(first, [(to, b"cba".to_vec())]),
        other => panic!("{other:?}"),
    }
    let text = python(
        &bed,
        "
import socket
s = socket.create_connection(('10.77.0.1', 53)); s.sendall(b'by tcp'); print(s.recv(9))
",
    );
    assert_eq!(text, "b'by tcp'");
}

#[test]
fn many_connections_wait_for_their_turn() {
    let Some(world) = world() else { return };
    let bed = bed(&Options { connections: 50, ..open() });
    let server = serve(world, echo);
    let text = python(
        &bed,
        &format!(
            "
import socket, threading
done = []
def one(n):
    s = socket.create_connection(('{}', {})); s.sendall(b'%d' % n)
    if s.recv(9) == b'%d' % n: done.append(n)
    s.close()
threads = [threading.Thread(target=one, args=(n,)) for n in range(300)]
for t in threads: t.start()
for t in threads: t.join()
print(len(done))
",
            server.ip(),
            server.port()
        ),
    );
    assert_eq!(text, "300");
}

#[test]
fn downloads_are_fast_enough() {
    let Some(world) = world() else { return };
    const BYTES: usize = 64 << 20;
    let bed = bed(&open());
    let server = serve(world, |mut stream| {
        let chunk = vec![7; 1 << 16];
        for _ in 0..BYTES >> 16 {
            stream.write_all(&chunk).unwrap();
        }
    });
    let start = Instant::now();
    let text = python(
        &bed,
        &format!(
            "
import socket
s = socket.create_connection(('{}', {})); n = 0
while d := s.recv(1 << 18): n += len(d)
print(n)
",
            server.ip(),
            server.port()
        ),
    );
    let took = start.elapsed();
    assert_eq!(text, BYTES.to_string());
    eprintln!("{:.0} MB/s down", BYTES as f64 / 1e6 / took.as_secs_f64());
    let received = Arc::new(AtomicUsize::new(0));
    let counted = received.clone();
    let server = serve(world, move |mut stream| {
        let mut buffer = vec![0; 1 << 18];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            counted.fetch_add(length, Ordering::SeqCst);
        }
        stream.write_all(b"k").unwrap();
    });
    let start = Instant::now();
    python(
        &bed,
        &format!(
            "
import socket
s = socket.create_connection(('{}', {})); s.sendall(bytes({BYTES})); s.shutdown(1); s.recv(1)
",
            server.ip(),
            server.port()
        ),
    );
    assert_eq!(received.load(Ordering::SeqCst), BYTES);
    eprintln!("{:.0} MB/s up", BYTES as f64 / 1e6 / start.elapsed().as_secs_f64());
    assert!(took < Duration::from_secs(20), "{took:?}");
}
