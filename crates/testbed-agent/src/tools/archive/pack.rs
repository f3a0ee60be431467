//! Making an archive.

use super::super::{Doing, ToolIo};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};
use testbed_agent::Fault;
use testbed_agent::agent::Report;

/// File systems in which the kernel shows itself (statfs(2)): what is in them is no content to copy.
const KERNEL_FILE_SYSTEMS: [u64; 5] = [
    0x9fa0,      /* proc */
    0x6265_6572, /* sysfs */
    0x6367_7270, /* cgroup2 */
    0x0027_e0eb, /* cgroup */
    0x1cd1,      /* devpts */
];

/// The longest list of attributes, and the longest value (xattr(7)).
const LONGEST_ATTRIBUTE: usize = 64 * 1024;

/// Writes a file or folder to the output as an archive.
///
/// Modes, owners, times in seconds, symbolic and hard links, named pipes and devices are kept, and of files capabilities and
/// users' own attributes; sockets are left out.
/// The kernel's own file systems stand as empty folders. What vanishes meanwhile is left out.
pub(crate) fn pack(path: &str, io: &mut ToolIo<'_>) -> Result<Report, Fault> {
    let top = Path::new(path);
    let name = top.file_name().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let metadata = top.symlink_metadata().doing_to("pack", path)?;
    let output = BufWriter::with_capacity(128 * 1024, io.output_file()?);
    let mut packer = Packer { builder: Builder::new(output), links: HashMap::new(), bytes: 0 };
    let mut waiting = vec![(top.to_path_buf(), name, metadata)];
    while let Some((path, name, metadata)) = waiting.pop() {
        packer.add(&path, &name, &metadata)?;
        if metadata.is_dir() {
            add_content(&path, &name, &mut waiting)?;
        }
    }
    let flushed = packer.builder.into_inner().and_then(|mut output| output.flush());
    flushed.doing("write the archive")?;
    Ok(Report::Bytes(packer.bytes))
}

struct Packer<W: Write> {
    builder: Builder<W>,
    /// Files with several names: which name they got first.
    links: HashMap<(u64, u64), PathBuf>,
    bytes: u64,
}

impl<W: Write> Packer<W> {
    /// Adds one entry, of a folder not its content.
    fn add(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> Result<(), Fault> {
        let kind = metadata.file_type();
        if kind.is_socket() {
            return Ok(());
        }
        let doing = || path.display().to_string();
        let mut header = header(metadata);
        if !kind.is_dir() && metadata.nlink() > 1 {
            let id = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&id) {
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                return self.builder.append_link(&mut header, name, first).doing_to("pack", doing());
            }
            self.links.insert(id, name.to_path_buf());
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(path).doing_to("pack", doing())?;
            // Literally if it fits: the other way takes double slashes and the like away.
            let added = match header.set_link_name_literal(target.as_os_str().as_bytes()) {
                Ok(()) => self.builder.append_data(&mut header, name, std::io::empty()),
                Err(_) => self.builder.append_link(&mut header, name, &target),
            };
            return added.doing_to("pack", doing());
        }
        if !kind.is_file() {
            return self.builder.append_data(&mut header, name, std::io::empty()).doing_to("pack", doing());
        }
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            file => file.doing_to("open", doing())?,
        };
        self.add_file(&file, name, doing)
    }

    fn add_file(&mut self, file: &File, name: &Path, doing: impl Fn() -> String) -> Result<(), Fault> {
        let metadata = file.metadata().doing_to("pack", doing())?;
        let size = metadata.len();
        // The header has told the size, whatever the file does meanwhile.
        let content = file.take(size).chain(std::io::repeat(0)).take(size);
        let attributes = extended_attributes(file).doing_to("pack", doing())?;
        // An archive without any is one of plain old tar.
        if !attributes.is_empty() {
            let attributes = attributes.iter().map(|(name, value)| (name.as_str(), &value[..]));
            self.builder.append_pax_extensions(attributes).doing_to("pack", doing())?;
        }
        self.builder.append_data(&mut header(&metadata), name, content).doing_to("pack", doing())?;
        self.bytes += size;
        Ok(())
    }
}

/// Those that programs may rely on, by what star and GNU tar call them in archives: file capabilities and users' own.
fn extended_attributes(file: &File) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = [0; LONGEST_ATTRIBUTE];
    let length = match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(error.into()),
    };
    let names = names[..length].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
    let mut found = Vec::new();
    for name in names.filter(|name| *name == "security.capability" || name.starts_with("user.")) {
        let mut value = [0; LONGEST_ATTRIBUTE];
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Ok(length) => found.push((format!("SCHILY.xattr.{name}"), value[..length].to_vec())),
            // It has vanished meanwhile.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Puts what is in a folder on the stack of what waits, the first name on top.
fn add_content(
    folder: &Path,
    name: &Path,
    waiting: &mut Vec<(PathBuf, PathBuf, Metadata)>,
) -> Result<(), Fault> {
    if is_kernels_own(folder) {
        return Ok(());
    }
    let doing = || folder.display().to_string();
    let mut names = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries
            .doing_to("list", doing())?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<Vec<_>, _>>()
            .doing_to("list", doing())?,
    };
    names.sort_by(|a, b| b.cmp(a));
    for entry in names {
        let path = folder.join(&entry);
        match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            metadata => {
                let metadata = metadata.doing_to("pack", path.display().to_string())?;
                waiting.push((path, name.join(&entry), metadata));
            }
        }
    }
    Ok(())
}

fn header(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    header.set_mode(metadata.mode() & 0o7777);
    header.set_mtime(metadata.mtime().try_into().unwrap_or(0));
    if !metadata.is_file() {
        header.set_size(0);
    }
    header
}

fn is_kernels_own(folder: &Path) -> bool {
    rustix::fs::statfs(folder).is_ok_and(|fs| KERNEL_FILE_SYSTEMS.contains(&(fs.f_type as u64)))
}
