//! How QEMU is started, and where its files are.

use super::Hardware;
use testbed_agent::guest::{CHANGES_DISK, MODULES_DISK, PORT, ROOT_DISK};
use testbed_agent::launch::{adapter_mac, mac_text};

/// Where the image that jails are made of has the kernel, and the archive of its modules.
const KERNEL: &str = "/usr/lib/testbed/kernel";
const INITIAL_MODULES: &str = "/usr/lib/testbed/modules.cpio";
/// Where it has disks that guests only read: their root, and all modules.
const ROOT: &str = "/usr/lib/testbed/root.erofs";
const MODULES: &str = "/usr/lib/testbed/modules.erofs";
/// The template: the memory of a kernel that has started and is in its root, its devices, and the disk for changes.
const TEMPLATE: &str = "/usr/lib/testbed/template";
pub(super) const MEMORY: &str = "/usr/lib/testbed/template/memory";
pub(super) const DEVICES: &str = "/usr/lib/testbed/template/devices";
const CHANGES: &str = "/usr/lib/testbed/template/changes";

/// Gives QEMU the port's socket as descriptor 3, the monitor's as 4 and the console's as 5, where its errors go as well.
const START: &str = r#"exec 3<&0 4<&2 5<&1 2>&1 < /dev/null
exec "$@""#;

/// As [`START`], and before that puts the initial root together, and makes a disk.
const FIRST_START: &str = r#"exec 3<&0 4<&2 5<&1 2>&1 < /dev/null
modules=$1 agent=$2 template=$3 disk=$4 size=$5; shift 5
cat "$modules" "$agent" > /tmp/initramfs && rm "$agent" && mkdir -p "$template" && truncate -s "$size" "$disk" || exit
mke2fs -q -F -t ext4 -m 0 -J size=4 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard "$disk" || exit
exec "$@""#;

/// What a kernel need not do to start, most of all where it is emulated.
const PARAMETERS: &str = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check lsm= apparmor=0 \
                          cryptomgr.notests rcupdate.rcu_expedited=1 random.trust_cpu=on noreplace-smp audit=0";

/// The command that becomes QEMU and starts a kernel from nothing, in memory that becomes the template's. Its standard
/// input is the socket that the guest's port leads to, its output the socket of the guest's console, and its standard error
/// the monitor's. The guest waits for the monitor's word to start.
pub(super) fn boot(hardware: &Hardware, agent: &str) -> Vec<String> {
    let size = hardware.disk.to_string();
    let first = ["/bin/sh", "-c", FIRST_START, "sh", INITIAL_MODULES, agent, TEMPLATE, CHANGES, &size];
    let kernel = ["-kernel", KERNEL, "-initrd", "/tmp/initramfs", "-append", PARAMETERS];
    let mut words: Vec<String> = first.map(str::to_owned).into();
    words.extend(machine(hardware, "share=on"));
    words.extend(kernel.map(str::to_owned));
    words
}

/// As [`boot`], for a copy of the template: it waits to be told which state its devices have.
pub(super) fn copy(hardware: &Hardware) -> Vec<String> {
    let mut words: Vec<String> = ["/bin/sh", "-c", START, "sh"].map(str::to_owned).into();
    words.extend(machine(hardware, "share=off,readonly=on,rom=off"));
    // The state is that of devices alone, without what a migration says first.
    let state = ["-incoming", "defer", "-global", "migration.send-configuration=off"];
    words.extend(state.map(str::to_owned));
    words
}

/// The machine, the same for a template and for its copies.
fn machine(hardware: &Hardware, sharing: &str) -> Vec<String> {
    let size = format!("{}M", hardware.memory >> 20);
    let processors = hardware.processors.to_string();
    let memory = format!("memory-backend-file,id=ram,size={size},mem-path={MEMORY},{sharing}");
    let port = format!("virtserialport,chardev=agent,name={PORT}");
    let words = [
        &["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"][..],
        &[
            "-machine",
            "q35,memory-backend=ram,suppress-vmdesc=on",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
        ],
        &["-object", &memory, "-m", &size, "-smp", &processors, "-S"],
        &["-chardev", "socket,id=console,fd=5", "-serial", "chardev:console"],
        &["-device", "virtio-serial-pci", "-chardev", "socket,id=agent,fd=3"],
        &["-device", &port],
        &["-chardev", "socket,id=monitor,fd=4", "-mon", "monitor,mode=control"],
        &["-device", "virtio-rng-pci", "-device", "vmgenid,guid=auto"],
        &["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ];
    let mut words: Vec<String> = words.concat().into_iter().map(str::to_owned).collect();
    for (name, path, how) in [
        (ROOT_DISK, ROOT, "read-only=on"),
        (MODULES_DISK, MODULES, "read-only=on"),
        (CHANGES_DISK, CHANGES, "discard=unmap"),
    ] {
        words.extend([
            "-blockdev".to_owned(),
            format!("file,node-name={name},filename={path},{how},locking=off"),
            "-device".to_owned(),
            format!("virtio-blk-pci,drive={name},serial={name}"),
        ]);
    }
    for number in 0..hardware.adapters {
        let mac = mac_text(adapter_mac(number));
        words.extend([
            "-netdev".to_owned(),
            format!("hubport,id=net{number},hubid={number}"),
            "-device".to_owned(),
            format!("virtio-net-pci,netdev=net{number},mac={mac},romfile="),
        ]);
    }
    words
}
