//! Whole systems, which systemd boots.

use crate::{SOON, up};
use std::time::Duration;
use testbed::Bed;
use testbed::bed::Ending;
use testbed::machine::Condition;

/// What a unit of the image answers on its port.
fn answer(bed: &Bed, address: &str) -> String {
    let ask = format!("exec 3<>/dev/tcp/{address}/7; cat <&3");
    bed["peer"].command(["bash", "-c", &ask]).deadline(SOON).output().unwrap().text()
}

#[test]
fn it_is_a_whole_system_and_a_machine_like_any_other() {
    let bed = up("booted");
    for (vm, address) in [("vm-1", "10.0.0.11"), ("vm-2", "10.0.0.12")] {
        let vm = &bed[vm];
        assert_eq!(vm.succeed("cat /proc/1/comm").unwrap(), "systemd\n");
        let state = vm.shell("systemctl is-system-running").output().unwrap().text();
        let failed = vm.succeed("systemctl list-units --failed --plain --no-legend").unwrap();
        assert!(state == "running\n" || state == "degraded\n", "{state}: {failed}");
        assert_eq!(failed, "", "{state}");
        assert_eq!(vm.succeed("hostname").unwrap().trim(), vm.name());
        assert_eq!(answer(&bed, address), "answered\n");
    }
    let own = |vm: &str| bed[vm].succeed("cat /etc/machine-id /proc/sys/kernel/random/uuid").unwrap();
    assert_ne!(own("vm-1"), own("vm-2"));

    let vm = &bed["vm-1"];
    // What is logged by the new number of the machine is found by it.
    vm.succeed("systemd-run --wait --unit=said /bin/echo something to read; journalctl --sync").unwrap();
    let journal = vm.succeed("journalctl --unit=said --output=cat").unwrap();
    assert!(journal.contains("something to read"), "{journal}");
    vm.succeed("echo kept > /etc/kept").unwrap();
    bed.stop("vm-1", Ending::Soft).unwrap();
    assert_eq!(vm.condition(), Condition::Stopped);
    bed.start("vm-1").unwrap();
    assert_eq!(vm.succeed("cat /etc/kept /proc/1/comm").unwrap(), "kept\nsystemd\n");
    assert_eq!(answer(&bed, "10.0.0.11"), "answered\n");
    assert!(vm.shell("true").deadline(Duration::from_secs(10)).output().unwrap().success());
}
