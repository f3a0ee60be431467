//! The floors: processes of their own that do the least that the kernel makes anybody do.
//!
//! Each is this same program, started again with one thread, so that it may fork. It does a round whenever it reads a
//! byte, and answers with the nanoseconds that the round took.

mod exec;
mod kernel;
mod link;
mod machines;
mod netns;
mod one;
mod pipe;

use crate::Outcome;
use rustix::fd::OwnedFd;
use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use testbed_sys::process::SingleThreaded;

pub(crate) use exec::Agent;
pub(crate) use link::{NO_METRICS, TRAFFIC_BYTES};
use link::{receive_traffic, send_traffic};
pub(crate) use pipe::drain;

/// The first argument of a floor's process.
pub(crate) const ROLE: &str = "floor";

/// Plays the part that the arguments name.
pub(crate) fn play(arguments: &[String]) -> Outcome<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["one"] => serve(timed(one::round)),
        ["five"] => {
            let all = machines::five();
            serve(timed(|token| machines::round(token, &all)))
        }
        ["flat", count] => {
            let all = machines::flat(count.parse()?);
            serve(timed(|token| machines::round(token, &all)))
        }
        ["netns"] => serve(timed(netns::round)),
        ["traffic"] => serve(link::rounds()),
        ["kernel", what, layers, ..] => serve(kernel::rounds(what, layers, &arguments[3..])?),
        ["capsule", command, layers, ..] => serve(kernel::copies(command, layers, &arguments[3..])?),
        ["agent"] => exec::serve(),
        ["receive-traffic"] => receive_traffic(),
        ["send-traffic", to] => {
            let took = send_traffic(to.parse()?)?;
            Ok(std::io::stdout().write_all(took.as_nanos().to_string().as_bytes())?)
        }
        _ => Err("no such floor".into()),
    }
}

/// Takes the time of a whole round.
fn timed(
    mut round: impl FnMut(SingleThreaded) -> Outcome<()>,
) -> impl FnMut(SingleThreaded) -> Outcome<Duration> {
    move |token| {
        let begun = Instant::now();
        round(token)?;
        Ok(begun.elapsed())
    }
}

/// Does a round for each byte that comes, until no more come.
fn serve(mut round: impl FnMut(SingleThreaded) -> Outcome<Duration>) -> Outcome<()> {
    let token = SingleThreaded::prove()?;
    let mut byte = [0_u8];
    while std::io::stdin().read(&mut byte)? == 1 {
        let took = round(token)?.as_nanos() as u64;
        let mut out = std::io::stdout();
        out.write_all(&took.to_ne_bytes())?;
        out.flush()?;
    }
    Ok(())
}

/// A floor that runs.
pub(crate) struct Floor {
    process: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl Floor {
    pub(crate) fn start(arguments: &[&str]) -> Outcome<Floor> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ROLE)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().ok_or("no output")?;
        let mut floor = Floor { input: process.stdin.take(), process, output };
        floor.round()?;
        Ok(floor)
    }

    /// How long one more round takes.
    pub(crate) fn round(&mut self) -> Outcome<Duration> {
        let input = self.input.as_mut().ok_or("no input")?;
        input.write_all(&[1])?;
        let mut answer = [0_u8; 8];
        self.output.read_exact(&mut answer).map_err(|e| format!("the floor ended: {e}"))?;
        Ok(Duration::from_nanos(u64::from_ne_bytes(answer)))
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// Waits for a child's end; it must have been a success.
fn reap(pidfd: &OwnedFd) -> Outcome<()> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let id = WaitId::PidFd(rustix::fd::AsFd::as_fd(pidfd));
    let status = waitid(id, WaitIdOptions::EXITED)?;
    match status.and_then(|s| s.exit_status()) {
        Some(0) => Ok(()),
        other => Err(format!("a machine of the floor ended with {other:?}").into()),
    }
}
