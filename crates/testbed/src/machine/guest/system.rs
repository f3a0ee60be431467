//! Systems that boot by themselves, from a disk or a CD, and have no agent of ours.

use super::{Hardware, qcow2, qemu};
use crate::machine::Machine;
use crate::spec::{self, Base, DiskFormat};
use rustix::fd::OwnedFd;
use std::fs::File;
use std::path::Path;
use testbed_agent::{Doing as _, Fault, FaultKind};

/// What a system has beside its hardware.
pub(crate) struct System {
    /// What lies below all that it writes to its disk, if there is anything.
    pub(super) disk: Option<(File, DiskFormat)>,
    /// How many bytes its disk holds; none if it has no disk.
    pub(super) disk_size: u64,
    /// What is in its CD drive.
    pub(super) cdrom: Option<File>,
    /// The addresses of its adapters.
    pub(super) macs: Vec<[u8; 6]>,
}

impl System {
    /// What a file says of a system whose image ends in `base`, with all that it reads opened.
    ///
    /// # Errors
    /// [`FaultKind::Image`] for a disk that is not as it is called, or not all there.
    pub(crate) fn open(machine: &spec::Machine, base: &Base, blank: u64) -> Result<System, Fault> {
        let (disk, disk_size) = match base {
            Base::Disk(path, format) => {
                let file = open(path)?;
                let size = size_of(&file, *format).map_err(|fault| fault.at(path.display().to_string()))?;
                (Some((file, *format)), size)
            }
            _ => (None, blank),
        };
        let macs = machine.interfaces().iter().map(|interface| interface.mac().octets()).collect();
        Ok(System { disk, disk_size, cdrom: machine.cdrom().map(open).transpose()?, macs })
    }

    /// Puts into a jail what the system writes to: its disk above what is below it, and what memory begins as.
    pub(super) fn prepare(&self, jail: &Machine, hardware: &Hardware) -> Result<(), Fault> {
        let make = format!("mkdir -p {} && truncate -s {} {}", qemu::TEMPLATE, hardware.memory, qemu::MEMORY);
        let made = jail.shell(make).output()?;
        if !made.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(Fault::new(FaultKind::State, "make the memory of a system").log(said));
        }
        jail.write_file(qemu::CHANGES, 0o600, &qcow2::new(self.disk_size))
    }

    /// What the hypervisor gets descriptors of, in this order.
    pub(super) fn into_files(self) -> impl Iterator<Item = OwnedFd> {
        self.disk.map(|(file, _)| file).into_iter().chain(self.cdrom).map(OwnedFd::from)
    }
}

fn open(path: &Path) -> Result<File, Fault> {
    File::open(path).doing_to("open", path.display().to_string())
}

/// How many bytes a disk holds that is there in this form.
fn size_of(file: &File, format: DiskFormat) -> Result<u64, Fault> {
    if format == DiskFormat::Qcow2 {
        return qcow2::size_of(file);
    }
    // Whoever wrote it may have meant to have it taken for what it is not.
    if qcow2::is_one(file).doing("read a disk")? {
        let fault = Fault::new(FaultKind::Image, "use a qcow2 disk as if it was there byte by byte");
        return Err(fault.hint("if it is one that you trust, name it .qcow2"));
    }
    Ok(file.metadata().doing("read a disk")?.len())
}
