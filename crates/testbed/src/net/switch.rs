//! The learning switch in user space: it connects a network's trunk with ports that are not macvlan ports.
//!
//! The kernel puts on the trunk what is for everybody and what is for addresses that it does not know; what is written
//! to the trunk reaches the machine it is for. The switch has one thread for all its ports.

use super::wake::{Bell, until};
use rustix::event::epoll;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Instant;
use testbed_agent::{Doing as _, Fault, FaultKind};

/// The largest frame: no interface of a network has a larger MTU than 65,521 bytes.
pub const MOST_FRAME: usize = 65_536;
/// Addresses that are remembered. A machine that makes up more of them makes the switch forget and flood.
const MOST_ADDRESSES: usize = 8192;
/// Frames that are read from the trunk before ports have their turn.
const BURST: usize = 64;

/// The address of an interface on its link.
pub type Mac = [u8; 6];

/// What hangs on a switch: an uplink, a virtual machine's stream, a relay that impairs.
pub trait Port: Send {
    /// Called once, on the switch's thread. The port registers its descriptors.
    ///
    /// # Errors
    /// What keeps the port from working; it is not attached then.
    fn begin(&mut self, watch: Watch) -> io::Result<()>;

    /// A frame comes out of the switch. Frames that the port answers with go to `out`.
    fn frame(&mut self, frame: &[u8], out: &mut Frames);

    /// A descriptor that was registered with this key is ready. Frames that come into the switch go to `out`.
    fn ready(&mut self, key: u32, flags: epoll::EventFlags, out: &mut Frames);

    /// Nothing comes of it any more: another port may have its place.
    fn is_gone(&self) -> bool {
        false
    }

    /// When to call [`Port::expire`] at the latest.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The deadline has passed.
    fn expire(&mut self, now: Instant, out: &mut Frames) {
        let _ = (now, out);
    }
}

/// Where a port registers its descriptors.
#[derive(Clone, Debug)]
pub struct Watch {
    poll: Arc<OwnedFd>,
    port: u32,
}

impl Watch {
    /// Registers a descriptor. It is forgotten when it is closed.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn add(&self, fd: impl AsFd, key: u32, flags: epoll::EventFlags) -> io::Result<()> {
        let data = epoll::EventData::new_u64(u64::from(self.port) << 32 | u64::from(key));
        Ok(epoll::add(&*self.poll, fd, data, flags)?)
    }
}

/// Frames one behind the other.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Frames {
    /// Adds a frame of `length` bytes that `fill` writes.
    pub fn push_with<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let start = self.bytes.len();
        self.bytes.resize(start + length, 0);
        self.ends.push(start + length);
        fill(&mut self.bytes[start..])
    }

    /// Adds a frame.
    pub fn push(&mut self, frame: &[u8]) {
        self.push_with(frame.len(), |room| room.copy_from_slice(frame));
    }

    /// All frames.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets them, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// A switch that runs. Dropping it ends it, with its ports.
#[derive(Debug)]
pub struct Switch {
    bell: Arc<Bell>,
    /// None once it is to end.
    orders: Option<Sender<Attach>>,
    thread: Option<JoinHandle<()>>,
}

struct Attach {
    port: Box<dyn Port>,
    done: Sender<io::Result<()>>,
}

impl Switch {
    /// Starts a switch on a trunk, as the launcher hands it over: a descriptor that does not wait and carries one whole
    /// Ethernet frame a read or write. Without one it has its ports alone.
    ///
    /// # Errors
    /// Limits of the system.
    pub fn start(trunk: Option<OwnedFd>) -> Result<Switch, Fault> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).doing("make a poll")?;
        let bell = Arc::new(Bell::new().doing("make a bell")?);
        let data = |key| epoll::EventData::new_u64(u64::from(OWN) << 32 | key);
        if let Some(trunk) = &trunk {
            epoll::add(&poll, trunk, data(TRUNK), epoll::EventFlags::IN).doing("watch the trunk")?;
        }
        epoll::add(&poll, &*bell, data(BELL), epoll::EventFlags::IN).doing("watch the bell")?;
        let (orders, received) = channel();
        let plane = Plane {
            poll: Arc::new(poll),
            trunk,
            bell: bell.clone(),
            orders: received,
            ports: Vec::new(),
            places: HashMap::new(),
        };
        let thread = std::thread::Builder::new()
            .name("testbed-switch".into())
            .spawn(move || plane.live())
            .doing("start the switch")?;
        Ok(Switch { bell, orders: Some(orders), thread: Some(thread) })
    }

    /// Attaches a port; it works when this returns.
    ///
    /// # Errors
    /// What the port's [`Port::begin`] says.
    pub fn attach(&self, port: Box<dyn Port>) -> Result<(), Fault> {
        let gone = || Fault::new(FaultKind::State, "attach a port to a switch that has ended");
        let (done, answer) = channel();
        let orders = self.orders.as_ref().ok_or_else(gone)?;
        orders.send(Attach { port, done }).map_err(|_| gone())?;
        self.bell.ring();
        answer.recv().map_err(|_| gone())?.doing("attach a port")
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.orders = None;
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was told when it happened.
            let _ = thread.join();
        }
    }
}

/// The number of the switch itself among those of ports, for its own descriptors.
const OWN: u32 = u32::MAX;
const TRUNK: u64 = 0;
const BELL: u64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Trunk,
    Port(usize),
}

struct Plane {
    poll: Arc<OwnedFd>,
    trunk: Option<OwnedFd>,
    bell: Arc<Bell>,
    orders: Receiver<Attach>,
    ports: Vec<Box<dyn Port>>,
    places: HashMap<Mac, Place>,
}

impl Plane {
    fn live(mut self) {
        let mut events = Vec::with_capacity(64);
        let mut buffer = vec![0_u8; MOST_FRAME];
        let mut out = Frames::default();
        loop {
            events.clear();
            let wait = self.ports.iter().filter_map(|p| p.deadline()).min().map(until);
            match epoll::wait(&*self.poll, rustix::buffer::spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            for event in &events {
                let (number, key) = ((event.data.u64() >> 32) as u32, event.data.u64() & 0xffff_ffff);
                match (number, key) {
                    (OWN, TRUNK) => {
                        if !self.read_trunk(&mut buffer) {
                            return;
                        }
                    }
                    (OWN, _) => {
                        if !self.take_orders() {
                            return;
                        }
                    }
                    (number, key) => {
                        let Some(port) = self.ports.get_mut(number as usize) else { continue };
                        port.ready(key as u32, event.flags, &mut out);
                        self.pass_all(number as usize, &mut out);
                    }
                }
            }
            let now = Instant::now();
            for number in 0..self.ports.len() {
                if self.ports[number].deadline().is_some_and(|d| d <= now) {
                    self.ports[number].expire(now, &mut out);
                    self.pass_all(number, &mut out);
                }
            }
        }
    }

    /// Returns whether the switch goes on.
    fn take_orders(&mut self) -> bool {
        self.bell.hush();
        loop {
            match self.orders.try_recv() {
                Ok(Attach { mut port, done }) => {
                    let gone = self.ports.iter().position(|port| port.is_gone());
                    let number = gone.unwrap_or(self.ports.len());
                    let begun = port.begin(Watch { poll: self.poll.clone(), port: number as u32 });
                    match (&begun, gone) {
                        (Ok(()), Some(number)) => self.ports[number] = port,
                        (Ok(()), None) => self.ports.push(port),
                        (Err(_), _) => {}
                    }
                    // Whoever asked may have lost interest.
                    let _ = done.send(begun);
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Returns whether the trunk lives.
    fn read_trunk(&mut self, buffer: &mut [u8]) -> bool {
        let mut out = Frames::default();
        for _ in 0..BURST {
            let Some(trunk) = &self.trunk else { return false };
            match rustix::io::read(trunk, &mut *buffer) {
                Ok(0) => return false,
                Ok(length) => self.take_from_trunk(&buffer[..length], &mut out),
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn take_from_trunk(&mut self, frame: &[u8], out: &mut Frames) {
        let Some((to, from)) = addresses(frame) else { return };
        self.learn(from, Place::Trunk);
        match self.places.get(&to) {
            Some(Place::Trunk) => {}
            Some(Place::Port(number)) => self.deliver(*number, frame, out),
            None => (0..self.ports.len()).for_each(|number| self.deliver(number, frame, out)),
        }
    }

    /// Hands a frame to a port, and passes on what it answers.
    fn deliver(&mut self, number: usize, frame: &[u8], out: &mut Frames) {
        self.ports[number].frame(frame, out);
        self.pass_all(number, out);
    }

    /// Passes on frames that came from a port.
    fn pass_all(&mut self, from: usize, out: &mut Frames) {
        if out.is_empty() {
            return;
        }
        let frames = std::mem::take(out);
        for frame in frames.iter() {
            let Some((to, source)) = addresses(frame) else { continue };
            self.learn(source, Place::Port(from));
            let place = self.places.get(&to).copied();
            // What is for another port is for nobody there, but captures see it. A full trunk drops, as a network does.
            if let Some(trunk) = &self.trunk {
                let _ = rustix::io::write(trunk, frame);
            }
            match place {
                Some(Place::Port(other)) if other != from => self.deliver(other, frame, out),
                Some(_) => {}
                None => {
                    for other in (0..self.ports.len()).filter(|n| *n != from) {
                        self.deliver(other, frame, out);
                    }
                }
            }
        }
        *out = frames;
        out.clear();
    }

    fn learn(&mut self, address: Mac, place: Place) {
        if is_group(address) || self.places.get(&address) == Some(&place) {
            return;
        }
        if self.places.len() >= MOST_ADDRESSES {
            self.places.clear();
        }
        self.places.insert(address, place);
    }
}

/// Destination and source of a frame.
fn addresses(frame: &[u8]) -> Option<(Mac, Mac)> {
    let (to, rest) = frame.split_first_chunk::<6>()?;
    Some((*to, *rest.first_chunk()?))
}

/// The address of more than one interface, IEEE 802-2014 clause 8.2.
fn is_group(address: Mac) -> bool {
    address[0] & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    /// A port that is one end of a pair of sockets.
    struct Socket(UnixDatagram);

    impl Port for Socket {
        fn begin(&mut self, watch: Watch) -> io::Result<()> {
            self.0.set_nonblocking(true)?;
            watch.add(&self.0, 0, epoll::EventFlags::IN)
        }

        fn frame(&mut self, frame: &[u8], _: &mut Frames) {
            self.0.send(frame).unwrap();
        }

        fn ready(&mut self, _: u32, _: epoll::EventFlags, out: &mut Frames) {
            let mut frame = [0; 2000];
            while let Ok(length) = self.0.recv(&mut frame) {
                out.push(&frame[..length]);
            }
        }
    }

    fn pair() -> (UnixDatagram, OwnedFd) {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::io::ioctl_fionbio(&b, true).unwrap();
        let a = UnixDatagram::from(a);
        a.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (a, b)
    }

    fn frame(to: u8, from: u8, word: u8) -> Vec<u8> {
        let address = |last: u8| if last == 0xff { [0xff; 6] } else { [2, 0, 0, 0, 0, last] };
        [&address(to)[..], &address(from), &[8, 0, word]].concat()
    }

    fn received(end: &UnixDatagram) -> Vec<u8> {
        let mut bytes = [0; 2000];
        let length = end.recv(&mut bytes).expect("a frame within five seconds");
        bytes[..length].to_vec()
    }

    fn silent(ends: &[&UnixDatagram]) {
        for end in ends {
            end.set_nonblocking(true).unwrap();
            assert!(end.recv(&mut [0; 10]).is_err(), "a frame that was meant for others");
            end.set_nonblocking(false).unwrap();
        }
    }

    #[test]
    fn frames_go_where_their_address_was_seen_and_everywhere_before() {
        let (trunk, inner) = pair();
        let switch = Switch::start(Some(inner)).unwrap();
        let ports: Vec<UnixDatagram> = (0..2)
            .map(|_| {
                let (outside, inside) = pair();
                switch.attach(Box::new(Socket(inside.into()))).unwrap();
                outside
            })
            .collect();
        let [a, b] = &ports[..] else { panic!() };
        // Not seen yet: to all.
        trunk.send(&frame(1, 9, 1)).unwrap();
        assert_eq!(received(a), frame(1, 9, 1));
        assert_eq!(received(b), frame(1, 9, 1));
        // `a` answers: to the trunk, where 9 was seen, only.
        a.send(&frame(9, 1, 2)).unwrap();
        assert_eq!(received(&trunk), frame(9, 1, 2));
        // Now 1 is known to be at `a`.
        trunk.send(&frame(1, 9, 3)).unwrap();
        assert_eq!(received(a), frame(1, 9, 3));
        b.send(&frame(1, 2, 4)).unwrap();
        assert_eq!(received(a), frame(1, 2, 4));
        // Where captures see it.
        assert_eq!(received(&trunk), frame(1, 2, 4));
        // Broadcasts reach all others, once, and do not come back.
        b.send(&frame(0xff, 2, 5)).unwrap();
        assert_eq!(received(a), frame(0xff, 2, 5));
        assert_eq!(received(&trunk), frame(0xff, 2, 5));
        // What is between two on the trunk is the kernel's.
        trunk.send(&frame(9, 8, 6)).unwrap();
        trunk.send(&frame(2, 9, 7)).unwrap();
        assert_eq!(received(b), frame(2, 9, 7));
        // An address that moves is found again.
        b.send(&frame(9, 1, 8)).unwrap();
        assert_eq!(received(&trunk), frame(9, 1, 8));
        trunk.send(&frame(1, 9, 9)).unwrap();
        assert_eq!(received(b), frame(1, 9, 9));
        // Too short to be a frame: nothing happens.
        trunk.send(&[1, 2, 3]).unwrap();
        trunk.send(&frame(1, 9, 10)).unwrap();
        assert_eq!(received(b), frame(1, 9, 10));
        silent(&[a, b, &trunk]);
    }

    #[test]
    fn ends_when_dropped() {
        let (trunk, inner) = pair();
        let switch = Switch::start(Some(inner)).unwrap();
        drop(switch);
        assert!(trunk.send(&frame(1, 2, 3)).is_err(), "the other end is closed");
    }
}
