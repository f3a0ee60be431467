//! Machines that take all they can get, and machines whose process 1 is not itself: each costs itself something, and
//! nobody else.

use crate::common::checked;
use crate::host::{self, SOON, engine, machine, shell};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use tar::{EntryType, Header};
use testbed::bed::{Bed, HostOnly, Options};
use testbed::{Engine, Machine};
use testbed_agent::FaultKind;
use testbed_agent::agent::{Exit, Open, Reply, Report, Request, Tool, Tooling};
use testbed_agent::frame::{Decoder, Kind, encode_message};
use testbed_sys::fdpass;

const MEMORY: &str = "64M";

/// Two machines with limits; none where the host has no controllers.
fn limited(engine: &Engine) -> Option<Bed> {
    with_limits(engine, &format!("memory = \"{MEMORY}\", pids = 60"), "controllers of memory and processes")
}

fn with_limits(engine: &Engine, limits: &str, controllers: &str) -> Option<Bed> {
    let text = format!("[defaults]\nlimits = {{ {limits} }}\n[machines.a]\n[machines.b]\n");
    match Bed::up(engine, &checked(&text), &HostOnly, &Options::default()) {
        Err(fault) if fault.kind == FaultKind::Unsupported => {
            host::missing(controllers);
            None
        }
        bed => Some(bed.unwrap()),
    }
}

/// It runs programs, and does so at once.
fn goes_on(machine: &Machine) {
    let begun = Instant::now();
    assert_eq!(shell(machine, "echo well"), "well\n");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// How many processes it has now.
fn processes_of(machine: &Machine) -> usize {
    let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let its = of(&machine.pid().unwrap().to_string());
    let all = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().into_string().ok());
    all.filter(|pid| of(pid) == its).count()
}

#[test]
fn a_fork_bomb_stays_within_its_machine() {
    let Some(engine) = engine() else { return };
    let Some(bed) = limited(&engine) else { return };
    let bomb = bed["a"].shell("f() { sleep 100 & f | f & }; f; sleep 100").start().unwrap();
    host::settle("the bomb has gone off", || {
        let count = processes_of(&bed["a"]);
        (count < 40).then_some(count)
    });
    goes_on(&bed["b"]);
    assert!(processes_of(&bed["a"]) <= 60);
    let begun = Instant::now();
    bed["a"].kill(SOON).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(bomb);
    goes_on(&bed["b"]);
}

#[test]
fn a_machine_gets_no_more_of_the_processors_than_its_limit() {
    let Some(engine) = engine() else { return };
    let Some(bed) = with_limits(&engine, "cpus = 0.2", "a controller of processors") else { return };
    // Two processes that never rest, and what they got of how much time: in ticks of 10 ms, and in seconds.
    let script = "f() { while :; do :; done; }; f & a=$!; f & b=$!; read from rest </proc/uptime; sleep 1
                  cut -d' ' -f14,15 /proc/$a/stat /proc/$b/stat; read to rest </proc/uptime; kill $a $b
                  echo $from $to";
    let told = shell(&bed["a"], script);
    let mut lines: Vec<&str> = told.lines().collect();
    let numbers = |line: &str| line.split(' ').map(|n| n.parse::<f64>().unwrap()).collect::<Vec<_>>();
    let uptimes = numbers(lines.pop().unwrap());
    let got: f64 = lines.into_iter().flat_map(numbers).sum::<f64>() / 100.0;
    let most = 0.2 * (uptimes[1] - uptimes[0]) * 1.25 + 0.05;
    assert!((0.01..most).contains(&got), "{got} s of {most} s: {told}");
}

#[test]
fn a_full_disk_is_refused_before_memory_ends() {
    let Some(engine) = engine() else { return };
    let Some(bed) = limited(&engine) else { return };
    // One after another, so that all are full at the end.
    for folder in ["/var/tmp", "/tmp", "/run", "/dev/shm"] {
        let output = bed["a"]
            .shell(format!("exec 2>&1; head -c 100000000 /dev/zero >{folder}/filler; echo ended $?"))
            .deadline(SOON)
            .output()
            .unwrap();
        assert!(output.text().contains("No space left on device"), "{folder}: {}", output.text());
        assert!(output.text().contains("ended 1"), "{folder}: {}", output.text());
    }
    goes_on(&bed["a"]);
    goes_on(&bed["b"]);
    let freed =
        shell(&bed["a"], "rm /var/tmp/filler /tmp/filler && echo x >/var/tmp/again && cat /var/tmp/again");
    assert_eq!(freed, "x\n");
}

#[test]
fn a_memory_hog_is_killed_and_the_others_go_on() {
    let Some(engine) = engine() else { return };
    let Some(bed) = limited(&engine) else { return };
    let hog =
        bed["a"].shell("head -c 200000000 /dev/zero | tail -c 200000000 >/dev/null").deadline(SOON).output();
    match hog {
        Ok(output) => assert!(!output.success(), "{output:?}"),
        // The kernel chose process 1.
        Err(fault) => assert_eq!(fault.machine.as_deref(), Some("a"), "{fault}"),
    }
    goes_on(&bed["b"]);
}

#[test]
fn a_process_1_that_stalls_costs_one_error() {
    let Some(engine) = engine() else { return };
    let (m, neighbour) = (machine(&engine), machine(&engine));
    let pid = Pid::from_raw(m.pid().unwrap() as i32).unwrap();
    m.wait_started(SOON).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let begun = Instant::now();
    let target = std::net::Ipv4Addr::LOCALHOST.into();
    let ping = Tool::Ping { target, count: 1, interval_ms: 0, wait_ms: 100, size: 8, interface: None };
    let fault = m.tool(ping, Duration::from_millis(100)).unwrap_err();
    assert_eq!((fault.kind, fault.machine.as_deref()), (FaultKind::Timeout, Some("m")), "{fault}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    goes_on(&neighbour);
    // It need not go on to be killed.
    m.kill(SOON).unwrap();
}

#[test]
fn a_process_1_that_never_answers_is_waited_for_until_the_deadline() {
    let Some(engine) = engine() else { return };
    // Process 1 waits for its interfaces in vain: the launcher, which would make them, stands still.
    let launcher = Pid::from_raw(engine.launcher_pid() as i32).unwrap();
    kill_process(launcher, Signal::STOP).unwrap();
    let m = machine(&engine);
    let begun = Instant::now();
    let fault = m.wait_started(Duration::from_millis(200)).unwrap_err();
    kill_process(launcher, Signal::CONT).unwrap();
    assert_eq!((fault.kind, fault.machine.as_deref()), (FaultKind::Timeout, Some("m")), "{fault}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    m.wait_started(SOON).unwrap();
}

/// The socket by which process 1 speaks to the keeper.
fn socket_of_process_1(machine: &Machine) -> OwnedFd {
    let pid = machine.pid().unwrap();
    machine.wait_started(SOON).unwrap();
    let socket = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(Result::unwrap)
        // One that is just being closed is not the one that stays.
        .find(|e| fs::read_link(e.path()).is_ok_and(|l| l.to_string_lossy().starts_with("socket:")))
        .and_then(|e| e.file_name().to_str()?.parse().ok())
        .unwrap();
    let process = pidfd_open(Pid::from_raw(pid as i32).unwrap(), PidfdFlags::empty()).unwrap();
    pidfd_getfd(process, socket, PidfdGetfdFlags::empty()).unwrap()
}

#[test]
fn a_process_1_that_sends_garbage_costs_one_clear_error() {
    let Some(engine) = engine() else { return };
    let neighbour = machine(&engine);
    let length_of_a_gigabyte = [0, 0, 0, 0x40, 1, 2, 3, 4];
    for garbage in [&[0xff_u8; 64][..], b"HTTP/1.1 200 OK\r\n\r\n", &length_of_a_gigabyte] {
        let m = machine(&engine);
        let running = m.command(["sleep", "100"]).start().unwrap();
        rustix::io::write(socket_of_process_1(&m), garbage).unwrap();
        // Whoever waits is told, and so is whoever comes later.
        let mut running = running;
        let fault = running.wait(Some(SOON)).unwrap_err();
        assert_eq!(fault.machine.as_deref(), Some("m"), "{fault}");
        assert!(fault.to_string().contains("protocol"), "{fault}");
        assert!(m.command(["true"]).status().is_err());
        // Its socket was its lifeline.
        m.wait_ended(SOON).unwrap();
    }
    goes_on(&neighbour);
}

#[test]
fn a_machine_that_was_never_made_is_gone_at_once() {
    let Some(engine) = engine() else { return };
    let mut spec = host::spec();
    spec.root.layers = vec!["/nonexistent/layer".into()];
    let m = engine.machine("m", spec).unwrap();
    let begun = Instant::now();
    m.kill(SOON).unwrap();
    let fault = m.wait_ended(SOON).unwrap_err();
    assert_eq!(
        (fault.kind, fault.path.as_deref()),
        (FaultKind::NotFound, Some("/nonexistent/layer")),
        "{fault}"
    );
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// Answers the next request in the place of process 1, which stands still: `archive` is what the tool wrote.
fn pack_instead(machine: &Machine, archive: &[u8]) {
    let socket = socket_of_process_1(machine);
    let (mut decoder, mut handed, mut bytes) = (Decoder::new(), Vec::new(), [0; 4096]);
    let open = loop {
        match decoder.next_frame().unwrap() {
            Some(frame) if frame.kind == Kind::Open => break frame,
            Some(_) => continue,
            None => {}
        }
        poll(&mut [PollFd::new(&socket, PollFlags::IN)], None).unwrap();
        let length = fdpass::receive(socket.as_fd(), &mut bytes, &mut handed).unwrap();
        decoder.feed(&bytes[..length]);
    };
    let packing: Open = open.message("open").unwrap();
    assert!(matches!(packing.request, Request::Tool(Tooling { tool: Tool::Pack { .. }, .. })));
    // The keeper may have seen enough before the end.
    let _ = File::from(handed.remove(0)).write_all(archive);
    let mut answer = Vec::new();
    let report = Some(Report::Bytes(archive.len() as u64));
    let ended = Reply::Ended { how: Exit::Code(0), timed_out: false, report };
    encode_message(&mut answer, open.channel, Kind::Reply, 0, &ended).unwrap();
    rustix::io::write(socket, &answer).unwrap();
}

#[test]
fn a_process_1_that_packs_what_it_likes_reaches_nothing_but_the_copy() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    m.wait_started(SOON).unwrap();
    kill_process(Pid::from_raw(m.pid().unwrap() as i32).unwrap(), Signal::STOP).unwrap();
    let here = std::env::temp_dir().join(format!("testbed-packs-{}", std::process::id()));
    fs::create_dir_all(&here).unwrap();
    fs::write(here.join("secret"), "untouched").unwrap();
    let copy = here.join("copy");
    let (link, hard) = (EntryType::Symlink, EntryType::Link);
    let crimes: [&[(EntryType, &str, &str)]; 5] = [
        &[(EntryType::Directory, "t", ""), (hard, "t/hard", "t/../../secret")],
        &[(EntryType::Directory, "t", ""), (link, "t/up", ".."), (hard, "t/hard", "t/up/secret")],
        &[(EntryType::Directory, "t", ""), (link, "t/up", ".."), (EntryType::Regular, "t/up/secret", "")],
        &[(hard, "t", "../secret")],
        &[(EntryType::Regular, "../secret", "")],
    ];
    let fault = |crime: &[(EntryType, &str, &str)]| {
        let mut archive = tar::Builder::new(Vec::new());
        for (kind, name, link) in crime {
            let mut header = Header::new_gnu();
            // The header's own setters would refuse some of these.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_size(0);
            header.set_cksum();
            archive.append(&header, std::io::empty()).unwrap();
        }
        let archive = archive.into_inner().unwrap();
        std::thread::scope(|scope| {
            let packing = scope.spawn(|| {
                let packed = catch_unwind(AssertUnwindSafe(|| pack_instead(&m, &archive)));
                if packed.is_err() {
                    // Nobody else would answer.
                    m.kill(SOON).unwrap();
                }
                packed
            });
            let copied = m.copy_out("/etc", &copy);
            packing.join().unwrap().unwrap();
            copied
        })
    };
    for crime in crimes {
        let fault = fault(crime).unwrap_err();
        assert!(fault.to_string().contains("an archive entry named"), "{fault}");
        assert_eq!(fault.machine.as_deref(), Some("m"), "{fault}");
        assert_eq!(fs::read(here.join("secret")).unwrap(), b"untouched", "{crime:?}");
        assert_eq!(fs::metadata(here.join("secret")).unwrap().nlink(), 1, "{crime:?}");
        let _ = fs::remove_dir_all(&copy);
    }
    fault(&[(EntryType::Directory, "t", ""), (EntryType::Regular, "t/file", "")]).unwrap();
    assert!(copy.join("file").is_file());
    fs::remove_dir_all(here).unwrap();
}
