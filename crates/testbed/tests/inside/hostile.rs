//! Programs that do not keep to the protocol.

use crate::{SOON, THREE, ends, up};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use testbed::Bed;
use testbed_agent::frame::{Frame, Hello, Kind, encode, encode_message};

/// A connection as a program of root in the machine has it.
fn connect(bed: &Bed) -> UnixStream {
    let path = format!("/proc/{}/root/run/testbed/control", bed["driver"].pid().unwrap());
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

fn raw(channel: u32, kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, channel, kind, 0, body);
    bytes
}

fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_message(&mut bytes, 0, Kind::Hello, 0, &Hello::ours()).unwrap();
    bytes
}

fn still_works(bed: &Bed) {
    assert_eq!(ends(bed, 0, "testbed exec one hostname"), "one\n");
}

#[test]
fn garbage_costs_only_who_sends_it() {
    let bed = up(THREE);
    let (mut patient, _) = bed["driver"].shell("testbed exec one -- sleep 0.5").spawn().unwrap();
    let crimes = [
        vec![0xff; 64],
        raw(1, Kind::Open, b"no greeting"),
        [hello(), raw(1, Kind::Open, &[0xff; 40])].concat(),
        [hello(), raw(1, Kind::Ask, &[0xff; 40])].concat(),
        [hello(), raw(2, Kind::Reply, b"\0")].concat(),
        [hello(), hello()].concat(),
        raw(0, Kind::Hello, b"\x09"),
    ];
    for crime in crimes {
        let mut stream = connect(&bed);
        stream.write_all(&crime).unwrap();
        let mut said = Vec::new();
        // It is let go, with a word if there was time for one.
        let _ = stream.read_to_end(&mut said);
        still_works(&bed);
    }
    assert!(patient.wait(Some(SOON)).unwrap().0.success());
}

#[test]
fn silence_and_floods_cost_nobody_else_anything() {
    let bed = up(THREE);
    let _silent: Vec<UnixStream> = (0..20).map(|_| connect(&bed)).collect();
    let mut half = connect(&bed);
    half.write_all(&[hello(), 100_u32.to_le_bytes().to_vec()].concat()).unwrap();
    // Frames for channels that do not exist, as fast as they are taken.
    let mut flood = connect(&bed);
    let stop = flood.try_clone().unwrap();
    let flooding = std::thread::spawn(move || {
        let many = raw(7, Kind::Credit, &[1, 0, 0, 0]).repeat(1000);
        let _ = flood.write_all(&hello());
        while flood.write_all(&many).is_ok() {}
    });
    for _ in 0..5 {
        still_works(&bed);
    }
    stop.shutdown(std::net::Shutdown::Both).unwrap();
    flooding.join().unwrap();
    still_works(&bed);
}

#[test]
fn who_never_reads_is_let_go_or_waits() {
    let bed = up(THREE);
    let mut stream = connect(&bed);
    stream.write_all(&hello()).unwrap();
    // A status for each of very many questions, and none is read.
    let mut question = Vec::new();
    let ask = testbed_agent::control::Ask::Status { from: 0 };
    let result = (0..400_000).try_for_each(|n| {
        question.clear();
        encode_message(&mut question, 2 * n + 1, Kind::Ask, 0, &ask).unwrap();
        stream.write_all(&question)
    });
    drop(result);
    still_works(&bed);
    drop(stream);
    still_works(&bed);
}

#[test]
fn no_descriptor_passes() {
    let bed = up(THREE);
    let mut stream = connect(&bed);
    let mut bytes = hello();
    Frame { channel: 1, kind: Kind::Abort, fds: 1, body: Vec::new() }.encode(&mut bytes);
    let (kept, handed) = UnixStream::pair().unwrap();
    let fds = [std::os::fd::AsFd::as_fd(&handed)];
    testbed_sys::fdpass::send(std::os::fd::AsFd::as_fd(&stream), &bytes, &fds).unwrap();
    drop(handed);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    // Nobody has the other end: neither process 1 nor the keeper.
    kept.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!((&kept).read(&mut [0; 1]).unwrap(), 0);
    still_works(&bed);
}
