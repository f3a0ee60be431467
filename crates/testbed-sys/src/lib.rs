//! The Linux kernel, made safe for whoever makes machines.
//!
//! This is the only crate of the workspace with `unsafe` in it. It knows nothing of testbeds: it offers processes in
//! namespaces, mounts by descriptor, id maps, cgroups, system-call filters, links and taps, each as a small safe
//! function over one or a few system calls. It is synchronous, starts no threads and keeps no state.
//!
//! What `rustix` already offers safely is used from there; here stands what it lacks or what must be one step.

pub mod cgroup;
pub mod delegation;
pub mod disk;
pub mod fdpass;
pub mod mount;
pub mod netlink;
pub mod nftables;
pub mod open_files;
pub mod packet;
pub mod process;
pub mod random;
pub mod route;
pub mod seccomp;
pub mod sockopt;
pub mod tap;
pub mod userns;
