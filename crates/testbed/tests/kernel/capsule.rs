//! Testbeds in one machine with a kernel of its own.

use super::{SOON, answered, testbed, up};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testbed::bed::{Bed, CONSOLE, Ending, Options, StoredImages};
use testbed::image::{self, Store};
use testbed::machine::Condition;
use testbed::net::{capture, uplink};
use testbed::{FaultKind, host};
use testbed_agent::agent::Exit;

/// A number that a program of a machine counts up.
fn count(bed: &Bed, machine: &str, path: &str) -> u32 {
    bed[machine].succeed(&format!("cat {path}")).unwrap().trim().parse().unwrap()
}

fn counts_on(bed: &Bed, machine: &str, path: &str) -> u32 {
    let next = count(bed, machine, path) + 3;
    let reached = format!("until [ $(cat {path}) -ge {next} ]; do sleep 0.02; done");
    let waited = bed[machine].shell(reached).deadline(SOON).output().unwrap();
    assert!(waited.success(), "{machine} counts on beyond {next}");
    next
}

#[test]
fn its_machines_are_as_any_others() {
    let bed = up("capsule");
    let [left, router, right] = ["left", "router", "right"].map(|name| &bed[name]);
    assert_eq!(left.succeed("hostname; getent hosts right | cut -d' ' -f1").unwrap(), "left\n10.1.0.2\n");
    assert_eq!(left.succeed("uname -r").unwrap(), right.succeed("uname -r").unwrap());
    assert_eq!(left.pid().unwrap_err().kind, FaultKind::Unsupported);

    let output = left.shell("echo out; echo err >&2; exit 7").output().unwrap();
    assert_eq!(
        (output.exit, output.text(), &output.stderr[..]),
        (Exit::Code(7), "out\n".into(), &b"err\n"[..])
    );
    let late = left.shell("sleep 100").deadline(Duration::from_millis(300)).output().unwrap();
    assert!(late.timed_out);
    assert_eq!(left.command(["id", "-un"]).user("daemon").output().unwrap().text(), "daemon\n");
    // More than all that may be under way, both ways, in two machines at once.
    let sent: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    std::thread::scope(|scope| {
        for machine in [left, right] {
            scope.spawn(|| {
                let output = machine.command(["cat"]).input(sent.clone()).output().unwrap();
                assert!(output.stdout == sent, "{} bytes came back", output.stdout.len());
            });
        }
    });
    left.write_file("/root/sent", 0o640, &sent).unwrap();
    assert!(left.read_file("/root/sent").unwrap() == sent);
    assert!(!right.succeed("ls /root").unwrap().contains("sent"), "each has files of its own");

    assert_eq!(answered(&bed, "left", "10.1.0.2", 1472), 3, "through the router");
    assert_eq!(answered(&bed, "left", "fd00::2", 56), 3);
    bed.cut("left", None).unwrap();
    assert_eq!(answered(&bed, "left", "10.0.0.2", 56), 0);
    bed.heal("left", None).unwrap();
    assert_eq!(answered(&bed, "left", "10.0.0.2", 56), 3);

    let (mut server, _pipes) = right
        .shell(
            "exec perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalPort => 80, \
        Listen => 1) or die; while (my $c = $s->accept) { print $c \"hello \" . <$c> }'",
        )
        .spawn()
        .unwrap();
    right.wait_for_port(80, SOON).unwrap();
    let mut web = TcpStream::connect(bed.ports()[0].host).unwrap();
    web.write_all(b"you\n").unwrap();
    let mut line = String::new();
    BufReader::new(web).read_line(&mut line).unwrap();
    assert_eq!(line, "hello you\n");
    server.signal(15).unwrap();
    assert_eq!(server.wait(Some(SOON)).unwrap().0, Exit::Signal(15));

    // The service is paused with its machine, and nobody else is.
    right.pause().unwrap();
    let before = bed.service_log("right", "counter").unwrap().tail(64);
    assert_eq!(right.condition(), Condition::Paused);
    left.succeed("sleep 0.3").unwrap();
    right.resume().unwrap();
    let after = counts_on(&bed, "right", "/run/count");
    let last: u32 = before.lines().last().unwrap().parse().unwrap();
    assert!(after < last + 10, "from {last} to {after}");

    // One ends, and starts again on its files; what others are stays.
    router.write_file("/root/kept", 0o600, b"kept").unwrap();
    bed.stop("router", Ending::Soft).unwrap();
    assert_eq!(router.condition(), Condition::Stopped);
    assert_eq!(router.shell("true").output().unwrap_err().kind, FaultKind::State);
    assert_eq!(answered(&bed, "left", "10.1.0.2", 56), 0);
    assert_eq!(bed.files("router").unwrap().read_file("/root/kept").unwrap(), b"kept");
    bed.start("router").unwrap();
    assert_eq!(router.succeed("cat /root/kept").unwrap(), "kept");
    assert_eq!(answered(&bed, "left", "10.1.0.2", 56), 3);
    bed.restart("right", Ending::Hard).unwrap();
    assert!(count(&bed, "right", "/run/count") < after);
    assert_eq!(bed.changes("left").unwrap_err().kind, FaultKind::Unsupported);
}

#[test]
fn a_fork_goes_on_with_all_that_runs() {
    let bed = up("capsule");
    let [left, right] = ["left", "right"].map(|name| &bed[name]);
    // A connection through the router that counts for as long as it lasts.
    let listen = "exec perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalPort => 7, Listen => 1) or die; \
                  my $c = $s->accept; $c->autoflush(1); print $c $_ while <$c>'";
    let (_server, _pipes) = right.shell(listen).spawn().unwrap();
    right.wait_for_port(7, SOON).unwrap();
    let talk = "exec perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(PeerAddr => \"10.1.0.2:7\") or die; \
                $s->autoflush(1); for (my $n = 1;; $n++) { print $s \"$n\\n\"; my $l = <$s> or die; \
                open(my $f, \">\", \"/run/new\"); print $f $l; close $f; rename \"/run/new\", \"/run/talk\"; \
                select(undef, undef, undef, 0.02) }'";
    let (_client, _pipes) = left.shell(talk).spawn().unwrap();
    left.wait_for_file("/run/talk", SOON).unwrap();
    let talked = counts_on(&bed, "left", "/run/talk");
    left.write_file("/root/then", 0o600, b"then").unwrap();
    bed.cut("router", Some("lan")).unwrap();
    bed.heal("router", Some("lan")).unwrap();
    // When the kernel has started by its own clock (proc_stat(5)), in seconds: another time, if that is set.
    let started = |bed: &Bed| -> i64 {
        let text = bed["left"].succeed("sed -n 's/^btime //p' /proc/stat").unwrap();
        text.trim().parse().unwrap()
    };
    let clock_was_set = |fork: &Bed| (started(fork) - started(&bed)).abs() > 1;
    bed.snapshot("talking", &[]).unwrap();
    let then = counts_on(&bed, "left", "/run/talk");
    left.write_file("/root/now", 0o600, b"now").unwrap();
    std::thread::sleep(Duration::from_secs(3));

    let mac = |bed: &Bed| bed["left"].succeed("cat /sys/class/net/eth0/address").unwrap();
    let random = |bed: &Bed| bed["left"].succeed("cat /proc/sys/kernel/random/uuid").unwrap();
    let forks: Vec<Bed> = (0..2).map(|_| bed.fork(Some("talking")).unwrap()).collect();
    for fork in &forks {
        let on = counts_on(fork, "left", "/run/talk");
        assert!(on >= talked, "{on} after {talked}");
        assert!(!clock_was_set(fork), "no time has passed in there");
        assert_eq!(fork["left"].succeed("cat /root/then; ls /root").unwrap(), "thenthen\n");
        assert_eq!(mac(fork), mac(&bed));
        counts_on(fork, "right", "/run/count");
        let service = fork.services().into_iter().find(|service| service.name == "counter").unwrap();
        assert_eq!((service.ended, service.fault), (None, None));
        assert_eq!(answered(fork, "left", "10.1.0.2", 56), 3);
        assert_ne!(fork.ports()[0].host, bed.ports()[0].host);
    }
    assert!(random(&forks[0]) != random(&forks[1]) && random(&forks[0]) != random(&bed));
    // One machine of a fork starts again there; the others do not hear of it.
    forks[0].restart("router", Ending::Soft).unwrap();
    assert_eq!(answered(&forks[0], "left", "10.1.0.2", 56), 3);
    drop(forks);

    // The original has gone on meanwhile, and goes back.
    assert!(counts_on(&bed, "left", "/run/talk") > then);
    assert_eq!(bed.snapshot("one", &["left"]).unwrap_err().kind, FaultKind::Unsupported);
    bed.rollback("talking", &[]).unwrap();
    assert_eq!(left.succeed("ls /root").unwrap(), "then\n");
    counts_on(&bed, "left", "/run/talk");
    counts_on(&bed, "right", "/run/count");
    bed.restart("router", Ending::Soft).unwrap();
    counts_on(&bed, "left", "/run/talk");
}

/// A capsule whose machines may reach services of this host.
fn with_a_way_out() -> Bed {
    let options = Options {
        uplink: uplink::Options { to_host: true, ..uplink::Options::default() },
        ..Options::default()
    };
    let (store, engine) = (Store::open("/var/cache/testbed").unwrap(), host::engine().unwrap());
    let images = StoredImages {
        store: &store,
        engine: engine.clone(),
        options: image::Options::default(),
        progress: &|_| {},
    };
    Bed::up(&engine, &Arc::new(testbed("capsule/tools")), &images, &options).unwrap()
}

#[test]
fn what_one_kernel_has_all_its_machines_have() {
    let bed = with_a_way_out();
    let [near, far] = ["near", "far"].map(|name| &bed[name]);
    // Tagged frames on the raw wire, read off it by a capture from outside.
    for (machine, number) in [(near, 1), (far, 2)] {
        let tag = "ip link set wire up && ip link add link wire name wire.93 type vlan id 93 && ip link set wire.93 up";
        machine.succeed(&format!("{tag} && ip address add 10.93.0.{number}/24 dev wire.93")).unwrap();
    }
    let (mut packets, output) = pipe_of_packets();
    let filter = "vlan 93 and icmp".parse().unwrap();
    let capture = bed.capture(capture::Options { filter, ..capture::Options::all("wire") }, output).unwrap();
    assert_eq!(answered(&bed, "near", "10.93.0.2", 56), 3);
    assert_eq!(capture.stop().unwrap().packets, 6, "three requests and three answers");
    let mut bytes = Vec::new();
    packets.read_to_end(&mut bytes).unwrap();
    // The tag as it stands in the frame (IEEE 802.1Q): type, and number 93.
    assert!(bytes.windows(4).filter(|window| *window == [0x81, 0, 0, 93]).count() >= 6);

    // A delay on one end of the wire.
    far.succeed("tc qdisc add dev wire root netem delay 100ms").unwrap();
    let began = Instant::now();
    assert_eq!(answered(&bed, "near", "10.93.0.2", 56), 3);
    assert!(began.elapsed() >= Duration::from_millis(100));
    far.succeed("tc qdisc delete dev wire root").unwrap();

    // An encrypted tunnel through the VLAN.
    let keys = ["near", "far"].map(|name| {
        let keys = bed[name].succeed("umask 77; wg genkey | tee /root/key | wg pubkey").unwrap();
        keys.trim().to_owned()
    });
    for (machine, key, number, other) in [(near, &keys[1], 1, 2), (far, &keys[0], 2, 1)] {
        machine
            .succeed(&format!(
                "ip link add wg0 type wireguard && ip address add 10.94.0.{number}/24 dev wg0 && \
                 wg set wg0 private-key /root/key listen-port 7000 peer {key} allowed-ips 10.94.0.{other}/32 \
                 endpoint 10.93.0.{other}:7000 && ip link set wg0 up"
            ))
            .unwrap();
    }
    assert_eq!(answered(&bed, "near", "10.94.0.2", 56), 3);

    // Limits are kept inside.
    let bomb = far.shell("for n in $(seq 100); do sleep 100 & done; wait").deadline(SOON).output().unwrap();
    assert!(!bomb.success());
    assert!(far.processes().unwrap().len() <= 50);
    near.succeed("true").unwrap();

    // Out by the host, and by its programs to what they may reach of the testbed.
    let server = TcpListener::bind(SocketAddr::new(world(), 0)).unwrap();
    let at = server.local_addr().unwrap();
    let said = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        stream.write_all(b"from outside").unwrap();
    });
    let hears = format!("exec 3<>/dev/tcp/{}/{}; cat <&3", at.ip(), at.port());
    assert_eq!(near.command(["bash", "-c", &hears]).deadline(SOON).output().unwrap().text(), "from outside");
    said.join().unwrap();
    assert_eq!(near.succeed("testbed exec far -- hostname").unwrap(), "far\n");
    assert!(!near.shell("testbed exec plain -- hostname").output().unwrap().success(), "it may not");
    assert!(!bed["plain"].shell("command -v ip").output().unwrap().success(), "each has its own image");

    // All of that again in a fork: what is under way in the kernel is not to be set up anew.
    let fork = bed.fork(None).unwrap();
    for to in ["10.93.0.2", "10.94.0.2"] {
        assert_eq!(answered(&fork, "near", to, 56), 3, "{to}");
    }
    assert_eq!(fork["near"].succeed("testbed exec far -- hostname").unwrap(), "far\n");
}

/// An address of this host that is not its loopback.
fn world() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent.
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}

fn pipe_of_packets() -> (std::fs::File, std::fs::File) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (read.into(), write.into())
}

#[test]
fn a_panic_is_of_all_its_machines_and_undone_by_a_rollback() {
    let bed = up("capsule");
    bed["left"].write_file("/root/then", 0o600, b"then").unwrap();
    bed.snapshot("then", &[]).unwrap();
    // No machine can do so: its files in /proc are its own user's.
    assert!(!bed["left"].shell("echo c > /proc/sysrq-trigger").output().unwrap().success());
    let capsule = bed.capsule().unwrap();
    let waiting = bed["right"].command(["sleep", "1000"]).start().unwrap();
    capsule.write_file("/proc/sysrq-trigger", 0o200, b"c").unwrap_err();
    capsule.wait_ended(SOON).unwrap();
    drop(waiting);
    for name in ["left", "router", "right"] {
        let fault = bed[name].shell("true").output().unwrap_err();
        assert_eq!(
            (&*fault.operation, fault.machine.as_deref()),
            ("go on: its kernel has ended", Some(name))
        );
        assert!(fault.log.as_deref().is_some_and(|log| log.contains("sysrq")), "{:?}", fault.log);
        assert_eq!(bed[name].condition(), Condition::Stopped);
    }
    assert!(bed.service_log("left", CONSOLE).unwrap().tail(4096).contains("Kernel panic"));
    bed.rollback("then", &[]).unwrap();
    assert_eq!(bed["left"].read_file("/root/then").unwrap(), b"then");
    assert_eq!(answered(&bed, "left", "10.1.0.2", 56), 3);
    counts_on(&bed, "right", "/run/count");
}
