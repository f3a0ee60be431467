//! Kernels other than ours.

use crate::up;
use std::path::{Path, PathBuf};
use testbed::spec::{HostFiles, check};
use testbed::{Bed, Fault, FaultKind};

/// A testbed of files in a folder.
fn up_in(folder: &Path, text: &str) -> Result<Bed, Fault> {
    let (testbed, problems) = check(text, "testbed.toml", &HostFiles::new(folder).unwrap());
    testbed.unwrap_or_else(|| panic!("{problems}")).up()
}

#[test]
fn the_one_of_an_image_starts_and_so_does_one_from_a_file() {
    let bed = up("releases");
    let release = bed["vm-1"].succeed("uname -r").unwrap();
    assert!(release.starts_with("6.1.") && release.ends_with("-cloud-amd64\n"), "{release}");
    let random = |vm: &str| {
        bed[vm].succeed("cat /proc/sys/kernel/random/uuid; od -An -tx1 -N16 /dev/urandom").unwrap()
    };
    // This one knows of no vmgenid.
    assert_ne!(random("vm-1"), random("vm-2"));
    assert_eq!(bed["vm-2"].succeed("cut -d' ' -f1 /proc/modules | grep -x 8021q").unwrap(), "8021q\n");

    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("releases");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let (files, release) = (&bed["files"], release.trim());
    files.copy_out(&format!("/boot/vmlinuz-{release}"), &folder.join("vmlinuz")).unwrap();
    files.copy_out(&format!("/lib/modules/{release}"), &folder.join("modules")).unwrap();
    drop(bed);
    let text = r#"
        images.debian.base = "debian:bookworm"
        [machines.vm]
        image = "debian"
        kernel = { own = "vmlinuz", modules = "modules" }
    "#;
    let bed = up_in(&folder, text).unwrap_or_else(|fault| panic!("{fault}\n{:?}", fault.log));
    assert_eq!(bed["vm"].succeed("uname -r").unwrap().trim(), release);
    drop(bed);

    std::fs::remove_dir_all(folder.join("modules/kernel/fs/erofs")).unwrap();
    let fault = up_in(&folder, text).err().unwrap();
    let said = fault.log.clone().unwrap_or_default();
    assert_eq!((fault.kind, fault.machine.as_deref()), (FaultKind::Image, Some("vm")), "{fault}");
    assert!(said.contains(&format!("the kernel {release} has no module `erofs`")), "{said}");
    std::fs::write(folder.join("vmlinuz"), "no kernel").unwrap();
    let said = up_in(&folder, text).err().unwrap().log.unwrap_or_default();
    assert!(said.contains("the file is no kernel"), "{said}");
}

#[test]
fn an_image_without_one_is_told() {
    let text = "machines.vm = { image = \"debian:bookworm\", kernel = { own = \"image\" } }";
    let fault = up_in(Path::new("/"), text).err().unwrap();
    assert_eq!((fault.kind, fault.machine.as_deref()), (FaultKind::Image, Some("vm")), "{fault}");
    let said = fault.log.unwrap_or_default();
    assert!(said.contains("the image has no kernel"), "{said}");
}
