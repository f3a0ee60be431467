//! How QEMU is started.

use super::Hardware;
use super::monitor::Monitor;
use rustix::fd::OwnedFd;
use serde_json::json;
use testbed_agent::Fault;

/// Where the image that jails are made of has the kernel, and the archive of its modules.
const KERNEL: &str = "/usr/lib/testbed/kernel";
const MODULES: &str = "/usr/lib/testbed/modules.cpio";
/// Where it has the guest's root.
const DISK: &str = "/usr/lib/testbed/root.erofs";

/// Puts the initial root together, and gives QEMU the port's socket as descriptor 3 and the monitor's as 4, so that its
/// console and its errors can be its standard output.
const START: &str = r#"modules=$1 agent=$2; shift 2
cat "$modules" "$agent" > /tmp/initramfs && rm "$agent" || exit
exec 3<&0 4<&2 2>&1 < /dev/null
exec "$@""#;

/// What a kernel need not do to start, most of all where it is emulated.
const PARAMETERS: &str = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check lsm= apparmor=0 \
                          cryptomgr.notests rcupdate.rcu_expedited=1 random.trust_cpu=on noreplace-smp audit=0";

/// The command that becomes QEMU. Its standard input is the socket that the guest's port leads to, its output the
/// guest's console, and its standard error the monitor's socket. The guest waits for the monitor's word to start.
pub(super) fn command(hardware: &Hardware, agent: &str) -> Vec<String> {
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
        &[
            "-device",
            "virtio-rng-pci",
            "-S",
            "-chardev",
            "socket,id=monitor,fd=4",
            "-mon",
            "monitor,mode=control",
        ],
        &["-blockdev", &disk, "-device", "virtio-blk-pci,drive=root"],
        &["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ];
    let mut words: Vec<String> = words.concat().into_iter().map(str::to_owned).collect();
    for (number, adapter) in hardware.adapters.iter().enumerate() {
        let mac = adapter.mac.map(|octet| format!("{octet:02x}")).join(":");
        words.extend([
            "-netdev".to_owned(),
            format!("hubport,id=net{number},hubid={number}"),
            "-device".to_owned(),
            format!("virtio-net-pci,netdev=net{number},mac={mac},romfile="),
        ]);
    }
    words
}

/// Connects an adapter's hub with a socket. What a hub has beside the adapter is no part of a saved state.
pub(super) fn connect(monitor: &mut Monitor, number: usize, link: OwnedFd) -> Result<(), Fault> {
    let (stream, hub) = (format!("stream{number}"), format!("hub{number}"));
    monitor.execute("getfd", json!({ "fdname": stream }), Some(link))?;
    // `stream` looks for the descriptor's name in a thread that has no monitor.
    monitor.execute("netdev_add", json!({ "type": "socket", "id": stream, "fd": stream }), None)?;
    let port = json!({ "type": "hubport", "id": hub, "hubid": number, "netdev": stream });
    monitor.execute("netdev_add", port, None).map(drop)
}
