//! What the tests of the tools share: streams, folders and network namespaces of their own.

use super::ToolIo;
use rustix::fd::{AsFd, OwnedFd};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use testbed_agent::Fault;
use testbed_agent::agent::{Report, Tool};

/// What a tool finds in its input, and who reads its output.
#[derive(Default)]
pub(crate) struct Streams {
    input: Vec<u8>,
    hold: Option<Receiver<()>>,
}

impl Streams {
    pub(crate) fn input(bytes: Vec<u8>) -> Streams {
        Streams { input: bytes, hold: None }
    }

    /// Nobody reads the output until the sender goes.
    pub(crate) fn held() -> (Streams, Sender<()>) {
        let (sender, hold) = channel();
        (Streams { input: Vec::new(), hold: Some(hold) }, sender)
    }
}

/// How a tool ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) result: Result<Report, Fault>,
    pub(crate) output: Vec<u8>,
}

impl Outcome {
    pub(crate) fn report(self) -> Report {
        self.result.unwrap_or_else(|fault| panic!("{fault} ({:?})", fault.hint))
    }

    pub(crate) fn fault(self) -> Fault {
        self.result.expect_err("the tool should fail")
    }
}

/// A tool at work in a thread of its own, in the namespaces of whoever started it.
pub(crate) struct Started {
    thread: JoinHandle<Outcome>,
    ready: Receiver<()>,
    stop: OwnedFd,
}

impl Started {
    /// Waits until the tool says that it is ready.
    pub(crate) fn ready(self) -> Started {
        self.ready.recv_timeout(Duration::from_secs(10)).expect("the tool should become ready");
        self
    }

    /// Tells the tool to end now.
    pub(crate) fn stop(self) -> Outcome {
        rustix::io::write(&self.stop, b"x").unwrap();
        self.end()
    }

    pub(crate) fn end(self) -> Outcome {
        self.thread.join().unwrap()
    }

    pub(crate) fn ended(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts a tool.
pub(crate) fn start(tool: &Tool, streams: Streams) -> Started {
    let tool = tool.clone();
    let (said, ready) = channel();
    let (stopped, stop) = rustix::pipe::pipe().unwrap();
    let thread = std::thread::spawn(move || {
        let (input, mut feed) = std::io::pipe().unwrap();
        let (mut drain, output) = std::io::pipe().unwrap();
        std::thread::scope(|scope| {
            // A tool may end without reading all of its input.
            scope.spawn(move || drop(feed.write_all(&streams.input)));
            let output_read = scope.spawn(move || {
                let mut bytes = Vec::new();
                if let Some(hold) = streams.hold {
                    let _ = hold.recv();
                }
                drain.read_to_end(&mut bytes).unwrap();
                bytes
            });
            let env = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
            let mut io = ToolIo {
                device: None,
                input: input.as_fd(),
                output: output.as_fd(),
                stop: Some(stopped.as_fd()),
                env: &env,
                ready: &mut || {
                    said.send(()).unwrap();
                    Ok(())
                },
            };
            let result = super::run(&tool, &mut io);
            drop((output, input));
            Outcome { result, output: output_read.join().unwrap() }
        })
    });
    Started { thread, ready, stop }
}

/// Runs a tool to its end.
pub(crate) fn run(tool: &Tool, streams: Streams) -> Outcome {
    start(tool, streams).end()
}

/// Says loudly what a test would need that is not here. `TESTBED_STRICT` turns that into a failure.
pub(crate) fn skip(needs: &str) {
    assert!(std::env::var_os("TESTBED_STRICT").is_none(), "this test needs {needs}");
    // Not captured, as `eprintln!` would be.
    let _ = writeln!(std::io::stderr(), "SKIPPED: this test needs {needs}");
}

/// A folder that goes with its owner.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A path in it; the folder itself for an empty name.
    pub(crate) fn path(&self, name: &str) -> String {
        let path = if name.is_empty() { self.0.clone() } else { self.0.join(name) };
        path.into_os_string().into_string().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

pub(crate) fn folder() -> Folder {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("testbed-tools-{}-{number}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    Folder(path)
}

/// A network namespace, held by a process that does nothing. It goes with its owner.
pub(crate) struct Net {
    holder: Child,
}

impl Net {
    /// Makes one whose loopback is up. None, and a loud word, where that cannot be: that needs root, `unshare` and `ip`.
    pub(crate) fn new() -> Option<Net> {
        if rustix::process::geteuid().is_root() {
            // Link-local addresses that are still being checked would delay every IPv6 packet.
            let script = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
                          ip link set lo up && echo up && exec cat";
            let holder = Command::new("unshare")
                .args(["-n", "sh", "-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn();
            if let Ok(mut holder) = holder {
                let mut line = String::new();
                BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
                if line == "up\n" {
                    return Some(Net { holder });
                }
                holder.wait().unwrap();
            }
        }
        skip("root, unshare(1) and ip(8)");
        None
    }

    /// Its file, for `ip link set … netns`.
    pub(crate) fn file(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// Moves the calling thread into it; threads and processes that it starts are in there, too.
    pub(crate) fn enter(&self) {
        let file = std::fs::File::open(self.file()).unwrap();
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind)).unwrap();
    }

    /// Runs something in there.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter();
                    work()
                })
                .join()
                .unwrap()
        })
    }

    /// Sets a kernel parameter in there: `ipv4/ip_forward`.
    pub(crate) fn set(&self, parameter: &str, value: &str) {
        self.run(|| std::fs::write(format!("/proc/sys/net/{parameter}"), value).unwrap());
    }

    /// Waits until a link carries packets: the kernel may take a second to notice that both its ends are up.
    pub(crate) fn until_up(&self, link: &str) {
        self.run(|| {
            let shown =
                || Command::new("ip").args(["-o", "link", "show", "dev", link]).output().unwrap().stdout;
            while !String::from_utf8(shown()).unwrap().contains("state UP") {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    }

    /// Runs `ip` in there; several commands with `;` between.
    pub(crate) fn ip(&self, commands: &str) {
        self.run(|| {
            for command in commands.split(';') {
                let status = Command::new("ip").args(command.split_whitespace()).status().unwrap();
                assert!(status.success(), "ip {command}");
            }
        });
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.holder.kill().unwrap();
        self.holder.wait().unwrap();
    }
}
