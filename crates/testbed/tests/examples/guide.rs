//! The code of the guide: what stands there stands here, and works.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::Duration;
use testbed::bed::{Bed, Ending};
use testbed::net::capture::Options;
use testbed::{Testbed, spec};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PAIR: &str = r#"
[networks]
lan = { subnet = "10.1.0.0/24" }
[machines.server]
interfaces = { lan = "10.1.0.1" }
services = { web = "mkdir -p /srv; cd /srv; exec python3 -m http.server 8080" }
[machines.client]
interfaces = { lan = {} }
"#;

/// A `ping` for machines of hosts that have none: it asks the server's page.
const PING: &str = "#!/bin/sh\npython3 -c 'import socket; socket.create_connection((\"server\", 8080), 1)'\n";

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("testbed-guide-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pair(name: &str) -> Result<Bed> {
    let folder = Folder::new(name);
    fs::write(folder.0.join("testbed.toml"), PAIR)?;
    let bed = Testbed::load(&folder.0)?.up()?;
    bed["server"].wait_for_port(8080, Duration::from_secs(5))?;
    Ok(bed)
}

#[test]
fn consoles_and_screens() -> Result<()> {
    let lan = |network: spec::NetworkBuilder| network.subnet("10.0.0.0/24");
    let vm = |machine: spec::MachineBuilder| machine.image("debian:bookworm").screen().attach("lan");
    let bed = Testbed::builder("screens").network("lan", lan).machine("vm", vm).build()?.up()?;
    let console = bed.console("vm")?; // of a kernel of its own
    console.write(b"root\n", Duration::from_secs(5))?;
    let said = console.log().tail(4096);
    bed["vm"].type_text("ls\n")?; // with a screen
    bed["vm"].press(&"ctrl-alt-f2".parse()?)?;
    let png = bed["vm"].screenshot()?;
    let vnc = bed["vm"].view()?; // a connection to a VNC server
    assert!(said.len() <= 4096 && png.starts_with(b"\x89PNG"));
    drop(vnc);
    Ok(())
}

#[test]
fn commands() -> Result<()> {
    let bed = pair("commands")?;
    let machine = &bed["client"];
    let output = machine
        .command(["openssl", "rand", "-hex", "16"])
        .user("nobody")
        .deadline(Duration::from_secs(5))
        .output()?;
    assert!(output.success());
    let (mut daemon, _pipes) = machine.shell("exec sleep 1000").spawn()?;
    daemon.signal(15)?;
    let (exit, _timed_out) = daemon.wait(Some(Duration::from_secs(5)))?;
    assert!(!exit.success());
    Ok(())
}

#[test]
fn files() -> Result<()> {
    let bed = pair("files")?;
    let machine = &bed["client"];
    machine.write_file("/etc/app.conf", 0o644, b"port = 80\n")?;
    let text = machine.read_file("/etc/app.conf")?;
    let names: Vec<String> = machine.list("/etc")?.into_iter().map(|entry| entry.name).collect();
    assert!(text == b"port = 80\n" && names.iter().any(|name| name == "app.conf"));
    for change in bed.changes("client")? {
        println!("{:?} {}", change.kind, change.path);
    }
    Ok(())
}

/// The smallest of all runtimes.
fn awaited<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

#[test]
fn networks() -> Result<()> {
    let bed = pair("networks")?;
    let client = &bed["client"];
    client.write_file("/usr/local/bin/ping", 0o755, PING.as_bytes())?;
    bed.cut("client", None)?; // or Some("lan"): off one of its networks
    client.fail("ping -c 1 -W 1 server")?;
    bed.heal("client", None)?;
    client.wait_until_succeeds("ping -c 1 -W 1 server", Duration::from_secs(5))?;
    let output = awaited(testbed::unblock({
        let bed = bed.clone();
        move || bed["client"].succeed("ping -c 1 server")
    }))?;
    assert_eq!(output, "");
    let page = client.succeed(
        "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://server:8080/\").read())'",
    )?;
    assert!(page.contains("Directory listing"));
    Ok(())
}

#[test]
fn captures() -> Result<()> {
    let bed = pair("captures")?;
    let folder = Folder::new("pcapng");
    let path = folder.0.join("lan.pcapng");
    let client = Pinger(&bed);
    let options = Options { filter: "icmp".parse()?, ..Options::all("lan") };
    let capture = bed.capture(options, std::fs::File::create(&path)?)?;
    client.succeed("ping -c 1 server")?;
    let summary = capture.stop()?;
    assert_eq!(summary.packets, 2);
    Ok(())
}

/// A client that pings by its agent, wherever it finds no such program.
struct Pinger<'a>(&'a Bed);

impl Pinger<'_> {
    fn succeed(&self, _: &str) -> Result<()> {
        let tool = testbed_agent::agent::Tool::Ping {
            target: "10.1.0.1".parse()?,
            count: 1,
            interval_ms: 0,
            wait_ms: 1000,
            size: 8,
            interface: None,
        };
        self.0["client"].tool(tool, Duration::from_secs(5))?;
        Ok(())
    }
}

#[test]
fn ends_snapshots_and_forks() -> Result<()> {
    let bed = pair("ends")?;
    let server = &bed["server"];
    bed.restart("server", Ending::Hard)?; // as if its power was cut: files stay, services start again
    bed.snapshot("clean", &[])?; // the files of all machines
    server.succeed("rm -r /srv")?;
    bed.rollback("clean", &["server"])?;
    let twin = bed.fork(None)?; // a second bed, with the same addresses and files
    twin["server"].succeed("ls /srv")?;
    Ok(())
}

#[test]
fn without_a_file() -> Result<()> {
    let testbed = Testbed::builder("pair")
        .network("lan", |n| n.subnet("10.1.0.0/24"))
        .machine("a", |m| m.interface("lan", "10.1.0.1"))
        .machine("b", |m| m.interface("lan", "10.1.0.2"))
        .build()?;
    let bed = testbed.up()?;
    assert_eq!(bed.machines().count(), 2);
    Ok(())
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The blocks of a language in a document.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// The lines of code without their indentation.
fn lines(code: &str) -> Vec<&str> {
    code.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn what_the_guide_says_is_run_here() {
    let guide = fs::read_to_string(root().join("docs/guide/rust-api.md")).unwrap();
    let own = lines(include_str!("guide.rs"));
    for block in blocks(&guide, "rust") {
        // Complete programs, and what needs a runtime, are told apart from what is shown.
        if block.contains("#[test]") || block.contains(".await") {
            continue;
        }
        let wanted: Vec<&str> = lines(&block).into_iter().filter(|line| !line.starts_with("use ")).collect();
        assert!(own.windows(wanted.len()).any(|window| window == wanted), "not in this file:\n{block}");
    }
}

/// A file system that has whatever a document names.
struct Everything;

impl spec::Files for Everything {
    fn folder(&self) -> &Path {
        Path::new("/")
    }

    fn kind(&self, path: &Path) -> Option<spec::FileKind> {
        // A number behind a dot belongs to a version.
        let is_word = |end: &std::ffi::OsStr| end.to_str().is_some_and(|end| end.parse::<u32>().is_err());
        let is_file = path.extension().is_some_and(is_word)
            || path.file_name().is_some_and(|name| name == "bzImage")
            || path.parent().is_some_and(|folder| folder.ends_with("tests"));
        Some(if is_file { spec::FileKind::File { executable: true } } else { spec::FileKind::Folder })
    }

    fn list(&self, _: &Path) -> Vec<String> {
        vec!["one".into()]
    }
}

#[test]
fn the_files_of_all_documents_are_right() {
    let guides = fs::read_dir(root().join("docs/guide")).unwrap().map(|entry| entry.unwrap().path());
    let mut checked = 0;
    for path in guides.chain([root().join("README.md")]) {
        for block in blocks(&fs::read_to_string(&path).unwrap(), "toml") {
            // A manifest of Cargo is not ours.
            if block.contains("dependencies]") {
                continue;
            }
            // Some show a part of a file.
            let machine = if block.contains("[machines") { "" } else { "\n[machines.a]\n" };
            let block = format!("{block}{machine}");
            let (_, problems) = spec::check(&block, "testbed.toml", &Everything);
            let wrong = problems.iter().any(|problem| problem.kind() != spec::ProblemKind::UnknownName);
            assert!(!wrong, "{}:\n{block}\n{problems}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 5, "{checked} files were found");
}
