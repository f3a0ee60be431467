//! Calls of `testbed stream`, and streams to call it with.

pub(crate) use crate::folder::Folder;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use testbed_subunit::v2::{self, Item, Items};
use testbed_subunit::{Draft, Event, Status, Timestamp};

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Called {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.stdout).unwrap()
    }

    /// The events on standard output, which has nothing else.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Event> {
        events(&self.stdout)
    }
}

#[track_caller]
pub(crate) fn events(stream: &[u8]) -> Vec<Event> {
    let packets = Items::new(stream).map(|item| match item {
        Item::Packet(packet) => packet.event.to_owned(),
        other => panic!("{other:?}"),
    });
    packets.collect()
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testbed"));
    command.arg("stream").args(arguments).env("NO_COLOR", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Calls it with a pipe that holds `input`.
pub(crate) fn call(arguments: &[&str], input: &[u8]) -> Called {
    let mut child = command(arguments).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Who reads no further does not want the rest.
            let _ = stdin.write_all(input);
        });
        wait(child)
    })
}

pub(crate) fn wait(child: Child) -> Called {
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Called { code: output.status.code(), stdout: output.stdout, stderr }
}

impl Folder {
    /// The path of what is called so in it.
    pub(crate) fn named(&self, name: &str) -> String {
        self.path().join(name).to_str().unwrap().to_owned()
    }
}

pub(crate) fn at(seconds: u32) -> Timestamp {
    Timestamp::new(1_795_201_200 + seconds, 0).unwrap()
}

pub(crate) fn stream(drafts: &[Draft<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    drafts.iter().for_each(|draft| v2::encode(&draft.check().unwrap(), &mut out));
    out
}

/// A test of every outcome, a listed one, one that never ends, a machine, output between packets, and routes.
pub(crate) fn mixed() -> Vec<u8> {
    let mut out = Vec::new();
    for (place, status) in [
        ("pass", Status::Success),
        ("fail", Status::Fail),
        ("skip", Status::Skip),
        ("xfail", Status::XFail),
        ("uxsuccess", Status::UxSuccess),
    ] {
        let id = format!("pkg.{place}");
        out.extend(stream(&[Draft::test(&id, Status::InProgress).at(at(0)).route("0/1").tags(&["w1"])]));
        out.extend(b"printed\n");
        let text = format!("output of {place}\n");
        out.extend(stream(&[Draft::test(&id, status)
            .at(at(2))
            .route("0/1")
            .file("stdout", text.as_bytes())
            .mime("text/plain;charset=utf8")
            .eof(true)]));
    }
    out.extend(stream(&[
        Draft::test("pkg.listed", Status::Exists),
        Draft::test("pkg.hung", Status::InProgress).at(at(5)).tags(&["slow"]),
        Draft::activity("testbed/1/gw", Status::Success),
    ]));
    out
}

pub(crate) fn ids(stream: &[u8]) -> Vec<String> {
    let called = call(&["ls"], stream);
    called.text().lines().map(str::to_owned).collect()
}
