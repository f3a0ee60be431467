//! The way out of a machine that builds a layer: an HTTP proxy on its own loopback.
//!
//! The machine has no links and no name server: a program asks the proxy for an absolute URI, or for a tunnel by
//! CONNECT (RFC 9110 §9.3.6, RFC 9112 §3.2), and this process opens the connection from where it is. No rule, link or
//! forwarding of the host is touched, and what the machine cannot say in HTTP does not get out.

use crate::engine::Engine;
use rustix::fd::AsFd as _;
use rustix::io::ioctl_fionbio;
use rustix::net::{bind, listen};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use testbed_agent::launch::Order;
use testbed_agent::{Doing as _, Fault};

/// The most connections at a time; those above it are closed at once.
const MOST_CONNECTIONS: usize = 64;
/// The longest head of a request, in bytes.
const LONGEST_HEAD: u64 = 64 * 1024;
/// How long connecting may take, and how long a connection may stand still.
const CONNECT: Duration = Duration::from_secs(20);
const IDLE: Duration = Duration::from_secs(120);

/// A proxy that a machine reaches at [`Proxy::address`]. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts one for the machine with this number at the launcher.
    pub(super) fn start(engine: &Engine, machine: u32) -> Result<Proxy, Fault> {
        Proxy::serve(listener_of(engine, machine)?)
    }

    fn serve(listener: TcpListener) -> Result<Proxy, Fault> {
        let address = listener.local_addr().doing("listen in the builder")?;
        let listener = Arc::new(listener);
        let ended = Arc::new(AtomicBool::new(false));
        let (ours, stop) = (Arc::clone(&listener), Arc::clone(&ended));
        let thread = std::thread::Builder::new().name("image-proxy".into());
        let thread = thread.spawn(move || accept(&ours, &stop)).doing("start the proxy")?;
        Ok(Proxy { address, listener, ended, thread: Some(thread) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // It wakes the thread that accepts (listen(2) on Linux: accept fails with EINVAL).
        let _ = rustix::net::shutdown(self.listener.as_fd(), rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A listener on the loopback of a machine: a socket that the launcher opened in the machine's network stays in it,
/// whoever binds it.
fn listener_of(engine: &Engine, machine: u32) -> Result<TcpListener, Fault> {
    let socket = engine.open(&Order::OpenSocket { machine, ipv6: false })?;
    let listen = || -> rustix::io::Result<()> {
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        listen(&socket, MOST_CONNECTIONS as i32)?;
        // It comes as one that does not wait.
        ioctl_fionbio(&socket, false)
    };
    listen().doing("listen in the builder")?;
    Ok(TcpListener::from(socket))
}

fn accept(listener: &TcpListener, ended: &AtomicBool) {
    let open = Arc::new(AtomicUsize::new(0));
    while let Ok((client, _)) = listener.accept() {
        if ended.load(Ordering::Acquire) {
            return;
        }
        if open.fetch_add(1, Ordering::AcqRel) >= MOST_CONNECTIONS {
            open.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let count = Arc::clone(&open);
        let carried = std::thread::Builder::new().name("image-proxy".into()).spawn(move || {
            // A connection that fails is the machine's matter: it sees it end.
            let _ = carry(client);
            count.fetch_sub(1, Ordering::AcqRel);
        });
        if carried.is_err() {
            open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The requests of one connection: to one server, since each is answered with `Connection: close`.
fn carry(client: TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(IDLE))?;
    client.set_write_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(client.try_clone()?);
    let head = read_head(&mut reader)?;
    let Some(request) = Request::parse(&head) else { return refuse(&client, "400 Bad Request") };
    let server = match connect(&request.host, request.port) {
        Ok(server) => server,
        Err(_) => return refuse(&client, "502 Bad Gateway"),
    };
    if request.head.is_empty() {
        (&client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        (&server).write_all(&request.head)?;
    }
    // What the client has sent with its head goes on.
    (&server).write_all(reader.buffer())?;
    let back = (server.try_clone()?, client.try_clone()?);
    std::thread::scope(|scope| {
        scope.spawn(move || pass(&back.0, &back.1));
        pass(&client, &server);
    });
    Ok(())
}

fn refuse(mut client: &TcpStream, status: &str) -> io::Result<()> {
    write!(client, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// Passes bytes on until one side ends or stands still.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(server) => {
                server.set_read_timeout(Some(IDLE))?;
                server.set_write_timeout(Some(IDLE))?;
                server.set_nodelay(true)?;
                return Ok(server);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn read_head(reader: &mut BufReader<impl Read>) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut limited = reader.take(LONGEST_HEAD);
    loop {
        let before = head.len();
        if limited.read_until(b'\n', &mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if matches!(&head[before..], b"\r\n" | b"\n") {
            return Ok(head);
        }
    }
}

/// A request to a proxy.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    host: String,
    port: u16,
    /// What the server is told; nothing for a tunnel.
    head: Vec<u8>,
}

impl Request {
    fn parse(head: &[u8]) -> Option<Request> {
        let text = std::str::from_utf8(head).ok()?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || !version.starts_with("HTTP/1.") {
            return None;
        }
        if method == "CONNECT" {
            let (host, port) = authority(target, None)?;
            return Some(Request { host, port, head: Vec::new() });
        }
        let rest = target.strip_prefix("http://")?;
        let (place, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = authority(place, Some(80))?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let mut sent = format!("{method} {slash}{path} HTTP/1.1\r\n");
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, _) = line.split_once(':')?;
            let of_this_hop = ["connection", "proxy-connection", "keep-alive", "proxy-authorization"];
            if !of_this_hop.iter().any(|known| name.eq_ignore_ascii_case(known)) {
                sent.push_str(line);
                sent.push_str("\r\n");
            }
        }
        sent.push_str("Connection: close\r\n\r\n");
        Some(Request { host, port, head: sent.into_bytes() })
    }
}

/// `host`, `host:port` or `[v6]:port`.
fn authority(text: &str, port: Option<u16>) -> Option<(String, u16)> {
    if text.contains('@') {
        return None;
    }
    let (host, rest) = match text.strip_prefix('[') {
        Some(text) => text.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(number) => number.parse().ok()?,
        None if rest.is_empty() => port?,
        None => return None,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_to_servers_as_they_expect_them() {
        let head = b"GET http://deb.example:8080/a?b HTTP/1.1\r\nHost: deb.example\r\nConnection: keep-alive\r\n\r\n";
        let request = Request::parse(head).unwrap();
        assert_eq!((request.host.as_str(), request.port), ("deb.example", 8080));
        assert_eq!(request.head, b"GET /a?b HTTP/1.1\r\nHost: deb.example\r\nConnection: close\r\n\r\n");
        let tunnel = Request::parse(b"CONNECT [::1]:443 HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!((tunnel.host.as_str(), tunnel.port, tunnel.head.len()), ("::1", 443, 0));
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "CONNECT host HTTP/1.1\r\n\r\n",
            "GET http://user@host/ HTTP/1.1\r\n\r\n",
            "GET http:///x HTTP/1.1\r\n\r\n",
            "GET http://h/ SMTP\r\n\r\n",
            "\r\n",
        ] {
            assert_eq!(Request::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_a_server_says_comes_back_and_the_proxy_ends() {
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let at = server.local_addr().unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let head = read_head(&mut BufReader::new(stream.try_clone().unwrap())).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nbody").unwrap();
            head
        });
        let proxy = Proxy::serve(TcpListener::bind(("127.0.0.1", 0)).unwrap()).unwrap();
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        write!(client, "GET http://{at}/x HTTP/1.1\r\nHost: {at}\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "HTTP/1.1 200 OK\r\n\r\nbody");
        assert!(served.join().unwrap().starts_with(b"GET /x HTTP/1.1\r\n"));
        let address = proxy.address();
        drop(proxy);
        assert!(TcpStream::connect(address).is_err());
    }
}
