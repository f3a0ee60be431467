//! Images from folders, tars and OCI layouts: kept as they are, and confined.

use crate::harness::{Counting, Folder, cannot, is_root, resolve};
use sha2::{Digest as _, Sha256};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tar::{EntryType, Header};
use testbed::image::{Resolved, Store};
use testbed::{Fault, FaultKind};

/// An entry: name, kind, target or content.
pub(crate) type Entry<'a> = (&'a str, EntryType, &'a str);

pub(crate) fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = Header::new_gnu();
        // Written as it stands: the library would refuse names that lead out.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(if *kind == EntryType::Directory { 0o750 } else { 0o4755 });
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1000);
        let content = match kind {
            EntryType::Regular => text.as_bytes(),
            _ => {
                header.as_gnu_mut().unwrap().linkname[..text.len()].copy_from_slice(text.as_bytes());
                b""
            }
        };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn image(folder: &Folder, base: &str) -> Result<Resolved, Fault> {
    let store = Store::open(folder.path().join("s")).unwrap();
    resolve(&store, folder.path(), &format!("[images.i]\nbase = \"{base}\"\n"), &Counting::new())
}

#[test]
fn a_tar_is_kept_as_it_is() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    folder.write(
        "root.tar",
        tar(&[
            ("bin/", EntryType::Directory, ""),
            ("bin/sh", EntryType::Regular, "shell"),
            ("bin/ash", EntryType::Link, "bin/sh"),
            ("usr/lib", EntryType::Symlink, "/bin"),
            ("usr/lib/through", EntryType::Regular, "in bin"),
            ("dev/sda", EntryType::Block, ""),
        ]),
    );
    let root = image(&folder, "./root.tar").unwrap().layers[0].clone();
    let sh = root.join("bin/sh").metadata().unwrap();
    assert_eq!((sh.mode() & 0o7777, sh.uid(), sh.gid(), sh.mtime()), (0o4755, 7, 8, 1000));
    assert_eq!(root.join("bin").metadata().unwrap().mode() & 0o7777, 0o750);
    assert_eq!(root.join("bin/ash").metadata().unwrap().ino(), sh.ino());
    assert_eq!(std::fs::read(root.join("bin/through")).unwrap(), b"in bin");
    assert!(!root.join("dev/sda").exists(), "machines have devices of their own");
}

#[test]
fn compressed_tars_are_the_same() {
    let content = "all the same ".repeat(100_000);
    let plain = tar(&[("file", EntryType::Regular, &content)]);
    for (program, suffix) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        let folder = Folder::new();
        let path = folder.write("root.tar", &plain);
        match Command::new(program).arg("-q").arg(&path).status() {
            Ok(status) => assert!(status.success()),
            Err(error) => {
                cannot(&format!("reading .{suffix}: no {program} here: {error}"));
                continue;
            }
        }
        if !is_root() {
            return;
        }
        let root = image(&folder, &format!("./root.tar.{suffix}")).unwrap().layers[0].clone();
        assert_eq!(std::fs::read_to_string(root.join("file")).unwrap(), content, "{suffix}");
    }
}

/// Everything below a folder, with sizes, to see that nothing was touched.
fn listing(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.path(), entry.metadata().unwrap().len()))
        .collect();
    found.sort();
    found
}

#[test]
fn hostile_archives_write_nothing_outside() {
    let outside = Folder::new();
    let victim = outside.write("victim", "untouched");
    let out = outside.path().to_str().unwrap();
    let before = listing(outside.path());
    let up = format!("{}{}/evil", "../".repeat(20), out.trim_start_matches('/'));
    let absolute = format!("{out}/evil");
    let cases: Vec<Vec<Entry<'_>>> = vec![
        vec![(&up, EntryType::Regular, "x")],
        vec![(&absolute, EntryType::Regular, "x")],
        vec![("link", EntryType::Symlink, out), ("link/evil", EntryType::Regular, "x")],
        vec![("link", EntryType::Symlink, "../../../../../../.."), ("link/evil", EntryType::Regular, "x")],
        vec![
            ("a/l", EntryType::Symlink, ".."),
            ("a/l/l2", EntryType::Symlink, out),
            ("l2/evil", EntryType::Regular, "x"),
        ],
        vec![("file", EntryType::Symlink, victim.to_str().unwrap()), ("file", EntryType::Regular, "x")],
        vec![("hard", EntryType::Link, victim.to_str().unwrap()), ("hard", EntryType::Regular, "x")],
        vec![("loop", EntryType::Symlink, "loop"), ("loop/x", EntryType::Regular, "x")],
        vec![("..", EntryType::Symlink, out)],
        vec![("dir/..", EntryType::Regular, "x")],
    ];
    for entries in cases {
        let folder = Folder::new();
        folder.write("root.tar", tar(&entries));
        // It may be refused or be put below the image's own root; the host never changes.
        if let Err(fault) = image(&folder, "./root.tar") {
            assert!(matches!(fault.kind, FaultKind::Image), "{entries:?}: {fault:?}");
        }
        assert_eq!(listing(outside.path()), before, "{entries:?}");
        assert_eq!(std::fs::read(&victim).unwrap(), b"untouched", "{entries:?}");
    }
}

#[test]
fn damaged_archives_are_faults() {
    let whole = tar(&[("file", EntryType::Regular, &"x".repeat(5000))]);
    for bytes in
        [&whole[..700], b"this is no archive at all, not even a little one".as_slice(), &[0x1f, 0x8b, 8, 0]]
    {
        let folder = Folder::new();
        folder.write("root.tar", bytes);
        let fault = image(&folder, "./root.tar").unwrap_err();
        assert_eq!(fault.kind, FaultKind::Image, "{fault:?}");
    }
}

#[test]
fn a_folder_becomes_a_layer_of_its_owner() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let source = folder.path().join("root");
    folder.write("root/bin/sh", "shell");
    folder.write("root/far", "away");
    symlink("/nowhere", source.join("link")).unwrap();
    std::fs::hard_link(source.join("bin/sh"), source.join("bin/ash")).unwrap();
    for (path, uid, gid) in [("", 1000, 1000), ("bin", 1000, 1000), ("bin/sh", 0, 33), ("far", 70000, 1000)] {
        std::os::unix::fs::chown(source.join(path), Some(uid), Some(gid)).unwrap();
    }
    std::fs::set_permissions(source.join("bin/sh"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    let first = image(&folder, "./root").unwrap().layers[0].clone();
    let owner = |path: &str| {
        let metadata = first.join(path).symlink_metadata().unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    };
    assert_eq!(owner("bin"), (0, 0, 0o755));
    assert_eq!(owner("bin/sh"), (0, 33, 0o4755));
    assert_eq!((owner("far").0, owner("far").1), (65534, 0));
    assert_eq!(first.join("link").read_link().unwrap(), Path::new("/nowhere"));
    assert_eq!(first.join("bin/sh").metadata().unwrap().nlink(), 2);
    folder.write("root/new", "er");
    assert_ne!(image(&folder, "./root").unwrap().layers[0], first);
}

/// An image in OCI layout, in the folder `oci`.
pub(crate) struct Layout<'a>(pub(crate) &'a Folder);

impl Layout<'_> {
    pub(crate) fn blob(&self, bytes: &[u8]) -> String {
        let digest = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.0.write(&format!("oci/blobs/sha256/{digest}"), bytes);
        format!(r#"{{"digest":"sha256:{digest}","size":{}"#, bytes.len())
    }

    pub(crate) fn write(&self, layers: &[&str]) {
        let config = self.blob(
            br#"{"architecture":"amd64","os":"linux","config":{"Env":["A=1","PATH=/x"],"WorkingDir":"/w","User":"7:8"}}"#,
        );
        let layers: Vec<String> = layers.iter().map(|layer| format!("{layer}}}")).collect();
        let manifest =
            self.blob(format!(r#"{{"config":{config}}},"layers":[{}]}}"#, layers.join(",")).as_bytes());
        self.0.write("oci/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        self.0.write("oci/index.json", format!(r#"{{"manifests":[{manifest}}}]}}"#));
    }
}

#[test]
fn oci_layers_are_stacked_with_their_whiteouts() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let layout = Layout(&folder);
    let below = layout.blob(&tar(&[
        ("bin", EntryType::Symlink, "usr/bin"),
        ("usr/bin/", EntryType::Directory, ""),
        ("usr/bin/old", EntryType::Regular, "old"),
        ("usr/bin/kept", EntryType::Regular, "kept"),
        ("etc/secret/", EntryType::Directory, ""),
        ("etc/secret/a", EntryType::Regular, "a"),
        (".wh.nothing", EntryType::Regular, ""),
    ]));
    let above = layout.blob(&tar(&[
        ("bin/.wh.old", EntryType::Regular, ""),
        ("bin/new", EntryType::Regular, "new"),
        ("bin/twin", EntryType::Link, "usr/bin/kept"),
        ("etc/secret/.wh..wh..opq", EntryType::Regular, ""),
        ("etc/secret/b", EntryType::Regular, "b"),
        (".wh.not-there", EntryType::Regular, ""),
    ]));
    layout.write(&[&below, &above]);
    let resolved = image(&folder, "./oci").unwrap();
    let [top, bottom] = &resolved.layers[..] else { panic!("{:?}", resolved.layers) };
    // `bin` leads to usr/bin of the layer below: that is where the upper layer's entries go.
    let hidden = top.join("usr/bin/old").symlink_metadata().unwrap();
    assert!(hidden.file_type().is_char_device() && hidden.rdev() == 0);
    assert_eq!(std::fs::read(top.join("usr/bin/new")).unwrap(), b"new");
    assert_eq!(std::fs::read(top.join("usr/bin/twin")).unwrap(), b"kept");
    assert_eq!(top.join("usr/bin").metadata().unwrap().mode() & 0o7777, 0o750, "as below");
    assert!(!top.join("bin").exists() && !top.join("not-there").exists() && !bottom.join("nothing").exists());
    let mut value = [0_u8; 8];
    let length =
        rustix::fs::getxattr(top.join("etc/secret"), c"user.overlay.opaque", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"y");
    assert_eq!(std::fs::read(top.join("etc/secret/b")).unwrap(), b"b");
    assert_eq!(resolved.env, [("A".to_owned(), "1".to_owned()), ("PATH".to_owned(), "/x".to_owned())]);
    assert_eq!((resolved.workdir.as_deref(), resolved.user.as_deref()), (Some("/w"), Some("7:8")));
}

#[test]
fn oci_blobs_are_what_their_digests_say() {
    let folder = Folder::new();
    let layout = Layout(&folder);
    let layer = layout.blob(&tar(&[("file", EntryType::Regular, "honest")]));
    layout.write(&[&layer]);
    let digest = layer.split(['"', ':']).find(|part| part.len() == 64).unwrap().to_owned();
    folder.write(&format!("oci/blobs/sha256/{digest}"), tar(&[("file", EntryType::Regular, "forged")]));
    let fault = image(&folder, "./oci").unwrap_err();
    assert_eq!(fault.kind, FaultKind::Image);
    assert!(fault.operation.contains("not what its digest says"), "{fault}");
    assert_eq!(Store::open(folder.path().join("s")).unwrap().list().unwrap(), []);

    for digest in
        ["sha256:../../../../../etc/passwd", "md5:00", "sha256:", &format!("sha256:{}", "A".repeat(64))]
    {
        layout.write(&[&format!(r#"{{"digest":"{digest}","size":1"#)]);
        let fault = image(&folder, "./oci").unwrap_err();
        assert_eq!(fault.kind, FaultKind::Image, "{digest}: {fault:?}");
    }
    folder.write("oci/index.json", "{]");
    assert_eq!(image(&folder, "./oci").unwrap_err().kind, FaultKind::Image);
}

#[test]
fn no_archive_makes_us_panic() {
    use proptest::prelude::*;
    let whole = tar(&[
        ("bin/", EntryType::Directory, ""),
        ("bin/sh", EntryType::Regular, "shell"),
        ("bin/ash", EntryType::Link, "bin/sh"),
        ("lib", EntryType::Symlink, "../../bin"),
        ("lib/.wh.sh", EntryType::Fifo, ""),
    ]);
    let folder = Folder::new();
    let store = Store::open(folder.path().join("s")).unwrap();
    let changes = prop::collection::vec((0..whole.len(), any::<u8>()), 0..12);
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&changes, |changes| {
            let mut bytes = whole.clone();
            for (at, value) in changes {
                bytes[at] = value;
            }
            folder.write("root.tar", bytes);
            let text = "[images.i]\nbase = \"./root.tar\"\n";
            if let Err(fault) = resolve(&store, folder.path(), text, &Counting::new()) {
                prop_assert_eq!(fault.kind, FaultKind::Image);
            }
            Ok(())
        })
        .unwrap();
}
