//! A resident agent that does nothing but start programs with the descriptors that it is handed.

use crate::Outcome;
use rustix::fd::{AsFd as _, OwnedFd};
use std::ffi::CString;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testbed_sys::fdpass;
use testbed_sys::process::Launch;

/// The agent's end is its standard input. Each packet names a program; the answer is its exit status.
pub(super) fn serve() -> Outcome<()> {
    let socket = rustix::stdio::stdin();
    let mut name = [0_u8; 4096];
    loop {
        let mut fds = Vec::new();
        let length = fdpass::receive(socket, &mut name, &mut fds)?;
        if length == 0 {
            return Ok(());
        }
        let program = [CString::new(&name[..length])?];
        let [stdin, stdout, stderr] = &fds[..] else { return Err("three descriptors".into()) };
        let launch = Launch {
            files: &program,
            arguments: &program,
            environment: &[],
            folder: c"/",
            stdio: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            more: &[],
            terminal: false,
            user: None,
        };
        let pid = launch.start().map_err(|e| format!("{}: {}", e.step, e.error))?;
        let pid = rustix::process::Pid::from_raw(pid as i32);
        let status = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty())?;
        let code = status.and_then(|(_, s)| s.exit_status()).unwrap_or(-1);
        fdpass::send(socket, &code.to_ne_bytes(), &[])?;
    }
}

/// The agent's client.
pub(crate) struct Agent {
    process: Child,
    socket: Option<OwnedFd>,
    null: OwnedFd,
}

impl Agent {
    pub(crate) fn start() -> Outcome<Agent> {
        let (ours, theirs) = fdpass::packet_pair()?;
        let process = Command::new(std::env::current_exe()?)
            .args([super::ROLE, "agent"])
            .stdin(Stdio::from(theirs))
            .spawn()?;
        let null = std::fs::File::options().read(true).write(true).open("/dev/null")?.into();
        Ok(Agent { process, socket: Some(ours), null })
    }

    /// Runs a program to its end.
    pub(crate) fn run(&self, program: &str) -> Outcome<Duration> {
        let socket = self.socket.as_ref().ok_or("no socket")?;
        let begun = Instant::now();
        let null = self.null.as_fd();
        fdpass::send(socket.as_fd(), program.as_bytes(), &[null, null, null])?;
        let mut status = [1_u8; 4];
        let length = fdpass::receive(socket.as_fd(), &mut status, &mut Vec::new())?;
        let took = begun.elapsed();
        if length != 4 || status != [0; 4] { Err("the floor's program failed".into()) } else { Ok(took) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.socket.take());
        let _ = self.process.wait();
    }
}
