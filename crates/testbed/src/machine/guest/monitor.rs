//! What a hypervisor is told: QEMU's monitor protocol (QMP), a line of JSON for each message.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::fdpass;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(20);
/// The longest line that is read, in bytes: a hypervisor may have been taken over by its guest.
const LONGEST: usize = 64 * 1024;

/// So many events are kept that nobody has waited for yet.
const MOST_EVENTS: usize = 64;

/// A connection to a hypervisor that is ready for commands.
pub(super) struct Monitor {
    socket: OwnedFd,
    input: Vec<u8>,
    events: VecDeque<Value>,
}

impl Monitor {
    /// Greets the hypervisor behind a socket.
    ///
    /// # Errors
    /// When it does not answer, or not as it should.
    pub(super) fn open(socket: OwnedFd) -> Result<Monitor, Fault> {
        let mut monitor = Monitor { socket, input: Vec::new(), events: VecDeque::new() };
        let end = Instant::now() + ANSWER;
        while monitor.next_line(end)?.get("QMP").is_none() {}
        monitor.execute("qmp_capabilities", json!({}), None)?;
        Ok(monitor)
    }

    /// Has it carry out a command, with a descriptor if that wants one, and gives what it returns.
    ///
    /// # Errors
    /// What it says, or that it does not answer.
    pub(super) fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        fd: Option<OwnedFd>,
    ) -> Result<Value, Fault> {
        let message = json!({ "execute": command, "arguments": arguments }).to_string() + "\n";
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        // Commands are short: the socket takes each whole.
        let sent =
            fdpass::send(self.socket.as_fd(), message.as_bytes(), &fds).doing("tell the hypervisor")?;
        if sent < message.len() {
            return Err(Fault::new(FaultKind::Protocol, "tell the hypervisor: it does not read"));
        }
        let end = Instant::now() + ANSWER;
        loop {
            let mut said = self.next_line(end)?;
            if let Some(error) = said.get("error") {
                let what = error.get("desc").and_then(Value::as_str).unwrap_or("no reason");
                return Err(Fault::new(FaultKind::State, format!("have the hypervisor {command}: {what}")));
            }
            if let Some(returned) = said.get_mut("return") {
                return Ok(returned.take());
            }
            self.keep_event(said);
        }
    }

    /// Lets time pass, as long as there is a hypervisor.
    ///
    /// # Errors
    /// When it ends, or says what it should not.
    pub(super) fn listen(&mut self, time: Duration) -> Result<(), Fault> {
        let end = Instant::now() + time;
        loop {
            match self.next_line(end) {
                Ok(said) => self.keep_event(said),
                Err(fault) if fault.kind == FaultKind::Timeout => return Ok(()),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Has the devices get the state that a file holds, which [`Monitor::save_devices`] has made.
    ///
    /// # Errors
    /// As for [`Monitor::execute`].
    pub(super) fn load_devices(&mut self, path: &str) -> Result<(), Fault> {
        let events = json!({ "capabilities": [{ "capability": "events", "state": true }] });
        self.execute("migrate-set-capabilities", events, None)?;
        self.execute("migrate-incoming", json!({ "uri": format!("file:{path}") }), None)?;
        let end = Instant::now() + ANSWER;
        loop {
            let event = self.next_event("MIGRATION", end)?;
            match event.pointer("/data/status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some("failed") => {
                    return Err(Fault::new(FaultKind::State, "give the devices their state").at(path));
                }
                _ => {}
            }
        }
    }

    /// Writes the state of the devices of a machine that stands still to a file. Memory is no part of it: the command is
    /// older than migration without memory, and named for whom it was made.
    ///
    /// # Errors
    /// As for [`Monitor::execute`].
    pub(super) fn save_devices(&mut self, path: &str) -> Result<(), Fault> {
        let arguments = json!({ "filename": path, "live": false });
        self.execute("xen-save-devices-state", arguments, None).map(drop)
    }

    fn next_event(&mut self, name: &str, end: Instant) -> Result<Value, Fault> {
        loop {
            let is_wanted = |event: &Value| event.get("event").and_then(Value::as_str) == Some(name);
            if let Some(at) = self.events.iter().position(is_wanted)
                && let Some(event) = self.events.remove(at)
            {
                return Ok(event);
            }
            let said = self.next_line(end)?;
            self.keep_event(said);
        }
    }

    fn keep_event(&mut self, said: Value) {
        if self.events.len() == MOST_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(said);
    }

    fn next_line(&mut self, end: Instant) -> Result<Value, Fault> {
        loop {
            if let Some(length) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=length).collect();
                let broken = || Fault::new(FaultKind::Protocol, "understand the hypervisor");
                return serde_json::from_slice(&line).map_err(|_| broken());
            }
            if self.input.len() > LONGEST {
                return Err(Fault::new(
                    FaultKind::Protocol,
                    "understand the hypervisor: it goes on for ever",
                ));
            }
            let left = end.saturating_duration_since(Instant::now());
            let wait = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&wait)) {
                Ok(0) => {
                    return Err(Fault::new(FaultKind::Timeout, "get an answer from the hypervisor"));
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Fault::system("wait for the hypervisor", &error.into())),
            }
            let mut bytes = [0; 4096];
            match rustix::io::read(&self.socket, &mut bytes).doing("hear the hypervisor")? {
                0 => return Err(Fault::new(FaultKind::State, "hear the hypervisor: it has ended")),
                length => self.input.extend_from_slice(&bytes[..length]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixStream;

    /// A hypervisor that answers each line with the next of these, whatever it is told.
    fn hypervisor(answers: &[&str]) -> (OwnedFd, std::thread::JoinHandle<Vec<String>>) {
        let (ours, theirs) = fdpass::stream_pair().unwrap();
        let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        let mut socket = UnixStream::from(theirs);
        let thread = std::thread::spawn(move || {
            let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
            socket.write_all(b"{\"QMP\": {}}\n").unwrap();
            let mut heard = Vec::new();
            for answer in answers {
                heard.push(lines.next().unwrap().unwrap());
                // Who has heard enough hangs up.
                let _ = socket.write_all(answer.as_bytes());
            }
            heard
        });
        (ours, thread)
    }

    const DONE: &str = "{\"return\": {}}\n";

    #[test]
    fn events_come_between_and_are_waited_for() {
        let migrated = |how: &str| format!(r#"{{"event":"MIGRATION","data":{{"status":"{how}"}}}}"#);
        let other = "{\"event\": \"RESUME\"}\n".to_owned() + DONE;
        let early = migrated("active") + "\n" + &migrated("completed") + "\n" + DONE;
        let (socket, thread) = hypervisor(&[DONE, &other, &early]);
        Monitor::open(socket).unwrap().load_devices("/devices").unwrap();
        let heard = thread.join().unwrap();
        assert!(heard[2].contains("migrate-incoming") && heard[2].contains("file:/devices"), "{heard:?}");

        let late = DONE.to_owned() + &migrated("failed") + "\n";
        let (socket, thread) = hypervisor(&[DONE, DONE, &late]);
        let fault = Monitor::open(socket).unwrap().load_devices("/devices").unwrap_err();
        assert_eq!((fault.kind, fault.path.as_deref()), (FaultKind::State, Some("/devices")));
        thread.join().unwrap();
    }

    #[test]
    fn whatever_it_says_is_one_fault() {
        let endless = "x".repeat(LONGEST + 1);
        let refusal = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}}\n";
        for (said, kind, word) in [
            (refusal, FaultKind::State, "not now"),
            ("garbage\n", FaultKind::Protocol, "understand"),
            (&endless, FaultKind::Protocol, "for ever"),
            ("", FaultKind::State, "ended"),
        ] {
            let (socket, thread) = hypervisor(&[DONE, said]);
            let mut monitor = Monitor::open(socket).unwrap();
            let fault = monitor.execute("stop", json!({}), None).unwrap_err();
            assert_eq!(fault.kind, kind, "{fault}");
            assert!(fault.to_string().contains(word), "{fault}");
            thread.join().unwrap();
        }
    }
}
