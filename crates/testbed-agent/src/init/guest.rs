//! Process 1 of a machine with a kernel of its own: the program that the kernel finds in its initial root.
//!
//! It loads the modules that are there, looks at its root's disk, and is the same agent as in any machine, behind a port
//! of the hypervisor. So far all such machines are the same, and a template is taken of it. Who it is it hears there
//! ([`Request::Become`](testbed_agent::agent::Request::Become)), once it is in its root, with all changes on a second disk,
//! which may hold what the machine has changed before ([`Request::EnterRoot`](testbed_agent::agent::Request::EnterRoot)).

use super::line::Line;
use super::run::CLIENT_FOLDER;
use super::{agent, modules};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::system::RebootCommand;
use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testbed_agent::capsule::IMAGES;
use testbed_agent::guest::{CHANGES_DISK, MODULES_DISK, PORT, ROOT_DISK, image_disk};
use testbed_agent::launch::{Machine, Root, Upper};
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::process::{self, SingleThreaded};

/// This program, by whatever name it may be started: its file is in the initial root, which nobody can reach any more.
pub(super) fn own_program() -> String {
    format!("/proc/{}/exe", std::process::id())
}

/// Whether that is how this program was started.
pub(crate) fn is_own_program(name: &str) -> bool {
    let number = name.strip_prefix("/proc/").and_then(|name| name.strip_suffix("/exe"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The number of a machine.
const MACHINE_ID: &str = "/etc/machine-id";
/// How long after its driver the port may come.
const PORT_COMES: Duration = Duration::from_secs(20);

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const NO_PROGRAMS: MountFlags = QUIET.union(MountFlags::NOEXEC);

/// What is there before the root is, and moves there.
const EARLY_MOUNTS: [(&str, &str, MountFlags); 3] = [
    ("/dev", "devtmpfs", MountFlags::NOSUID),
    ("/proc", "proc", NO_PROGRAMS),
    ("/sys", "sysfs", NO_PROGRAMS),
];

/// What every machine has beside that, in the order in which it is mounted.
const MOUNTS: [(&str, u32, &str, MountFlags, &str); 6] = [
    ("/sys/fs/cgroup", 0o755, "cgroup2", NO_PROGRAMS, ""),
    (
        "/dev/pts",
        0o755,
        "devpts",
        MountFlags::NOSUID.union(MountFlags::NOEXEC),
        "gid=5,mode=620,ptmxmode=666",
    ),
    ("/dev/shm", 0o1777, "tmpfs", QUIET, "mode=1777"),
    ("/dev/mqueue", 0o755, "mqueue", NO_PROGRAMS, ""),
    ("/run", 0o755, "tmpfs", QUIET, "mode=755"),
    ("/tmp", 0o1777, "tmpfs", QUIET, "mode=1777"),
];

const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Lives the machine's life, and switches it off at its end.
pub(crate) fn live() -> ! {
    if let Err(fault) = serve() {
        // The console is all there is to say it on.
        let _ = fs::write("/dev/console", format!("testbed: {fault}\n"));
    }
    loop {
        // Where it cannot be switched off it stops here, which the hypervisor's end tells as well.
        let _ = rustix::system::reboot(RebootCommand::PowerOff);
        rustix::event::pause();
    }
}

fn serve() -> Result<(), Fault> {
    for (path, kind, flags) in EARLY_MOUNTS {
        make_folder(path, 0o755)?;
        mount(kind, path, kind, flags, "")?;
    }
    let events = device_events()?;
    modules::load_initial()?;
    make_folder("/disk", 0o755)?;
    mount(&find_disk(ROOT_DISK)?, "/disk", "erofs", MountFlags::RDONLY, "")?;
    let port = open_port(&events)?;
    let token = SingleThreaded::prove().doing("count threads")?;
    agent::serve(Line::Port(port), Cow::Owned(unnamed()), token).doing("serve the keeper")
}

/// Leaves the initial root for the machine's own: what is on its disk, below its changes.
pub(super) fn enter_root() -> Result<(), Fault> {
    let changes = find_disk(CHANGES_DISK)?;
    let disk = rustix::fs::open(&changes, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    // The template of this machine may have seen another one in its place.
    disk.map_err(Into::into).and_then(testbed_sys::disk::forget_content).doing_to("read", &*changes)?;
    for folder in ["/changes", "/root"] {
        make_folder(folder, 0o755)?;
    }
    // What the hypervisor keeps the disk in gets back what is no longer used.
    mount(&changes, "/changes", "ext4", MountFlags::NOATIME, "discard,noinit_itable")?;
    for folder in ["/changes/upper", "/changes/work"] {
        make_folder(folder, 0o755)?;
    }
    let layers = "lowerdir=/disk,upperdir=/changes/upper,workdir=/changes/work";
    mount("overlay", "/root", "overlay", MountFlags::empty(), layers)?;
    cover_root()?;
    for (path, mode, kind, flags, data) in MOUNTS {
        make_folder(path, mode)?;
        mount(kind, path, kind, flags, data)?;
    }
    for (path, target) in LINKS {
        match rustix::fs::symlinkat(target, CWD, path) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Fault::system("make the link", &error.into()).at(path)),
        }
    }
    modules::mount_disk(&find_disk(MODULES_DISK)?)?;
    modules::serve_kernel()
}

/// The program that is to be process 1, and what it needs to find a machine as it left it: a number of its own, without
/// which it would take this for the first start of a new installation (machine-id(5)).
pub(super) fn find_init(program: &str) -> Result<CString, Fault> {
    let file =
        CString::new(program).map_err(|_| Fault::new(FaultKind::Invalid, "run what has a NUL byte"))?;
    if rustix::fs::access(&*file, rustix::fs::Access::EXEC_OK).is_err() {
        let fault = Fault::new(FaultKind::NotFound, "find the program that is to be process 1").at(program);
        return Err(fault.hint("the image needs a package for it: systemd-sysv, and dbus"));
    }
    let has_number = fs::read_to_string(MACHINE_ID).is_ok_and(|number| number.trim_end().len() == 32);
    if !has_number {
        let number = fs::read_to_string("/proc/sys/kernel/random/uuid").doing("make a number")?;
        fs::write(MACHINE_ID, number.replace('-', "")).doing_to("write", MACHINE_ID)?;
    }
    Ok(file)
}

/// Becomes the program that is process 1 from now on.
pub(super) fn become_init(file: &CStr) -> ! {
    process::reset_signals();
    if let Ok(console) = rustix::fs::open("/dev/console", OFlags::RDWR | OFlags::NOCTTY, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&console)
            .and_then(|()| rustix::stdio::dup2_stdout(&console))
            .and_then(|()| rustix::stdio::dup2_stderr(&console));
    }
    let error = process::execute(file, &[file]);
    let _ = fs::write("/dev/console", format!("testbed: start {}: {error}\n", file.to_string_lossy()));
    process::exit_now(1)
}

/// Goes from the initial root to the one at `/root`, which gets what is mounted already.
fn cover_root() -> Result<(), Fault> {
    for (path, ..) in EARLY_MOUNTS {
        let target = format!("/root{path}");
        make_folder(&target, 0o755)?;
        rustix::mount::mount_move(path, &target).doing_to("move", path)?;
    }
    // The initial root can be covered, but not be left by pivot_root(2).
    rustix::process::chdir("/root").doing("enter the root")?;
    rustix::mount::mount_move(".", "/").doing("cover the initial root")?;
    rustix::process::chroot(".").doing("change the root")?;
    rustix::process::chdir("/").doing("enter the root")
}

/// Leaves the initial root for one that a launcher finds all in that its machines need, and nothing else.
pub(super) fn enter_capsule(images: u32) -> Result<(), Fault> {
    let disks = (0..images).map(|number| find_disk(&image_disk(number))).collect::<Result<Vec<_>, _>>()?;
    make_folder("/root", 0o755)?;
    mount("tmpfs", "/root", "tmpfs", QUIET, "mode=755,size=16m")?;
    let folder = format!("/root{IMAGES}");
    make_folder(&folder, 0o755)?;
    for (number, disk) in disks.iter().enumerate() {
        let path = format!("{folder}/{number}");
        make_folder(&path, 0o755)?;
        match number {
            // The first is there already.
            0 => rustix::mount::mount_move("/disk", &path).doing_to("move", &*path)?,
            _ => mount(disk, &path, "erofs", MountFlags::RDONLY, "")?,
        }
    }
    cover_root()?;
    for (path, mode, kind, flags, data) in MOUNTS {
        make_folder(path, mode)?;
        mount(kind, path, kind, flags, data)?;
    }
    modules::mount_disk(&find_disk(MODULES_DISK)?)?;
    modules::serve_kernel()?;
    modules::load(&NETWORK_MODULES.map(str::to_owned))
}

/// What networks of machines are made of.
const NETWORK_MODULES: [&str; 2] = ["tun", "macvlan"];

/// Makes a folder, if it is not there.
fn make_folder(path: &str, mode: u32) -> Result<(), Fault> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(Fault::system("make the folder", &error.into()).at(path)),
    }
}

pub(super) fn mount(
    source: &str,
    path: &str,
    kind: &str,
    flags: MountFlags,
    data: &str,
) -> Result<(), Fault> {
    let data = std::ffi::CString::new(data).unwrap_or_default();
    rustix::mount::mount(source, path, kind, flags, &*data).doing_to("mount", path)
}

/// Finds a disk by its name, whatever others there are (`Documentation/ABI/stable/sysfs-block`, serial).
fn find_disk(name: &str) -> Result<String, Fault> {
    const DISKS: &str = "/sys/block";
    let disks = fs::read_dir(DISKS).doing_to("list", DISKS)?;
    let is_it = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("serial")).is_ok_and(|serial| serial.trim_end() == name)
    };
    let found = disks.filter_map(io::Result::ok).find(is_it);
    let missing = || Fault::new(FaultKind::State, format!("find the disk `{name}`"));
    Ok(format!("/dev/{}", found.ok_or_else(missing)?.file_name().to_string_lossy()))
}

/// Puts the command that drives a testbed where programs look for it.
pub(super) fn place_client() -> Result<(), Fault> {
    let folder = Path::new("/").join(CLIENT_FOLDER);
    fs::create_dir_all(&folder).doing_to("make the folder", folder.to_string_lossy())?;
    let command = folder.join("testbed");
    rustix::fs::symlinkat(own_program(), CWD, &command).doing_to("make the link", command.to_string_lossy())
}

/// A socket that becomes readable when a device comes or changes (`lib/kobject_uevent.c`).
fn device_events() -> Result<OwnedFd, Fault> {
    let doing = "hear of devices";
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = (AddressFamily::NETLINK, SocketType::DGRAM);
    let socket = rustix::net::socket_with(kind.0, kind.1, flags, Some(KOBJECT_UEVENT)).doing(doing)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 1)).doing(doing)?;
    Ok(socket)
}

/// Finds the port that leads to the keeper by its name (`Documentation/ABI/testing/sysfs-class-virtio…`).
/// It may come some time after its driver: the hypervisor is asked for it.
fn open_port(events: &OwnedFd) -> Result<OwnedFd, Fault> {
    let is_ours = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.trim_end() == PORT)
    };
    let end = Instant::now() + PORT_COMES;
    let path = loop {
        // Without its driver there is no such folder.
        let mut ports = fs::read_dir("/sys/class/virtio-ports").into_iter().flatten();
        if let Some(port) = ports.find_map(|entry| entry.ok().filter(is_ours)) {
            break PathBuf::from("/dev").join(port.file_name());
        }
        let left = end.saturating_duration_since(Instant::now());
        let wait = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let ready = rustix::event::poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&wait));
        if ready.doing("wait for the port")? == 0 {
            return Err(Fault::new(FaultKind::State, format!("find the port `{PORT}`")));
        }
        // What it says does not matter, nor that some of it was lost.
        let _ = rustix::io::read(events, &mut [0; 4096]);
    };
    rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).doing("open the port")
}

/// A machine that has not heard yet who it is.
fn unnamed() -> Machine {
    Machine::new("", Root { layers: Vec::new(), host: false }, Upper::Memory(0))
}
