//! Nothing outlives its keeper: five machines with daemons on three networks, killed from outside at any moment.

use crate::beds::FIVE;
use crate::common::checked;
use crate::host::{self, HostState, cgroup_folders, leftovers, settle};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use testbed::bed::{Bed, Ending, HostOnly, Options, StoredImages};
use testbed::image::Store;

/// What makes a process of the test binary the keeper that is killed: `plain` or `pausing`.
const KEEPER: &str = "TESTBED_TEST_KEEPER";
/// How many runs; the bar is 300.
const RUNS: &str = "TESTBED_KILL_RUNS";
const MACHINES: usize = 5;
/// Where root's images are.
const STORE: &str = "/var/cache/testbed";

/// The keeper: makes machines, each with a daemon that has left its session, and goes on pausing and resuming them, if
/// it shall, until it is killed.
#[test]
#[ignore = "a process that tests start"]
fn keeper() {
    let mode = std::env::var(KEEPER).unwrap();
    if let "template" | "kernel" | "capsule" = &*mode {
        return keep_kernels(mode == "template", mode == "capsule");
    }
    let engine = testbed::host::engine().unwrap();
    tell(&format!("launcher {}", engine.launcher_pid()));
    let mark = mark_of(std::process::id());
    let bed = Bed::make(&engine, &checked(FIVE), &HostOnly, &Options::default()).unwrap();
    let machines: Vec<_> = bed.machines().collect();
    assert_eq!(machines.len(), MACHINES);
    for machine in &machines {
        let daemon = format!("setsid sh -c 'sleep {mark} & sleep {mark}' >/dev/null 2>&1 </dev/null &");
        assert!(machine.shell(daemon).status().unwrap().success());
        if mode == "pausing" {
            machine.pause().unwrap();
            tell("paused");
        }
    }
    tell("made");
    for machine in machines.iter().cycle() {
        if mode == "pausing" {
            machine.resume().unwrap();
            machine.pause().unwrap();
        } else {
            assert!(machine.command(["true"]).status().unwrap().success());
        }
    }
}

/// The keeper of a machine with a kernel of its own, which goes on copying it and going back until it is killed; or which is
/// killed before what such machines start from is there.
fn keep_kernels(anew: bool, capsule: bool) {
    tell("began");
    // A disk of this size has no other.
    let disk = if anew { format!("disk = \"{}M\"", 17 + std::process::id() % 1000) } else { String::new() };
    let (first, kernel) = if capsule { ("capsule = true", "") } else { ("", "kernel = \"own\"") };
    let services = "services = { s = \"sleep 1000\" }";
    let text = format!("{first}\n[machines.m]\nimage = \"debian:bookworm\"\n{kernel}\n{services}\n{disk}");
    let engine = testbed::host::engine().unwrap();
    tell(&format!("launcher {}", engine.launcher_pid()));
    let store = Store::open(STORE).unwrap();
    let options = testbed::image::Options::default();
    let images = StoredImages { store: &store, engine: engine.clone(), options, progress: &|_| {} };
    let bed = Bed::up(&engine, &checked(&text), &images, &Options::default()).unwrap();
    for turn in 0.. {
        let name = format!("s{turn}");
        bed.snapshot(&name, &[]).unwrap();
        tell("made");
        let fork = bed.fork(Some(&name)).unwrap();
        bed.rollback(&name, &[]).unwrap();
        drop(fork);
        bed.restart("m", Ending::Hard).unwrap();
        bed.delete_snapshot(&name, true).unwrap();
    }
}

fn tell(line: &str) {
    // The harness has standard output; and whoever has gone need not be told.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Seconds that no sleep elsewhere sleeps: they name the keeper.
fn mark_of(keeper: u32) -> String {
    format!("98765{keeper:08}")
}

struct Keeper {
    process: Child,
    lines: Receiver<String>,
    launcher: Option<u32>,
    /// The namespaces of its machines, as far as they were seen.
    namespaces: BTreeSet<String>,
    folder: tempfolder::Folder,
}

impl Keeper {
    fn start(mode: &str) -> Keeper {
        let folder = tempfolder::Folder::make();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lifetime::keeper", "--ignored", "--nocapture", "--test-threads=1"])
            .env(KEEPER, mode)
            .env("TMPDIR", folder.path())
            .env("HOME", folder.path())
            .env("XDG_RUNTIME_DIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Keeper { process, lines, launcher: None, namespaces: BTreeSet::new(), folder }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Waits until the keeper says so, or dies.
    fn wait_for(&mut self, wanted: &str) {
        let mut all = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(host::SOON) {
            if let Some(pid) = line.strip_prefix("launcher ") {
                self.launcher = Some(pid.parse().unwrap());
            }
            if line.starts_with(wanted) {
                return;
            }
            all.push(line);
        }
        panic!("the keeper did not say {wanted:?}, but {all:#?}");
    }

    /// Remembers the namespaces that its machines have now and that this process has not.
    fn remember_namespaces(&mut self) {
        let own = host::namespaces(std::process::id());
        let seen = leftovers(self.process.id(), self.launcher, &mark_of(self.process.id()));
        self.namespaces.extend(seen.into_iter().flat_map(|l| l.namespaces).filter(|n| !own.contains(n)));
    }

    /// Waits for its end and looks for whatever it left; gives how long the host took to be clean.
    fn look_after(mut self, before: &HostState) -> Duration {
        let keeper = self.process.id();
        self.process.wait().unwrap();
        while let Ok(line) = self.lines.recv() {
            if let Some(pid) = line.strip_prefix("launcher ") {
                self.launcher = Some(pid.parse().unwrap());
            }
        }
        let mark = mark_of(keeper);
        let empty = settle("processes", || {
            let left = leftovers(keeper, self.launcher, &mark);
            (!left.is_empty()).then_some(left)
        });
        settle("namespaces", || {
            let held = host::held(&self.namespaces);
            (!held.is_empty()).then_some(held)
        });
        settle("the host", || HostState::look().changes_since(before));
        settle("cgroups", || {
            testbed::host::sweep().unwrap();
            let left = cgroup_folders(keeper);
            (!left.is_empty()).then_some(left)
        });
        let files: Vec<_> = fs::read_dir(self.folder.path()).unwrap().collect();
        assert!(files.is_empty(), "files are left: {files:?}");
        empty
    }
}

mod tempfolder {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A folder that goes with its owner.
    pub(super) struct Folder(PathBuf);

    impl Folder {
        pub(super) fn make() -> Folder {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = format!("kill-run-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Folder(path)
        }

        pub(super) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// A sequence of numbers that a seed determines (xorshift).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[test]
fn nothing_outlives_a_killed_keeper() {
    if !rustix::process::getuid().is_root() {
        return host::missing("root");
    }
    let runs: u64 = std::env::var(RUNS).map_or(30, |n| n.parse().unwrap());
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    eprintln!("seed {seed}");
    let mut dice = Dice(seed);
    let before = HostState::look();
    let mut times = Vec::new();
    let (mut paused, mut launchers, mut whole, mut namespaces) = (0, 0, 0, 0);
    for run in 0..runs {
        let pausing = run % 2 == 0;
        let mut keeper = Keeper::start(if pausing { "pausing" } else { "plain" });
        keeper.wait_for(if pausing { "paused" } else { "launcher" });
        paused += u32::from(pausing);
        std::thread::sleep(Duration::from_micros(dice.throw(60_000)));
        // Looking takes its time, so not before every early death.
        if run % 5 < 2 {
            keeper.remember_namespaces();
            namespaces += keeper.namespaces.len();
        }
        let launcher = keeper.launcher.and_then(|pid| Pid::from_raw(pid as i32)).unwrap();
        let mut targets = vec![keeper.pid()];
        if run % 3 == 0 {
            launchers += 1;
            targets.push(launcher);
            if dice.throw(2) == 0 {
                targets.reverse();
            }
        }
        for target in targets {
            kill_process(target, Signal::KILL).unwrap();
        }
        whole += u32::from(keeper.lines.try_iter().any(|line| line == "made"));
        times.push(keeper.look_after(&before));
    }
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    eprintln!(
        "{runs} kills, {paused} with machines paused, {launchers} with the launcher, {whole} after all was made, \
         {namespaces} namespaces watched: until no process was left {:?} median, {:?} p90, {:?} at most",
        at(0.5),
        at(0.9),
        at(1.0)
    );
}

#[test]
fn nothing_outlives_a_killed_keeper_of_kernels() {
    if !rustix::process::getuid().is_root() {
        return host::missing("root");
    }
    // What all of them start from, unless they shall not.
    let start = || {
        let mut keeper = Keeper::start("kernel");
        keeper.wait_for("made");
        keeper
    };
    let before = HostState::look();
    let runs: u64 = std::env::var(RUNS).map_or(8, |n| n.parse::<u64>().unwrap() / 3);
    let mut dice = Dice(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1);
    for run in 0..runs {
        let mut keeper = match run % 4 {
            0 => start(),
            1 => Keeper::start("kernel"),
            2 => Keeper::start("template"),
            _ => Keeper::start("capsule"),
        };
        if run % 4 > 0 {
            keeper.wait_for("began");
        }
        std::thread::sleep(Duration::from_millis(dice.throw(2000)));
        keeper.remember_namespaces();
        kill_process(keeper.pid(), Signal::KILL).unwrap();
        keeper.look_after(&before);
    }
    // What was there is as good as before.
    let keeper = start();
    kill_process(keeper.pid(), Signal::KILL).unwrap();
    keeper.look_after(&before);
}

#[test]
fn nothing_outlives_an_interrupted_keeper_or_a_closed_terminal() {
    if !rustix::process::getuid().is_root() {
        return host::missing("root");
    }
    let before = HostState::look();
    for signal in [Signal::INT, Signal::HUP, Signal::TERM, Signal::QUIT] {
        for mode in ["plain", "pausing"] {
            let mut keeper = Keeper::start(mode);
            keeper.wait_for("made");
            keeper.remember_namespaces();
            assert!(keeper.namespaces.len() >= 6 * MACHINES, "{:?}", keeper.namespaces);
            // As a terminal does: the whole group gets it, the launcher too.
            kill_process_group(keeper.pid(), signal).unwrap();
            keeper.look_after(&before);
        }
    }
}

#[test]
fn a_launcher_that_dies_takes_its_machines_along_and_is_missed() {
    let Some(engine) = host::engine() else { return };
    let machine = host::machine(&engine);
    let mark = format!("98764{:08}", std::process::id());
    assert!(machine.shell(format!("setsid sleep {mark} &")).status().unwrap().success());
    machine.pause().unwrap();
    let launcher = Pid::from_raw(engine.launcher_pid() as i32).unwrap();
    kill_process(launcher, Signal::KILL).unwrap();
    machine.wait_ended(host::SOON).unwrap();
    let fault = machine.command(["true"]).status().unwrap_err();
    assert_eq!(fault.machine.as_deref(), Some("m"), "{fault}");
    let fault = engine.machine("n", host::spec()).and_then(|m| m.pid()).unwrap_err();
    assert!(fault.to_string().contains("launcher"), "{fault}");
    settle("processes", || {
        let left = leftovers(u32::MAX, None, &mark);
        let left: Vec<_> = left.into_iter().filter(|l| l.command.contains(&mark)).collect();
        (!left.is_empty()).then_some(left)
    });
}
