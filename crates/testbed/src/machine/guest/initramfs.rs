//! Archives that the kernel unpacks into its initial root (`Documentation/driver-api/early-userspace/buffer-format.rst`:
//! cpio, format `newc`).

/// What stands before each entry: magic, then numbers of eight hexadecimal digits.
const MAGIC: &str = "070701";
const REGULAR: u32 = 0o100_000;
const END: &str = "TRAILER!!!";

/// An archive of regular files that belong to root: name, permission bits, content.
pub(super) fn archive(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, (name, mode, content)) in (1..).zip(files) {
        put(&mut bytes, number, name, REGULAR | mode, content);
    }
    put(&mut bytes, 0, END, 0, &[]);
    bytes
}

fn put(bytes: &mut Vec<u8>, number: u32, name: &str, mode: u32, content: &[u8]) {
    let (links, time, zero) = (1, 0, 0);
    bytes.extend_from_slice(MAGIC.as_bytes());
    let length = content.len() as u32;
    // Inode, mode, owner, group, links, time, length, device (two), device of a device (two), length of the name, checksum.
    let fields =
        [number, mode, zero, zero, links, time, length, zero, zero, zero, zero, name.len() as u32 + 1, zero];
    fields.iter().for_each(|field| bytes.extend_from_slice(format!("{field:08X}").as_bytes()));
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    pad(bytes);
    bytes.extend_from_slice(content);
    pad(bytes);
}

/// Names and contents end at multiples of four bytes.
fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
