use super::super::harness::{self, Folder, Outcome, Streams};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use tar::{Builder, EntryType, Header};
use testbed_agent::FaultKind;
use testbed_agent::agent::{Report, Tool};

fn pack(path: &str) -> Outcome {
    harness::run(&Tool::Pack { path: path.into() }, Streams::default())
}

fn unpack(archive: Vec<u8>, path: &str, owners: bool) -> Outcome {
    harness::run(&Tool::Unpack { path: path.into(), owners }, Streams::input(archive))
}

/// What stands below a folder: path, and kind with mode, link or content, owner and time.
fn tree(top: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![Path::new(top).to_path_buf()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let kind = metadata.file_type();
            let what = if kind.is_symlink() {
                format!("link {}", std::fs::read_link(&path).unwrap().display())
            } else if kind.is_dir() {
                waiting.push(path.clone());
                "folder".into()
            } else if kind.is_fifo() {
                "pipe".into()
            } else if kind.is_socket() {
                "socket".into()
            } else {
                format!("file {:?} x{}", std::fs::read(&path).unwrap(), metadata.nlink())
            };
            let mode = if kind.is_symlink() { 0 } else { metadata.mode() & 0o7777 };
            let time = metadata.mtime();
            let name = path.strip_prefix(top).unwrap().display().to_string();
            found.insert(name, format!("{what} {mode:o} {}:{} {time}", metadata.uid(), metadata.gid()));
        }
    }
    found
}

fn rich(folder: &Folder) {
    let deep = format!("top/{}/{}", "d".repeat(120), "e".repeat(150));
    std::fs::create_dir_all(folder.path(&deep)).unwrap();
    std::fs::write(folder.path(&format!("{deep}/file")), "deep").unwrap();
    std::fs::write(folder.path("top/plain"), "plain").unwrap();
    std::fs::write(folder.path("top/empty"), "").unwrap();
    std::fs::hard_link(folder.path("top/plain"), folder.path("top/second")).unwrap();
    std::fs::write(folder.path("top/program"), "#!/bin/sh\n").unwrap();
    for (name, mode) in [("top/program", 0o4755), ("top/plain", 0o640), ("top", 0o1777)] {
        std::fs::set_permissions(folder.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("plain", folder.path("top/link")).unwrap();
    symlink("/nowhere/at//all/", folder.path("top/dangling")).unwrap();
    symlink("x".repeat(200), folder.path("top/long-link")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o620);
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path("top/pipe"), mode).unwrap();
    rustix::fs::chmod(folder.path("top/pipe"), mode).unwrap();
    drop(std::os::unix::net::UnixListener::bind(folder.path("top/socket")).unwrap());
    std::fs::create_dir(folder.path("top/closed")).unwrap();
    std::fs::write(folder.path("top/closed/inside"), "x").unwrap();
    std::fs::set_permissions(folder.path("top/closed"), std::fs::Permissions::from_mode(0o500)).unwrap();
    for name in ["top/plain", "top/pipe", "top/link", "top/closed", "top"] {
        let status =
            Command::new("touch").args(["-h", "-d", "2001-02-03", &folder.path(name)]).status().unwrap();
        assert!(status.success());
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_tree_arrives_as_it_was() {
    let (from, to) = (harness::folder(), harness::folder());
    rich(&from);
    if is_root() {
        std::os::unix::fs::chown(from.path("top/plain"), Some(12), Some(34)).unwrap();
        std::os::unix::fs::lchown(from.path("top/link"), Some(56), Some(78)).unwrap();
    }
    let packed = pack(&from.path("top"));
    let archive = packed.output.clone();
    let Report::Bytes(bytes) = packed.report() else { panic!() };
    assert_eq!(bytes, 4 + 5 + 10 + 1, "content, a hard link not twice");
    assert_eq!(unpack(archive.clone(), &to.path(""), is_root()).report(), Report::Bytes(bytes));
    let mut wanted = tree(&from.path(""));
    wanted.remove("top/socket");
    assert_eq!(tree(&to.path("")), wanted);
    // Again, over what is there.
    unpack(archive, &to.path(""), is_root()).report();
    assert_eq!(tree(&to.path("")), wanted);
}

#[test]
fn attributes_that_programs_rely_on_are_packed() {
    let from = harness::folder();
    // A name that takes a header of its own.
    let name = "n".repeat(180);
    std::fs::write(from.path(&name), "content").unwrap();
    let set = |attribute: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(from.path(&name), attribute, value, flags).unwrap();
    };
    set("user.note", b"of a user");
    // Version 2, cap_net_raw permitted and effective (linux/capability.h, vfs_cap_data).
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    if is_root() {
        set("security.capability", &capability);
        set("trusted.note", b"of nobody else");
    }
    let archive = pack(&from.path("")).output;
    let mut archive = tar::Archive::new(&archive[..]);
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path_bytes().ends_with(name.as_bytes()) {
            for extension in entry.pax_extensions().unwrap().unwrap() {
                let extension = extension.unwrap();
                found.insert(extension.key().unwrap().to_owned(), extension.value_bytes().to_vec());
            }
        }
    }
    let mut wanted = BTreeMap::from([("SCHILY.xattr.user.note".to_owned(), b"of a user".to_vec())]);
    if is_root() {
        wanted.insert("SCHILY.xattr.security.capability".to_owned(), capability.to_vec());
    }
    assert_eq!(found, wanted);
}

#[test]
fn gnu_tar_and_we_understand_each_other() {
    let (from, theirs, ours) = (harness::folder(), harness::folder(), harness::folder());
    rich(&from);
    std::fs::remove_file(from.path("top/socket")).unwrap();
    let tar = |arguments: &[&str], input: Vec<u8>| {
        let mut child = Command::new("tar")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tar is part of every Debian");
        let mut stdin = child.stdin.take().unwrap();
        let feed = std::thread::spawn(move || drop(std::io::Write::write_all(&mut stdin, &input)));
        let output = child.wait_with_output().unwrap();
        feed.join().unwrap();
        assert!(output.status.success());
        output.stdout
    };
    let (from_path, theirs_path) = (from.path(""), theirs.path(""));
    tar(&["-xp", "-C", &theirs_path, "-f", "-"], pack(&from.path("top")).output);
    assert_eq!(tree(&theirs_path), tree(&from_path));
    for format in ["gnu", "pax", "ustar"] {
        if format == "ustar" {
            // It has no room for the long names.
            std::fs::remove_dir_all(from.path(&format!("top/{}", "d".repeat(120)))).unwrap();
            std::fs::remove_file(from.path("top/long-link")).unwrap();
            rustix::fs::utimensat(
                rustix::fs::CWD,
                from.path("top"),
                &rustix::fs::Timestamps {
                    last_access: rustix::fs::Timespec { tv_sec: 5, tv_nsec: 0 },
                    last_modification: rustix::fs::Timespec { tv_sec: 5, tv_nsec: 0 },
                },
                rustix::fs::AtFlags::empty(),
            )
            .unwrap();
        }
        let format = format!("--format={format}");
        let archive = tar(&[&format, "-c", "-C", &from_path, "-f", "-", "top"], Vec::new());
        std::fs::create_dir(ours.path(&format)).unwrap();
        unpack(archive, &ours.path(&format), is_root()).report();
        assert_eq!(tree(&ours.path(&format)), tree(&from_path), "{format}");
    }
}

#[test]
fn one_file_is_an_archive_too() {
    let (from, to) = (harness::folder(), harness::folder());
    std::fs::write(from.path("only"), "content").unwrap();
    unpack(pack(&from.path("only")).output, &to.path(""), false).report();
    assert_eq!(std::fs::read(to.path("only")).unwrap(), b"content");
    assert_eq!(pack(&from.path("none")).fault().kind, FaultKind::NotFound);
}

#[test]
fn the_kernels_file_systems_stay_out() {
    let packed = pack("/proc");
    let mut archive = tar::Archive::new(&packed.output[..]);
    let names: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
    assert_eq!(names, [Path::new("proc")]);
}

#[test]
fn owners_are_roots_unless_asked_for() {
    if !is_root() {
        return harness::skip("root");
    }
    let to = harness::folder();
    let mut archive = Hostile::default();
    archive.add("file", EntryType::Regular, "", b"x");
    let archive = archive.bytes();
    unpack(archive.clone(), &to.path(""), false).report();
    let owner = |name: &str| std::fs::metadata(to.path(name)).map(|m| (m.uid(), m.gid(), m.mtime())).unwrap();
    assert_eq!((owner("file").0, owner("file").1), (0, 0));
    unpack(archive, &to.path(""), true).report();
    assert_eq!(owner("file"), (1234, 4321, 77));
}

/// Archives that no honest program makes: names as they are given.
#[derive(Default)]
struct Hostile {
    builder: Option<Builder<Vec<u8>>>,
}

impl Hostile {
    fn add(&mut self, name: &str, kind: EntryType, link: &str, content: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(1234);
        header.set_gid(4321);
        header.set_mtime(77);
        let raw = header.as_gnu_mut().unwrap();
        raw.name[..name.len()].copy_from_slice(name.as_bytes());
        raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.builder.get_or_insert_with(|| Builder::new(Vec::new())).append(&header, content).unwrap();
    }

    fn bytes(self) -> Vec<u8> {
        self.builder.unwrap().into_inner().unwrap()
    }
}

fn hostile(entries: &[(&str, EntryType, &str, &str)]) -> Vec<u8> {
    let mut archive = Hostile::default();
    for (name, kind, link, content) in entries {
        archive.add(name, *kind, link, content.as_bytes());
    }
    archive.bytes()
}

#[test]
fn hostile_archives_stay_in_their_folder() {
    use EntryType::{Directory as D, Link as H, Regular as F, Symlink as S};
    let outer = harness::folder();
    std::fs::create_dir(outer.path("in")).unwrap();
    std::fs::create_dir(outer.path("out")).unwrap();
    std::fs::write(outer.path("out/victim"), "untouched").unwrap();
    let out = outer.path("out");
    let victim = outer.path("out/victim");
    symlink(&out, outer.path("in/before")).unwrap();
    let before = tree(&out);
    let table: &[&[(&str, EntryType, &str, &str)]] = &[
        &[("../out/new", F, "", "x")],
        &[("a/../../out/new", F, "", "x")],
        &[(&victim, F, "", "x")],
        &[("l", S, &out, ""), ("l/new", F, "", "x")],
        &[("l", S, "../out", ""), ("l/victim", F, "", "x")],
        &[("l", S, "..", ""), ("l/out/victim", F, "", "x")],
        &[("l", S, "/proc/self/root", ""), (&format!("l{victim}"), F, "", "x")],
        &[("f", S, &victim, ""), ("f", F, "", "x")],
        &[("f", S, "../out/victim", ""), ("f", F, "", "x")],
        &[("l", S, &out, ""), ("l", D, "", ""), ("l/new", F, "", "x")],
        &[("h", H, "../out/victim", ""), ("h", F, "", "x")],
        &[("h", H, &victim, ""), ("h", F, "", "x")],
        &[("l", S, &out, ""), ("h", H, "l/victim", ""), ("h", F, "", "x")],
        &[("before/new", F, "", "x")],
        &[("before/victim", F, "", "x")],
        &[("before", D, "", "")],
        &[("h", H, "before/victim", "")],
        &[("d", D, "", ""), ("d", S, &out, ""), ("d/new", F, "", "x")],
        &[("..", D, "", "")],
        &[("a\\..\\b", F, "", "x")],
    ];
    for entries in table {
        // Some are refused, some end in a harmless place; none may touch what is outside.
        let outcome = unpack(hostile(entries), &outer.path("in"), true);
        assert_eq!(tree(&out), before, "{entries:?}: {:?}", outcome.result);
        let top: Vec<_> = tree(&outer.path("")).into_keys().filter(|name| !name.contains('/')).collect();
        assert_eq!(top, ["in", "out"], "{entries:?}");
    }
    let climbing = unpack(hostile(&[("../x", F, "", "x")]), &outer.path("in"), false).fault();
    assert_eq!((climbing.kind, climbing.path.as_deref()), (FaultKind::Denied, Some("../x")));
}

#[test]
fn damaged_archives_are_faults() {
    let to = harness::folder();
    let whole = hostile(&[("file", EntryType::Regular, "", &"x".repeat(2000))]);
    for broken in [whole[..700].to_vec(), whole[..300].to_vec(), vec![1; 1024]] {
        let fault = unpack(broken, &to.path(""), false).fault();
        assert_eq!(fault.kind, FaultKind::Protocol, "{fault}");
    }
    let strange = hostile(&[("file", EntryType::new(b'Z'), "", "")]);
    assert_eq!(unpack(strange, &to.path(""), false).fault().kind, FaultKind::Unsupported);
    assert_eq!(unpack(whole, &to.path("none"), false).fault().kind, FaultKind::NotFound);
}
