//! Machines with kernels of their own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in what tests share")]

mod accelerators;
mod booted;
mod capsule;
mod clones;
mod console;
mod forks;
mod hostile;
mod modules;
mod releases;
mod screen;
mod states;
mod systems;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};
use testbed::bed::CONSOLE;
use testbed::machine::Condition;
use testbed::net::recent::{Depth, Watcher};
use testbed::{Bed, Testbed};
use testbed_agent::agent::{Exit, Report, Tool};

/// For what an emulated processor does.
const SOON: Duration = Duration::from_secs(30);

fn testbed(folder: &str) -> Testbed {
    Testbed::load(format!("{}/tests/kernel/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn up(folder: &str) -> Bed {
    testbed(folder).up().unwrap_or_else(|fault| {
        panic!(
            "{fault}\n{}\n{}",
            fault.hint.clone().unwrap_or_default(),
            fault.log.clone().unwrap_or_default()
        )
    })
}

/// All processes of the host that are in the same process namespace.
fn in_namespace_of(pid: u32) -> Vec<u32> {
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = namespace(pid).unwrap();
    let all = fs::read_dir("/proc").unwrap();
    let all = all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter(|pid| namespace(*pid).as_ref() == Some(&wanted)).collect()
}

#[test]
fn it_is_a_machine_like_any_other() {
    let bed = up("alone");
    let vm = &bed["vm"];
    let host = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_ne!(vm.succeed("uname -r").unwrap().trim(), host.trim());
    assert_eq!(vm.succeed("hostname; echo $FROM_IMAGE $FROM_FILE").unwrap(), "other\nyes too\n");
    assert_eq!(vm.succeed("stat -c '%a %U' /etc/motto; cat /etc/motto").unwrap(), "600 root\ncarpe noctem");

    let output = vm.shell("echo out; echo err >&2; exit 7").output().unwrap();
    assert_eq!(
        (output.exit, output.text(), &output.stderr[..]),
        (Exit::Code(7), "out\n".into(), &b"err\n"[..])
    );
    assert_eq!(vm.shell("kill -9 $$").status().unwrap(), Exit::Signal(9));
    let late = vm.shell("sleep 100").deadline(Duration::from_millis(300)).output().unwrap();
    assert!(late.timed_out);
    let user = vm.command(["id", "-un"]).user("daemon").cwd("/usr").output().unwrap();
    assert_eq!(user.text(), "daemon\n");

    // More than all that may be under way, both ways.
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let output = vm.command(["cat"]).input(sent.clone()).output().unwrap();
    assert!(output.stdout == sent, "{} of {} bytes came back", output.stdout.len(), sent.len());
    vm.write_file("/root/sent", 0o640, &sent).unwrap();
    assert!(vm.read_file("/root/sent").unwrap() == sent);

    let (mut web, _pipes) = vm.shell("exec perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalPort => 80, \
                                      Listen => 1) or die; while (my $c = $s->accept) { while (<$c>) { last if /^\\r?$/ } print $c \"HTTP/1.0 200 OK\\r\\n\\r\\n\"; }'").spawn().unwrap();
    vm.wait_for_port(80, SOON).unwrap();
    let page = Tool::HttpGet { url: "http://127.0.0.1/".into(), host: None, wait_ms: 10_000 };
    let report = vm.tool(page, SOON).unwrap();
    assert!(matches!(report, Report::Http { status: 200, .. }), "{report:?}");
    web.signal(15).unwrap();
    assert_eq!(web.wait(Some(SOON)).unwrap().0, Exit::Signal(15));
    assert!(vm.processes().unwrap().iter().any(|process| process.command == "sleep 1000"));

    let (mut ticks, pipes) = vm.shell("while sleep 0.05; do echo; done").spawn().unwrap();
    let mut output = fs::File::from(pipes.stdout.unwrap());
    output.read_exact(&mut [0; 1]).unwrap();
    vm.pause().unwrap();
    assert_eq!(vm.condition(), Condition::Paused);
    vm.resume().unwrap();
    output.read_exact(&mut [0; 8]).unwrap();
    ticks.signal(9).unwrap();
    ticks.wait(Some(SOON)).unwrap();

    let all = in_namespace_of(vm.pid().unwrap());
    let names = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    assert!(all.iter().map(names).any(|name| name.starts_with("qemu")), "{all:?}");
    vm.kill(SOON).unwrap();
    assert_eq!(vm.condition(), Condition::Stopped);
    let left: Vec<_> = all.iter().filter(|pid| fs::exists(format!("/proc/{pid}")).unwrap()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_a_kernel_says_last_is_told() {
    let bed = up("alone");
    let vm = &bed["vm"];
    let began = Instant::now();
    let fault = vm.shell("echo c > /proc/sysrq-trigger").output().unwrap_err();
    assert!(began.elapsed() < SOON, "it is told when it happens");
    assert_eq!(fault.operation, "go on: its kernel has ended");
    assert!(fault.log.as_deref().is_some_and(|log| log.contains("sysrq")), "{:?}", fault.log);
    let console = bed.service_log("vm", CONSOLE).unwrap();
    assert!(console.tail(4096).contains("Kernel panic"), "{}", console.tail(4096));
    vm.wait_ended(SOON).unwrap();
    assert_eq!(vm.condition(), Condition::Stopped);
}

/// How many of three echo requests are answered.
fn answered(bed: &Bed, from: &str, to: &str, size: u16) -> u32 {
    let target: IpAddr = to.parse().unwrap();
    let ping = Tool::Ping { target, count: 3, interval_ms: 1, wait_ms: 3000, size, interface: None };
    match bed[from].tool(ping, SOON) {
        Ok(Report::Ping { received, .. }) => received,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_is_on_networks_with_all_others() {
    let bed = up("network");
    let watched = bed.watch(&Watcher::new(), "lan", Depth::default()).unwrap();
    let all =
        [("plain", "10.0.0.1", "fd00::1"), ("vm-1", "10.0.0.2", "fd00::2"), ("vm-2", "10.0.0.3", "fd00::3")];
    for (from, ..) in all {
        for (to, v4, v6) in all {
            // The largest packets that pass whole.
            let answers = [answered(&bed, from, v4, 1400 - 28), answered(&bed, from, v6, 1400 - 48)];
            assert_eq!(answers, [3, 3], "from {from} to {to}");
        }
    }
    let seen = |from: &str, to: &str| {
        let between = |text: &str| text.contains(from) && text.contains(to);
        watched.last().iter().filter(|seen| between(&seen.text)).count()
    };
    assert!(seen("10.0.0.2", "10.0.0.1") >= 6, "{:?}", watched.last());
    assert!(seen("10.0.0.2", "10.0.0.3") >= 6, "{:?}", watched.last());

    let vm = &bed["vm-1"];
    let memory: u32 = vm
        .succeed("sed -n 's/MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!((128 * 1024..192 * 1024).contains(&memory), "{memory} kB");
    assert_eq!(vm.succeed("nproc").unwrap(), "2\n");
    assert_eq!(
        vm.succeed("cat /sys/class/net/eth1/mtu; ls /sys/class/net").unwrap(),
        "1400\neth1\nlo\nwire0\n"
    );
    assert_eq!(vm.succeed("getent hosts plain | cut -d' ' -f1").unwrap(), "fd00::1\n");

    // Two megabytes, which nobody on the way can hold at once.
    let server = r#"
        my $s = IO::Socket::INET->new(LocalPort => 80, Listen => 1, ReuseAddr => 1) or die;
        while (my $c = $s->accept) {
            while (<$c>) { last if /^\r?$/ }
            print $c "HTTP/1.0 200 OK\r\n\r\n", 'x' x 2_000_000;
        }
    "#;
    let (_server, _pipes) = vm.command(["perl", "-MIO::Socket::INET", "-e", server]).spawn().unwrap();
    vm.wait_for_port(80, SOON).unwrap();
    let fetch = r#"exec 3<>/dev/tcp/10.0.0.2/80; printf 'GET / HTTP/1.0\r\n\r\n' >&3; wc -c <&3"#;
    let fetched = bed["plain"].command(["bash", "-c", fetch]).output().unwrap();
    assert_eq!(fetched.text(), "2000019\n", "{fetched:?}");

    bed.cut("vm-1", Some("lan")).unwrap();
    assert_eq!(answered(&bed, "vm-2", "10.0.0.1", 8), 3);
    let ping = Tool::Ping {
        target: "10.0.0.2".parse().unwrap(),
        count: 1,
        interval_ms: 1,
        wait_ms: 300,
        size: 8,
        interface: None,
    };
    for from in ["plain", "vm-2"] {
        let report = bed[from].tool(ping.clone(), SOON).unwrap();
        assert!(matches!(report, Report::Ping { received: 0, .. }), "from {from}: {report:?}");
    }
    bed.heal("vm-1", Some("lan")).unwrap();
    assert_eq!(answered(&bed, "plain", "10.0.0.2", 8), 3);

    // From the host, which has no route to it.
    let published = bed.publish("vm-1", 80, "127.0.0.1:0".parse().unwrap()).unwrap();
    for stream in [
        TcpStream::from(bed.connect("vm-1", 80, SOON).unwrap()),
        TcpStream::connect(published.local_addr()).unwrap(),
    ] {
        let mut page = Vec::new();
        (&stream).write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        (&stream).read_to_end(&mut page).unwrap();
        assert_eq!(page.len(), 2_000_019);
    }
    let refused = bed.connect("vm-1", 81, SOON).unwrap_err();
    assert!(refused.machine.as_deref() == Some("vm-1") && refused.errno.is_some(), "{refused:?}");
}

#[test]
fn a_plain_user_has_the_capabilities_of_a_file() {
    let bed = up("capabilities");
    let vm = &bed["vm"];
    assert_eq!(vm.succeed("/sbin/getcap /opt/grep").unwrap(), "/opt/grep cap_net_raw=ep\n");
    let effective = |program: &str| {
        let command = vm.command([program, "CapEff", "/proc/self/status"]);
        command.user("nobody").output().unwrap().text()
    };
    // capability.h: cap_net_raw is the thirteenth, counted from 0.
    assert_eq!(effective("/opt/grep"), format!("CapEff:\t{:016x}\n", 1 << 13));
    assert_eq!(effective("/bin/grep"), format!("CapEff:\t{:016x}\n", 0));
}
