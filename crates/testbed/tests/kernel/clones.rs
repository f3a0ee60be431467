//! Many machines that start from one template.

use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use testbed::bed::{Images as _, Options, Prepared, StoredImages};
use testbed::image::Store;
use testbed::{Bed, Testbed};

/// How many machines are made; the bar is 500.
const CLONES: &str = "TESTBED_CLONES";
/// As many as are made at once.
const AT_ONCE: usize = 3;
/// Where root's images are.
const STORE: &str = "/var/cache/testbed";

/// What a machine is known by, a line each: what none may share with any other, and last what it may not with those beside it.
const KNOWN_BY: &str = "cat /etc/machine-id /proc/sys/kernel/random/uuid; od -An -v -N16 -tx1 /dev/urandom; \
                        cat /etc/ssh/ssh_host_ed25519_key.pub; sha256sum < /etc/ssh/ssh_host_ed25519_key; \
                        cat /sys/class/net/eth0/address";
const LINES: usize = 6;

fn digest(folder: &Path) -> Vec<String> {
    let of = |name: &str| {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    ["memory", "devices"].map(of).into()
}

#[test]
fn no_two_are_alike_and_what_they_start_from_stays_as_it_is() {
    let spec =
        Arc::new(Testbed::load(format!("{}/tests/kernel/clones", env!("CARGO_MANIFEST_DIR"))).unwrap());
    let engine = testbed::host::engine().unwrap();
    let store = Store::open(STORE).unwrap();
    let options = testbed::image::Options::default();
    let stored = StoredImages { store: &store, engine: engine.clone(), options, progress: &|_| {} };
    let images = Prepared::new(&spec, &stored).unwrap();
    let jail = images.resolve_jail(&spec, spec.machines().first().unwrap()).unwrap();
    let template = jail.layers[0].join("usr/lib/testbed/template");
    let before = digest(&template);

    let wanted: usize = std::env::var(CLONES).map_or(2 * AT_ONCE, |n| n.parse().unwrap());
    let mut seen: Vec<HashSet<String>> = vec![HashSet::new(); LINES - 1];
    let mut made = 0;
    while made < wanted {
        let bed = Bed::up(&engine, &spec, &images, &Options::default()).unwrap();
        let mut addresses = HashSet::new();
        for machine in bed.machines() {
            let text = machine.succeed(KNOWN_BY).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            let (address, others) = lines.split_last().unwrap();
            assert_eq!(lines.len(), LINES, "{text}");
            assert!(addresses.insert((*address).to_owned()), "{text}");
            for (line, seen) in others.iter().zip(&mut seen) {
                assert!(seen.insert((*line).to_owned()), "machine {made} shares {line:?}");
            }
            assert_eq!(
                machine.succeed("ls /etc/ssh; hostname").unwrap(),
                format!("ssh_host_ed25519_key\nssh_host_ed25519_key.pub\n{}\n", machine.name())
            );
            made += 1;
        }
    }
    assert_eq!(digest(&template), before, "what is shared was written to");
}
