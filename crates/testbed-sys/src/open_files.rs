//! How many files a process may have open at once (getrlimit(2), `RLIMIT_NOFILE`).
//!
//! A keeper of many machines, and its launcher, need several descriptors for each. What they start is to find the limit
//! that it expects: programs that count on a low one, or try every descriptor up to it, are many.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::OnceLock;

/// Enough for ten thousand machines; beyond that the tables themselves become large.
const MOST: u64 = 65_536;

static FORMER: OnceLock<(u64, u64)> = OnceLock::new();

/// Raises this process's soft limit as far as the hard one allows, to 65,536 at most. `former` is what those that it
/// starts are to have; none for what it has itself.
///
/// # Errors
/// Those of setrlimit(2).
pub fn raise(former: Option<u64>) -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let (Some(soft), hard) = (current, maximum.unwrap_or(u64::MAX)) else { return Ok(()) };
    // The first counts: later ones would take what was raised for what was there.
    let _ = FORMER.set((former.unwrap_or(soft).min(hard), hard));
    let wanted = MOST.min(hard);
    if soft < wanted {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?;
    }
    Ok(())
}

/// The soft limit before [`raise`]; none if that was not called.
pub fn former() -> Option<u64> {
    FORMER.get().map(|(soft, _)| *soft)
}

/// The limits of what is started, if they are not this process's own.
pub(crate) fn of_children() -> Option<libc::rlimit> {
    FORMER.get().map(|&(rlim_cur, rlim_max)| libc::rlimit { rlim_cur, rlim_max })
}

/// Has a program begin with the limit that this process had before [`raise`].
pub fn restore_in(command: &mut Command) {
    let Some(soft) = former() else { return };
    let restore = move || {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum })?)
    };
    // SAFETY: between fork and exec it makes two system calls, and allocates and locks nothing.
    unsafe { command.pre_exec(restore) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_has_the_limit_of_before() {
        let limit = || {
            let mut shell = Command::new("sh");
            shell.args(["-c", "ulimit -Sn"]);
            restore_in(&mut shell);
            String::from_utf8(shell.output().unwrap().stdout).unwrap()
        };
        let before = limit();
        raise(None).unwrap();
        assert_eq!(limit(), before);
        let now = getrlimit(Resource::Nofile);
        assert!(now.current >= Some(MOST) || now.current == now.maximum, "{now:?}");
    }
}
