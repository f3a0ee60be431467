//! User namespaces and their id maps (user_namespaces(7)).

use crate::process::{Cloned, Namespaces, SingleThreaded, clone, exit_now};
use rustix::fd::OwnedFd;
use std::fs::File;
use std::io::{self, Write as _};

/// Which ids of the parent namespace the ids of a namespace are: `count` from `inside` on stand for those from
/// `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdMap {
    /// The first id inside.
    pub inside: u32,
    /// The parent's id for it.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Writes the user and group map of a process that was cloned into a new user namespace.
///
/// # Errors
/// Those of writing `/proc/PID/uid_map`: EPERM without privilege over the ids.
pub fn write_maps(pid: u32, map: IdMap) -> io::Result<()> {
    write_two_maps(pid, map, map)
}

/// Writes a user map and another group map.
///
/// # Errors
/// As for [`write_maps`].
pub fn write_two_maps(pid: u32, users: IdMap, groups: IdMap) -> io::Result<()> {
    let line = |map: IdMap| format!("{} {} {}", map.inside, map.outside, map.count);
    write_proc(pid, "uid_map", &line(users))?;
    write_proc(pid, "gid_map", &line(groups))
}

/// Gives a process that was cloned into a new user namespace all ids that the caller's own has, by the same numbers.
///
/// # Errors
/// As for [`write_maps`].
pub fn write_same_maps(pid: u32) -> io::Result<()> {
    for file in ["uid_map", "gid_map"] {
        write_proc(pid, file, &same(&std::fs::read_to_string(format!("/proc/self/{file}"))?))?;
    }
    Ok(())
}

/// A map onto itself: piece by piece, because a piece of a map may not span two of the parent's.
fn same(map: &str) -> String {
    let mut text = String::new();
    for line in map.lines() {
        let mut fields = line.split_whitespace();
        if let (Some(first), Some(_), Some(count)) = (fields.next(), fields.next(), fields.next()) {
            text += &format!("{first} {first} {count}\n");
        }
    }
    text
}

/// Maps root of a new namespace to the one user and group of an unprivileged caller. A map that is written already stays.
///
/// # Errors
/// Those of writing the maps.
pub fn write_single_map(pid: u32, uid: u32, gid: u32) -> io::Result<()> {
    let is_open = |file: &str| -> io::Result<bool> {
        Ok(std::fs::read_to_string(format!("/proc/{pid}/{file}"))?.trim().is_empty())
    };
    if is_open("uid_map")? {
        write_proc(pid, "uid_map", &format!("0 {uid} 1"))?;
    }
    if is_open("gid_map")? {
        write_proc(pid, "setgroups", "deny")?;
        write_proc(pid, "gid_map", &format!("0 {gid} 1"))?;
    }
    Ok(())
}

fn write_proc(pid: u32, file: &str, text: &str) -> io::Result<()> {
    File::options().write(true).open(format!("/proc/{pid}/{file}"))?.write_all(text.as_bytes())
}

/// A user namespace with these maps, held by nothing but the returned descriptor: for idmapped mounts.
///
/// # Errors
/// Those of cloning and of writing the maps.
pub fn with_maps(token: SingleThreaded, users: IdMap, groups: IdMap) -> io::Result<OwnedFd> {
    let (gate, hold) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match clone(token, Namespaces::USER, None)? {
        Cloned::Child => {
            drop(hold);
            let mut byte = [0_u8; 1];
            exit_now(if rustix::io::read(&gate, &mut byte).is_ok() { 0 } else { 1 })
        }
        Cloned::Parent { pid, pidfd } => {
            let namespace = write_two_maps(pid, users, groups)
                .and_then(|()| File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from));
            drop(hold);
            rustix::process::waitid(
                rustix::process::WaitId::PidFd(rustix::fd::AsFd::as_fd(&pidfd)),
                rustix::process::WaitIdOptions::EXITED,
            )?;
            namespace
        }
    }
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn maps_onto_themselves_keep_their_pieces() {
        let own = "         0       1000          1\n         1     100000      65535\n";
        assert_eq!(same(own), "0 0 1\n1 1 65535\n");
    }
}
