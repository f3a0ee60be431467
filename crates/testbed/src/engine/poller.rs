//! The thread that reads all links of a process.

use super::link::{Link, Next, lock};
use rustix::event::epoll;
use rustix::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, LazyLock, Mutex};

struct Poller {
    poll: OwnedFd,
    links: Mutex<HashMap<u64, Arc<Link>>>,
}

static POLLER: LazyLock<io::Result<Arc<Poller>>> = LazyLock::new(|| {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let poller = Arc::new(Poller { poll, links: Mutex::default() });
    let its = Arc::clone(&poller);
    std::thread::Builder::new().name("testbed-poller".into()).spawn(move || its.run())?;
    Ok(poller)
});

fn poller() -> io::Result<&'static Arc<Poller>> {
    POLLER.as_ref().map_err(|e| io::Error::new(e.kind(), e.to_string()))
}

/// Reads a link from now on, until it closes. One that goes through another is read where that is.
///
/// # Errors
/// Those of epoll_ctl(2), or of starting the thread.
pub(crate) fn watch(link: &Arc<Link>) -> io::Result<()> {
    let (poller, Some(socket)) = (poller()?, link.socket()) else { return Ok(()) };
    let key = socket.as_raw_fd() as u64;
    lock(&poller.links).insert(key, Arc::clone(link));
    epoll::add(&poller.poll, socket, epoll::EventData::new_u64(key), epoll::EventFlags::IN)?;
    Ok(())
}

/// Has what waits in a link written as soon as its socket takes it.
pub(super) fn wants_to_write(socket: BorrowedFd<'_>) {
    let Ok(poller) = poller() else { return };
    let data = epoll::EventData::new_u64(socket.as_raw_fd() as u64);
    // A link that is closed meanwhile has nothing to write.
    let _ = epoll::modify(&poller.poll, socket, data, epoll::EventFlags::IN | epoll::EventFlags::OUT);
}

impl Poller {
    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            for event in &events {
                let key = event.data.u64();
                let Some(link) = lock(&self.links).get(&key).cloned() else { continue };
                let Some(socket) = link.socket() else { continue };
                let flags = event.flags;
                let writable = flags.contains(epoll::EventFlags::OUT);
                match link.turn(flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP)) {
                    Next::Read if writable => {
                        let data = epoll::EventData::new_u64(key);
                        let _ = epoll::modify(&self.poll, socket, data, epoll::EventFlags::IN);
                        // Whoever had something to write in between asked for it in vain.
                        if link.waiting() > 0 {
                            wants_to_write(socket);
                        }
                    }
                    Next::Read => {}
                    Next::ReadAndWrite => wants_to_write(socket),
                    Next::Write => {
                        let data = epoll::EventData::new_u64(key);
                        let _ = epoll::modify(&self.poll, socket, data, epoll::EventFlags::OUT);
                    }
                    Next::Close => {
                        let _ = epoll::delete(&self.poll, socket);
                        lock(&self.links).remove(&key);
                    }
                }
            }
        }
    }
}
