//! What guests run on, and how that is found out.

use super::harness::Folder;
use testbed::host::{Choice, choose_accelerator};
use testbed::machine::Accelerator;
use testbed::{Fault, FaultKind};

#[test]
fn a_device_that_is_not_there_is_not_tried() {
    let folder = Folder::new();
    let (device, memory) = (folder.path().join("kvm"), folder.path().join("host.json"));
    let choice = choose_accelerator(&device, &memory, "guest", &mut |_| panic!("it is not there"));
    assert_eq!(choice.accelerator, Accelerator::Emulation);
    assert_eq!(choice.why_not, format!("{}: there is none", device.display()));
    assert!(!memory.exists());
}

#[test]
fn what_was_found_out_is_remembered_for_each_guest_and_one_start_of_the_host() {
    let folder = Folder::new();
    let (device, memory) = (folder.path().join("kvm"), folder.path().join("host.json"));
    std::fs::write(&device, "").unwrap();
    let kvm = Accelerator::Kvm(device.clone());
    let mut tried = 0;
    let mut ask = |guest: &str, result: Result<(), Fault>| {
        choose_accelerator(&device, &memory, guest, &mut |accelerator| {
            assert_eq!(*accelerator, kvm);
            tried += 1;
            result.clone()
        })
    };
    let failed = Fault::new(FaultKind::State, "start a kernel").log("\nqemu: no\nmore");
    let no = ask("one", Err(failed));
    assert_eq!(no.accelerator, Accelerator::Emulation);
    assert!(no.why_not.ends_with(": start a kernel (qemu: no)"), "{}", no.why_not);
    assert_eq!(ask("one", Ok(())), no, "not tried again");
    assert_eq!(ask("other", Ok(())), Choice { accelerator: kvm.clone(), why_not: String::new() });
    assert_eq!(ask("other", Err(Fault::new(FaultKind::State, "start"))).accelerator, kvm);

    let text = std::fs::read_to_string(&memory).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.contains(boot.trim_end()), "{text}");
    std::fs::write(&memory, text.replace(boot.trim_end(), "another start")).unwrap();
    assert_eq!(ask("one", Ok(())).accelerator, kvm, "tried again");
    std::fs::write(&memory, "broken").unwrap();
    assert_eq!(ask("one", Ok(())).accelerator, kvm, "tried again");
    assert_eq!(tried, 4);
}
