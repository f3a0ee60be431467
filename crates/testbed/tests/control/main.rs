//! The control protocol on real machines: what clients can do, and what hostile ones cannot.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in what tests share")]

mod asks;
#[path = "../common/mod.rs"]
mod common;
mod hostile;
mod relays;

use common::checked;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use testbed::Engine;
use testbed::bed::{Bed, HostOnly, Options};
use testbed::control::agent::{ErrorSink, Program, Request, Run, Sink, Source, Stdio};
use testbed::control::{Client, Server};

/// A testbed that is served.
struct Served {
    bed: Bed,
    server: Option<Server>,
    path: PathBuf,
}

impl Served {
    fn up(text: &str) -> Served {
        static ENGINE: LazyLock<Engine> = LazyLock::new(|| testbed::host::engine().unwrap());
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let options = Options { free_ports: true, ..Options::default() };
        let bed = Bed::up(&ENGINE, &checked(text), &HostOnly, &options).unwrap();
        let name = format!("testbed-control-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let server = Some(Server::start(&path, &bed, None).unwrap());
        Served { bed, server, path }
    }

    fn client(&self) -> Client {
        Client::connect(&self.path).unwrap()
    }
}

/// Shell text with its three streams on the channel.
fn shell(text: &str) -> Request {
    let stdio = Stdio::Apart { input: Source::Channel, output: Sink::Channel, error: ErrorSink::Channel };
    let program = Program::Shell(text.into());
    Request::Run(Run {
        program,
        script: None,
        env: Vec::new(),
        cwd: None,
        user: None,
        stdio,
        deadline_ms: None,
    })
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process of the machine has this in its command line.
fn runs(bed: &Bed, machine: &str, text: &str) -> bool {
    bed[machine].processes().unwrap().iter().any(|process| process.command.contains(text))
}
