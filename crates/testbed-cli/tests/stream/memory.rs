//! Long streams pass in constant memory.

use crate::call::{command, stream};
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use testbed_subunit::{Draft, Status};

/// Bytes of address space that a stage may have, its program included.
const MEMORY: u64 = 160 * 1024 * 1024;

/// Times that a megabyte is written.
const MEGABYTES: usize = 300;

/// Some tests with their outputs: a megabyte of them.
fn megabyte(number: usize) -> Vec<u8> {
    let output = vec![b'x'; 60_000];
    let mut part = Vec::new();
    for test in 0..16 {
        let id = format!("test {number} {test}");
        part.extend(stream(&[
            Draft::test(&id, Status::InProgress).tags(&["worker"]),
            Draft::test(&id, if test == 0 { Status::Fail } else { Status::Success })
                .file("stdout", &output)
                .eof(true),
        ]));
        part.extend(b"printed between packets\n");
    }
    part
}

#[test]
fn three_hundred_megabytes_pass() {
    for arguments in [
        &["cat"][..],
        &["filter", "--all", "-m", "xyz|test"],
        &["tags", "a", "-b"],
        &["to-json"],
        &["to-tap"],
        &["to-junit", "--output-of-passed"],
        &["to-csv"],
        &["to-v1"],
        &["stats"],
        &["ls"],
        &["combine", "-"],
    ] {
        let plain = command(arguments);
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--as={MEMORY}")).arg(plain.get_program()).args(plain.get_args());
        limited.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = limited.spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let part = megabyte(0);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                (0..MEGABYTES).for_each(|_| stdin.write_all(&part).unwrap());
            });
            let (mut piece, mut written) = (vec![0; 1 << 20], 0);
            loop {
                match stdout.read(&mut piece).unwrap() {
                    0 => break,
                    length => written += length,
                }
            }
            let code = child.wait().unwrap().code();
            let is_report = ["to-tap", "to-junit", "to-csv", "stats", "ls"].contains(&arguments[0]);
            assert_eq!((code, written > 0), (Some(is_report.into()), true), "{arguments:?}");
        });
    }
}
