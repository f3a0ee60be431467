//! Programs of all kinds at the control socket, and a keeper that is played here.

use super::*;
use proptest::prelude::*;
use std::io::{Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};
use testbed_agent::agent::{Exit, Request};
use testbed_agent::frame::{MAX_DATA, Stream, encode_data};

/// The relay, and what has gone to the keeper.
struct Stage {
    relay: Relay,
    address: SocketAddr,
    poll: OwnedFd,
    out: Vec<u8>,
    decoder: Decoder,
}

impl Stage {
    fn new() -> Stage {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("testbed-relay-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let relay = Relay::at(listener.into());
        epoll::add(&poll, &relay.listener, token(u32::MAX), epoll::EventFlags::IN).unwrap();
        Stage { relay, address, poll, out: Vec::new(), decoder: Decoder::new() }
    }

    /// Turns until nothing happens any more.
    fn settle(&mut self) {
        loop {
            let mut events = Vec::with_capacity(16);
            let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&none)).unwrap();
            if events.is_empty() {
                return;
            }
            for event in events {
                match event.data.u64() as u32 {
                    u32::MAX => self.relay.accept(&self.poll, token),
                    number => self.relay.event(number, event.flags, &mut self.out),
                }
            }
            self.relay.settle(&self.poll, self.out.len(), token).unwrap();
        }
    }

    fn program(&mut self) -> Program {
        let stream = UnixStream::connect_addr(&self.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut program = Program { stream, decoder: Decoder::new() };
        program.send(&message(0, Kind::Hello, &Hello::ours()));
        self.settle();
        assert_eq!(program.next().unwrap().kind, Kind::Hello);
        program
    }

    /// What the keeper has got, once it has taken all.
    fn sent(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            self.settle();
            self.decoder.feed(&std::mem::take(&mut self.out));
            let before = frames.len();
            frames.extend(std::iter::from_fn(|| self.decoder.next_frame().unwrap()));
            self.relay.settle(&self.poll, 0, token).unwrap();
            if frames.len() == before {
                return frames;
            }
        }
    }

    fn keeper(&mut self, channel: u32, kind: Kind, body: &[u8]) {
        let frame = Frame { channel, kind, fds: 0, body: body.to_vec() };
        self.relay.deliver(&frame, &mut self.out).unwrap();
        self.settle();
    }
}

fn token(number: u32) -> epoll::EventData {
    epoll::EventData::new_u64(number.into())
}

/// A program that is connected.
struct Program {
    stream: UnixStream,
    decoder: Decoder,
}

impl Program {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame, if one has come; none either when the connection has ended.
    fn next(&mut self) -> Option<Frame> {
        let mut bytes = [0; 64 * 1024];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            match self.stream.read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.decoder.feed(&bytes[..length]),
            }
        }
    }

    fn has_ended(&mut self) -> bool {
        while self.next().is_some() {}
        matches!(self.stream.read(&mut [0; 16]), Ok(0))
    }
}

fn message<T: serde::Serialize>(channel: u32, kind: Kind, message: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_message(&mut bytes, channel, kind, 0, message).unwrap();
    bytes
}

fn open(channel: u32) -> Vec<u8> {
    let request = Request::Processes { after: 0 };
    message(channel, Kind::Open, &Open { machine: "other".into(), request })
}

fn raw(channel: u32, kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, channel, kind, 0, body);
    bytes
}

fn done() -> Vec<u8> {
    frame_of(&Reply::Done).body
}

fn frame_of(reply: &Reply) -> Frame {
    let mut decoder = Decoder::new();
    decoder.feed(&message(1, Kind::Reply, reply));
    decoder.next_frame().unwrap().unwrap()
}

#[test]
fn channels_of_two_programs_are_told_apart() {
    let mut stage = Stage::new();
    let (mut one, mut two) = (stage.program(), stage.program());
    one.send(&open(1));
    let first = stage.sent();
    two.send(&open(1));
    let second = stage.sent();
    assert_eq!([first[0].channel, second[0].channel], [2, 4]);
    let mut data = Vec::new();
    encode_data(&mut data, 4, Stream::Output, b"for two");
    stage.keeper(4, Kind::Data, &data[10..]);
    stage.keeper(2, Kind::Reply, &done());
    let reply = one.next().unwrap();
    assert_eq!((reply.channel, reply.kind), (1, Kind::Reply));
    assert!(one.next().is_none());
    let for_two = two.next().unwrap();
    assert_eq!((for_two.channel, for_two.data().unwrap()), (1, (Stream::Output, &b"for two"[..])));
    // Credit and what is written go the other way, and to the right channel.
    two.send(&raw(1, Kind::Credit, &7_u32.to_le_bytes()));
    let mut input = Vec::new();
    encode_data(&mut input, 1, Stream::Input, b"in");
    two.send(&input);
    let kinds: Vec<(u32, Kind)> = stage.sent().iter().map(|f| (f.channel, f.kind)).collect();
    assert_eq!(kinds, [(4, Kind::Credit), (4, Kind::Data)]);
}

#[test]
fn who_goes_takes_along_what_it_asked_for() {
    let mut stage = Stage::new();
    let mut program = stage.program();
    program.send(&[open(1), open(3)].concat());
    stage.sent();
    drop(program);
    let mut aborted: Vec<(u32, Kind)> = stage.sent().iter().map(|f| (f.channel, f.kind)).collect();
    aborted.sort_by_key(|(channel, _)| *channel);
    assert_eq!(aborted, [(2, Kind::Abort), (4, Kind::Abort)]);
    // The ends of both are still to come, and are for nobody.
    assert_eq!(stage.relay.channels.len(), 2);
    stage.keeper(2, Kind::Reply, &done());
    stage.keeper(4, Kind::Reply, &done());
    assert!(stage.relay.channels.is_empty() && stage.relay.clients.is_empty());
}

#[test]
fn who_breaks_the_rules_costs_only_itself() {
    let too_much = {
        let mut bytes = open(1);
        for _ in 0..=WINDOW as usize / MAX_DATA {
            encode_data(&mut bytes, 1, Stream::Input, &[0; MAX_DATA]);
        }
        bytes
    };
    let crimes: [(&str, Vec<u8>); 9] = [
        ("an even channel", open(2)),
        ("channel 0", open(0)),
        ("a channel twice", [open(1), open(1)].concat()),
        ("no request", raw(1, Kind::Open, b"\xff\xff\xff")),
        ("a reply", [open(1), raw(1, Kind::Reply, &done())].concat()),
        ("a second greeting", message(0, Kind::Hello, &Hello::ours())),
        ("a length without end", u32::MAX.to_le_bytes().to_vec()),
        ("credit of one byte", [open(1), raw(1, Kind::Credit, &[1])].concat()),
        ("more than there is credit for", too_much),
    ];
    for (what, crime) in crimes {
        let mut stage = Stage::new();
        let (mut good, mut bad) = (stage.program(), stage.program());
        good.send(&open(1));
        let mine = stage.sent()[0].channel;
        bad.stream.set_nonblocking(false).unwrap();
        let writer = std::thread::spawn(move || {
            // It may be let go in the middle.
            let _ = bad.stream.write_all(&crime);
            bad.stream.set_nonblocking(true).unwrap();
            bad
        });
        let mut seen = Vec::new();
        while !writer.is_finished() {
            seen.extend(stage.sent());
        }
        seen.extend(stage.sent());
        let mut bad = writer.join().unwrap();
        assert!(bad.has_ended(), "{what}");
        for frame in &seen {
            assert_ne!(frame.channel, mine, "{what}");
            assert!(matches!(frame.kind, Kind::Open | Kind::Data | Kind::Abort), "{what}: {frame:?}");
        }
        assert_eq!(stage.relay.clients.len(), 1, "{what}");
        stage.keeper(mine, Kind::Reply, &done());
        assert_eq!(good.next().map(|f| f.kind), Some(Kind::Reply), "{what}");
    }
}

#[test]
fn numbers_of_programs_and_channels_are_bounded() {
    let mut stage = Stage::new();
    let mut programs: Vec<Program> = (0..MAX_CLIENTS).map(|_| stage.program()).collect();
    let mut late = UnixStream::connect_addr(&stage.address).unwrap();
    stage.settle();
    let mut told = Vec::new();
    late.read_to_end(&mut told).unwrap();
    let mut decoder = Decoder::new();
    decoder.feed(&told);
    let refusal: Reply = decoder.next_frame().unwrap().unwrap().message("reply").unwrap();
    assert!(matches!(refusal, Reply::Failed(fault) if fault.kind == FaultKind::Exhausted));

    let opens: Vec<u8> = (0..=MAX_CHANNELS as u32).flat_map(|n| open(2 * n + 1)).collect();
    programs[0].send(&opens);
    assert_eq!(stage.sent().len(), MAX_CHANNELS);
    let refusal = programs[0].next().unwrap();
    assert_eq!(refusal.channel, 2 * MAX_CHANNELS as u32 + 1);
    assert!(matches!(refusal.message("reply"), Ok(Reply::Failed(_))));
    // One that ends makes room for another.
    let ended = Reply::Ended { how: Exit::Code(0), timed_out: false, report: None };
    stage.keeper(2, Kind::Reply, &frame_of(&ended).body);
    programs[1].send(&open(1));
    assert_eq!(stage.sent().len(), 1);
}

#[test]
fn who_reads_nothing_is_let_go_before_memory_is() {
    let mut stage = Stage::new();
    let (mut idle, mut good) = (stage.program(), stage.program());
    let opens: Vec<u8> = (0..80).flat_map(|n| open(2 * n + 1)).collect();
    idle.send(&opens);
    good.send(&open(1));
    let channels: Vec<u32> = stage.sent().iter().map(|frame| frame.channel).collect();
    let mut body = vec![Stream::Output as u8];
    body.resize(1 + MAX_DATA, 7);
    for channel in &channels[..80] {
        for _ in 0..WINDOW as usize / MAX_DATA {
            stage.keeper(*channel, Kind::Data, &body);
            let held: usize = stage.relay.clients.values().map(|client| client.out.len()).sum();
            assert!(held <= MAX_HELD, "{held}");
        }
    }
    assert_eq!(stage.relay.clients.len(), 1);
    stage.keeper(channels[80], Kind::Reply, &done());
    assert_eq!(good.next().map(|f| f.kind), Some(Kind::Reply));
}

#[test]
fn nobody_is_listened_to_while_the_keeper_is_slow() {
    let mut stage = Stage::new();
    let mut program = stage.program();
    program.send(&open(1));
    stage.settle();
    program.stream.set_nonblocking(false).unwrap();
    let writer = std::thread::spawn(move || {
        for _ in 0..200_000 {
            if program.stream.write_all(&raw(1, Kind::Credit, &1_u32.to_le_bytes())).is_err() {
                return;
            }
        }
    });
    while !stage.relay.paused {
        stage.settle();
    }
    let waiting = stage.out.len();
    assert!(waiting < MAX_WAITING + 64 * 1024, "{waiting}");
    // The keeper goes on, and so does the program.
    let mut credits = 0;
    while !writer.is_finished() || credits < 200_000 {
        credits += stage.sent().iter().filter(|frame| frame.kind == Kind::Credit).count();
    }
    writer.join().unwrap();
    assert_eq!(credits, 200_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_break_the_relay(pieces in prop::collection::vec(piece(), 0..12), from_keeper in prop::collection::vec(piece(), 0..6)) {
        let mut stage = Stage::new();
        let mut program = stage.program();
        program.send(&open(1));
        for piece in pieces {
            let _ = program.stream.write_all(&piece);
            stage.settle();
        }
        let mut decoder = Decoder::new();
        decoder.feed(&from_keeper.concat());
        while let Ok(Some(frame)) = decoder.next_frame() {
            let _ = stage.relay.deliver(&frame, &mut stage.out);
        }
        // Whatever comes in, only frames on our own channels go out.
        for frame in stage.sent() {
            prop_assert!(frame.channel >= 2 && frame.channel % 2 == 0 && frame.fds == 0);
        }
    }
}

/// Frames that are nearly right, and bytes that are not.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..64);
    prop_oneof![
        4 => (0u32..6, 0u8..12, 0u8..3, body.clone()).prop_map(|(channel, kind, fds, body)| {
            let mut bytes = ((6 + body.len()) as u32).to_le_bytes().to_vec();
            bytes.extend(channel.to_le_bytes());
            bytes.extend([kind, fds]);
            bytes.extend(body);
            bytes
        }),
        2 => (0u32..6).prop_map(open),
        1 => body,
    ]
}
