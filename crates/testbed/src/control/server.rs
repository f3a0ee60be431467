//! The socket that clients on the host come by.

use super::asks::Holder;
use super::session::Session;
use crate::bed::Bed;
use crate::engine::link::{Handler, Link, lock};
use crate::engine::poller;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::Mode;
use std::fmt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::JoinHandle;
use testbed_agent::frame::{Frame, FrameError, Hello, Kind};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// The most clients at a time. Further ones are turned away.
const MOST_CLIENTS: usize = 256;

/// Serves a testbed to clients on the host. Dropped, it lets them go and removes its socket.
pub struct Server {
    path: PathBuf,
    bell: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    clients: Arc<Clients>,
}

#[derive(Default)]
struct Clients {
    links: Mutex<Vec<Weak<Link>>>,
}

impl Server {
    /// Listens at this path, for processes of this user and of root. It does not keep the testbed alive.
    ///
    /// # Errors
    /// A path that is too long (unix(7): 107 bytes) or taken, and limits of the system.
    pub fn start(path: &Path, bed: &Bed, holder: Option<Arc<dyn Holder>>) -> Result<Server, Fault> {
        let shown = path.to_string_lossy();
        let listener = UnixListener::bind(path).doing_to("listen at", shown.clone())?;
        rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR).doing_to("protect", shown)?;
        listener.set_nonblocking(true).doing("listen")?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).doing("make an eventfd")?;
        let bell = Arc::new(bell);
        let clients = Arc::new(Clients::default());
        let (rung, its, bed) = (Arc::clone(&bell), Arc::clone(&clients), bed.downgrade());
        let thread = std::thread::Builder::new()
            .name("testbed-control".into())
            .spawn(move || {
                let greet = |stream| its.admit(stream, Session::of_host(bed.clone(), holder.clone()));
                accept(&listener, &rung, &greet);
            })
            .doing("start a thread")?;
        Ok(Server { path: path.to_owned(), bell, thread: Some(thread), clients })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.path.display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A counter that is full is readable.
        let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was told when it happened.
            let _ = thread.join();
        }
        // Whoever removed it before wanted the same.
        let _ = std::fs::remove_file(&self.path);
        for link in lock(&self.clients.links).drain(..).filter_map(|link| link.upgrade()) {
            link.close(Fault::new(FaultKind::State, "the testbed has ended"));
        }
    }
}

fn accept(listener: &UnixListener, bell: &OwnedFd, greet: &dyn Fn(UnixStream) -> Result<(), Fault>) {
    loop {
        let mut polled = [PollFd::new(listener, PollFlags::IN), PollFd::new(bell, PollFlags::IN)];
        // Interrupted or not, what counts is what is ready.
        let _ = poll(&mut polled, None);
        if !polled[1].revents().is_empty() {
            return;
        }
        match listener.accept() {
            // One that cannot be served finds its connection closed.
            Ok((stream, _)) => drop(greet(stream)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // Too many descriptors: who comes waits in the kernel's queue until there may be some again.
            Err(_) => {
                let soon = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
                let _ = poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&soon));
            }
        }
    }
}

impl Clients {
    fn admit(&self, stream: UnixStream, session: Arc<Session>) -> Result<(), Fault> {
        let peer = rustix::net::sockopt::socket_peercred(stream.as_fd()).doing("look at a client")?;
        if peer.uid != rustix::process::geteuid() && !peer.uid.is_root() {
            return Err(Fault::new(FaultKind::Denied, "serve another user"));
        }
        let mut links = lock(&self.links);
        links.retain(|link| link.upgrade().is_some_and(|link| link.gone().is_none()));
        if links.len() >= MOST_CLIENTS {
            return Err(Fault::new(FaultKind::Exhausted, "serve more clients"));
        }
        let its = Arc::new(OnceLock::new());
        let handler =
            Box::new(ClientHandler { session, greeted: AtomicBool::new(false), link: Arc::clone(&its) });
        let link = Arc::new(Link::new("client", stream.into(), 2, handler).doing("serve a client")?);
        // It is new.
        let _ = its.set(Arc::downgrade(&link));
        link.send(0, Kind::Hello, &Hello::ours(), Vec::new())?;
        links.push(Arc::downgrade(&link));
        drop(links);
        poller::watch(&link).doing("serve a client")
    }
}

struct ClientHandler {
    session: Arc<Session>,
    greeted: AtomicBool,
    link: Arc<OnceLock<Weak<Link>>>,
}

impl Handler for ClientHandler {
    fn take(&self, _: &Link, frame: Frame, fds: Vec<OwnedFd>) -> Result<(), FrameError> {
        if frame.kind == Kind::Hello {
            frame.message::<Hello>("hello")?.agree()?;
            self.greeted.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let greeted = self.greeted.load(Ordering::Relaxed);
        match self.link.get().and_then(Weak::upgrade) {
            Some(link) if greeted && frame.channel % 2 == 1 => self.session.take(&link, &frame, &fds),
            _ => Err(FrameError::Body("direction")),
        }
    }

    fn closed(&self, _: &Fault) {
        self.session.closed();
    }
}
