//! From a text to the checked model and the plan.

mod builder;
mod model;
mod names;
mod plan;
mod problems;
mod reference;
mod robust;

use testbed::spec::{FixedFiles, Problems, Testbed, check};

/// What the examples of these tests refer to.
fn files() -> FixedFiles {
    FixedFiles::new("/bed")
        .file("gw1.conf")
        .file("root.tar")
        .file("disk.qcow2")
        .file("disk.img")
        .file("cd.iso")
        .file("rootfs/etc/passwd")
        .file("layout/oci-layout")
        .file("tests/README")
        .executable("tests/ping.sh")
        .executable("tests/tunnel.py")
}

/// What is wrong with a text, as a person reads it.
fn problems(text: &str) -> String {
    let (testbed, problems) = check(text, "testbed.toml", &files());
    assert_eq!(testbed.is_none(), problems.has_errors());
    problems.to_string()
}

/// The testbed of a text that has no problem.
fn testbed(text: &str) -> Testbed {
    let (testbed, problems) = check(text, "testbed.toml", &files());
    assert!(problems.is_empty(), "{problems}");
    testbed.expect("a text without problems has a testbed")
}

/// The testbed of a text that has warnings.
fn testbed_with_warnings(text: &str) -> (Testbed, Problems) {
    let (testbed, problems) = check(text, "testbed.toml", &files());
    (testbed.expect("warnings leave a testbed"), problems)
}
