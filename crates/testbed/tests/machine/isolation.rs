//! What a machine cannot see, read, change or call: every hole that was found in the making stays closed, and what a
//! container engine hides by default is hidden.

use crate::host::{self, engine, machine, settle, shell};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use testbed::Machine;
use testbed_agent::launch::{Mask, Masked};

/// Paths that podman 4.3 masks by default (containers/common, `pkg/config/default.go`, and the runtime's own list in
/// runc, `libcontainer/specconv/example.go`): a machine must learn nothing from them. Those below `/sys` have a test of
/// their own.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
];

/// Paths that podman makes read-only by default.
const READ_ONLY: &[&str] = &[
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/sys/fs/cgroup",
];

/// `/proc/sys` is not read-only in a machine: its own network's parameters are for it to set. All others are the
/// host's.
const HOST_PARAMETERS: &[&str] = &["kernel", "vm", "fs", "debug", "dev"];

/// Parameters below those that belong to namespaces of the machine's own.
const OWN_PARAMETERS: &[&str] = &[
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/msg",
    "/proc/sys/kernel/sem",
    "/proc/sys/kernel/shm",
    "/proc/sys/kernel/auto_msgmni",
    "/proc/sys/kernel/ns_last_pid",
    // Of the process namespace since Linux 6.14.
    "/proc/sys/kernel/pid_max",
    "/proc/sys/fs/mqueue",
];

#[test]
fn process_1_holds_nothing_of_the_host() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    m.wait_started(host::SOON).unwrap();
    let pid = m.pid().unwrap();
    // Seen from the host, so that nothing is hidden.
    let mut kinds: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|e| fs::read_link(e.unwrap().path()).unwrap().to_string_lossy().into_owned())
        .collect();
    kinds.sort();
    let allowed = |kind: &String| {
        kind == "/dev/null"
            || kind.starts_with("socket:")
            || kind.starts_with("anon_inode:[") && !kind.contains("mount")
    };
    assert!(kinds.iter().all(allowed), "{kinds:?}");
    assert_eq!(kinds.iter().filter(|k| k.starts_with("socket:")).count(), 1, "{kinds:?}");
    assert_eq!(kinds.len(), 6, "{kinds:?}");
    // Its null device is the machine's, not the host's.
    let null = fs::metadata(format!("/proc/{pid}/fd/0")).unwrap();
    assert_ne!(null.dev(), fs::metadata("/dev/null").unwrap().dev());
    assert_eq!(fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
    let root = fs::metadata(format!("/proc/{pid}/root")).unwrap();
    assert_ne!((root.dev(), root.ino()), {
        let r = fs::metadata("/").unwrap();
        (r.dev(), r.ino())
    });
    let working = fs::metadata(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!((working.dev(), working.ino()), (root.dev(), root.ino()));
    // And from inside it cannot even be looked at: no list, no link, no memory, no trace.
    for what in [
        "ls /proc/1/fd",
        "cat /proc/1/environ",
        "readlink /proc/1/exe",
        "cat /proc/1/maps",
        "ls /proc/1/root/",
        "head -c1 /proc/1/mem",
    ] {
        let output = m.shell(format!("exec 2>/dev/null; {what}")).output().unwrap();
        assert_eq!(output.text(), "", "{what}");
    }
}

#[test]
fn the_agents_program_cannot_be_changed_through_a_machine() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    let before = sum_of_agent(&m);
    for what in [
        "chmod 777 /proc/1/exe",
        "chown 33 /proc/1/exe",
        "cp /bin/true /proc/1/exe",
        "echo x >> /proc/1/exe",
        "rm -f /proc/1/exe",
        "truncate -s 0 /proc/1/exe",
    ] {
        assert!(!m.shell(format!("{what} 2>/dev/null")).status().unwrap().success(), "{what}");
    }
    assert_eq!(sum_of_agent(&m), before);
}

fn sum_of_agent(m: &Machine) -> (u32, u64, Vec<u8>) {
    let path = format!("/proc/{}/exe", m.pid().unwrap());
    let stat = fs::metadata(&path).unwrap();
    (stat.permissions().mode(), stat.len(), fs::read(path).unwrap())
}

#[test]
fn commands_get_their_three_streams_and_nothing_else() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    let output = m.command(["ls", "-l", "/proc/self/fd"]).output().unwrap();
    let links: Vec<String> =
        output.text().lines().filter_map(|l| l.split_once(" -> ").map(|(_, to)| to.to_owned())).collect();
    assert_eq!(links.len(), 4, "{links:?}");
    assert_eq!(links[0], "/dev/null");
    assert!(links[1].starts_with("pipe:") && links[2].starts_with("pipe:"), "{links:?}");
    assert!(links[3].starts_with("/proc/"), "{links:?}");
}

#[test]
fn environment_is_the_machines_own() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    let mut names: Vec<String> = shell(&m, "env -u PWD -u OLDPWD -u _ -u SHLVL")
        .lines()
        .filter_map(|l| Some(l.split_once('=')?.0.to_owned()))
        .collect();
    names.sort();
    assert_eq!(names, ["HOME", "LANG", "LOGNAME", "PATH", "TERM", "USER"]);
}

/// Runs a system call by number inside, with Perl, and gives `ok` or the error's name.
fn syscall(m: &Machine, call: &str) -> String {
    let script = format!(
        "use Errno; sub arg {{ my $copy = shift; $copy }} my $r = syscall({call}); if ($r >= 0) {{ print 'ok' }} \
         else {{ my ($n) = grep {{ $!{{$_}} }} sort keys %!; print $n }}"
    );
    let output = m.command(["perl", "-e", &script]).output().unwrap();
    assert!(output.success(), "{call}: {}", String::from_utf8_lossy(&output.stderr));
    output.text()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn system_calls_that_reach_around_the_namespaces_are_refused() {
    let Some(engine) = engine() else { return };
    if !fs::exists("/usr/bin/perl").unwrap() {
        return host::missing("Perl in the image");
    }
    let m = machine(&engine);
    // The probe itself works: getpid.
    assert_eq!(syscall(&m, "39"), "ok");
    for (name, call) in [
        ("keyctl(KEYCTL_GET_KEYRING_ID, session)", "250, 0, -3, 0"),
        ("add_key", "248, arg('user'), arg('k'), arg('v'), 1, -2"),
        ("request_key", "249, arg('user'), arg('k'), 0, 0"),
        ("io_uring_setup", "425, 1, arg(chr(0) x 120)"),
        ("io_uring_enter", "426, 0, 0, 0, 0, 0, 0"),
        ("bpf(BPF_PROG_LOAD)", "321, 5, arg(chr(0) x 128), 128"),
        ("perf_event_open(self)", "298, arg(chr(0) x 128), 0, -1, -1, 0"),
        ("userfaultfd", "323, 0"),
        ("open_by_handle_at", "304, 3, arg(chr(0) x 16), 0"),
        ("kexec_load", "246, 0, 0, 0, 0"),
        ("init_module", "175, 0, 0, arg('')"),
        ("finit_module", "313, 0, arg(''), 0"),
        ("delete_module", "176, arg('x'), 0"),
        ("settimeofday", "164, arg(chr(1) x 16), 0"),
        ("clock_settime", "227, 0, arg(chr(1) x 16)"),
        ("swapon", "167, arg('/x'), 0"),
        ("syslog", "103, 3, 0, 0"),
        ("acct", "163, arg('/x')"),
        ("iopl", "172, 3"),
        ("ioperm", "173, 0, 1, 1"),
        ("vmsplice", "278, 1, 0, 0, 0"),
        ("uselib", "134, arg('/x')"),
        ("ustat", "136, 0, arg(chr(0) x 64)"),
        ("sysfs", "139, 3"),
        ("mknod of a disk", "133, arg('/dev/sda9'), 0060660, 2049"),
        ("mknod of memory", "133, arg('/dev/mem9'), 0020660, 257"),
    ] {
        let said = syscall(&m, call);
        assert_eq!(said, "EPERM", "{name}");
    }
    // Sockets of families that are not namespaced: AF_VSOCK reaches the hypervisor.
    assert_eq!(syscall(&m, "41, 40, 1, 0"), "EAFNOSUPPORT");
    // Numbers that podman refuses and that no call is behind: _sysctl, getpmsg, putpmsg, security, vserver, query_module.
    for number in ["156", "181", "182", "185", "236", "178"] {
        assert_eq!(syscall(&m, number), "ENOSYS", "{number}");
    }
    // Another calling convention is no way around the filter: x32's getpid.
    assert_eq!(syscall(&m, "0x40000000 + 39"), "ENOSYS");
}

/// Those of a container of podman (containers/common 0.50, `pkg/config/default.go`), by number (capabilities(7)): CHOWN,
/// DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD,
/// AUDIT_WRITE, SETFCAP.
const PODMANS_CAPABILITIES: &[u32] = &[0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];

/// What a machine has beyond that; docs/threat-model.md has the reasons. DAC_READ_SEARCH, LINUX_IMMUTABLE, NET_BROADCAST,
/// NET_ADMIN, IPC_LOCK, IPC_OWNER, SYS_PTRACE, SYS_PACCT, SYS_ADMIN, SYS_BOOT, SYS_NICE, SYS_RESOURCE, SYS_TTY_CONFIG,
/// LEASE.
const MORE_CAPABILITIES: &[u32] = &[2, 9, 11, 12, 14, 15, 19, 20, 21, 22, 23, 24, 26, 28];

#[test]
fn filter_and_bounding_set_are_on_for_process_1_and_commands() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    m.wait_started(host::SOON).unwrap();
    let of_process_1 = fs::read_to_string(format!("/proc/{}/status", m.pid().unwrap())).unwrap();
    let of_command = shell(&m, "cat /proc/self/status");
    for status in [of_process_1, of_command] {
        let field =
            |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("").trim().to_owned();
        assert_eq!(field("Seccomp:"), "2", "{status}");
        let bounding = u64::from_str_radix(&field("CapBnd:"), 16).unwrap();
        let known: u32 = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
        for number in 0..=known {
            let wanted = PODMANS_CAPABILITIES.contains(&number) || MORE_CAPABILITIES.contains(&number);
            assert_eq!(bounding >> number & 1 == 1, wanted, "capability {number} in {bounding:x}");
        }
    }
}

#[test]
fn the_keepers_keyring_stays_outside() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    let before = fs::read_to_string("/proc/keys").unwrap_or_default();
    let inside = shell(&m, "cat /proc/keys");
    for line in before.lines() {
        let id = line.split_whitespace().next().unwrap();
        assert!(!inside.contains(id), "key {id} of the host is seen inside");
    }
}

#[test]
fn the_hosts_files_that_not_everybody_may_read_are_not_there() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    // Something secret of every kind, and whatever this host really has.
    for folder in
        ["/root", "/home", "/srv", "/mnt", "/media", "/boot", "/var/log", "/var/backups", "/var/mail"]
    {
        assert_eq!(shell(&m, &format!("ls -A {folder} 2>/dev/null")), "", "{folder}");
    }
    for file in [
        "/etc/ssh/ssh_host_rsa_key",
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssl/private",
        "/etc/machine-id",
        "/etc/sudoers",
    ] {
        assert_eq!(shell(&m, &format!("cat {file} 2>/dev/null; ls -A {file}/ 2>/dev/null")), "", "{file}");
    }
    // Every account exists and is locked.
    let shadow = shell(&m, "cat /etc/shadow");
    assert!(shadow.starts_with("root:*:"), "{shadow}");
    assert!(shadow.lines().all(|l| l.split(':').nth(1) == Some("*")), "{shadow}");
    let host_shadow = fs::read_to_string("/etc/shadow").unwrap();
    assert_eq!(shadow.lines().count(), host_shadow.lines().count());
    // All that is left below /etc, /var and /opt may be read by everybody on the host.
    let listed =
        shell(&m, "find /etc /var /opt -xdev -type f ! -path /etc/shadow ! -path /etc/gshadow 2>/dev/null");
    assert!(listed.lines().count() > 50, "{listed}");
    for path in listed.lines() {
        if let Ok(stat) = fs::symlink_metadata(path) {
            assert_ne!(stat.mode() & 0o004, 0, "{path} of the host is private and can be seen inside");
        }
    }
    // Sockets of daemons lead nowhere.
    assert_eq!(shell(&m, "find / -xdev -type s 2>/dev/null"), "");
    assert_eq!(shell(&m, "ls -A /run /tmp"), "/run:\n\n/tmp:\n");
}

#[test]
fn a_host_may_have_thousands_of_things_to_hide() {
    if engine().is_none() {
        return;
    }
    let mut mask = testbed::host::mask().unwrap();
    let absent = |number: u32| {
        let path = format!("usr/{}{number}", "long".repeat(20));
        Masked { path, with: Mask::Absent, mode: 0, uid: 0, gid: 0 }
    };
    mask.push(Masked { path: "usr".into(), with: Mask::Through, mode: 0o755, uid: 0, gid: 0 });
    mask.extend((0..5000).map(absent));
    let m = machine(&testbed::Engine::start(testbed::host::setup().unwrap(), mask).unwrap());
    assert_eq!(shell(&m, "ls -A /root; ls /usr/bin | grep -c '^env$'"), "1\n");
}

#[test]
fn hiding_cannot_be_undone_by_unmounting() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    let script = "for p in $(tac /proc/self/mountinfo | cut -d' ' -f5); do umount -l $p 2>/dev/null; done; \
                  for p in /root /home /etc /var / /proc /sys /dev /dev; do umount -l $p 2>/dev/null; done; \
                  ls -A /root /home /srv 2>/dev/null; cat /etc/shadow";
    let left = shell(&m, script);
    let host_shadow = fs::read_to_string("/etc/shadow").unwrap();
    for line in host_shadow.lines().filter(|l| l.split(':').nth(1).is_some_and(|p| p.len() > 4)) {
        assert!(!left.contains(line));
    }
    for name in names_in("/root").into_iter().chain(names_in("/home")) {
        assert!(!left.lines().any(|l| l == name), "{name} of the host is seen");
    }
    // Nor by layers of its own: no attribute of the mask can be seen or changed.
    let output =
        m.shell("getfattr -d -m - / 2>/dev/null; setfattr -x user.overlay.opaque /root 2>&1; ls -A /root");
    assert!(!output.output().unwrap().text().contains(".ssh"));
}

fn names_in(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect()
}

#[test]
fn what_a_container_engine_masks_tells_nothing() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    // Which devices may wake the host is for every user of it to read.
    for path in MASKED.iter().filter(|path| **path != "/proc/acpi") {
        let said = shell(
            &m,
            &format!(
                "cd /; if [ -d {path} ]; then cat {path}/* {path}/*/* ; else head -c 200 {path}; fi 2>/dev/null"
            ),
        );
        assert_eq!(said, "", "{path} tells something");
    }
}

/// What podman masks below `/sys` is left as it is: a mount over it would keep machines from mounting a sysfs of their
/// own, and machine root could take it away. But nothing there tells more than every user of the host may know.
#[test]
fn below_sys_only_what_every_user_of_the_host_may_know_is_seen() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    let folders = "/sys/dev/block /sys/devices/virtual/powercap /sys/firmware /sys/fs/selinux";
    let find = format!("find -L {folders} -maxdepth 3 -type f 2>/dev/null");
    let readable =
        shell(&m, &format!("{find} | while read f; do head -c1 $f >/dev/null 2>&1 && echo $f; done; :"));
    for path in readable.lines() {
        assert_ne!(fs::metadata(path).unwrap().mode() & 0o004, 0, "{path} is private on the host");
    }
    let writable = shell(&m, &format!("{find} | while read f; do (: >>$f) 2>/dev/null && echo $f; done; :"));
    assert_eq!(writable, "");
}

#[test]
fn a_reboot_ends_no_more_than_the_machine() {
    let Some(engine) = engine() else { return };
    let (m, neighbour) = (machine(&engine), machine(&engine));
    let script = "syscall(169, 0xfee1dead, 672274793, 0xcdef0123, 0)";
    assert!(m.command(["perl", "-e", script]).status().is_err());
    m.wait_ended(host::SOON).unwrap();
    assert!(neighbour.command(["true"]).status().unwrap().success());
}

#[test]
fn what_a_container_engine_makes_read_only_cannot_be_written() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    for path in READ_ONLY.iter().filter(|p| **p != "/proc/sys") {
        let script = format!(
            "[ -e {path} ] || exit 0; find {path} -type f -print 2>/dev/null | head -200 | while read f; do \
             (: >> $f) 2>/dev/null && echo $f; done; [ -d {path} ] && mkdir {path}/x 2>/dev/null && echo {path}/x; :"
        );
        assert_eq!(shell(&m, &script), "", "{path}");
    }
    for folder in HOST_PARAMETERS {
        let script = format!(
            "find /proc/sys/{folder} -type f 2>/dev/null | while read f; do (: >> $f) 2>/dev/null && echo $f; done; :"
        );
        let writable = shell(&m, &script);
        let foreign: Vec<&str> =
            writable.lines().filter(|f| !OWN_PARAMETERS.iter().any(|own| f.starts_with(own))).collect();
        assert!(foreign.is_empty(), "parameters of the host can be written: {foreign:?}");
    }
    // Nothing below /sys but what belongs to its own network and block-less devices.
    let script = "find /sys -type f -writable 2>/dev/null | grep -v ^/sys/devices/virtual/net/ | \
                  while read f; do (: >> $f) 2>/dev/null && echo $f; done; :";
    assert_eq!(shell(&m, script), "");
}

#[test]
fn the_hosts_processes_cgroups_and_links_cannot_be_seen() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    let processes = shell(&m, "ls -d /proc/[0-9]* | wc -l");
    assert!(processes.trim().parse::<u32>().unwrap() < 8, "{processes}");
    let groups = shell(&m, "cat /proc/self/cgroup /proc/1/cgroup");
    assert!(!groups.contains("testbed"), "{groups}");
    let version_2 = groups.lines().find(|l| l.starts_with("0::")).unwrap();
    assert_eq!(version_2, "0::/");
    let names = shell(
        &m,
        "mkdir /tmp/c; mount -t cgroup2 c /tmp/c && ls /tmp/c | grep -v '^cgroup\\.\\|\\.pressure$\\|\\.stat$\\|^memory\\.\\|^pids\\.\\|^cpu\\.\\|^io\\.'",
    );
    assert_eq!(names, "", "groups of the host are seen");
    let links = shell(&m, "ls /sys/class/net; cut -d: -f1 /proc/net/dev | tail -n +3");
    assert!(
        links.split_whitespace().all(|l| [
            "lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0"
        ]
        .contains(&l)),
        "{links}"
    );
    assert_eq!(
        shell(&m, "cat /proc/net/unix | tail -n +2 | grep -v '@\\?$' | grep ' /\\| @'"),
        "",
        "sockets of the host are seen"
    );
}

#[test]
fn no_terminal_of_the_host_can_be_typed_into() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    // No controlling terminal, no terminal among its descriptors or devices.
    let said = shell(&m, "(: < /dev/tty) 2>&1; ls /dev/pts; for f in /proc/self/fd/*; do readlink $f; done");
    assert!(
        !said.contains("/dev/pts/") && !said.contains("/dev/tty\n") && !said.contains("console"),
        "{said}"
    );
    assert!(said.contains("No such device or address"), "{said}");
    let stat = fs::read_to_string(format!("/proc/{}/stat", m.pid().unwrap())).unwrap();
    let mut fields = stat.rsplit_once(") ").unwrap().1.split(' ');
    assert_eq!(fields.nth(4), Some("0"), "process 1 has a controlling terminal: {stat}");
}

#[test]
fn devices_are_the_harmless_ones() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    let mut devices: Vec<String> =
        shell(&m, "find / -xdev \\( -type c -o -type b \\) ; find /dev -xdev \\( -type c -o -type b \\)")
            .lines()
            .map(str::to_owned)
            .collect();
    devices.sort();
    let allowed =
        ["/dev/full", "/dev/net/tun", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"];
    assert!(devices.iter().all(|d| allowed.contains(&d.as_str())), "{devices:?}");
    assert!(devices.len() >= 6, "{devices:?}");
}

#[test]
fn a_device_in_a_layer_is_none() {
    let Some(engine) = engine() else { return };
    let layer = std::env::temp_dir().join(format!("testbed-device-{}", std::process::id()));
    fs::create_dir(&layer).unwrap();
    let (kind, number) = (rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 5));
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, layer.join("zero"), kind, mode, number).unwrap();
    let mut spec = host::spec();
    spec.root.layers = vec![layer.to_str().unwrap().into()];
    let m = engine.machine("m", spec).unwrap();
    let script =
        "mkdir /copy; mount --bind / /copy; for at in / /copy; do mount -o remount,bind,dev $at; done
                  for at in /zero /copy/zero; do ls $at; head -c1 $at | wc -c; done; exit 0";
    let said = shell(&m, script);
    fs::remove_dir_all(&layer).unwrap();
    assert_eq!(said.matches("for reading: Permission denied").count(), 2, "{said}");
}

#[test]
fn a_machine_cannot_reach_its_neighbours_or_the_host_by_process_or_signal() {
    let Some(engine) = engine() else { return };
    let (m, neighbour) = (machine(&engine), machine(&engine));
    assert!(
        neighbour
            .shell("setsid sleep 1000 & until pgrep -x sleep; do sleep 0.01; done")
            .status()
            .unwrap()
            .success()
    );
    let host_side = std::process::id();
    let said = shell(
        &m,
        &format!("kill -9 {host_side}; kill -9 {}; kill -9 -1; echo done", neighbour.pid().unwrap()),
    );
    assert!(said.contains("No such process"), "{said}");
    assert!(neighbour.shell("pgrep -x sleep").status().unwrap().success());
    // Abstract sockets are the network namespace's.
    assert_eq!(shell(&m, "grep -c @ /proc/net/unix").trim(), "0");
}

#[test]
fn files_that_root_makes_inside_belong_to_nobody_of_the_host() {
    let Some(engine) = engine() else { return };
    let m = machine(&engine);
    assert!(
        m.shell("cp /bin/sh /tmp/sh; chmod 6755 /tmp/sh; sleep 1000 >/dev/null 2>&1 & ")
            .status()
            .unwrap()
            .success()
    );
    let path = format!("/proc/{}/root/tmp/sh", m.pid().unwrap());
    let stat = fs::metadata(path).unwrap();
    assert!(stat.uid() >= 0x4000_0000, "{}", stat.uid());
    settle("owner of process 1", || {
        let owner = fs::metadata(format!("/proc/{}/task", m.pid().unwrap())).unwrap().uid();
        let real = fs::read_to_string(format!("/proc/{}/status", m.pid().unwrap())).unwrap();
        let uid = real.lines().find_map(|l| l.strip_prefix("Uid:")).unwrap().to_owned();
        uid.split_whitespace().any(|u| u.parse::<u32>().unwrap() < 0x4000_0000).then_some((owner, uid))
    });
}
