//! A hypervisor that runs in a jail, and what is done to its guest as a whole.

use super::monitor::Monitor;
use super::qemu;
use crate::machine::{Console, LogReader, Machine, Running};
use rustix::fd::OwnedFd;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use testbed_agent::agent::{Mapping, Tool};
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::fdpass;

/// Where a jail keeps what is needed to have a copy of its guest go on, and beside the template what is needed to have one
/// start again, which has not yet looked at the disk of changes.
const SNAPSHOT: &str = "/usr/lib/testbed/snapshot";
const RESTART: &str = "/usr/lib/testbed/restart";
/// The memory of a template before it was in its root.
const BEFORE: &str = "/usr/lib/testbed/restart/before";
/// How long memory may take to be read or written.
pub(super) const MEMORY_MOVES: Duration = Duration::from_secs(60);
/// How long a hypervisor may take to end.
const ENDS: Duration = Duration::from_secs(10);

fn memory_in(folder: &str) -> String {
    format!("{folder}/memory")
}

fn devices_in(folder: &str) -> String {
    format!("{folder}/devices")
}

/// Whose state a guest begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Of the template.
    Template,
    /// Of the template before it was in its root: the jail has another disk of changes.
    Restart,
    /// Of a machine that was copied, whose files its jail has.
    Snapshot,
    /// Of a capsule that was copied, all of whose memory its jail has: which copy of a copy it is, from 1 on.
    Copy(u32),
}

impl State {
    /// What a guest that begins so has as its memory.
    pub(super) fn memory(self) -> String {
        match self {
            State::Copy(generation) => memory_in(&generation_in(generation)),
            State::Template | State::Restart | State::Snapshot => qemu::MEMORY.to_owned(),
        }
    }
}

/// Where a capsule keeps itself, by how often it has been copied before.
fn generation_in(generation: u32) -> String {
    format!("{SNAPSHOT}-{generation}")
}

/// A hypervisor. It ends with its jail.
pub(in crate::machine) struct Hypervisor {
    pub(super) monitor: Monitor,
    pub(super) running: Running,
    pub(super) has_screen: bool,
    /// The file that the guest's memory is mapped from.
    memory: String,
    _reader: Arc<LogReader>,
}

impl Hypervisor {
    /// Starts one; its guest waits for its [word](Hypervisor::run). `memory` is what the command maps as that, `port` what the guest's agent is reached by, `held` what
    /// the command has descriptors of beside that.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub(super) fn start(
        jail: &Machine,
        command: Vec<String>,
        memory: &str,
        has_screen: bool,
        port: OwnedFd,
        held: Vec<OwnedFd>,
        console: &Console,
    ) -> Result<Hypervisor, Fault> {
        let (ours, theirs) = fdpass::stream_pair().doing("make a socket")?;
        let reader = LogReader::start()?;
        reader.add(ours.try_clone().doing("copy a descriptor")?, &console.log())?;
        console.connect(ours)?;
        let (monitor, its_monitor) = fdpass::stream_pair().doing("make a socket")?;
        let its_console = theirs.try_clone().doing("copy a descriptor")?;
        let held = [port, its_monitor, its_console].into_iter().chain(held).collect();
        let running = jail.command(command).spawn_holding(theirs, held)?;
        let monitor = Monitor::open(monitor)?;
        Ok(Hypervisor { monitor, running, has_screen, memory: memory.to_owned(), _reader: reader })
    }

    /// Connects an adapter's hub with a socket. What a hub has beside the adapter is no part of a saved state.
    pub(super) fn connect(&mut self, number: usize, link: OwnedFd) -> Result<(), Fault> {
        let (stream, hub) = (format!("stream{number}"), format!("hub{number}"));
        self.monitor.execute("getfd", json!({ "fdname": stream }), Some(link))?;
        // `stream` looks for the descriptor's name in a thread that has no monitor.
        self.monitor.execute("netdev_add", json!({ "type": "socket", "id": stream, "fd": stream }), None)?;
        let port = json!({ "type": "hubport", "id": hub, "hubid": number, "netdev": stream });
        self.monitor.execute("netdev_add", port, None).map(drop)
    }

    /// Gives the guest its state before it runs.
    pub(super) fn load(&mut self, jail: &Machine, state: State) -> Result<(), Fault> {
        let folder = match state {
            State::Template => {
                self.load_screen(jail, qemu::TEMPLATE)?;
                return self.monitor.load_devices(qemu::DEVICES);
            }
            State::Restart => RESTART,
            State::Snapshot => SNAPSHOT,
            State::Copy(generation) => {
                return self.monitor.load_devices(&devices_in(&generation_in(generation)));
            }
        };
        let (pid, part, from) = (self.running.pid()?, Mapping::File(self.memory.clone()), memory_in(folder));
        jail.tool(Tool::LoadMemory { pid, part, from }, MEMORY_MOVES)?;
        self.load_screen(jail, folder)?;
        self.monitor.load_devices(&devices_in(folder))?;
        if state == State::Snapshot { jail.remove(SNAPSHOT) } else { Ok(()) }
    }

    /// Puts what a copy of the guest needs beside its disk into the jail. The guest must stand still.
    pub(super) fn save(&mut self, jail: &Machine) -> Result<(), Fault> {
        jail.make_dir(SNAPSHOT)?;
        self.monitor.save_devices(&devices_in(SNAPSHOT))?;
        self.save_screen(jail, SNAPSHOT)?;
        let (pid, part, to) = (self.running.pid()?, Mapping::File(self.memory.clone()), memory_in(SNAPSHOT));
        jail.tool(Tool::SaveMemory { pid, part, to, whole: false }, MEMORY_MOVES).map(drop)
    }

    /// As [`Hypervisor::save`], for a capsule: with all of its memory, which copies map then.
    pub(super) fn save_copy(&mut self, jail: &Machine, generation: u32) -> Result<(), Fault> {
        let folder = generation_in(generation);
        jail.make_dir(&folder)?;
        self.monitor.save_devices(&devices_in(&folder))?;
        let (pid, part, to) = (self.running.pid()?, Mapping::File(self.memory.clone()), memory_in(&folder));
        jail.tool(Tool::SaveMemory { pid, part, to, whole: true }, MEMORY_MOVES).map(drop)
    }

    /// Removes what [`Hypervisor::save`] has put there.
    pub(super) fn forget(jail: &Machine) -> Result<(), Fault> {
        jail.remove(SNAPSHOT)
    }

    /// Removes what [`Hypervisor::save_copy`] has put there.
    pub(super) fn forget_copy(jail: &Machine, generation: u32) -> Result<(), Fault> {
        jail.remove(&generation_in(generation))
    }

    /// Keeps the state that the guest of a template starts again in. The guest must stand still.
    pub(super) fn save_restart(&mut self, jail: &Machine) -> Result<(), Fault> {
        jail.make_dir(RESTART)?;
        self.monitor.save_devices(&devices_in(RESTART))?;
        self.save_screen(jail, RESTART)?;
        let copy = jail.command(["cp", "--sparse=always", qemu::MEMORY, BEFORE]).output()?;
        if copy.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&copy.stderr).into_owned();
        Err(Fault::new(FaultKind::Exhausted, "copy the memory of a template").log(said))
    }

    /// Makes what it has run since its start a template. The guest must stand still, and goes.
    pub(super) fn save_template(mut self, jail: &Machine) -> Result<(), Fault> {
        self.monitor.save_devices(qemu::DEVICES)?;
        self.save_screen(jail, qemu::TEMPLATE)?;
        self.monitor.execute("quit", json!({}), None)?;
        self.running.wait(Some(ENDS)).map(drop)
    }

    /// Keeps what [`Hypervisor::save_restart`] has put there as what differs from the template.
    pub(super) fn keep_restart(jail: &Machine) -> Result<(), Fault> {
        let (memory, mapped, to) = (BEFORE.to_owned(), qemu::MEMORY.to_owned(), memory_in(RESTART));
        jail.tool(Tool::CompareMemory { memory, mapped, to }, MEMORY_MOVES)?;
        jail.remove(BEFORE)
    }

    /// Has the guest go on.
    pub(super) fn run(&mut self) -> Result<(), Fault> {
        self.monitor.execute("cont", json!({}), None).map(drop)
    }

    /// Presses the guest's power button.
    pub(super) fn press_power(&mut self) -> Result<(), Fault> {
        self.monitor.execute("system_powerdown", json!({}), None).map(drop)
    }

    /// Has the guest stand still.
    pub(super) fn stop(&mut self) -> Result<(), Fault> {
        self.monitor.execute("stop", json!({}), None).map(drop)
    }
}
