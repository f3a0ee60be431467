//! The way out of a machine that builds a layer: an HTTP proxy on its own loopback.
//!
//! The machine has no links and no name server: a program asks the proxy for an absolute URI, or for a tunnel by
//! CONNECT (RFC 9110 §9.3.6, RFC 9112 §3.2), and this process opens the connection from where it is, through the proxy
//! of the site if there is one. No rule, link or forwarding of the host is touched, and what the machine cannot say in
//! HTTP does not get out. What trusts this host alone stays out of reach: its loopback, and what link-local addresses
//! lead to, as the metadata of clouds.

mod request;
mod site;

use crate::engine::Engine;
use crate::net::uplink::{Policy, Refusal};
use request::{Request, authority};
use rustix::fd::AsFd as _;
use rustix::io::ioctl_fionbio;
use rustix::net::{bind, listen};
use site::Site;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use testbed_agent::launch::Order;
use testbed_agent::{Doing as _, Fault};

pub use site::SiteProxy;

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
    /// Starts one for the machine with this number at the launcher. It gets out through the proxies of the site, and
    /// to mirrors wherever they are.
    pub(super) fn start(
        engine: &Engine,
        machine: u32,
        site: &SiteProxy,
        mirrors: &[String],
    ) -> Result<Proxy, Fault> {
        let way = Way::new(site, mirrors)?;
        Proxy::serve(listener_of(engine, machine)?, way)
    }

    fn serve(listener: TcpListener, way: Way) -> Result<Proxy, Fault> {
        let address = listener.local_addr().doing("listen in the builder")?;
        let listener = Arc::new(listener);
        let ended = Arc::new(AtomicBool::new(false));
        let (ours, stop) = (Arc::clone(&listener), Arc::clone(&ended));
        let thread = std::thread::Builder::new().name("image-proxy".into());
        let thread = thread.spawn(move || accept(&ours, &stop, &Arc::new(way))).doing("start the proxy")?;
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

fn accept(listener: &TcpListener, ended: &AtomicBool, way: &Arc<Way>) {
    let open = Arc::new(AtomicUsize::new(0));
    while let Ok((client, _)) = listener.accept() {
        if ended.load(Ordering::Acquire) {
            return;
        }
        if open.fetch_add(1, Ordering::AcqRel) >= MOST_CONNECTIONS {
            open.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (count, way) = (Arc::clone(&open), Arc::clone(way));
        let carried = std::thread::Builder::new().name("image-proxy".into()).spawn(move || {
            // A connection that fails is the machine's matter: it sees it end.
            let _ = carry(client, &way);
            count.fetch_sub(1, Ordering::AcqRel);
        });
        if carried.is_err() {
            open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The requests of one connection: to one server, since each is answered with `Connection: close`.
fn carry(client: TcpStream, way: &Way) -> io::Result<()> {
    client.set_read_timeout(Some(IDLE))?;
    client.set_write_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(client.try_clone()?);
    let head = read_head(&mut reader)?;
    let Some(request) = Request::parse(&head) else { return refuse(&client, "400 Bad Request") };
    let (server, already) = match way.open(&request) {
        Ok(opened) => opened,
        Err(status) => return refuse(&client, &status),
    };
    if request.tunnel {
        (&client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        (&client).write_all(&already)?;
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

/// How a builder's connections get out.
struct Way {
    site: Site,
    policy: Mutex<Policy>,
    /// Hosts and ports that are reached wherever they are: mirrors that this host is set to use.
    mirrors: Vec<(String, u16)>,
}

/// What a client is told that asks for the host itself.
const PROHIBITED: &str = "403 This host itself is out of the reach of builds";
/// And one for whom the site's proxy does not answer.
const NO_SITE_PROXY: &str = "502 The proxy of the site cannot be reached";
const FAILED: &str = "502 Bad Gateway";

impl Way {
    fn new(site: &SiteProxy, mirrors: &[String]) -> Result<Way, Fault> {
        let place = |uri: &String| {
            let (scheme, rest) = uri.split_once("://")?;
            let place = rest.split('/').next()?;
            authority(place, Some(if scheme == "https" { 443 } else { 80 }))
        };
        Ok(Way {
            site: Site::new(site)?,
            // What may be reached from everywhere may be reached from here: only what is this host's alone may not.
            policy: Mutex::new(Policy::new(true).doing("open netlink")?),
            mirrors: mirrors.iter().filter_map(place).collect(),
        })
    }

    /// Connects to the server of a request, and tells it what is asked. What a tunnel's other end has said already
    /// comes with it.
    ///
    /// # Errors
    /// The status that the client is answered with.
    fn open(&self, request: &Request) -> Result<(TcpStream, Vec<u8>), String> {
        let Request { host, port, tunnel, .. } = request;
        let io = |_| FAILED.to_owned();
        let mirror = self.is_mirror(host, *port);
        if !mirror {
            self.check_name(host, *port)?;
        }
        if let Some(upstream) = self.site.on_the_way(host, *port, *tunnel) {
            let addresses = (upstream.host.as_str(), upstream.port).to_socket_addrs();
            let server = addresses.and_then(connect).map_err(|_| NO_SITE_PROXY.to_owned())?;
            let head = request.to_proxy(upstream.authorization.as_deref());
            (&server).write_all(head.as_bytes()).map_err(io)?;
            return if *tunnel { established(server) } else { Ok((server, Vec::new())) };
        }
        let found = (host.as_str(), *port).to_socket_addrs().map_err(io)?;
        let addresses: Vec<SocketAddr> = found.collect();
        let allowed = addresses.iter().copied().filter(|address| mirror || self.allows(address.ip()));
        let allowed: Vec<SocketAddr> = allowed.collect();
        if allowed.is_empty() && !addresses.is_empty() {
            return Err(PROHIBITED.to_owned());
        }
        let server = connect(allowed).map_err(io)?;
        if !tunnel {
            (&server).write_all(request.to_server().as_bytes()).map_err(io)?;
        }
        Ok((server, Vec::new()))
    }

    /// What is known of a name without a name server: another proxy finds out itself where it leads.
    fn check_name(&self, host: &str, port: u16) -> Result<(), String> {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let last = name.rsplit('.').next().unwrap_or_default();
        let numeric = name.contains(':') || last.starts_with(|c: char| c.is_ascii_digit());
        let here = if numeric {
            let mut addresses = (host, port).to_socket_addrs().map_err(|_| FAILED.to_owned())?;
            addresses.any(|address| !self.allows(address.ip()))
        } else {
            // All names below it, too (RFC 6761 §6.3).
            last == "localhost"
        };
        if here { Err(PROHIBITED.to_owned()) } else { Ok(()) }
    }

    fn allows(&self, address: IpAddr) -> bool {
        // A place without a route is refused by the kernel, with its own words.
        let policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        policy.check(address.to_canonical()) != Err(Refusal::Prohibited)
    }

    fn is_mirror(&self, host: &str, port: u16) -> bool {
        self.mirrors.iter().any(|(name, at)| name.eq_ignore_ascii_case(host) && *at == port)
    }
}

/// Waits until a proxy has opened a tunnel.
fn established(server: TcpStream) -> Result<(TcpStream, Vec<u8>), String> {
    let mut reader = BufReader::new(&server);
    let head = read_head(&mut reader).map_err(|_| FAILED.to_owned())?;
    let line = head.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let status = line.split_once(' ').map_or("", |(_, status)| status);
    if !status.starts_with('2') {
        let known = status.len() >= 3 && status.bytes().take(3).all(|byte| byte.is_ascii_digit());
        return Err(if known { status.to_owned() } else { FAILED.to_owned() });
    }
    let already = reader.buffer().to_vec();
    Ok((server, already))
}

fn connect(addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each connection with what it was told, and passes it on to the test.
    struct Server {
        at: SocketAddr,
        heads: std::sync::mpsc::Receiver<String>,
    }

    /// A server on this host's loopback that answers each head so.
    fn server(answer: &'static str) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let (tell, heads) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let head = read_head(&mut BufReader::new(stream.try_clone().unwrap())).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                if tell.send(String::from_utf8(head).unwrap()).is_err() {
                    return;
                }
            }
        });
        Server { at, heads }
    }

    fn proxy(site: &SiteProxy, mirrors: &[SocketAddr]) -> Proxy {
        let mirrors = mirrors.iter().map(|at| format!("http://{at}/debian")).collect::<Vec<_>>();
        let way = Way::new(site, &mirrors).unwrap();
        Proxy::serve(TcpListener::bind(("127.0.0.1", 0)).unwrap(), way).unwrap()
    }

    fn ask(proxy: &Proxy, request: &str) -> String {
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    const OK: &str = "HTTP/1.1 200 OK\r\n\r\nbody";

    #[test]
    fn what_a_server_says_comes_back_and_the_proxy_ends() {
        let server = server(OK);
        let proxy = proxy(&SiteProxy::default(), &[server.at]);
        let at = server.at;
        assert_eq!(ask(&proxy, &format!("GET http://{at}/x HTTP/1.1\r\nHost: {at}\r\n\r\n")), OK);
        assert!(server.heads.recv().unwrap().starts_with("GET /x HTTP/1.1\r\n"));
        let address = proxy.address();
        drop(proxy);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn this_host_and_what_is_only_next_to_it_are_refused() {
        let server = server(OK);
        let port = server.at.port();
        let elsewhere = SiteProxy { http: Some(format!("{}", server.at)), ..SiteProxy::default() };
        let elsewhere = SiteProxy { https: elsewhere.http.clone(), ..elsewhere };
        for site in [SiteProxy::default(), elsewhere] {
            let proxy = proxy(&site, &[]);
            for host in [
                "127.0.0.1",
                "127.1",
                "0x7f000001",
                "127.9.9.9",
                "localhost",
                "LocalHost.",
                "a.localhost",
                "0.0.0.0",
                "[::1]",
                "[::]",
                "[::ffff:127.0.0.1]",
                "169.254.169.254",
                "[::ffff:a9fe:a9fe]",
                "[fe80::1]",
                "[fd00:ec2::254]",
                "100.100.100.200",
            ] {
                let asked = [
                    format!("GET http://{host}:{port}/ HTTP/1.1\r\n\r\n"),
                    format!("CONNECT {host}:{port} HTTP/1.1\r\n\r\n"),
                ];
                for request in asked {
                    let answer = ask(&proxy, &request);
                    assert!(answer.starts_with("HTTP/1.1 403 "), "{request}: {answer}");
                }
            }
        }
        assert!(server.heads.try_recv().is_err(), "something reached the host");
    }

    #[test]
    fn a_proxy_of_the_site_is_gone_through_wherever_it_is() {
        let (site_proxy, direct) = (server(OK), server(OK));
        let site = SiteProxy {
            http: Some(format!("http://u:p@{}", site_proxy.at)),
            https: None,
            except: Some("127.0.0.1".into()),
        };
        let proxy = proxy(&site, &[direct.at]);
        let request = "GET http://nowhere.invalid/x?y HTTP/1.1\r\nHost: nowhere.invalid\r\n\r\n";
        assert_eq!(ask(&proxy, request), OK);
        let head = site_proxy.heads.recv().unwrap();
        assert!(head.starts_with("GET http://nowhere.invalid/x?y HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nProxy-Authorization: Basic dTpw\r\n"), "{head}");
        // `no_proxy` names it, and it is a mirror: it is reached without.
        assert_eq!(ask(&proxy, &format!("GET http://{}/d HTTP/1.1\r\n\r\n", direct.at)), OK);
        assert!(direct.heads.recv().unwrap().starts_with("GET /d "));
        assert!(site_proxy.heads.try_recv().is_err());
    }

    #[test]
    fn tunnels_go_through_the_proxy_of_the_site() {
        let opens = server("HTTP/1.1 200 Fine\r\nVia: it\r\n\r\nhello");
        let site = SiteProxy { https: Some(opens.at.to_string()), ..SiteProxy::default() };
        let tunnel = "CONNECT nowhere.invalid:443 HTTP/1.1\r\n\r\n";
        let answer = ask(&proxy(&site, &[]), tunnel);
        assert_eq!(answer, "HTTP/1.1 200 Connection established\r\n\r\nhello");
        let head = opens.heads.recv().unwrap();
        assert_eq!(head, "CONNECT nowhere.invalid:443 HTTP/1.1\r\nHost: nowhere.invalid:443\r\n\r\n");
        let refuses = server("HTTP/1.1 407 Who are you\r\n\r\n");
        let site = SiteProxy { https: Some(refuses.at.to_string()), ..SiteProxy::default() };
        let answer = ask(&proxy(&site, &[]), tunnel);
        assert!(answer.starts_with("HTTP/1.1 407 Who are you\r\n"), "{answer}");
        let nonsense = server("SSH-2.0-here\r\n\r\n");
        let site = SiteProxy { https: Some(nonsense.at.to_string()), ..SiteProxy::default() };
        assert!(ask(&proxy(&site, &[]), tunnel).starts_with("HTTP/1.1 502 "));
        let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let site = SiteProxy { https: Some(closed.to_string()), ..SiteProxy::default() };
        let answer = ask(&proxy(&site, &[]), tunnel);
        assert!(answer.starts_with("HTTP/1.1 502 The proxy of the site "), "{answer}");
    }
}
