use super::*;
use rustix::pipe::pipe;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::thread::JoinHandle;
use std::time::Duration;
use testbed_agent::agent::{Exit, Program, Run};

/// A carrier at work, with a keeper and an agent that do what a test has them do.
struct Carried {
    keeper: OwnedFd,
    agent: Peer,
    thread: JoinHandle<Result<Report, Fault>>,
}

/// One that reads frames from a socket, and writes them.
struct Peer {
    socket: File,
    decoder: Decoder,
}

impl Peer {
    fn next(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame;
            }
            let mut bytes = [0; 4096];
            let length = self.socket.read(&mut bytes).unwrap();
            assert!(length > 0, "the carrier has gone");
            self.decoder.feed(&bytes[..length]);
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }
}

fn peer(fd: OwnedFd) -> Peer {
    Peer { socket: fd.into(), decoder: Decoder::new() }
}

fn carried() -> Carried {
    let (keeper, output) = fdpass::stream_pair().unwrap();
    let (agent, input) = fdpass::stream_pair().unwrap();
    let thread = std::thread::spawn(move || {
        let mut io = ToolIo {
            device: None,
            input: input.as_fd(),
            output: output.as_fd(),
            stop: None,
            env: &[],
            ready: &mut || Ok(()),
        };
        run(&mut io)
    });
    let carried = Carried { keeper, agent: peer(agent), thread };
    // The agent rests until then.
    tell(&carried.keeper, 0, Kind::Wake, &[]);
    let mut carried = carried;
    assert_eq!(carried.agent.next().kind, Kind::Wake);
    carried
}

fn tell(socket: &OwnedFd, channel: u32, kind: Kind, body: &[u8]) {
    let mut bytes = Vec::new();
    encode(&mut bytes, channel, kind, 0, body);
    rustix::io::write(socket, &bytes).unwrap();
}

/// What has come for the agent so far.
fn heard(agent: &mut Peer) -> Vec<Kind> {
    let mut kinds = Vec::new();
    rustix::io::ioctl_fionbio(&agent.socket, true).unwrap();
    let mut bytes = [0; 4096];
    while let Ok(length) = agent.socket.read(&mut bytes) {
        agent.decoder.feed(&bytes[..length]);
    }
    rustix::io::ioctl_fionbio(&agent.socket, false).unwrap();
    while let Some(frame) = agent.decoder.next_frame().unwrap() {
        kinds.push(frame.kind);
    }
    kinds
}

#[test]
fn an_agent_that_rests_hears_nothing_until_it_is_woken() {
    let Carried { keeper, mut agent, thread } = carried();
    let mut rest = Vec::new();
    let open = Open { machine: String::new(), request: Request::Rest };
    encode_message(&mut rest, 1, Kind::Open, 0, &open).unwrap();
    rustix::io::write(&keeper, &rest).unwrap();
    assert_eq!(agent.next().kind, Kind::Open);
    // What the agent says still passes, and tells that the carrier has had its turn.
    let mut keeper = peer(keeper);
    for number in [3, 5] {
        let socket = keeper.socket.try_clone().unwrap().into();
        tell(&socket, number, Kind::Abort, &[]);
        let mut reply = Vec::new();
        encode(&mut reply, number, Kind::Reply, 0, &[]);
        agent.say(&reply);
        assert_eq!((keeper.next().kind, heard(&mut agent)), (Kind::Reply, vec![]));
    }
    let socket: OwnedFd = keeper.socket.try_clone().unwrap().into();
    tell(&socket, 0, Kind::Wake, &[]);
    let channels = [agent.next(), agent.next(), agent.next()].map(|frame| (frame.kind, frame.channel));
    assert_eq!(channels, [(Kind::Wake, 0), (Kind::Abort, 3), (Kind::Abort, 5)]);
    drop((keeper, socket));
    thread.join().unwrap().unwrap();
}

/// Has a program run on channel 1 whose three streams are these.
fn open(carried: &mut Carried, fds: [BorrowedFd<'_>; 3]) {
    let stdio = Stdio::Apart { input: Source::Handed, output: Sink::Handed, error: ErrorSink::Handed };
    let program = Program::Shell("cat".into());
    let run = Run { program, script: None, env: Vec::new(), cwd: None, user: None, stdio, deadline_ms: None };
    let open = Open { machine: String::new(), request: Request::Run(run) };
    let mut bytes = Vec::new();
    encode_message(&mut bytes, 1, Kind::Open, 3, &open).unwrap();
    fdpass::send(carried.keeper.as_fd(), &bytes, &fds).unwrap();
    let asked = carried.agent.next();
    assert_eq!((asked.channel, asked.kind, asked.fds), (1, Kind::Open, 0));
    let Request::Run(run) = asked.message::<Open>("request").unwrap().request else { panic!("{asked:?}") };
    let stdio = Stdio::Apart { input: Source::Channel, output: Sink::Channel, error: ErrorSink::Channel };
    assert_eq!(run.stdio, stdio);
}

fn data(stream: Stream, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_data(&mut bytes, 1, stream, payload);
    bytes
}

fn ended() -> Vec<u8> {
    let mut bytes = Vec::new();
    let reply = Reply::Ended { how: Exit::Code(0), timed_out: false, report: None };
    encode_message(&mut bytes, 1, Kind::Reply, 0, &reply).unwrap();
    bytes
}

#[test]
fn streams_that_were_handed_over_travel_as_data() {
    let mut carried = carried();
    let [(input, to), (from, output), (from_error, error)] = [pipe(), pipe(), pipe()].map(Result::unwrap);
    open(&mut carried, [input.as_fd(), output.as_fd(), error.as_fd()]);
    drop((input, output, error));
    File::from(to).write_all(b"question").unwrap();
    let asked = carried.agent.next();
    assert_eq!(asked.data().unwrap(), (Stream::Input, &b"question"[..]));
    assert_eq!(carried.agent.next().end().unwrap(), Stream::Input);

    carried.agent.say(&[data(Stream::Output, b"answer"), data(Stream::Error, b"doubt"), ended()].concat());
    // What was written stands there when the end is told, and nothing comes behind it.
    let mut keeper = peer(carried.keeper);
    assert_eq!(keeper.next().kind, Kind::Reply);
    for (fd, expected) in [(from, "answer"), (from_error, "doubt")] {
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, expected);
    }
    let granted: u32 = (0..2).map(|_| carried.agent.next().credit().unwrap()).sum();
    assert_eq!(granted, 11);
    drop(keeper);
    assert_eq!(carried.thread.join().unwrap().unwrap(), Report::Done);
}

#[test]
fn nobody_is_sent_more_than_is_taken() {
    let mut carried = carried();
    let [(input, to), (from, output), (_, error)] = [pipe(), pipe(), pipe()].map(Result::unwrap);
    open(&mut carried, [input.as_fd(), output.as_fd(), error.as_fd()]);
    drop((input, output));
    // Input waits for the agent's credit.
    let feeder = std::thread::spawn(move || File::from(to).write_all(&vec![7; 3 * WINDOW as usize]).is_ok());
    let mut came = 0;
    while came < WINDOW as usize {
        came += carried.agent.next().data().unwrap().1.len();
    }
    assert_eq!(came, WINDOW as usize);
    std::thread::sleep(Duration::from_millis(50));
    rustix::io::ioctl_fionbio(&carried.agent.socket, true).unwrap();
    let more = carried.agent.socket.read(&mut [0; 1]);
    assert_eq!(more.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    rustix::io::ioctl_fionbio(&carried.agent.socket, false).unwrap();

    // Output waits for its reader: the reply comes behind all of it, and more than the window is a breach.
    let window = vec![8; WINDOW as usize];
    for piece in window.chunks(MAX_DATA) {
        carried.agent.say(&data(Stream::Output, piece));
    }
    carried.agent.say(&ended());
    std::thread::sleep(Duration::from_millis(50));
    rustix::io::ioctl_fionbio(&carried.keeper, true).unwrap();
    assert!(rustix::io::read(&carried.keeper, &mut [0; 1]).is_err(), "the end was told too early");
    rustix::io::ioctl_fionbio(&carried.keeper, false).unwrap();
    let mut all = Vec::new();
    File::from(from).read_to_end(&mut all).unwrap();
    assert!(all == window, "{} bytes", all.len());
    let mut keeper = peer(carried.keeper);
    assert_eq!(keeper.next().kind, Kind::Reply);
    assert!(!feeder.join().unwrap(), "the input of a program that has ended has nobody to read it");
    drop((carried.agent, keeper));
    carried.thread.join().unwrap().unwrap();
}

#[test]
fn an_agent_that_breaks_the_rules_is_one_fault() {
    let too_much: Vec<u8> =
        (0..=WINDOW as usize / MAX_DATA + 1).flat_map(|_| data(Stream::Output, &[9; MAX_DATA])).collect();
    for (what, said) in [("no frames", b"\xff\xff\xff\xffgarbage".to_vec()), ("no credit", too_much)] {
        let mut carried = carried();
        let [(input, _to), (_from, output), (_, error)] = [pipe(), pipe(), pipe()].map(Result::unwrap);
        open(&mut carried, [input.as_fd(), output.as_fd(), error.as_fd()]);
        // It may hang up in the midst of it.
        let _ = carried.agent.socket.write_all(&said);
        let fault = carried.thread.join().unwrap().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Protocol, "{what}: {fault}");
        let mut keeper = peer(carried.keeper);
        let said = loop {
            let frame = keeper.next();
            if (frame.channel, frame.kind) == (0, Kind::Reply) {
                break frame.message::<Reply>("reply").unwrap();
            }
        };
        assert_eq!(said, Reply::Failed(fault), "{what}");
    }
}
