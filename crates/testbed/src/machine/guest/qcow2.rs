//! Disks in the form of QEMU (`docs/interop/qcow2.rst` of QEMU): what must be known of one before it is opened, and new ones.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use testbed_agent::{Doing as _, Fault, FaultKind};

const MAGIC: [u8; 4] = *b"QFI\xfb";
/// The longest part of a header that is looked at, in bytes; version 3 has as much at least.
const HEADER: usize = 104;
/// Clusters of new disks, in powers of two and in bytes.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// What one entry of the first table stands for: a cluster of entries of eight bytes, each for a cluster.
const BY_ENTRY: u64 = CLUSTER / 8 * CLUSTER;
/// The bit of the features that a reader must know which says that the content is in another file.
const OTHER_FILE: u64 = 1 << 2;

/// Whether a file begins as such a disk.
///
/// # Errors
/// When it cannot be read.
pub(super) fn is_one(file: &File) -> io::Result<bool> {
    let mut magic = [0; 4];
    match file.read_exact_at(&mut magic, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        result => result.map(|()| magic == MAGIC),
    }
}

/// How many bytes a disk holds, of which all is in this file.
///
/// # Errors
/// [`FaultKind::Image`] for anything else.
pub(super) fn size_of(file: &File) -> Result<u64, Fault> {
    let mut header = [0; HEADER];
    let read = file.read_at(&mut header, 0).doing("read a disk")?;
    let bad = |what: &str, hint: &str| Err(Fault::new(FaultKind::Image, what).hint(hint));
    if read < 72 || header[..4] != MAGIC {
        return bad(
            "use a file as a qcow2 disk that is none",
            "a disk that is there byte by byte is a .raw file",
        );
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let long = |at: usize| u64::from(number(at)) << 32 | u64::from(number(at + 4));
    let (version, backing, encryption, size) = (number(4), long(8), number(32), long(24));
    if !(2..=3).contains(&version) {
        return bad(
            "use a qcow2 disk of an unknown version",
            "`qemu-img convert -O qcow2` makes another one of it",
        );
    }
    if backing != 0 || (version == 3 && long(72) & OTHER_FILE != 0) {
        let hint = "`qemu-img convert -O qcow2 DISK NEW` makes one that is whole";
        return bad("use a disk of which a part is in another file, which is never followed", hint);
    }
    if encryption != 0 {
        return bad("use a disk that is encrypted", "`qemu-img convert` makes one of it that is not");
    }
    Ok(size)
}

/// The file of a new disk of this size on which nothing has been written: it shows what lies below it, or zeros.
pub(super) fn new(size: u64) -> Vec<u8> {
    let entries = size.div_ceil(BY_ENTRY);
    let tables = (entries * 8).div_ceil(CLUSTER).max(1);
    // One cluster each for the header, the table of reference counts, and the block of them.
    let (counts, block, first, all) = (CLUSTER, 2 * CLUSTER, 3 * CLUSTER, 3 + tables);
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    let mut put = |value: &[u8]| header.extend_from_slice(value);
    put(&3_u32.to_be_bytes());
    // No other file below: offset and length of its name.
    put(&0_u64.to_be_bytes());
    put(&0_u32.to_be_bytes());
    put(&CLUSTER_BITS.to_be_bytes());
    put(&size.to_be_bytes());
    // Not encrypted.
    put(&0_u32.to_be_bytes());
    put(&(entries as u32).to_be_bytes());
    put(&first.to_be_bytes());
    put(&counts.to_be_bytes());
    put(&1_u32.to_be_bytes());
    // No snapshots: how many, and where.
    put(&0_u32.to_be_bytes());
    put(&0_u64.to_be_bytes());
    // No features: that must be known, that may be, and that are undone by who does not know them.
    put(&[0; 24]);
    // Counts of sixteen bits, and the length of all this.
    put(&4_u32.to_be_bytes());
    put(&(HEADER as u32).to_be_bytes());
    let mut bytes = header;
    bytes.resize(counts as usize, 0);
    bytes.extend(block.to_be_bytes());
    bytes.resize(block as usize, 0);
    bytes.extend((0..all).flat_map(|_| 1_u16.to_be_bytes()));
    bytes.resize((all * CLUSTER) as usize, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> File {
        let memory = rustix::fs::memfd_create(c"disk", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let file = File::from(memory);
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    #[test]
    fn what_is_made_is_one_of_its_size() {
        for size in [0, 1 << 20, (512 << 20) + 1, 8 << 40] {
            let disk = file(&new(size));
            assert!(is_one(&disk).unwrap());
            assert_eq!(size_of(&disk).unwrap(), size);
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let with = |at: usize, value: &[u8]| {
            let mut bytes = new(1 << 20);
            bytes[at..at + value.len()].copy_from_slice(value);
            size_of(&file(&bytes)).unwrap_err().to_string()
        };
        assert!(with(8, &[0, 0, 0, 0, 0, 0, 0, 200]).contains("another file"));
        assert!(with(72, &OTHER_FILE.to_be_bytes()).contains("another file"));
        assert!(with(32, &[0, 0, 0, 2]).contains("encrypted"));
        assert!(with(4, &[0, 0, 0, 4]).contains("version"));
        assert!(with(0, b"qfi").contains("none"));
        assert!(size_of(&file(b"QFI\xfb")).unwrap_err().to_string().contains("none"));
        assert!(!is_one(&file(b"QF")).unwrap());
    }
}
