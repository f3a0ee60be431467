//! Clients that break the rules cost themselves something, and nobody else.

use crate::{Served, eventually, runs, shell};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use testbed::FaultKind;
use testbed::control::agent::{Open, Reply, Request};
use testbed::control::{Answer, Ask};
use testbed_agent::control::MAX_CHANNELS;
use testbed_agent::frame::{
    Decoder, Frame, Hello, Kind, MAX_DATA, Stream, WINDOW, encode, encode_data, encode_message,
};

/// A client that says what it likes.
struct Raw {
    socket: UnixStream,
    decoder: Decoder,
}

impl Raw {
    fn connect(served: &Served) -> Raw {
        let socket = UnixStream::connect(&served.path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Raw { socket, decoder: Decoder::new() }
    }

    fn greeted(served: &Served) -> Raw {
        let mut raw = Raw::connect(served);
        let mut bytes = Vec::new();
        encode_message(&mut bytes, 0, Kind::Hello, 0, &Hello::ours()).unwrap();
        raw.say(&bytes);
        assert_eq!(raw.next().unwrap().kind, Kind::Hello);
        raw
    }

    fn say(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    fn open(&mut self, channel: u32, request: Request) {
        let mut bytes = Vec::new();
        let open = Open { machine: "m".into(), request };
        encode_message(&mut bytes, channel, Kind::Open, 0, &open).unwrap();
        self.say(&bytes);
    }

    /// The next frame; none at the end.
    fn next(&mut self) -> Option<Frame> {
        let mut buffer = [0_u8; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.decoder.feed(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn reply_on(&mut self, channel: u32) -> Frame {
        loop {
            let frame = self.next().unwrap();
            if frame.channel == channel && frame.kind == Kind::Reply {
                return frame;
            }
        }
    }
}

#[test]
fn garbage_closes_its_own_connection_only() {
    let served = Served::up("[machines.m]\n");
    let client = served.client();
    let mut ask = Vec::new();
    encode_message(&mut ask, 1, Kind::Ask, 0, &Ask::Status { from: 0 }).unwrap();
    let mut even = Vec::new();
    encode_message(&mut even, 2, Kind::Ask, 0, &Ask::Status { from: 0 }).unwrap();
    let mut unread = Vec::new();
    encode(&mut unread, 1, Kind::Open, 0, b"\xff\xff\xff\xff\xff\xff");
    let mut with_descriptors = ask.clone();
    with_descriptors[9] = 1;
    // Before a greeting nothing is answered, not even a right question.
    let mut rude = Raw::connect(&served);
    rude.say(&ask);
    assert_eq!(rude.next().unwrap().kind, Kind::Hello);
    assert_eq!(rude.next(), None);
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &even, &unread, &with_descriptors] {
        let mut raw = Raw::greeted(&served);
        raw.say(bytes);
        assert_eq!(raw.next(), None, "{bytes:?}");
    }
    assert!(matches!(client.ask(&Ask::Status { from: 0 }), Ok(Answer::Status(_))));
}

#[test]
fn who_does_not_read_stalls_only_itself() {
    let served = Served::up("[machines.m]\n");
    let mut raw = Raw::greeted(&served);
    for channel in 0..8 {
        raw.open(channel * 2 + 1, shell("exec cat /dev/zero"));
    }
    eventually("they write", || runs(&served.bed, "m", "cat /dev/zero"));
    let client = served.client();
    let begun = Instant::now();
    for _ in 0..20 {
        client.request("m", Request::Stat { path: "/".into() }).unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(raw);
    eventually("they were killed", || !runs(&served.bed, "m", "cat /dev/zero"));
}

#[test]
fn credit_is_enforced_before_it_reaches_a_machine() {
    let served = Served::up("[machines.m]\n");
    let mut raw = Raw::greeted(&served);
    raw.open(1, shell("exec sleep 74.04"));
    let mut bytes = Vec::new();
    for _ in 0..=WINDOW as usize / MAX_DATA + 1 {
        encode_data(&mut bytes, 1, Stream::Input, &[0; MAX_DATA]);
    }
    raw.say(&bytes);
    let Reply::Failed(fault) = raw.reply_on(1).message("reply").unwrap() else { panic!("it was taken") };
    assert_eq!(fault.kind, FaultKind::Protocol);
    eventually("what it ran was killed", || !runs(&served.bed, "m", "sleep 74.04"));
    // The machine has not noticed, and neither has the rest of the connection.
    raw.open(3, Request::Stat { path: "/".into() });
    assert!(matches!(raw.reply_on(3).message("reply"), Ok(Reply::Entry(_))));
}

#[test]
fn channels_are_counted() {
    let served = Served::up("[machines.m]\n");
    let mut raw = Raw::greeted(&served);
    let most = MAX_CHANNELS as u32;
    for channel in 0..most {
        raw.open(channel * 2 + 1, shell("exec sleep 75.05"));
    }
    raw.open(most * 2 + 1, Request::Stat { path: "/".into() });
    let Reply::Failed(fault) = raw.reply_on(most * 2 + 1).message("reply").unwrap() else {
        panic!("it was taken")
    };
    assert_eq!(fault.kind, FaultKind::Exhausted);
    let mut abort = Vec::new();
    encode(&mut abort, 1, Kind::Abort, 0, &[]);
    raw.say(&abort);
    assert!(matches!(raw.reply_on(1).message("reply"), Ok(Reply::Ended { .. })));
    raw.open(1, Request::Stat { path: "/".into() });
    assert!(matches!(raw.reply_on(1).message("reply"), Ok(Reply::Entry(_))));
}
