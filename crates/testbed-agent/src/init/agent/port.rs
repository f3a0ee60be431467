//! What an agent behind a port does that no other has to: it was there before its machine was, and its machine is copied.

use super::{Agent, Part};
use crate::init::capsule::Capsule;
use crate::init::control::Relay;
use crate::init::line::Line;
use crate::init::{guest, identity, modules, network};
use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::time::ClockId;
use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::rc::Rc;
use testbed_agent::agent::{Identity, Note, Reply, Wake};
use testbed_agent::frame::{Frame, Kind, Stream, WINDOW};
use testbed_agent::launch::Machine;
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::process::{self, Cloned, Namespaces};
use testbed_sys::random;

/// Nanoseconds.
const SECOND: i64 = 1_000_000_000;

impl Agent<'_> {
    /// Stands still until it is woken. What has been said is all out by then, and nothing more is read: so whoever wakes
    /// it, here or in a copy of the machine, begins between two frames.
    pub(super) fn rest(&mut self) -> io::Result<()> {
        while self.rests {
            while !self.out.is_empty() {
                wait_for(&self.line, PollFlags::OUT)?;
                self.flush()?;
            }
            wait_for(&self.line, PollFlags::IN)?;
            // It may be woken and told to rest again at once.
            self.read_socket()?;
        }
        self.flush()
    }

    /// Goes on, in a copy of the machine perhaps; `frame` is what tells so.
    pub(super) fn wake(&mut self, wake: &Wake, frame: &Frame) -> Result<(), Fault> {
        let has_kernel = matches!(self.line, Line::Port(_));
        // For the machines inside no time has passed: whoever has a deadline would meet it.
        if has_kernel && self.capsule.as_ref().is_none_or(Capsule::is_empty) {
            let (seconds, nanoseconds) = (wake.now_ns.div_euclid(SECOND), wake.now_ns.rem_euclid(SECOND));
            let now = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
            rustix::time::clock_settime(ClockId::Realtime, now).doing("set the clock")?;
        }
        if wake.is_copy {
            if has_kernel {
                random::reseed(wake.seed).doing("stir the random numbers")?;
            }
            if let Some(capsule) = &mut self.capsule {
                capsule.change_keeper(frame);
            }
            if let Some(relay) = &mut self.relay {
                relay.forget_all();
            }
            for job in self.jobs.values_mut() {
                job.is_orphan = true;
                if let Some(input) = &mut job.input {
                    input.ends = true;
                }
            }
            for channel in self.jobs.keys().copied().collect::<Vec<_>>() {
                self.feed(channel);
                self.pump(channel, Stream::Output);
                self.pump(channel, Stream::Error);
            }
        }
        Ok(())
    }

    /// Tells somebody again what a program writes.
    pub(super) fn take_up(&mut self, channel: u32) {
        let Some(job) = self.jobs.get_mut(&channel) else {
            let fault = Fault::new(FaultKind::NotFound, "take up a program that has ended");
            return self.send(channel, Kind::Reply, &Reply::Failed(fault));
        };
        (job.is_orphan, job.credit) = (false, WINDOW);
        let pid = job.pid;
        self.send(channel, Kind::Note, &Note::Started { pid });
    }

    /// Changes over to the machine's own root.
    pub(super) fn enter_root(&mut self) -> Result<Reply, Fault> {
        if matches!(self.line, Line::Socket(_)) || self.is_in_root {
            return Err(Fault::new(FaultKind::State, "change over to another root"));
        }
        guest::enter_root()?;
        self.is_in_root = true;
        Ok(Reply::Done)
    }

    /// Has another program go on as process 1, and goes on as its child.
    pub(super) fn hand_over(&mut self, program: &str) -> Result<Reply, Fault> {
        if matches!(self.line, Line::Socket(_)) || !self.is_in_root || std::process::id() != 1 {
            return Err(Fault::new(FaultKind::State, "hand process 1 over"));
        }
        let file = guest::find_init(program)?;
        if let Cloned::Parent { .. } =
            process::clone(self.token, Namespaces::NONE, None).doing("hand process 1 over")?
        {
            guest::become_init(&file);
        }
        rustix::process::setsid().doing("leave the session")?;
        // The signals that it told of are those of process 1, and the poll knows them as such.
        let children = process::signal_fd(&[libc::SIGCHLD]).doing("watch children")?;
        epoll::add(&self.poll, &children, Part::Children.token(), epoll::EventFlags::IN)
            .doing("watch children")?;
        self.children = Rc::new(children);
        modules::serve_kernel()?;
        Ok(Reply::Done)
    }

    /// Loads modules, if the kernel is the machine's own.
    pub(super) fn load(&self, modules: &[String]) -> Result<Reply, Fault> {
        if matches!(self.line, Line::Socket(_)) {
            return Err(Fault::new(FaultKind::State, "load modules of the host's kernel"));
        }
        modules::load(modules).map(|()| Reply::Done)
    }

    /// Is another machine from now on: one that was born before it was known who it is.
    pub(super) fn become_machine(
        &mut self,
        machine: Machine,
        identity: Option<&Identity>,
    ) -> Result<Reply, Fault> {
        if matches!(self.line, Line::Socket(_)) || !self.machine.hostname.is_empty() {
            return Err(Fault::new(FaultKind::State, "become another machine"));
        }
        rustix::system::sethostname(machine.hostname.as_bytes()).doing("set the host name")?;
        if let Some(identity) = identity {
            identity::put(identity, Path::new("/"))?;
        }
        network::configure_adapters(&machine)?;
        if machine.control && self.relay.is_none() {
            guest::place_client()?;
            let relay = Relay::listen().doing("listen for programs")?;
            epoll::add(&self.poll, &relay.listener, Part::Control.token(), epoll::EventFlags::IN)
                .doing("listen for programs")?;
            self.relay = Some(relay);
        }
        self.machine = Cow::Owned(machine);
        Ok(Reply::Done)
    }
}

/// Waits until one descriptor is ready.
fn wait_for(fd: &impl AsFd, flags: PollFlags) -> io::Result<()> {
    match rustix::event::poll(&mut [PollFd::new(fd, flags)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
