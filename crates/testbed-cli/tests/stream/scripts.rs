//! `emit`: events from scripts.

use crate::call::{Folder, call, command, wait};
use std::io::{Read as _, Write as _};
use testbed_subunit::v2::{Decoder, Item};
use testbed_subunit::{Event, Status};

fn emitted(arguments: &[&str], input: &[u8]) -> Vec<Event> {
    let called = call(&[&["emit"], arguments].concat(), input);
    assert_eq!((called.code, called.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    called.events()
}

#[test]
fn each_status() {
    for status in Status::ALL {
        let flag = format!("--{}", status.as_str());
        let events = emitted(&[&flag, "net/ping", "--tag", "a", "--tag", "b", "--route", "0/1"], b"");
        let [event] = &events[..] else { panic!("{events:?}") };
        let event = event.as_ref();
        assert_eq!(
            (event.id(), event.status(), event.route()),
            (Some("net/ping"), Some(status), Some("0/1"))
        );
        assert_eq!(event.timestamp().is_some(), status != Status::Exists);
        assert!(event.runnable() && event.tags().contains("a") && event.tags().contains("b"));
    }
    assert!(!emitted(&["--fail", "gw", "--not-runnable"], b"")[0].as_ref().runnable());
}

#[test]
fn files_are_attached() {
    let folder = Folder::empty();
    let small = folder.write("small.log", b"boom\n");
    let events = emitted(&["--fail", "t", "--attach-file", &small, "--mimetype", "text/plain"], b"");
    let [event] = &events[..] else { panic!("{events:?}") };
    let event = event.as_ref();
    assert_eq!((event.status(), event.eof(), event.mime()), (Some(Status::Fail), true, Some("text/plain")));
    assert_eq!(event.file().map(|file| (file.name, file.bytes)), Some(("small.log", &b"boom\n"[..])));

    // A final status stands on the last piece, an interim one on the first, the end of the file on the last.
    let bytes: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
    let large = folder.write("large", &bytes);
    let events = emitted(&["--success", "t", "--attach-file", &large, "--file-name", "core"], b"");
    let joined: Vec<u8> =
        events.iter().flat_map(|event| event.as_ref().file().unwrap().bytes.to_vec()).collect();
    assert!(events.len() > 1 && joined == bytes);
    let statuses: Vec<_> =
        events.iter().map(|event| (event.as_ref().status(), event.as_ref().eof())).collect();
    let (last, before) = statuses.split_last().unwrap();
    assert_eq!(*last, (Some(Status::Success), true));
    assert!(before.iter().all(|one| *one == (None, false)));
    let events = emitted(&["--inprogress", "t", "--attach-file", &large], b"");
    assert_eq!(events[0].as_ref().status(), Some(Status::InProgress));
    assert_eq!(events.last().unwrap().as_ref().status(), None);
    // Of no test, and empty.
    let events = emitted(&["--attach-file", "-"], b"");
    let [event] = &events[..] else { panic!("{events:?}") };
    let event = event.as_ref();
    assert_eq!((event.id(), event.runnable(), event.eof()), (None, false, true));
    assert_eq!(event.file().map(|file| (file.name, file.bytes.len())), Some(("stdin", 0)));
}

#[test]
fn what_comes_from_a_pipe_goes_on_at_once() {
    let mut child = command(&["emit", "--fail", "t", "--attach-file", "-"]).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    stdin.write_all(b"first").unwrap();
    let mut decoder = Decoder::new();
    let seen = loop {
        let room = decoder.space(1);
        let length = stdout.read(room).unwrap();
        assert!(length > 0, "it waits for more");
        decoder.filled(length);
        if let Some(Item::Packet(packet)) = decoder.next_item() {
            break packet.event.to_owned();
        }
    };
    assert_eq!(seen.as_ref().file().unwrap().bytes, b"first");
    drop(stdin);
    assert_eq!(wait(child).code, Some(0));
}

#[test]
fn calls_that_make_no_sense() {
    for wrong in [&[][..], &["--success"], &["--success", "a", "--fail", "b"], &["--tag", "x"]] {
        let called = call(&[&["emit"], wrong].concat(), b"");
        assert!(
            called.code == Some(2) && called.stdout.is_empty() && !called.stderr.is_empty(),
            "{called:?}"
        );
    }
}
