//! `run` on a terminal: how it ends with what the terminal does, and what is on it then.

use crate::begun::{Begun, cgroups_of, mounts, processes_with};
use crate::call::Folder;
use crate::interrupts::slow;
use crate::stays::eventually;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::pipe::pipe;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The command as the leader of a session whose terminal we have the other end of.
struct OnTerminal {
    begun: Begun,
    ours: OwnedFd,
    theirs: OwnedFd,
    settings: String,
    seen: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
    /// Closed, it ends the reading.
    stop: OwnedFd,
    mounts: BTreeSet<String>,
}

impl OnTerminal {
    fn run(folder: &Folder, arguments: &[&str]) -> OnTerminal {
        let mounts = mounts();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).unwrap();
        unlockpt(&ours).unwrap();
        let theirs = ioctl_tiocgptpeer(&ours, flags).unwrap();
        tcsetwinsize(&ours, Winsize { ws_row: 30, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let settings = format!("{:?}", tcgetattr(&theirs).unwrap());
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(env!("CARGO_BIN_EXE_testbed")).args(arguments);
        command.current_dir(folder.path()).env("TERM", "xterm").env("NO_COLOR", "1");
        let end = || theirs.try_clone().unwrap();
        let begun = Begun::spawn(command.stdin(end()).stdout(end()).stderr(end()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut terminal, its) = (File::from(ours.try_clone().unwrap()), Arc::clone(&seen));
        let (stopped, stop) = pipe().unwrap();
        let reading = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let mut polled =
                    [PollFd::new(&terminal, PollFlags::IN), PollFd::new(&stopped, PollFlags::IN)];
                poll(&mut polled, None).unwrap();
                if !polled[1].revents().is_empty() {
                    break;
                }
                // EIO when nobody has the other end any more.
                let Ok(length) = terminal.read(&mut buffer) else { break };
                its.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        OnTerminal { begun, ours, theirs, settings, seen, reading, stop, mounts }
    }

    fn waits_for(&self, text: &str) {
        let seen = || String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned();
        eventually(text, || seen().contains(text));
    }

    /// Its status, and what is on the screen at last.
    fn finish(mut self, mark: &str) -> (Option<i32>, Vec<String>) {
        let code = ends(&mut self.begun, mark, &self.mounts);
        assert_eq!(format!("{:?}", tcgetattr(&self.theirs).unwrap()), self.settings);
        drop(self.theirs);
        self.reading.join().unwrap();
        (code, screen(&self.seen.lock().unwrap()))
    }

    /// Takes the terminal away; its status.
    fn hang_up(self, mark: &str) -> Option<i32> {
        let OnTerminal { mut begun, ours, theirs, reading, stop, mounts, .. } = self;
        drop((stop, theirs));
        reading.join().unwrap();
        drop(ours);
        ends(&mut begun, mark, &mounts)
    }
}

/// Waits for the end, after which nothing is left.
fn ends(run: &mut Begun, mark: &str, before: &BTreeSet<String>) -> Option<i32> {
    let begun = Instant::now();
    let code = run.wait().unwrap().code();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(processes_with(mark), Vec::<u32>::new());
    assert_eq!(mounts(), *before);
    assert_eq!(cgroups_of(run.id()), Vec::<String>::new());
    code
}

/// What the lines of a screen hold that is written to: text, line ends, and what the view uses (ECMA-48: CUU, ED).
fn screen(bytes: &[u8]) -> Vec<String> {
    let (mut lines, mut row, mut column): (Vec<Vec<char>>, usize, usize) = (vec![Vec::new()], 0, 0);
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                if row == lines.len() {
                    lines.push(Vec::new());
                }
            }
            '\x1b' => {
                assert_eq!(rest.next(), Some('['), "{text:?}");
                let order: String = rest.by_ref().take_while(|c| c.is_ascii_digit()).collect();
                // The letter behind digits was taken with them.
                match order.parse::<usize>() {
                    Ok(up) => row -= up,
                    Err(_) => {
                        lines.truncate(row + 1);
                        lines[row].truncate(column);
                    }
                }
            }
            c => {
                column += 1;
                let line = &mut lines[row];
                line.resize(column.max(line.len()), ' ');
                line[column - 1] = c;
            }
        }
    }
    lines.into_iter().map(|line| line.into_iter().collect()).collect()
}

/// The report is all that stands there.
fn is_the_report(screen: &[String]) {
    let line = |begin: &str| screen.iter().filter(|line| line.contains(begin)).count();
    assert_eq!(line("interrupted: 1 passed, 2 cut off"), 1, "{screen:#?}");
    assert_eq!(line("ending; once more Ctrl-C"), 0, "{screen:#?}");
    assert!(!screen.iter().any(|line| line.contains("/3 done")), "{screen:#?}");
}

/// A run on a terminal, one of whose tests is done while two go on.
fn half_done(folder: &Folder, mark: &str) -> OnTerminal {
    let run = OnTerminal::run(folder, &["run", "-j", "3", "--junit", "report.xml"]);
    run.waits_for("1/3 done");
    eventually("both tests run", || processes_with(mark).len() >= 5);
    run
}

#[test]
fn ctrl_c_on_a_terminal_leaves_the_report() {
    let folder = slow("65.05");
    let run = half_done(&folder, "65.05");
    File::from(run.ours.try_clone().unwrap()).write_all(b"\x03").unwrap();
    let (code, screen) = run.finish("65.05");
    assert_eq!(code, Some(130), "{screen:#?}");
    is_the_report(&screen);
}

#[test]
fn a_request_to_end_is_as_ctrl_c() {
    let folder = slow("66.06");
    let run = half_done(&folder, "66.06");
    kill_process(Pid::from_child(&run.begun), Signal::TERM).unwrap();
    let (code, screen) = run.finish("66.06");
    assert_eq!(code, Some(130), "{screen:#?}");
    is_the_report(&screen);
}

#[test]
fn a_terminal_that_is_closed_ends_the_run() {
    let folder = slow("67.07");
    let run = half_done(&folder, "67.07");
    assert_eq!(run.hang_up("67.07"), Some(130));
    // Who has no terminal has a report all the same.
    assert!(folder.read("report.xml").contains("tests=\"3\""), "{}", folder.read("report.xml"));
}
