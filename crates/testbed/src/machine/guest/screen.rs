//! The screen and the keyboard of a guest.
//!
//! What is on a screen is memory of a device's, which is part neither of the guest's nor of what QEMU tells of its devices.
//! So it is kept and put back as the guest's is, where QEMU says that it has it.

use super::hypervisor::{Hypervisor, MEMORY_MOVES};
use super::qemu::{VIDEO_BLOCK, VIDEO_MEMORY};
use crate::machine::Machine;
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read as _;
use std::time::Duration;
use testbed_agent::agent::{Mapping, Tool};
use testbed_agent::keys::Chord;
use testbed_agent::{Doing as _, Fault, FaultKind};

/// How long a key is held, and how long it is until the next. A keyboard has room for a few keys that nobody has read.
const HOLD: Duration = Duration::from_millis(20);
/// The largest picture that is taken over from a hypervisor, in bytes.
const LARGEST_PICTURE: u64 = 64 << 20;

fn screen_in(folder: &str) -> String {
    format!("{folder}/screen")
}

impl Hypervisor {
    /// Keeps what is on the screen, if there is one, in a folder of the jail. The guest must stand still.
    pub(super) fn save_screen(&mut self, jail: &Machine, folder: &str) -> Result<(), Fault> {
        let Some(part) = self.video_memory()? else { return Ok(()) };
        let (pid, to) = (self.running.pid()?, screen_in(folder));
        jail.tool(Tool::SaveMemory { pid, part, to, whole: false }, MEMORY_MOVES).map(drop)
    }

    /// Puts it back, before the devices have their state: with that they draw it.
    pub(super) fn load_screen(&mut self, jail: &Machine, folder: &str) -> Result<(), Fault> {
        let Some(part) = self.video_memory()? else { return Ok(()) };
        let (pid, from) = (self.running.pid()?, screen_in(folder));
        jail.tool(Tool::LoadMemory { pid, part, from }, MEMORY_MOVES).map(drop)
    }

    fn video_memory(&mut self) -> Result<Option<Mapping>, Fault> {
        if !self.has_screen {
            return Ok(None);
        }
        let blocks = self.monitor.execute("x-query-ramblock", json!({}), None)?;
        let start = blocks.get("human-readable-text").and_then(Value::as_str).and_then(address_of_video);
        let missing =
            || Fault::new(FaultKind::Unsupported, "find the memory of the screen in this version of QEMU");
        start.map(|start| Some(Mapping::Range { start, length: VIDEO_MEMORY })).ok_or_else(missing)
    }

    /// What is on the screen, as PNG.
    pub(in crate::machine) fn screenshot(&mut self) -> Result<Vec<u8>, Fault> {
        const DOING: &str = "take a picture of the screen";
        let picture = rustix::fs::memfd_create("screen", MemfdFlags::CLOEXEC).doing(DOING)?;
        // The hypervisor wants one to write to and nothing else.
        let path = format!("/proc/self/fd/{}", picture.as_raw_fd());
        let writable =
            rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).doing(DOING)?;
        let added = self.monitor.execute("add-fd", json!({}), Some(writable))?;
        let set = added.get("fdset-id").and_then(Value::as_u64).unwrap_or_default();
        let file = json!({ "filename": format!("/dev/fdset/{set}"), "format": "png" });
        let taken = self.monitor.execute("screendump", file, None);
        self.monitor.execute("remove-fd", json!({ "fdset-id": set }), None)?;
        taken?;
        let mut bytes = Vec::new();
        File::from(picture).take(LARGEST_PICTURE).read_to_end(&mut bytes).doing(DOING)?;
        Ok(bytes)
    }

    /// Presses keys and lets them go.
    pub(in crate::machine) fn press(&mut self, chord: &Chord) -> Result<(), Fault> {
        let keys: Vec<_> = chord.keys().iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        // Each is pressed and let go, and held between.
        let time = HOLD * 2 * keys.len() as u32;
        self.monitor.execute(
            "send-key",
            json!({ "keys": keys, "hold-time": HOLD.as_millis() as u64 }),
            None,
        )?;
        self.monitor.listen(time)
    }

    /// Speaks VNC (RFC 6143) on a connection.
    pub(in crate::machine) fn show(&mut self, viewer: OwnedFd) -> Result<(), Fault> {
        self.monitor.execute("getfd", json!({ "fdname": "viewer" }), Some(viewer))?;
        let client = json!({ "protocol": "vnc", "fdname": "viewer", "skipauth": true });
        self.monitor.execute("add_client", client, None).map(drop)
    }
}

/// The address of the screen's memory in a table of blocks, a line each: name, page size, offset, used, total, address.
fn address_of_video(table: &str) -> Option<u64> {
    let mut lines = table.lines().map(|line| line.split_ascii_whitespace());
    let mut words = lines.find_map(|mut words| words.next()?.ends_with(VIDEO_BLOCK).then_some(words))?;
    // A page size is a number and a unit.
    let address = words.nth(5)?.strip_prefix("0x")?;
    u64::from_str_radix(address, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_screen_is_found_where_it_is_told() {
        let table = "   Block Name    PSize      Offset        Used       Total         HVA  RO\n\
                            ram    4 KiB  0x0000000000 0x0010000000 0x0010000000 0x7f4a7ffff000  rw\n\
          0000:00:01.0/vga.vram    4 KiB  0x0010080000 0x0001000000 0x0001000000 0x7f4a7d600000  rw\n";
        assert_eq!(address_of_video(table), Some(0x7f4a_7d60_0000));
        let older = "0000:00:01.0/vga.vram    4 KiB  0x0010080000 0x0001000000 0x0001000000\n";
        assert_eq!(address_of_video(older), None);
        assert_eq!(address_of_video("\n"), None);
    }
}
