//! Layers that machines build.

use crate::harness::{Folder, cannot, is_root, names, resolve, testbed};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, ToSocketAddrs as _};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};
use testbed::image::{EngineBuilder, Options, Progress, Resolved, SiteProxy, Store};
use testbed::{Engine, FaultKind};
use testbed_agent::launch::{Machine, Root, Upper};

const SOON: Duration = Duration::from_secs(20);

/// One for all tests; its machines end with this process.
fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| testbed::host::engine().unwrap()).clone()
}

/// What a text prints in a machine of an image.
fn prints(engine: &Engine, image: &Resolved, text: &str) -> String {
    let root = Root {
        layers: image.layers.iter().map(|path| path.to_str().unwrap().to_owned()).collect(),
        host: image.host,
    };
    let spec = Machine { env: image.env.clone(), ..Machine::new("m", root, Upper::Memory(256 << 20)) };
    let machine = engine.machine("m", spec).unwrap();
    let output = machine.shell(text).deadline(SOON).output().unwrap();
    machine.kill(SOON).unwrap();
    assert!(output.success(), "{text}: {output:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output.text()
}

#[test]
fn what_a_step_changes_is_the_layer() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    folder.write("site.conf", "port 1194\n");
    let store = Store::open(folder.path().join("s")).unwrap();
    let engine = engine();
    let text = r#"
[images.i]
base = "host"
env = { WHO = "world" }
files = { "/etc/site.conf" = "site.conf" }
run = [
    "echo hello $WHO > /greeting; chown 33:34 /greeting; rm /etc/debconf.conf 2>/dev/null || rm /etc/issue",
    "cat /greeting /etc/site.conf > /both; cp /bin/true /cap; chmod 4755 /cap",
]
"#;
    let image = resolve(&store, folder.path(), text, &EngineBuilder::new(engine.clone())).unwrap();
    assert_eq!((image.layers.len(), image.host), (3, true));
    let seen = prints(
        &engine,
        &image,
        "cat /both; stat -c %u:%g /greeting; stat -c %a:%u /cap; echo $WHO; ls /usr/sbin/policy-rc.d 2>/dev/null || :",
    );
    let inherited =
        if std::path::Path::new("/usr/sbin/policy-rc.d").exists() { "/usr/sbin/policy-rc.d\n" } else { "" };
    assert_eq!(seen, format!("hello world\nport 1194\n33:34\n4755:0\nworld\n{inherited}"));
    assert_eq!(names(&store, "tmp"), [""; 0]);
}

#[test]
fn a_step_that_fails_or_hangs_leaves_nothing() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let store = Store::open(folder.path().join("s")).unwrap();
    let builder = EngineBuilder::new(engine());
    let text = "[images.i]\nbase = \"host\"\nrun = [\"echo told; echo complained >&2; exit 3\"]\n";
    let fault = resolve(&store, folder.path(), text, &builder).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Image, "{fault:?}");
    assert_eq!(fault.log.as_deref(), Some("told\ncomplained\n"));
    let text = "[images.i]\nbase = \"host\"\nrun = [\"echo waits; sleep 100 & sleep 100\"]\n";
    let options = Options { step_deadline: Some(Duration::from_millis(300)), ..Options::default() };
    let started = Instant::now();
    let fault =
        store.resolve(&testbed(folder.path(), text), "i", &builder, &options, &mut |_| {}).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Timeout, "{fault:?}");
    assert_eq!(fault.log.as_deref(), Some("waits\n"));
    assert!(started.elapsed() < SOON);
    // What a step leaves running ends with it.
    let text = "[images.i]\nbase = \"host\"\nrun = [\"sleep 100 & echo left > /left\"]\n";
    resolve(&store, folder.path(), text, &builder).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(names(&store, "tmp"), [""; 0]);
}

/// What the test below starts as a process of its own; not a test by itself.
#[test]
#[ignore = "a process that tests start"]
fn process_that_builds() {
    let folder = std::env::var("FOLDER").expect("set by the test that starts this");
    let folder = std::path::Path::new(&folder);
    let store = Store::open(folder.join("s")).unwrap();
    resolve(&store, folder, SLOW, &EngineBuilder::new(engine())).unwrap();
}

const SLOW: &str = "[images.i]\nbase = \"host\"\nrun = [\"echo begun > /begun; sleep 100\"]\n";

#[test]
fn a_killed_builder_takes_its_machine_with_it() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let mut process = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "machines::process_that_builds"])
        .env("FOLDER", folder.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let layers = folder.path().join("s/tmp");
    let begun = || {
        let mut entries = layers.read_dir().ok()?.flatten();
        entries.find(|entry| entry.path().join("upper/begun").exists())
    };
    let end = Instant::now() + SOON;
    while begun().is_none() {
        assert!(Instant::now() < end, "the builder never began");
        std::thread::sleep(Duration::from_millis(5));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    // Removing the upper of a machine that lives would bring it back at the next write: nothing may be left.
    let end = Instant::now() + SOON;
    while has_process_of("echo begun > /begun") {
        assert!(Instant::now() < end, "the machine outlives its builder");
        std::thread::sleep(Duration::from_millis(5));
    }
    let store = Store::open(folder.path().join("s")).unwrap();
    assert_eq!(names(&store, "tmp"), [""; 0]);
    assert_eq!(store.list().unwrap(), []);
}

fn has_process_of(text: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let own = std::process::id().to_string();
    processes.filter(|process| *process.file_name() != *own).any(|process| {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(text)
    })
}

#[test]
fn builders_reach_others_through_the_site_and_never_this_host() {
    if !is_root() {
        return;
    }
    if !std::path::Path::new("/bin/bash").exists() {
        return cannot("what builders reach: no bash that speaks TCP");
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let (tell, asked) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nfrom this host\n").unwrap();
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    let folder = Folder::new();
    let store = Store::open(folder.path().join("s")).unwrap();
    let engine = engine();
    let builder = EngineBuilder::new(engine.clone());
    let answer = |url: &str, options: &Options| {
        let ask = format!(
            "exec 3<>/dev/tcp/127.0.0.1/${{http_proxy##*:}}; \
             printf \"GET {url} HTTP/1.1\\\\r\\\\n\\\\r\\\\n\" >&3; cat <&3 >/answer; echo >&2 $no_proxy"
        );
        let text = format!("[images.i]\nbase = \"host\"\nrun = [\"\"\"bash -c '{ask}'\"\"\"]\n");
        let bed = testbed(folder.path(), &text);
        let image = store.resolve(&bed, "i", &builder, options, &mut |_| {});
        let image =
            image.unwrap_or_else(|fault| panic!("{fault}\n{}", fault.log.as_deref().unwrap_or_default()));
        prints(&engine, &image, "cat /answer")
    };
    let refused = answer(&format!("http://{at}/"), &Options::default());
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
    let proxy = SiteProxy { http: Some(at.to_string()), ..SiteProxy::default() };
    let options = Options { proxy, ..Options::default() };
    let through = answer("http://nowhere.invalid/x", &options);
    assert!(through.ends_with("from this host\n"), "{through}");
    assert_eq!(asked.recv_timeout(SOON).unwrap(), "GET http://nowhere.invalid/x HTTP/1.1\r\n");
    let refused = answer("http://localhost/other", &options);
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
    assert!(asked.try_recv().is_err(), "a builder reached the host");
    let proxy = SiteProxy { http: Some("socks5://u:secret@proxy:1080".into()), ..SiteProxy::default() };
    let options = Options { proxy, ..Options::default() };
    let text = "[images.i]\nbase = \"host\"\nrun = [\"never run\"]\n";
    let fault =
        store.resolve(&testbed(folder.path(), text), "i", &builder, &options, &mut |_| {}).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unsupported, "{fault:?}");
}

/// Whether packages can be fetched from here.
fn has_mirror() -> bool {
    let text = std::fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    let parts = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let all =
        parts.filter_map(|part| std::fs::read_to_string(part.path()).ok()).fold(text, |all, t| all + &t);
    let uses = |line: &&str| line.starts_with("URIs:") || line.starts_with("deb ");
    let mut words = all.lines().filter(uses).flat_map(str::split_whitespace);
    let host = words.find_map(|word| word.strip_prefix("http://")).map(|rest| {
        let end = rest.find('/').unwrap_or(rest.len());
        (rest[..end].to_owned(), 80)
    });
    let reached = host.is_some_and(|host| {
        let addresses = host.to_socket_addrs().into_iter().flatten();
        addresses.into_iter().any(|at| std::net::TcpStream::connect_timeout(&at, SOON).is_ok())
    });
    if !reached {
        cannot("installing packages: no mirror of this host's apt can be reached");
    }
    reached
}

#[test]
fn debian_is_built_from_packages_and_takes_more() {
    if !is_root() || !has_mirror() {
        return;
    }
    let folder = Folder::new();
    let store = Store::open(folder.path().join("s")).unwrap();
    let engine = engine();
    let builder = EngineBuilder::new(engine.clone());
    let text =
        "[images.i]\nbase = \"debian:bookworm\"\npackages = [\"openvpn\", \"nftables\", \"python3\"]\n";
    let bed = testbed(folder.path(), text);
    let mut times = Vec::new();
    let mut watch = |progress: Progress<'_>| {
        if let Progress::Built { step, took, .. } = progress {
            times.push((step.to_owned(), took));
        }
    };
    let image = store
        .resolve(&bed, "i", &builder, &Options::default(), &mut watch)
        .unwrap_or_else(|fault| panic!("{fault}\n{}", fault.log.as_deref().unwrap_or_default()));
    eprintln!("{times:?}");
    assert_eq!((image.layers.len(), image.host), (2, false));
    let seen = prints(
        &engine,
        &image,
        "set -e; . /etc/os-release; echo $VERSION_CODENAME; openvpn --version | head -c 7; echo; \
         nft list ruleset; python3 -c 'print(6 * 7)'; dpkg --audit; \
         stat -c '%U %a' / /tmp /usr/bin/passwd; find /var/lib/apt/lists /var/cache/apt -type f | wc -l; \
         ls -d /target /usr/sbin/policy-rc.d /var/cache/testbed-apt 2>/dev/null | wc -l; \
         su -s /bin/sh -c 'id -un' www-data",
    );
    assert_eq!(seen, "bookworm\nOpenVPN\n42\nroot 755\nroot 1777\nroot 4755\n0\n0\nwww-data\n", "{seen}");
    // The second time there is nothing to do.
    let started = Instant::now();
    let again = store.resolve(&bed, "i", &builder, &Options::default(), &mut |p| panic!("{p:?}")).unwrap();
    assert_eq!(again.layers, image.layers);
    eprintln!("again: {:?}", started.elapsed());
}

#[test]
fn packages_are_put_on_the_host() {
    if !is_root() || !has_mirror() {
        return;
    }
    if !std::path::Path::new("/usr/bin/apt-get").exists() {
        return cannot("packages on `host`: this host has no apt-get");
    }
    let folder = Folder::new();
    let store = Store::open(folder.path().join("s")).unwrap();
    let engine = engine();
    let text = "[images.i]\nbase = \"host\"\npackages = [\"hello\"]\n";
    let image = resolve(&store, folder.path(), text, &EngineBuilder::new(engine.clone()))
        .unwrap_or_else(|fault| panic!("{fault}\n{}", fault.log.as_deref().unwrap_or_default()));
    assert_eq!(prints(&engine, &image, "hello -g works"), "works\n");
    let text = "[images.i]\nbase = \"host\"\npackages = [\"no-package-of-this-name\"]\n";
    let fault = resolve(&store, folder.path(), text, &EngineBuilder::new(engine)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Image);
    assert!(fault.log.unwrap().contains("no-package-of-this-name"));
}
