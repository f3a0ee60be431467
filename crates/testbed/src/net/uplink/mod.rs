//! A network's way out, without any rule, link or forwarding on the host.
//!
//! The uplink is a port of the network's [switch](crate::net::switch) that has the gateway's addresses. It ends what
//! machines send to the world, and opens it again from the keeper's own place, as any program of the host would: TCP
//! connections one by one, UDP by pairs of ends. Port 53 of the gateway leads to the host's name servers. Echo requests
//! to the gateway are answered; everything else is refused by ICMP. The host itself cannot be reached, nor its loopback.

mod packet;
mod policy;
mod tcp;
mod udp;

pub use policy::name_servers;
pub(crate) use policy::{Policy, Refusal};

use super::switch::{Frames, Mac, Port, Watch};
use packet::{Ends, IpPacket, MOST_DATAGRAM, Unreachable};
use rustix::event::epoll::EventFlags;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, TcpPacket};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tcp::{Connection, Fate, Ground};
use testbed_agent::{Doing as _, Fault};
use udp::Talk;

/// How an uplink behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The largest IP packet of the network's interfaces, in bytes.
    pub mtu: u32,
    /// The name servers behind port 53 of the gateway; if none, those of `/etc/resolv.conf`. They may be the host's own.
    pub name_servers: Vec<SocketAddr>,
    /// Machines may reach the addresses of the host's interfaces. Its loopback stays closed.
    pub to_host: bool,
    /// The most TCP connections at a time. Each costs a descriptor, and up to 128 KiB. Who is one too many waits: its
    /// machine asks again.
    pub connections: usize,
    /// The most pairs of UDP ends at a time, each with a descriptor. The longest idle one makes room.
    pub talks: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { mtu: 1500, name_servers: Vec::new(), to_host: false, connections: 512, talks: 128 }
    }
}

/// The port of a switch that is an uplink: dropped, all connections through it end.
pub struct Gateway {
    addresses: Vec<(IpAddr, u8)>,
    options: Options,
    policy: Policy,
    ground: Ground,
    watch: Option<Watch>,
    flows: HashMap<u32, Flow>,
    next: u32,
    connections: HashMap<(SocketAddr, SocketAddr), u32>,
    talks: HashMap<(SocketAddr, SocketAddr), u32>,
    due: BTreeSet<(Instant, u32)>,
    name_server: usize,
    buffer: Vec<u8>,
}

enum Flow {
    Tcp(Box<Connection>),
    Udp(Talk),
}

/// The port of name servers.
const DOMAIN: u16 = 53;

impl Gateway {
    /// The port with these addresses on the network, with the lengths of their prefixes; `mac` is its address on the link,
    /// that no machine may have.
    ///
    /// # Errors
    /// Limits of the system, and `/etc/resolv.conf` that cannot be read if it is needed.
    pub fn new(gateway: &[(IpAddr, u8)], mac: Mac, mut options: Options) -> Result<Gateway, Fault> {
        const RESOLV_CONF: &str = "/etc/resolv.conf";
        if options.name_servers.is_empty() {
            let text = std::fs::read_to_string(RESOLV_CONF).doing_to("read", RESOLV_CONF)?;
            options.name_servers = name_servers(&text);
        }
        let policy = Policy::new(options.to_host).doing("open netlink")?;
        let ground = Ground { mac, mtu: options.mtu as usize, since: Instant::now() };
        Ok(Gateway {
            addresses: gateway.to_vec(),
            options,
            policy,
            ground,
            watch: None,
            flows: HashMap::new(),
            next: 0,
            connections: HashMap::new(),
            talks: HashMap::new(),
            due: BTreeSet::new(),
            name_server: 0,
            buffer: vec![0; MOST_DATAGRAM],
        })
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|(a, _)| *a == address)
    }

    /// The address from which the gateway speaks to a machine.
    fn own_address(&self, machine: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().map(|(a, _)| *a).find(|a| a.is_ipv4() == machine.is_ipv4())
    }

    /// The packet is from this network: the gateway routes for nobody else.
    fn is_neighbour(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|(ours, prefix)| same_network(*ours, address, *prefix))
            && !self.is_ours(address)
    }

    fn ip(&mut self, bytes: &[u8], mac: Mac, out: &mut Frames) {
        let Some(packet) = IpPacket::parse(bytes) else { return };
        let ends = Ends { from: self.ground.mac, to: mac };
        if packet::answer_neighbour(out, ends, &packet, |address| self.is_ours(address.into())) {
            return;
        }
        if packet.to.is_multicast() || !self.is_neighbour(packet.from) {
            return;
        }
        match packet.protocol {
            IpProtocol::Tcp => self.tcp(&packet, ends, out),
            IpProtocol::Udp => self.udp(&packet, ends, out),
            _ if self.is_ours(packet.to) && packet::answer_echo(out, ends, &packet) => {}
            _ => self.refuse(&packet, ends, Unreachable::Prohibited, out),
        }
    }

    fn refuse(&self, packet: &IpPacket<'_>, ends: Ends, why: Unreachable, out: &mut Frames) {
        if let Some(own) = self.own_address(packet.from) {
            packet::put_unreachable(out, ends, own, packet, why);
        }
    }

    /// Where what is sent to `other` goes in truth.
    fn target(&self, other: SocketAddr) -> Result<SocketAddr, Unreachable> {
        if self.is_ours(other.ip()) {
            let servers = &self.options.name_servers;
            let server = servers.get(self.name_server % servers.len().max(1));
            return server.filter(|_| other.port() == DOMAIN).copied().ok_or(Unreachable::Port);
        }
        if self.is_neighbour(other.ip()) {
            return Err(Unreachable::Host);
        }
        match self.policy.check(other.ip()) {
            Ok(()) => Ok(other),
            Err(Refusal::Prohibited) => Err(Unreachable::Prohibited),
            Err(Refusal::NoRoute) => Err(Unreachable::Host),
        }
    }

    fn tcp(&mut self, packet: &IpPacket<'_>, ends: Ends, out: &mut Frames) {
        let Ok(segment) = TcpPacket::new_checked(packet.payload) else { return };
        let machine = SocketAddr::new(packet.from, segment.src_port());
        let other = SocketAddr::new(packet.to, segment.dst_port());
        let now = Instant::now();
        if let Some(number) = self.connections.get(&(machine, other)).copied() {
            self.with_connection(number, out, |c, ground, out| {
                c.packet(ground, packet.bytes, ends.to, now, out)
            });
            return;
        }
        if segment.rst() {
            return;
        }
        if !segment.syn() || segment.ack() {
            return tcp::reset(&self.ground, packet.to, packet.bytes, ends.to, now, out);
        }
        let target = match self.target(other) {
            Ok(target) => target,
            Err(Unreachable::Port) => {
                return tcp::reset(&self.ground, packet.to, packet.bytes, ends.to, now, out);
            }
            Err(why) => return self.refuse(packet, ends, why, out),
        };
        if self.connections.len() >= self.options.connections {
            return;
        }
        match Connection::open(packet.bytes, (machine, other), target, ends.to, now) {
            Ok(connection) => {
                let due = connection.due;
                if let Some(number) = self.add(Flow::Tcp(Box::new(connection)), due) {
                    self.connections.insert((machine, other), number);
                }
            }
            // Too many descriptors for now: the machine asks again.
            Err(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE | rustix::io::Errno::NOBUFS) => {}
            Err(_) => self.refuse(packet, ends, Unreachable::Host, out),
        }
    }

    fn udp(&mut self, packet: &IpPacket<'_>, ends: Ends, out: &mut Frames) {
        let Some((from, to, payload)) = packet::udp_of(packet) else { return };
        let machine = SocketAddr::new(packet.from, from);
        let other = SocketAddr::new(packet.to, to);
        let now = Instant::now();
        let mut number = self.talks.get(&(machine, other)).copied();
        if let Some(Flow::Udp(talk)) = number.and_then(|n| self.flows.get(&n))
            && self.is_ours(other.ip())
            && talk.is_unanswered(now)
        {
            // The name server does not answer, and the machine asks again: it is the next one's turn.
            self.name_server = self.name_server.wrapping_add(1);
            number.take().inspect(|n| self.remove(*n));
        }
        let number = match number {
            Some(number) => number,
            None => match self.new_talk(packet, (machine, other), ends.to, now) {
                Ok(Some(number)) => number,
                Ok(None) => return,
                Err(why) => return self.refuse(packet, ends, why, out),
            },
        };
        if let Some(Flow::Udp(talk)) = self.flows.get_mut(&number) {
            talk.send(payload, ends.to, now);
        }
    }

    fn new_talk(
        &mut self,
        packet: &IpPacket<'_>,
        pair: (SocketAddr, SocketAddr),
        mac: Mac,
        now: Instant,
    ) -> Result<Option<u32>, Unreachable> {
        let target = self.target(pair.1)?;
        if self.talks.len() >= self.options.talks {
            self.forget_longest_idle();
        }
        match Talk::open(packet, pair, target, mac, now) {
            Ok(talk) => {
                let due = Some(talk.due);
                let number = self.add(Flow::Udp(talk), due);
                if let Some(number) = number {
                    self.talks.insert(pair, number);
                }
                Ok(number)
            }
            Err(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE | rustix::io::Errno::NOBUFS) => Ok(None),
            Err(_) => Err(Unreachable::Host),
        }
    }

    fn forget_longest_idle(&mut self) {
        let used = |number: &u32| match self.flows.get(number) {
            Some(Flow::Udp(talk)) => Some(talk.used),
            _ => None,
        };
        if let Some(number) = self.talks.values().min_by_key(|n| used(n)).copied() {
            self.remove(number);
        }
    }

    fn add(&mut self, flow: Flow, due: Option<Instant>) -> Option<u32> {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let edges = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let watched = match &flow {
            Flow::Tcp(connection) => self.watch.as_ref()?.add(connection.host(), number, edges),
            Flow::Udp(talk) => self.watch.as_ref()?.add(talk.socket(), number, EventFlags::IN),
        };
        watched.ok()?;
        self.due.extend(due.map(|due| (due, number)));
        self.flows.insert(number, flow);
        Some(number)
    }

    fn remove(&mut self, number: u32) {
        match self.flows.remove(&number) {
            Some(Flow::Tcp(connection)) => {
                self.connections.remove(&connection.ends());
                self.cancel(connection.due, number);
            }
            Some(Flow::Udp(talk)) => {
                self.talks.remove(&talk.ends());
                self.cancel(Some(talk.due), number);
            }
            None => {}
        }
    }

    /// Takes a deadline back.
    fn cancel(&mut self, due: Option<Instant>, number: u32) {
        if let Some(due) = due {
            self.due.remove(&(due, number));
        }
    }

    /// Does something with a connection, and then what its fate asks for.
    fn with_connection(
        &mut self,
        number: u32,
        out: &mut Frames,
        work: impl FnOnce(&mut Connection, &Ground, &mut Frames) -> Fate,
    ) {
        let Some(Flow::Tcp(connection)) = self.flows.get_mut(&number) else { return };
        let before = connection.due;
        let fate = work(connection, &self.ground, out);
        let (after, mac) = (connection.due, connection.mac());
        let unreachable = connection.first_packet().filter(|_| fate == Fate::Unreachable).map(<[u8]>::to_vec);
        if before != after {
            self.cancel(before, number);
            self.due.extend(after.map(|due| (due, number)));
        }
        if let Some(packet) = unreachable.as_deref().and_then(IpPacket::parse) {
            let ends = Ends { from: self.ground.mac, to: mac };
            self.refuse(&packet, ends, Unreachable::Host, out);
        }
        if fate != Fate::Lives {
            self.remove(number);
        }
    }

    fn talk_is_ready(&mut self, number: u32, out: &mut Frames) {
        let Some(Flow::Udp(talk)) = self.flows.get_mut(&number) else { return };
        let ends = talk.ends();
        if talk.receive(self.ground.mac, &mut self.buffer, Instant::now(), out) {
            if self.is_ours(ends.1.ip()) {
                self.name_server = self.name_server.wrapping_add(1);
            }
            self.remove(number);
        }
    }
}

impl Port for Gateway {
    fn begin(&mut self, watch: Watch) -> io::Result<()> {
        self.watch = Some(watch);
        Ok(())
    }

    fn frame(&mut self, frame: &[u8], out: &mut Frames) {
        let Ok(frame) = EthernetFrame::new_checked(frame) else { return };
        let (to, from) = (frame.dst_addr(), frame.src_addr());
        if (to.0 != self.ground.mac && !to.is_broadcast() && !to.is_multicast()) || from.0 == self.ground.mac
        {
            return;
        }
        match frame.ethertype() {
            EthernetProtocol::Arp => {
                packet::answer_arp(out, self.ground.mac, frame.payload(), |a| self.is_ours(a.into()));
            }
            EthernetProtocol::Ipv4 | EthernetProtocol::Ipv6 => self.ip(frame.payload(), from.0, out),
            _ => {}
        }
    }

    fn ready(&mut self, key: u32, _: EventFlags, out: &mut Frames) {
        match self.flows.get(&key) {
            Some(Flow::Tcp(_)) => {
                self.with_connection(key, out, |c, ground, out| c.ready(ground, true, Instant::now(), out));
            }
            Some(Flow::Udp(_)) => self.talk_is_ready(key, out),
            // It was removed by an earlier event of the same turn.
            None => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    fn expire(&mut self, now: Instant, out: &mut Frames) {
        while let Some((due, number)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, number));
            match self.flows.get_mut(&number) {
                Some(Flow::Tcp(_)) => {
                    self.with_connection(number, out, |c, ground, out| {
                        let fate = c.ready(ground, false, now, out);
                        // The stack's clock is coarser than ours: it is asked again a little later.
                        c.due = c.due.map(|due| due.max(now + COARSE));
                        fate
                    });
                }
                Some(Flow::Udp(talk)) if talk.is_idle(now) => self.remove(number),
                Some(Flow::Udp(talk)) => {
                    let due = talk.put_off();
                    self.due.insert((due, number));
                }
                None => {}
            }
        }
    }
}

/// No timer of a connection is asked for more often.
const COARSE: Duration = Duration::from_millis(1);

fn same_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    let shift = |bits: u32| bits.saturating_sub(u32::from(prefix));
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (u32::from(a) ^ u32::from(b)).checked_shr(shift(32)).is_none_or(|different| different == 0)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (u128::from(a) ^ u128::from(b)).checked_shr(shift(128)).is_none_or(|different| different == 0)
        }
        _ => false,
    }
}
