//! Archives of a hostile machine: whatever they hold, nothing outside of the folder changes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::LazyLock;
use tar::Header;
use testbed_agent::copy::unpack;

/// A folder to unpack into, with something beside it.
static CAGE: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("testbed-fuzz-archive-{}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("secret"), "untouched").unwrap();
    path
});

/// An entry: its kind, its name, what it links to, and its content. Checksums and sizes are right, because hardly any
/// others would be looked at.
type Entry<'a> = (u8, &'a str, &'a str, &'a [u8]);

fuzz_target!(|input: (Vec<Entry<'_>>, &[u8])| {
    let (entries, rest) = input;
    let mut bytes = Vec::new();
    for (kind, name, link, content) in entries {
        // Those that mean something are likelier.
        let kinds = b"0000555512125555LKxgS346";
        let kind = kinds.get(usize::from(kind)).copied().unwrap_or(kind);
        let mut header = Header::new_gnu();
        let fill = |field: &mut [u8], text: &str| {
            let length = text.len().min(field.len());
            field[..length].copy_from_slice(&text.as_bytes()[..length]);
        };
        fill(&mut header.as_old_mut().name, name);
        fill(&mut header.as_old_mut().linkname, link);
        header.as_old_mut().linkflag = [kind];
        header.set_mode(0o755);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend_from_slice(rest);

    let inside = CAGE.join("in");
    fs::create_dir(&inside).unwrap();
    let _ = unpack(&bytes[..], &inside, None);
    fs::remove_dir_all(&inside).unwrap();
    let secret = CAGE.join("secret");
    assert_eq!(fs::read(&secret).unwrap(), b"untouched");
    let about = fs::metadata(&secret).unwrap();
    assert_eq!((about.nlink(), fs::read_dir(&*CAGE).unwrap().count()), (1, 1));
});
