//! Files and folders between the host and a machine.

use super::Machine;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::path::Path;
use testbed_agent::agent::{EntryKind, Tool};
use testbed_agent::{Doing as _, Fault, FaultKind, copy};

impl Machine {
    /// Copies a file or folder of the host to a path of the machine, making the folders above it. Modes and times
    /// stay; all of it becomes root's. If the path is a folder already, what is copied lands in it under its own name.
    ///
    /// # Errors
    /// What cannot be read here or written there.
    pub fn copy_in(&self, source: &Path, target: &str) -> Result<(), Fault> {
        let source = source.canonicalize().doing_to("copy", source.to_string_lossy())?;
        let (folder, name) = copy::place_inside(&source, target, |path| match self.stat(path) {
            Ok(entry) => Ok(entry.kind == EntryKind::Folder),
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(false),
            Err(fault) => Err(fault),
        })
        .map_err(|fault| fault.on(self.name()))?;
        self.make_dir(folder)?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let packing = std::thread::scope(|scope| {
            let packing = scope.spawn(|| copy::pack(&mut File::from(write), &source, name));
            let unpacked = self.unpack(&mut File::from(read), folder, false);
            let packed = packing.join().unwrap_or_else(|_| Err(std::io::Error::other("packing ended early")));
            // Whichever failed first made the other fail; the machine knows more of its own reasons.
            unpacked.and_then(|_| packed.doing_to("copy", source.to_string_lossy()))
        });
        packing.map_err(|f| f.on(self.name()))
    }

    /// Copies a file or folder of the machine to a path of the host. Modes and times stay, but for set-user-id and
    /// set-group-id bits. If the path is a folder already, what is copied lands in it under its own name. The machine is
    /// not trusted: nothing is written outside of what is copied.
    ///
    /// # Errors
    /// What cannot be read there or written here.
    pub fn copy_out(&self, source: &str, target: &Path) -> Result<(), Fault> {
        let (folder, rename) = copy::place_here(target).map_err(|fault| fault.on(self.name()))?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        std::thread::scope(|scope| {
            let unpacking = scope.spawn(|| copy::unpack(File::from(read), &folder, rename.as_deref()));
            let packed = self.stream_out(Tool::Pack { path: source.into() }, &mut File::from(write));
            let unpacked =
                unpacking.join().unwrap_or_else(|_| Err(std::io::Error::other("unpacking ended early")));
            let unpacked = unpacked.doing_to("write below", folder.to_string_lossy());
            // Whichever failed first made the other fail: by a broken pipe, if it was the one here.
            match packed {
                Err(fault) if unpacked.is_ok() || fault.errno != Some(Errno::PIPE.raw_os_error()) => {
                    Err(fault)
                }
                _ => unpacked,
            }
        })
        .map_err(|fault| fault.on(self.name()))
    }
}
