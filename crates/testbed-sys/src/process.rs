//! Processes: made in new namespaces, started quickly, ended with their maker.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ffi::{CStr, CString};
use std::io;

/// Proof that this process has one thread, so that it may be forked and go on in the child as it was.
///
/// Whoever holds it must not start threads.
#[derive(Clone, Copy, Debug)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// Counts the threads of this process.
    ///
    /// # Errors
    /// If there is more than one, or `/proc` cannot be read.
    pub fn prove() -> io::Result<SingleThreaded> {
        match std::fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(SingleThreaded(())),
            n => Err(io::Error::other(format!("this process has {n} threads"))),
        }
    }
}

/// Namespaces for [`clone`], clone(2)'s flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// None: a plain fork.
    pub const NONE: Namespaces = Namespaces(0);
    /// User ids and capabilities.
    pub const USER: Namespaces = Namespaces(libc::CLONE_NEWUSER as u64);
    /// Network devices, addresses, ports.
    pub const NET: Namespaces = Namespaces(libc::CLONE_NEWNET as u64);
    /// The root of cgroups.
    pub const CGROUP: Namespaces = Namespaces(libc::CLONE_NEWCGROUP as u64);
    /// All that a machine has of its own, but for its cgroup namespace: that is rooted where its maker sits, and so
    /// must be unshared by the child once it has been moved ([`unshare_cgroup`]).
    pub const MACHINE: Namespaces = Namespaces(
        (libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC) as u64,
    );

    /// These and those.
    #[must_use]
    pub const fn and(self, others: Namespaces) -> Namespaces {
        Namespaces(self.0 | others.0)
    }

    /// These without those.
    #[must_use]
    pub const fn without(self, others: Namespaces) -> Namespaces {
        Namespaces(self.0 & !others.0)
    }
}

/// linux/sched.h; libc's constant is cut to 32 bits.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a [`clone`] this is.
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The old one.
    Parent {
        /// The child's number.
        pid: u32,
        /// A descriptor for it (pidfd_open(2)), closed on exec.
        pidfd: OwnedFd,
    },
}

/// Forks into new namespaces, the child straight into a cgroup v2 folder if one is given (clone3(2)).
///
/// # Errors
/// Those of clone3(2).
pub fn clone(
    _: SingleThreaded,
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    let mut args: libc::clone_args = zeroed_clone_args();
    args.flags = namespaces.0 | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is a fork: the child has its own copy of memory and goes on from here. The only
    // thread is this one (`SingleThreaded`), so no lock can be held by a thread that is missing in the child. `args`
    // and `pidfd` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        // SAFETY: CLONE_PIDFD made this descriptor for us and nobody else has it.
        pid => Ok(Cloned::Parent { pid: pid as u32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

fn zeroed_clone_args() -> libc::clone_args {
    // SAFETY: `clone_args` is plain numbers, for which all zeroes is a value: every optional part absent.
    unsafe { std::mem::zeroed() }
}

/// Goes on as another program, with no environment; comes back only with the reason why it cannot.
pub fn execute(file: &CStr, arguments: &[&CStr]) -> io::Error {
    let arguments: Vec<_> = arguments.iter().map(|a| a.as_ptr()).chain([std::ptr::null()]).collect();
    let environment = [std::ptr::null()];
    // SAFETY: both lists end with a null pointer and hold texts that end with a NUL byte; all outlive the call.
    unsafe { libc::execve(file.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Leaves the process at once: no destructors, no flushing, no exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Gives the calling process a cgroup namespace rooted at the cgroup it is in (cgroup_namespaces(7)).
///
/// # Errors
/// Those of unshare(2).
pub fn unshare_cgroup() -> io::Result<()> {
    check(
        // SAFETY: changes only what this process sees as the root of cgroups.
        unsafe { libc::unshare(libc::CLONE_NEWCGROUP) },
    )
}

/// Gives the calling process a new, empty network namespace.
///
/// # Errors
/// Those of unshare(2).
pub fn unshare_net(_: SingleThreaded) -> io::Result<()> {
    check(
        // SAFETY: sockets that are open keep their namespace; nothing in memory depends on it.
        unsafe { libc::unshare(libc::CLONE_NEWNET) },
    )
}

/// Gives the calling process a new user namespace, in which it is nobody until its maps are written.
///
/// # Errors
/// Those of unshare(2).
pub fn unshare_user(_: SingleThreaded) -> io::Result<()> {
    check(
        // SAFETY: changes credentials only.
        unsafe { libc::unshare(libc::CLONE_NEWUSER) },
    )
}

/// Gives the calling process a new mount namespace.
///
/// # Errors
/// Those of unshare(2).
pub fn unshare_mounts(_: SingleThreaded) -> io::Result<()> {
    check(
        // SAFETY: the descriptors that are open keep their mounts.
        unsafe { libc::unshare(libc::CLONE_NEWNS) },
    )
}

/// Moves the calling process into the network namespace that the descriptor names.
///
/// # Errors
/// Those of setns(2).
pub fn enter_net(_: SingleThreaded, namespace: BorrowedFd<'_>) -> io::Result<()> {
    check(
        // SAFETY: as for `unshare_net`.
        unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) },
    )
}

/// Moves the calling process into the mount namespace that the descriptor names; its root and working folder are that
/// namespace's then.
///
/// # Errors
/// Those of setns(2).
pub fn enter_mounts(_: SingleThreaded, namespace: BorrowedFd<'_>) -> io::Result<()> {
    check(
        // SAFETY: the descriptors that are open keep their mounts.
        unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) },
    )
}

/// Namespaces of a process that last until the descriptors are closed.
///
/// A process that ends and is the last in its mount and IPC namespaces takes them down before its parent is told, which
/// waits for all processors. Whoever holds them can do that later. Network namespaces go by themselves.
///
/// None before Linux 6.11, and where the caller may not look at the process.
pub fn hold_namespaces(pid: u32) -> Vec<OwnedFd> {
    // linux/pidfd.h
    const PIDFD_GET_IPC_NAMESPACE: libc::c_ulong = 0xff02;
    const PIDFD_GET_MNT_NAMESPACE: libc::c_ulong = 0xff03;
    let Some(pid) = rustix::process::Pid::from_raw(pid as i32) else { return Vec::new() };
    let flags = rustix::process::PidfdFlags::empty();
    let Ok(process) = rustix::process::pidfd_open(pid, flags) else { return Vec::new() };
    let get = |request| {
        // SAFETY: these requests take no argument; they give a new descriptor that nobody else has.
        unsafe {
            let fd = libc::ioctl(process.as_raw_fd(), request, 0);
            (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
        }
    };
    [PIDFD_GET_MNT_NAMESPACE, PIDFD_GET_IPC_NAMESPACE].into_iter().filter_map(get).collect()
}

/// Becomes a user and group with no supplementary groups, for good; all three ids of each kind.
///
/// # Errors
/// Those of setresuid(2), setresgid(2), setgroups(2). A refused setgroups is accepted: a user namespace with one id
/// forbids it, and there are no groups to lose there.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: plain numbers in, credentials of this process change.
    unsafe {
        check(libc::setresgid(gid, gid, gid))?;
        libc::setgroups(0, std::ptr::null());
        check(libc::setresuid(uid, uid, uid))
    }
}

/// Leaves the session keyring that was inherited for a new, empty one (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING).
///
/// # Errors
/// Those of keyctl(2); ENOSYS where the kernel has no keyrings.
pub fn join_new_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    check_long(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) })
}

/// Closes every descriptor of this process but 0, 1, 2 and those given (close_range(2)).
///
/// For a child that begins a life of its own: what it inherited and does not keep is gone, whatever still seems to own
/// it, and must never be touched again, not even dropped.
///
/// # Errors
/// Those of close_range(2).
pub fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().filter(|fd| *fd >= 3) {
        if first < fd {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: descriptors are numbers; the documentation of `close_all_but` says what becomes of their owners.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
}

/// Marks every descriptor from `first` on as closed on exec.
///
/// # Errors
/// Those of close_range(2).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only flags change.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
}

/// Puts a capability out of reach for this process and all it runs (capabilities(7), PR_CAPBSET_DROP).
///
/// # Errors
/// Those of prctl(2); EINVAL for a number that the kernel does not know.
pub fn drop_capability(number: u32) -> io::Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) })
}

/// Keeps other processes of the same user from looking into this one and from tracing it (prctl(2), PR_SET_DUMPABLE).
///
/// # Errors
/// Those of prctl(2).
pub fn hide() -> io::Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0 as libc::c_ulong, 0, 0, 0) })
}

/// A program that is started by [`Launch::start`]. It may open as many files as before [`crate::open_files::raise`].
#[derive(Debug)]
pub struct Launch<'a> {
    /// Files to try, in this order, until one can be executed.
    pub files: &'a [CString],
    /// The arguments, the first being the program's own name.
    pub arguments: &'a [CString],
    /// `NAME=value` each.
    pub environment: &'a [CString],
    /// The working folder.
    pub folder: &'a CStr,
    /// Standard input, output and error; none of them may be 0, 1 or 2.
    pub stdio: [BorrowedFd<'a>; 3],
    /// What it has as descriptors from 3 on; none of them may have one of these numbers, or of standard streams.
    pub more: &'a [BorrowedFd<'a>],
    /// Standard input is a terminal that becomes the program's controlling one.
    pub terminal: bool,
    /// User, group and supplementary groups, if they are to change.
    pub user: Option<(u32, u32, &'a [u32])>,
}

/// Where [`Launch::start`] failed.
#[derive(Debug)]
pub struct LaunchError {
    /// What was being done: `exec`, `chdir`, …
    pub step: &'static str,
    /// What the system said.
    pub error: io::Error,
}

struct ChildArea<'a> {
    launch: &'a Launch<'a>,
    files: Vec<*const libc::c_char>,
    argv: Vec<*const libc::c_char>,
    shell_argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    open_files: Option<libc::rlimit>,
    failed: (&'static str, libc::c_int),
}

const SHELL: &CStr = c"/bin/sh";

impl Launch<'_> {
    /// Starts the program in a session of its own and returns its number once it runs or has failed to.
    ///
    /// The child borrows this process's memory until it executes (CLONE_VM and CLONE_VFORK), so that nothing is
    /// copied however large the caller is.
    ///
    /// # Errors
    /// Which step failed, and why; no process is left then.
    pub fn start(&self) -> Result<u32, LaunchError> {
        let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
            strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let mut shell_argv = vec![SHELL.as_ptr(), std::ptr::null()];
        shell_argv.extend(self.arguments.iter().skip(1).map(|s| s.as_ptr()));
        shell_argv.push(std::ptr::null());
        let mut area = ChildArea {
            launch: self,
            files: pointers(self.files),
            argv: pointers(self.arguments),
            shell_argv,
            envp: pointers(self.environment),
            open_files: crate::open_files::of_children(),
            failed: ("", 0),
        };
        // Not filled: only what is used of it costs memory.
        let mut stack = Vec::<u64>::with_capacity(4096);
        let mut all_signals = empty_signal_set();
        let mut before = empty_signal_set();
        // SAFETY: the child runs `run_child` on a stack of its own while this thread stands still (CLONE_VFORK), and
        // ends by execve or _exit; `area` and `stack` outlive it. It makes raw system calls only: it takes no lock
        // and allocates nothing. All signals are blocked meanwhile, so no handler of ours runs in the child.
        let pid = unsafe {
            libc::sigfillset(&raw mut all_signals);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all_signals, &raw mut before);
            let pid = libc::clone(
                run_child,
                stack.as_mut_ptr().add(stack.capacity()).cast(),
                libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
                (&raw mut area).cast(),
            );
            let error = io::Error::last_os_error();
            libc::sigprocmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
            if pid < 0 {
                return Err(LaunchError { step: "clone", error });
            }
            pid
        };
        match area.failed {
            ("", _) => Ok(pid as u32),
            (step, errno) => {
                let mut status = 0;
                // SAFETY: reaps the child that has just ended.
                unsafe { libc::waitpid(pid, &raw mut status, 0) };
                Err(LaunchError { step, error: io::Error::from_raw_os_error(errno) })
            }
        }
    }
}

extern "C" fn run_child(area: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` passes its own `ChildArea`, which lives until this process has executed or ended, and does not
    // touch it meanwhile. Below are raw system calls with arguments that `start` prepared.
    unsafe {
        let area = &mut *area.cast::<ChildArea<'_>>();
        let launch = area.launch;
        let mut fail = |step: &'static str| -> ! {
            area.failed = (step, *libc::__errno_location());
            libc::_exit(127)
        };
        if libc::setsid() < 0 {
            fail("setsid");
        }
        for (number, fd) in launch.stdio.iter().chain(launch.more).enumerate() {
            if libc::dup2(fd.as_raw_fd(), number as libc::c_int) < 0 {
                fail("dup2");
            }
        }
        if launch.terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
            fail("TIOCSCTTY");
        }
        if let Some((uid, gid, groups)) = launch.user {
            // Raw calls: the wrappers of libc would tell other threads, and this is none of them.
            if libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) < 0 && !groups.is_empty() {
                fail("setgroups");
            }
            if libc::syscall(libc::SYS_setresgid, gid, gid, gid) < 0 {
                fail("setresgid");
            }
            if libc::syscall(libc::SYS_setresuid, uid, uid, uid) < 0 {
                fail("setresuid");
            }
        }
        if area.open_files.is_some_and(|limit| libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) < 0) {
            fail("setrlimit");
        }
        if libc::chdir(launch.folder.as_ptr()) < 0 {
            fail("chdir");
        }
        let default = libc::SIG_DFL;
        for signal in [libc::SIGPIPE, libc::SIGCHLD, libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::signal(signal, default);
        }
        let none = empty_signal_set();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        let mut errno = libc::ENOENT;
        for &file in area.files.iter().take_while(|f| !f.is_null()) {
            libc::execve(file, area.argv.as_ptr(), area.envp.as_ptr());
            match *libc::__errno_location() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::ENOEXEC => {
                    area.shell_argv[1] = file;
                    libc::execve(SHELL.as_ptr(), area.shell_argv.as_ptr(), area.envp.as_ptr());
                    errno = *libc::__errno_location();
                }
                other => errno = other,
            }
        }
        *libc::__errno_location() = errno;
        fail("exec")
    }
}

fn empty_signal_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Blocks a signal and gives a descriptor that reads it (signalfd(2)), non-blocking, closed on exec.
///
/// # Errors
/// Those of signalfd(2).
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    let mut set = empty_signal_set();
    // SAFETY: the set is initialised; sigaddset refuses numbers that are no signals.
    unsafe {
        for &signal in signals {
            check(libc::sigaddset(&raw mut set, signal))?;
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
        check(fd)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Restores the default disposition and unblocks all signals: what a forked tool of an agent starts with.
pub fn reset_signals() {
    let none = empty_signal_set();
    // SAFETY: default dispositions only.
    unsafe {
        for signal in [libc::SIGPIPE, libc::SIGCHLD, libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Ignores a signal.
pub fn ignore_signal(signal: i32) {
    // SAFETY: ignoring runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// How a reaped child ended: its exit code, or the signal that killed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Exit code.
    Code(i32),
    /// Signal number.
    Signal(i32),
}

/// Reaps one child that has ended, any or the one asked for, without waiting.
///
/// # Errors
/// Those of waitpid(2); ECHILD (no children at all) is `Ok(None)`.
pub fn reap(pid: Option<u32>) -> io::Result<Option<(u32, Status)>> {
    let mut status = 0;
    let which = pid.map_or(-1, |pid| pid as libc::pid_t);
    // SAFETY: `status` outlives the call.
    match unsafe { libc::waitpid(which, &raw mut status, libc::WNOHANG) } {
        0 => Ok(None),
        -1 => {
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::ECHILD) { Ok(None) } else { Err(error) }
        }
        pid if libc::WIFSIGNALED(status) => Ok(Some((pid as u32, Status::Signal(libc::WTERMSIG(status))))),
        pid => Ok(Some((pid as u32, Status::Code(libc::WEXITSTATUS(status))))),
    }
}

/// Bytes in a page of memory. The C library knows it from the start of the program: before Linux 6.4 a process that has hidden
/// itself cannot ask the kernel any more.
pub fn page_size() -> u64 {
    // SAFETY: a plain number in and out.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

/// Sends a signal (kill(2)); a negative number means a process group.
///
/// # Errors
/// Those of kill(2).
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { libc::kill(pid, signal) })
}

pub(crate) fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(crate) fn check_long(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
