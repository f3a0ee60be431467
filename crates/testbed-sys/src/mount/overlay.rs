//! Overlays (Documentation/filesystems/overlayfs.rst), their layers given by open folders.

use super::{Attached, Detached, Folder, NewFs};
use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, fsconfig_set_fd};
use rustix::process::fchdir;
use std::fmt::Write as _;
use std::io;

/// Where an overlay keeps what it notes about files: which folders hide those below them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// In attributes `user.overlay.*`, which root of a user namespace can set.
    User,
    /// In attributes `trusted.overlay.*`, which only the host's root can set and see.
    Trusted,
}

/// An overlay to be mounted.
#[derive(Debug)]
pub struct Overlay<'a> {
    marks: Marks,
    lowers: Vec<BorrowedFd<'a>>,
    upper: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
}

/// What can be a layer: something attached, in the mount namespace of whoever mounts the overlay.
pub trait Layer: AsFd {}

impl Layer for Attached {}
impl Layer for Folder {}

impl<'a> Overlay<'a> {
    /// One without layers.
    pub fn new(marks: Marks) -> Overlay<'a> {
        Overlay { marks, lowers: Vec::new(), upper: None }
    }

    /// Adds a layer below those that it has.
    pub fn lower(&mut self, layer: &'a impl Layer) {
        self.lowers.push(layer.as_fd());
    }

    /// Has changes go to a folder, with another of the same mount to work in.
    pub fn upper(&mut self, upper: &'a Folder, work: &'a Folder) {
        self.upper = Some((upper.as_fd(), work.as_fd()));
    }

    /// Mounts it. Devices in its layers are none.
    ///
    /// # Errors
    /// Those of fsconfig(2) and fsmount(2), with what the kernel logged about it.
    pub fn mount(&self) -> io::Result<Detached> {
        match self.by_descriptor()? {
            Some(mount) => Ok(mount),
            None => self.mount_by_name(),
        }
    }

    /// None where the kernel wants names: before Linux 6.13.
    fn by_descriptor(&self) -> io::Result<Option<Detached>> {
        let fs = NewFs::open("overlay")?;
        let lowers = self.lowers.iter().map(|lower| ("lowerdir+", lower));
        let upper = self.upper.iter().flat_map(|(upper, work)| [("upperdir", upper), ("workdir", work)]);
        for (key, folder) in lowers.chain(upper) {
            match fsconfig_set_fd(&fs.context, key, folder) {
                Err(Errno::INVAL | Errno::BADF | Errno::OPNOTSUPP) => return Ok(None),
                other => fs.explain(other)?,
            }
        }
        self.finish(fs).map(Some)
    }

    /// Mounts it the way that all kernels know: layers are named, as what stands in `/proc/self/fd`. The working folder is
    /// another meanwhile.
    ///
    /// # Errors
    /// As for [`Overlay::mount`]; EINVAL for more layers than a text of 255 bytes names.
    pub fn mount_by_name(&self) -> io::Result<Detached> {
        let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let before = open(c".", path, Mode::empty())?;
        rustix::process::chdir(c"/proc/self/fd")?;
        let mounted = self.named().and_then(|fs| self.finish(fs));
        fchdir(&before)?;
        mounted
    }

    fn named(&self) -> io::Result<NewFs> {
        let mut names = String::new();
        for lower in &self.lowers {
            let colon = if names.is_empty() { "" } else { ":" };
            // Writing to a text does not fail.
            let _ = write!(names, "{colon}{}", lower.as_raw_fd());
        }
        let mut fs = NewFs::open("overlay")?.set("lowerdir", &names)?;
        if let Some((upper, work)) = self.upper {
            fs = fs.set("upperdir", &upper.as_raw_fd().to_string())?;
            fs = fs.set("workdir", &work.as_raw_fd().to_string())?;
        }
        Ok(fs)
    }

    fn finish(&self, fs: NewFs) -> io::Result<Detached> {
        let (fs, attributes) = match self.marks {
            // Root of a user namespace gets no devices with it.
            Marks::User => (fs.flag("userxattr")?, MountAttrFlags::empty()),
            // As `userxattr` has it, whatever the host's defaults are.
            Marks::Trusted => {
                let fs = fs.set("redirect_dir", "nofollow")?.set("metacopy", "off")?.set("index", "off")?;
                (fs, MountAttrFlags::MOUNT_ATTR_NODEV)
            }
        };
        fs.mount(attributes)
    }
}
