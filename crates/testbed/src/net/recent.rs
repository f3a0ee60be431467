//! The last packets of each network, kept for whoever wants to know why a test failed.
//!
//! One thread watches all networks of a keeper. The kernel cuts packets to their headers and keeps a burst of them; the
//! thread rests after each look, so that watching costs next to nothing. They are put into words only when asked for.

use super::wake::{Bell, until};
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testbed_agent::describe::describe;
use testbed_agent::filter::Link;
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::packet::{Inbox, Instruction, Packet, PacketSocket};

/// Bytes kept of each packet: enough for the headers that are put into words.
const SNAP: usize = 192;
/// Bytes that the kernel keeps of a network until the next look, counted as it counts them: several hundred packets.
const ROOM: u32 = 512 * 1024;
/// From one look at a network to the next.
const REST: Duration = Duration::from_millis(5);
/// An answer of the watcher's thread takes no longer.
const ANSWER: Duration = Duration::from_secs(5);

/// How much is kept of a network.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// The most packets.
    pub packets: usize,
    /// Not those that are older than this when they are asked for.
    pub age: Duration,
}

impl Default for Depth {
    /// 200 packets of the last 30 seconds.
    fn default() -> Depth {
        Depth { packets: 200, age: Duration::from_secs(30) }
    }
}

/// A packet that passed a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
    /// What it was, in one line as of tcpdump(8).
    pub text: String,
}

type Kept = Arc<Mutex<VecDeque<Cut>>>;

/// A packet, cut.
#[derive(Debug)]
struct Cut {
    time_ns: u64,
    length: u32,
    head: Box<[u8]>,
}

/// The watcher of all networks of a keeper. Its thread starts with the first of them.
#[derive(Debug, Default)]
pub struct Watcher {
    thread: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    bell: Arc<Bell>,
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    next: u64,
}

enum Order {
    Watch {
        number: u64,
        inbox: Inbox,
        kept: Kept,
        depth: Depth,
    },
    /// Takes what is there, and says so.
    Look {
        number: u64,
        done: SyncSender<()>,
    },
    Forget(u64),
}

/// A network that is watched. Dropping it ends that, at no cost to whoever drops it.
#[derive(Debug)]
pub struct Watched {
    number: u64,
    kept: Kept,
    depth: Depth,
    orders: Sender<Order>,
    bell: Arc<Bell>,
}

impl Watcher {
    /// A watcher of nothing yet.
    pub fn new() -> Watcher {
        Watcher::default()
    }

    /// Watches a network from now on. `socket` is what the launcher handed over.
    ///
    /// # Errors
    /// Limits of the system.
    pub fn watch(&self, socket: OwnedFd, depth: Depth) -> Result<Watched, Fault> {
        let socket = PacketSocket::from(socket);
        let (interface, _) = socket.selected().doing("use a packet socket")?;
        socket.filter(&[RETURN_SNAP]).doing("set the filter")?;
        let inbox = Inbox::new(socket, ROOM).doing("set a packet socket up")?;
        inbox.start(interface).doing("watch a network")?;
        let gone = || Fault::new(FaultKind::State, "watch a network: the watcher has ended");
        let mut running = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let running = match &mut *running {
            Some(running) => running,
            none => none.insert(Running::start()?),
        };
        let number = running.next;
        running.next += 1;
        let kept = Kept::default();
        let orders = running.orders.clone().ok_or_else(gone)?;
        let order = Order::Watch { number, inbox, kept: kept.clone(), depth };
        orders.send(order).map_err(|_| gone())?;
        running.bell.ring();
        Ok(Watched { number, kept, depth, orders, bell: running.bell.clone() })
    }
}

impl Watched {
    /// The last packets until now, oldest first.
    pub fn last(&self) -> Vec<Seen> {
        let (done, looked) = sync_channel(1);
        if self.orders.send(Order::Look { number: self.number, done }).is_ok() {
            self.bell.ring();
            // A watcher that has ended tells what it saw until then.
            let _ = looked.recv_timeout(ANSWER);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let oldest = now.saturating_sub(self.depth.age).as_nanos() as u64;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .filter(|cut| cut.time_ns >= oldest)
            .map(|cut| Seen { time_ns: cut.time_ns, text: describe(Link::Ethernet, &cut.head, cut.length) })
            .collect()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // If the watcher has ended, there is nothing to forget.
        let _ = self.orders.send(Order::Forget(self.number));
        self.bell.ring();
    }
}

/// The bell's number among those of networks.
const BELL: u64 = u64::MAX;

impl Running {
    fn start() -> Result<Running, Fault> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).doing("make a poll")?;
        let bell = Arc::new(Bell::new().doing("make a bell")?);
        epoll::add(&poll, &*bell, epoll::EventData::new_u64(BELL), epoll::EventFlags::IN)
            .doing("watch the bell")?;
        let (orders, received) = channel();
        let rung = bell.clone();
        let thread = std::thread::Builder::new()
            .name("testbed-recent".into())
            .spawn(move || live(&poll, &rung, &received))
            .doing("start the watcher")?;
        Ok(Running { bell, orders: Some(orders), thread: Some(thread), next: 0 })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.orders = None;
        self.bell.ring();
        // It ends when the last network that is watched has been dropped, which nobody shall wait for here.
        drop(self.thread.take());
    }
}

struct Network {
    inbox: Inbox,
    kept: Kept,
    depth: Depth,
}

/// What is polled for: one look, and not again before the rest is over.
const ONE_LOOK: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ONESHOT);

fn live(poll: &OwnedFd, bell: &Bell, orders: &Receiver<Order>) {
    let mut networks: HashMap<u64, Network> = HashMap::new();
    // Those that were looked at last, and when their rest is over.
    let mut resting: VecDeque<(Instant, u64)> = VecDeque::new();
    let mut events = Vec::with_capacity(32);
    loop {
        events.clear();
        let rest = resting.front().map(|(end, _)| until(*end));
        match epoll::wait(poll, rustix::buffer::spare_capacity(&mut events), rest.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        while let Some((_, number)) = resting.pop_front_if(|(end, _)| *end <= Instant::now()) {
            if let Some(network) = networks.get(&number) {
                // It fails for one that is not there any more.
                let _ = epoll::modify(poll, &network.inbox, epoll::EventData::new_u64(number), ONE_LOOK);
            }
        }
        for event in &events {
            match event.data.u64() {
                BELL => {
                    bell.hush();
                    if !take_orders(poll, orders, &mut networks) {
                        return;
                    }
                }
                number => {
                    if let Some(network) = networks.get_mut(&number) {
                        network.look();
                        resting.push_back((Instant::now() + REST, number));
                    }
                }
            }
        }
    }
}

/// Returns whether there is anybody who could give further ones.
fn take_orders(poll: &OwnedFd, orders: &Receiver<Order>, networks: &mut HashMap<u64, Network>) -> bool {
    loop {
        match orders.try_recv() {
            Ok(Order::Watch { number, inbox, kept, depth }) => {
                let data = epoll::EventData::new_u64(number);
                // A network that cannot be watched has no last packets.
                if epoll::add(poll, &inbox, data, ONE_LOOK).is_ok() {
                    networks.insert(number, Network { inbox, kept, depth });
                }
            }
            Ok(Order::Look { number, done }) => {
                if let Some(network) = networks.get_mut(&number) {
                    network.look();
                }
                // Who asked may have gone.
                let _ = done.send(());
            }
            Ok(Order::Forget(number)) => {
                networks.remove(&number);
            }
            Err(TryRecvError::Empty) => return true,
            Err(TryRecvError::Disconnected) => return false,
        }
    }
}

impl Network {
    /// Takes what is there. More that comes meanwhile may wait for the next look.
    fn look(&mut self) {
        const MOST: usize = 1024;
        let mut buffer = [0; SNAP];
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..MOST {
            // One that fails tells that its interface has gone.
            let Ok(Some(packet)) = self.inbox.receive(&mut buffer) else { return };
            if kept.len() >= self.depth.packets {
                kept.pop_front();
            }
            kept.push_back(cut(&packet));
        }
    }
}

/// Accepts every packet, cut.
const RETURN_SNAP: Instruction = (0x06, 0, 0, SNAP as u32);

/// The head of a packet, its tag back in place.
fn cut(packet: &Packet<'_>) -> Cut {
    const ADDRESSES: usize = 12;
    let (head, length) = match packet.tag {
        Some(tag) if packet.data.len() >= ADDRESSES => {
            let (addresses, rest) = packet.data.split_at(ADDRESSES);
            let tag = [tag.protocol.to_be_bytes(), tag.control.to_be_bytes()].concat();
            ([addresses, &tag, rest].concat().into(), packet.length + 4)
        }
        _ => (packet.data.into(), packet.length),
    };
    Cut { time_ns: packet.time_ns, length, head }
}
