//! How QEMU is started, and where its files are.

use super::{Accelerator, Hardware, System};
use crate::spec::DiskFormat;
use serde_json::{Value, json};
use testbed_agent::guest::{CHANGES_DISK, MODULES_DISK, PORT, ROOT_DISK, image_disk};
use testbed_agent::launch::{adapter_mac, mac_text};

/// Where the image that jails are made of has the kernel, and the archive of its modules.
const KERNEL: &str = "/usr/lib/testbed/kernel";
const INITIAL_MODULES: &str = "/usr/lib/testbed/modules.cpio";
/// Where it has disks that guests only read: their root, and all modules.
const ROOT: &str = "/usr/lib/testbed/root.erofs";
const MODULES: &str = "/usr/lib/testbed/modules.erofs";
/// The template: the memory of a kernel that has started and is in its root, its devices, and the disk for changes.
pub(super) const TEMPLATE: &str = "/usr/lib/testbed/template";
pub(super) const MEMORY: &str = "/usr/lib/testbed/template/memory";
pub(super) const DEVICES: &str = "/usr/lib/testbed/template/devices";
pub(super) const CHANGES: &str = "/usr/lib/testbed/template/changes";
/// The memory of a screen, in bytes, and how the end of its name is among the blocks of memory of QEMU's.
pub(super) const VIDEO_MEMORY: u64 = 16 << 20;
pub(super) const VIDEO_BLOCK: &str = "/vga.vram";

/// The descriptors that it has from the start: the socket that the guest's port leads to, the monitor's and the console's,
/// and from here on that of KVM if that is what its processors run on, of what lies below the disk of a system, and of its
/// CD.
const AGENT_FD: u32 = 3;
const MONITOR_FD: u32 = 4;
const CONSOLE_FD: u32 = 5;
const FIRST_OTHER_FD: u32 = 6;

/// Puts the initial root together and makes a disk before it becomes QEMU, if that is to have a size. A kernel that is only tried has no image's root,
/// and any disk will do.
const FIRST_START: &str = r#"modules=$1 agent=$2 template=$3 disk=$4 size=$5 root=$6 other=$7; shift 7
[ -e "$root" ] || ln -s "$other" "$root" || exit
cat "$modules" "$agent" > /tmp/initramfs && rm "$agent" && mkdir -p "$template" || exit
[ "$size" = 0 ] && exec "$@"
truncate -s "$size" "$disk" || exit
mke2fs -q -F -t ext4 -m 0 -J size=4 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard "$disk" || exit
exec "$@""#;

/// What a kernel need not do to start, most of all where it is emulated.
const PARAMETERS: &str = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check lsm= apparmor=0 \
                          cryptomgr.notests rcupdate.rcu_expedited=1 random.trust_cpu=on noreplace-smp audit=0";

/// The root of an image as a disk; of those of a capsule, the one with this number.
pub(crate) fn image_root(image: u32) -> String {
    if image == 0 { ROOT.to_owned() } else { format!("/usr/lib/testbed/image{image}.erofs") }
}

/// The command that becomes QEMU and starts a kernel from nothing, in memory that becomes the template's. What it
/// writes belongs on the guest's console. The guest waits for the monitor's word to start.
pub(super) fn boot(hardware: &Hardware, accelerator: &Accelerator, agent: &str) -> Vec<String> {
    let size = hardware.disk.to_string();
    let first =
        ["/bin/sh", "-c", FIRST_START, "sh", INITIAL_MODULES, agent, TEMPLATE, CHANGES, &size, ROOT, MODULES];
    // Of several consoles the last is the one that programs mean by it.
    let parameters =
        if hardware.screen { format!("console=tty0 {PARAMETERS}") } else { PARAMETERS.to_owned() };
    let kernel = ["-kernel", KERNEL, "-initrd", "/tmp/initramfs", "-append", &parameters];
    let mut words: Vec<String> = first.map(str::to_owned).into();
    words.extend(machine(hardware, accelerator, &format!("{MEMORY},share=on")));
    words.extend(kernel.map(str::to_owned));
    words
}

/// As [`boot`], for a copy of the template, or of whatever else has this memory: it waits to be told which state its devices
/// have.
pub(super) fn copy(hardware: &Hardware, accelerator: &Accelerator, memory: &str) -> Vec<String> {
    let mut words = machine(hardware, accelerator, &format!("{memory},{PRIVATE}"));
    words.extend(WAITS.map(str::to_owned));
    words
}

/// The command that becomes QEMU for a system that boots by itself: from its disk, and if it cannot from its CD. Its
/// console is the first serial port, which the firmware writes to as well if there is no screen. With `waits` it waits for the state of its devices.
pub(super) fn system(
    hardware: &Hardware,
    accelerator: &Accelerator,
    system: &System,
    waits: bool,
) -> Vec<String> {
    let graphics = if hardware.screen { "graphics=on" } else { "graphics=off" };
    let mut words = common(hardware, graphics, &format!("{MEMORY},{PRIVATE}"));
    let mut next = FIRST_OTHER_FD;
    let mut handed = |words: &mut Vec<String>| {
        words.extend(["-add-fd".to_owned(), format!("fd={next},set={next}")]);
        next += 1;
        format!("/dev/fdset/{}", next - 1)
    };
    if *accelerator != Accelerator::Emulation {
        handed(&mut words);
    }
    words.extend(processors_on(accelerator));
    let node = |words: &mut Vec<String>, node: Value| {
        words.extend(["-blockdev".to_owned(), node.to_string()]);
    };
    if let Some((_, format)) = &system.disk {
        let path = handed(&mut words);
        let file = json!({ "driver": "file", "filename": path, "read-only": true, "locking": "off" });
        // No form is guessed, and no name in the file is followed.
        node(
            &mut words,
            match format {
                DiskFormat::Raw => {
                    json!({ "driver": "raw", "node-name": "below", "file": file, "read-only": true })
                }
                DiskFormat::Qcow2 => {
                    json!({ "driver": "qcow2", "node-name": "below", "file": file, "backing": null, "read-only": true })
                }
            },
        );
    }
    let below = system.disk.is_some().then_some("below");
    let file = json!({ "driver": "file", "filename": CHANGES, "locking": "off", "discard": "unmap" });
    let changes = json!({
        "driver": "qcow2", "node-name": "disk", "file": file, "backing": below, "discard": "unmap",
    });
    node(&mut words, changes);
    words.extend(["-device", "virtio-blk-pci,drive=disk,bootindex=0"].map(str::to_owned));
    if system.cdrom.is_some() {
        let path = handed(&mut words);
        let file = json!({ "driver": "file", "filename": path, "read-only": true, "locking": "off" });
        node(&mut words, json!({ "driver": "raw", "node-name": "cdrom", "file": file, "read-only": true }));
        words.extend(["-device", "ide-cd,drive=cdrom,bootindex=1"].map(str::to_owned));
    }
    words.extend(adapters(system.macs.iter().copied()));
    words.extend(screen(hardware));
    if waits {
        words.extend(WAITS.map(str::to_owned));
    }
    words
}

/// Has the devices wait for a state, which is that of devices alone, without what a migration says first.
const WAITS: [&str; 4] = ["-incoming", "defer", "-global", "migration.send-configuration=off"];

/// The machine, the same for a template and for its copies.
fn machine(hardware: &Hardware, accelerator: &Accelerator, memory: &str) -> Vec<String> {
    let mut words = common(hardware, "graphics=on", memory);
    if *accelerator != Accelerator::Emulation {
        words.extend(["-add-fd".to_owned(), format!("fd={FIRST_OTHER_FD},set={FIRST_OTHER_FD}")]);
    }
    words.extend(processors_on(accelerator));
    let port = format!("virtserialport,chardev=agent,name={PORT}");
    let agent =
        ["-no-reboot", "-device", "virtio-serial-pci", "-device", &port, "-device", "vmgenid,guid=auto"];
    words.extend(agent.map(str::to_owned));
    let mut disks = vec![
        (ROOT_DISK.to_owned(), ROOT.to_owned(), "read-only=on"),
        (MODULES_DISK.to_owned(), MODULES.to_owned(), "read-only=on"),
    ];
    if hardware.disk > 0 {
        disks.push((CHANGES_DISK.to_owned(), CHANGES.to_owned(), "discard=unmap"));
    }
    disks.extend((1..hardware.images).map(|image| (image_disk(image), image_root(image), "read-only=on")));
    for (name, path, how) in disks {
        words.extend([
            "-blockdev".to_owned(),
            format!("file,node-name={name},filename={path},{how},locking=off"),
            "-device".to_owned(),
            format!("virtio-blk-pci,drive={name},serial={name}"),
        ]);
    }
    words.extend(adapters((0..hardware.adapters).map(adapter_mac)));
    words.extend(screen(hardware));
    words
}

/// What is written to a file that is mapped so is the guest's alone.
const PRIVATE: &str = "share=off,readonly=on,rom=off";

/// What every machine has; `memory` is the file that it maps, and how.
fn common(hardware: &Hardware, graphics: &str, memory: &str) -> Vec<String> {
    let size = format!("{}M", hardware.memory >> 20);
    let processors = hardware.processors.to_string();
    let machine = format!("q35,memory-backend=ram,suppress-vmdesc=on,{graphics}");
    let memory = format!("memory-backend-file,id=ram,size={size},mem-path={memory}");
    let (agent, monitor) =
        (format!("socket,id=agent,fd={AGENT_FD}"), format!("socket,id=monitor,fd={MONITOR_FD}"));
    let console = format!("socket,id=console,fd={CONSOLE_FD}");
    let words = [
        &["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"][..],
        &["-machine", &machine, "-object", &memory, "-m", &size, "-smp", &processors, "-S"],
        &["-chardev", &console, "-serial", "chardev:console"],
        &["-chardev", &agent, "-chardev", &monitor, "-mon", "monitor,mode=control"],
        &["-device", "virtio-rng-pci"],
        &["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ];
    words.concat().into_iter().map(str::to_owned).collect()
}

/// A screen, if there is to be one. Who is to see it live is handed to QEMU: it listens nowhere.
fn screen(hardware: &Hardware) -> Vec<String> {
    if !hardware.screen {
        return Vec::new();
    }
    let device = format!("VGA,vgamem_mb={}", VIDEO_MEMORY >> 20);
    ["-device", &device, "-vnc", "none"].map(str::to_owned).into()
}

/// Adapters with these addresses, each on a hub of its own.
fn adapters(macs: impl Iterator<Item = [u8; 6]>) -> Vec<String> {
    let adapter = |(number, mac): (usize, [u8; 6])| {
        let mac = mac_text(mac);
        [
            "-netdev".to_owned(),
            format!("hubport,id=net{number},hubid={number}"),
            "-device".to_owned(),
            format!("virtio-net-pci,netdev=net{number},mac={mac},romfile="),
        ]
    };
    macs.enumerate().flat_map(adapter).collect()
}

/// What the guest's processors run on, and what they are.
fn processors_on(accelerator: &Accelerator) -> [String; 4] {
    let kvm = format!("kvm,device=/dev/fdset/{FIRST_OTHER_FD}");
    match accelerator {
        Accelerator::Emulation => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        Accelerator::Kvm(_) => ["-accel", &kvm, "-cpu", "host"],
    }
    .map(str::to_owned)
}
