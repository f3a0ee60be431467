//! How QEMU is started.

use super::Hardware;

/// Where the image that jails are made of has the kernel, and the archive of its modules.
const KERNEL: &str = "/usr/lib/testbed/kernel";
const MODULES: &str = "/usr/lib/testbed/modules.cpio";
/// Where it has the guest's root.
const DISK: &str = "/usr/lib/testbed/root.erofs";

/// Puts the initial root together, and gives QEMU the port's socket as descriptor 3, so that the console can be its
/// standard output.
const START: &str = r#"modules=$1 agent=$2; shift 2
cat "$modules" "$agent" > /tmp/initramfs && rm "$agent" || exit
exec 3<&0 < /dev/null
exec "$@""#;

/// What a kernel need not do to start, most of all where it is emulated.
const PARAMETERS: &str = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check lsm= apparmor=0 \
                          cryptomgr.notests rcupdate.rcu_expedited=1 random.trust_cpu=on noreplace-smp audit=0";

/// The command that becomes QEMU. Its standard input is the socket that the guest's port leads to, its output the
/// guest's console.
pub(super) fn command(hardware: Hardware, agent: &str) -> Vec<String> {
    let memory = format!("{}M", hardware.memory >> 20);
    let processors = hardware.processors.to_string();
    let disk = format!("file,node-name=root,filename={DISK},read-only=on,locking=off");
    let words = [
        &["/bin/sh", "-c", START, "sh", MODULES, agent, "qemu-system-x86_64"][..],
        &["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
        &["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"],
        &["-m", &memory, "-smp", &processors],
        &["-kernel", KERNEL, "-initrd", "/tmp/initramfs", "-append", PARAMETERS],
        &["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"],
        &["-device", "virtio-serial-pci", "-chardev", "socket,id=agent,fd=3"],
        &["-device", "virtserialport,chardev=agent,name=testbed"],
        &["-device", "virtio-rng-pci"],
        &["-blockdev", &disk, "-device", "virtio-blk-pci,drive=root"],
        &["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ];
    words.concat().into_iter().map(str::to_owned).collect()
}
