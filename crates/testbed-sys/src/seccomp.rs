//! The filter of system calls that every machine runs behind (seccomp(2)).
//!
//! A user namespace already takes most of the host out of a machine's reach. The filter closes what it leaves open:
//! kernel interfaces that are not namespaced (key rings, VSOCK), or that testing a network service does not need and
//! whose code is large (BPF, io_uring, perf, userfaultfd), calls that nothing has used for decades, and system calls that
//! only ever act on the whole host. What podman refuses is refused here, but for what docs/threat-model.md names.

use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};
use std::io;
use std::mem::offset_of;

/// System calls that end with EPERM in a machine.
pub const DENIED: &[(&str, libc::c_long)] = &[
    ("keyctl", libc::SYS_keyctl),
    ("add_key", libc::SYS_add_key),
    ("request_key", libc::SYS_request_key),
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("kexec_load", libc::SYS_kexec_load),
    ("kexec_file_load", libc::SYS_kexec_file_load),
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("delete_module", libc::SYS_delete_module),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("io_uring_enter", libc::SYS_io_uring_enter),
    ("io_uring_register", libc::SYS_io_uring_register),
    ("clock_settime", libc::SYS_clock_settime),
    ("settimeofday", libc::SYS_settimeofday),
    ("adjtimex", libc::SYS_adjtimex),
    ("clock_adjtime", libc::SYS_clock_adjtime),
    ("swapon", libc::SYS_swapon),
    ("swapoff", libc::SYS_swapoff),
    ("quotactl", libc::SYS_quotactl),
    ("quotactl_fd", libc::SYS_quotactl_fd),
    ("acct", libc::SYS_acct),
    ("syslog", libc::SYS_syslog),
    ("lookup_dcookie", libc::SYS_lookup_dcookie),
    ("move_pages", libc::SYS_move_pages),
    ("migrate_pages", libc::SYS_migrate_pages),
    ("vhangup", libc::SYS_vhangup),
    ("fanotify_init", libc::SYS_fanotify_init),
    ("vmsplice", libc::SYS_vmsplice),
    #[cfg(target_arch = "x86_64")]
    ("sysfs", libc::SYS_sysfs),
    #[cfg(target_arch = "x86_64")]
    ("uselib", libc::SYS_uselib),
    #[cfg(target_arch = "x86_64")]
    ("ustat", libc::SYS_ustat),
    #[cfg(target_arch = "x86_64")]
    ("iopl", libc::SYS_iopl),
    #[cfg(target_arch = "x86_64")]
    ("ioperm", libc::SYS_ioperm),
];

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

/// Numbers from here on are another calling convention (x32) on x86-64, and none elsewhere.
const FOREIGN_NUMBERS: u32 = 0x4000_0000;

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

fn fail_with(errno: i32) -> sock_filter {
    statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32)
}

fn program() -> Vec<sock_filter> {
    let load = |offset: usize| statement(BPF_LD | BPF_W | BPF_ABS, offset as u32);
    let mut code = vec![
        load(offset_of!(libc::seccomp_data, arch)),
        jump(BPF_JMP | BPF_JEQ | BPF_K, NATIVE, 1, 0),
        fail_with(libc::ENOSYS),
        load(offset_of!(libc::seccomp_data, nr)),
        jump(BPF_JMP | BPF_JGE | BPF_K, FOREIGN_NUMBERS, 0, 1),
        fail_with(libc::ENOSYS),
    ];
    for (_, number) in DENIED {
        code.push(jump(BPF_JMP | BPF_JEQ | BPF_K, *number as u32, 0, 1));
        code.push(fail_with(libc::EPERM));
    }
    let first_argument = offset_of!(libc::seccomp_data, args);
    code.extend([
        jump(BPF_JMP | BPF_JEQ | BPF_K, libc::SYS_socket as u32, 0, 3),
        load(first_argument),
        jump(BPF_JMP | BPF_JEQ | BPF_K, libc::AF_VSOCK as u32, 0, 1),
        fail_with(libc::EAFNOSUPPORT),
        statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW),
    ]);
    code
}

/// Puts the calling process, and all that it will start, behind the filter. The caller must have CAP_SYS_ADMIN in its
/// user namespace; programs may still gain privileges by set-user-id files.
///
/// # Errors
/// Those of seccomp(2).
pub fn confine() -> io::Result<()> {
    let code = program();
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_ptr().cast_mut() };
    // SAFETY: `program` and the code it points to outlive the call; the kernel copies and checks them.
    crate::process::check_long(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    })
}
