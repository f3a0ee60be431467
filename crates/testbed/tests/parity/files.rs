//! Files of machines, and folders that they share with the host.

use crate::{TWO, up, up_checked};
use std::sync::Arc;
use testbed::FaultKind;
use testbed::spec::{self, FileKind, FixedFiles};
use testbed_agent::agent::EntryKind;

#[test]
fn files_and_folders_are_looked_for() {
    let bed = up(TWO);
    bed["a"].succeed("mkdir -p /srv/d; echo x >/srv/d/f; ln -s d /srv/l; ln -s none /srv/broken").unwrap();
    let there = ["/srv/d", "/srv/d/", "/srv/d/f", "/srv/l", "/srv/l/", "/srv/broken"];
    let absent = ["/srv/d/f/", "/srv/d/f/g", "/srv/broken/", "/srv/none"];
    for (paths, expected) in [(&there[..], true), (&absent[..], false)] {
        for path in paths {
            assert_eq!(bed["a"].exists(path).unwrap(), expected, "{path}");
        }
    }
    assert_eq!(bed["a"].exists("srv").unwrap_err().kind, FaultKind::Invalid);
}

#[test]
fn what_is_known_of_a_file_is_told() {
    let bed = up(TWO);
    bed["a"]
        .succeed(
            "echo text >/srv/f; chmod 640 /srv/f; chown nobody /srv/f; touch -d @1000 /srv/f; ln -s f /srv/l",
        )
        .unwrap();
    let entry = bed["a"].stat("/srv/f").unwrap();
    assert_eq!((entry.kind, entry.mode, entry.uid, entry.size), (EntryKind::File, 0o640, 65534, 5));
    assert_eq!(entry.modified_ns, 1_000_000_000_000);
    assert_eq!(bed["a"].stat("/srv/l").unwrap().target.as_deref(), Some("f"));
    assert_eq!(bed["a"].stat("/srv/none").unwrap_err().kind, FaultKind::NotFound);
}

#[test]
fn folders_are_made_listed_and_removed() {
    let bed = up(TWO);
    bed["a"].make_dir("/srv/d/e").unwrap();
    for n in 0..3000 {
        bed["a"].write_file(&format!("/srv/d/a file of a long name, number {n:04}"), 0o600, b"").unwrap();
    }
    let names: Vec<String> = bed["a"].list("/srv/d").unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), 3001, "more than an answer holds");
    assert!(names.is_sorted());
    bed["a"].remove("/srv/d").unwrap();
    assert!(!bed["a"].exists("/srv/d").unwrap());
    assert_eq!(bed["a"].list("/srv/d").unwrap_err().kind, FaultKind::NotFound);
    assert_eq!(bed["a"].remove("/srv/d").unwrap_err().kind, FaultKind::NotFound);
}

#[test]
fn a_file_is_renamed_and_deleted() {
    let bed = up(TWO);
    bed["a"].write_file("/srv/f", 0o600, b"text").unwrap();
    bed["a"].rename("/srv/f", "/srv/g").unwrap();
    assert_eq!(bed["a"].read_file("/srv/g").unwrap(), b"text");
    assert_eq!(bed["a"].rename("/srv/f", "/srv/h").unwrap_err().kind, FaultKind::NotFound);
    bed["a"].remove("/srv/g").unwrap();
    assert!(!bed["a"].exists("/srv/g").unwrap());
}

#[test]
fn temporary_files_are_new_and_roots_own() {
    let bed = up(TWO);
    let [one, two] = [(); 2].map(|()| bed["a"].make_temporary(false).unwrap());
    assert!(one != two && one.starts_with("/tmp/"), "{one} {two}");
    let entry = bed["a"].stat(&one).unwrap();
    assert_eq!((entry.kind, entry.mode, entry.uid, entry.size), (EntryKind::File, 0o600, 0, 0));
    let folder = bed["a"].make_temporary(true).unwrap();
    let entry = bed["a"].stat(&folder).unwrap();
    assert_eq!((entry.kind, entry.mode), (EntryKind::Folder, 0o700));
}

#[test]
fn files_are_copied_both_ways() {
    let bed = up(TWO);
    let folder = std::env::temp_dir().join(format!("testbed-parity-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("tree/sub")).unwrap();
    let large: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    std::fs::write(folder.join("tree/sub/large"), &large).unwrap();
    bed["a"].copy_in(&folder.join("tree"), "/srv/there").unwrap();
    bed["a"].copy_out("/srv/there", &folder.join("back")).unwrap();
    assert!(std::fs::read(folder.join("back/sub/large")).unwrap() == large);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn folders_of_the_host_are_shared_read_only_or_not() {
    let folder = std::env::temp_dir().join(format!("testbed-parity-shared-{}", std::process::id()));
    for name in ["read", "write"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
        std::fs::write(folder.join(name).join("f"), name).unwrap();
    }
    let text = format!(
        "[machines.a.mounts]\n'/mnt/read' = '{0}/read'\n'/mnt/write' = {{ source = '{0}/write', writable = true }}\n",
        folder.display()
    );
    let seen = ["read", "write"]
        .iter()
        .fold(FixedFiles::new("/"), |seen, name| seen.with(folder.join(name), FileKind::Folder));
    let (testbed, problems) = spec::check(&text, "testbed.toml", &seen);
    let bed = up_checked(&Arc::new(testbed.unwrap_or_else(|| panic!("{problems}"))));
    assert_eq!(bed["a"].succeed("cat /mnt/read/f /mnt/write/f").unwrap(), "readwrite");
    std::fs::write(folder.join("read/f"), "live").unwrap();
    assert_eq!(bed["a"].read_file("/mnt/read/f").unwrap(), b"live");
    bed["a"].fail("echo x >/mnt/read/f").unwrap();
    bed["a"].succeed("echo inside >/mnt/write/new").unwrap();
    assert_eq!(std::fs::read_to_string(folder.join("write/new")).unwrap(), "inside\n");
    drop(bed);
    std::fs::remove_dir_all(&folder).unwrap();
}
