//! What went wrong with the testbed itself, in a form that crosses processes.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The testbed failed. Never used for a test that failed: that is data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What kind of failure; programs may match on it.
    pub kind: FaultKind,
    /// What was being done, as a verb phrase: `mount /proc`.
    pub operation: String,
    /// The machine it happened to, if one.
    pub machine: Option<String>,
    /// The file or folder it happened to, if one.
    pub path: Option<String>,
    /// The system's error number, if there was one.
    pub errno: Option<i32>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The end of what a program printed before it failed.
    pub log: Option<String>,
}

/// The kinds of [`Fault`]. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FaultKind {
    /// The call makes no sense: a bad argument, a path that is not absolute.
    Invalid,
    /// There is no such machine, network, process, file or test.
    NotFound,
    /// It exists already.
    Exists,
    /// The machine or testbed is in a state in which this cannot be done.
    State,
    /// A deadline passed.
    Timeout,
    /// Not allowed.
    Denied,
    /// The host or the machine's kernel cannot do this.
    Unsupported,
    /// Memory, disk, process or descriptor limits.
    Exhausted,
    /// The other side of a protocol broke its rules or went away.
    Protocol,
    /// An image could not be built.
    Image,
    /// The system refused, see `errno`.
    System,
    /// Interrupted by the user.
    Interrupted,
}

impl FaultKind {
    /// The stable name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Invalid => "invalid",
            FaultKind::NotFound => "not-found",
            FaultKind::Exists => "exists",
            FaultKind::State => "state",
            FaultKind::Timeout => "timeout",
            FaultKind::Denied => "denied",
            FaultKind::Unsupported => "unsupported",
            FaultKind::Exhausted => "exhausted",
            FaultKind::Protocol => "protocol",
            FaultKind::Image => "image",
            FaultKind::System => "system",
            FaultKind::Interrupted => "interrupted",
        }
    }
}

impl Fault {
    /// A fault with no more than its kind and operation.
    pub fn new(kind: FaultKind, operation: impl Into<String>) -> Fault {
        Fault {
            kind,
            operation: operation.into(),
            machine: None,
            path: None,
            errno: None,
            hint: None,
            log: None,
        }
    }

    /// A fault from an error of the system while doing `operation`.
    pub fn system(operation: impl Into<String>, error: &std::io::Error) -> Fault {
        use std::io::ErrorKind as E;
        let kind = match error.kind() {
            E::NotFound => FaultKind::NotFound,
            E::AlreadyExists => FaultKind::Exists,
            E::PermissionDenied => FaultKind::Denied,
            E::TimedOut => FaultKind::Timeout,
            E::StorageFull | E::OutOfMemory | E::QuotaExceeded => FaultKind::Exhausted,
            E::Unsupported => FaultKind::Unsupported,
            _ => FaultKind::System,
        };
        let mut fault = Fault::new(kind, operation);
        fault.errno = error.raw_os_error();
        if fault.errno.is_none() {
            fault.operation = format!("{}: {error}", fault.operation);
        }
        fault
    }

    /// Says which machine it happened to, unless that is known already.
    #[must_use]
    pub fn on(mut self, machine: impl Into<String>) -> Fault {
        self.machine.get_or_insert_with(|| machine.into());
        self
    }

    /// Says which path it happened to.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Fault {
        self.path = Some(path.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }

    /// What was looked for is not there.
    pub fn is_absence(&self) -> bool {
        self.kind == FaultKind::NotFound || self.errno == Some(libc::ENOTDIR)
    }

    /// Attaches the end of a log.
    #[must_use]
    pub fn log(mut self, log: impl Into<String>) -> Fault {
        self.log = Some(log.into());
        self
    }
}

impl fmt::Display for Fault {
    /// One line without hint and log; whoever renders for people adds those. A fault may be a machine's word: what
    /// would move a terminal's cursor or end the line is shown as a replacement character.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let mut plain = |text: &str| {
            text.chars()
                .try_for_each(|c| f.write_char(if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }))
        };
        if let Some(machine) = &self.machine {
            plain(machine)?;
            plain(": ")?;
        }
        plain(&self.operation)?;
        if let Some(path) = &self.path {
            plain(" ")?;
            plain(path)?;
        }
        match self.errno {
            Some(errno) => write!(f, ": {}", std::io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

/// Turns errors of the system into faults.
pub trait Doing<T> {
    /// Says what was being done, as a verb phrase.
    ///
    /// # Errors
    /// The error, as a [`Fault`].
    fn doing(self, operation: impl Into<String>) -> Result<T, Fault>;
    /// Says what was being done, and to which path.
    ///
    /// # Errors
    /// The error, as a [`Fault`].
    fn doing_to(self, operation: impl Into<String>, path: impl Into<String>) -> Result<T, Fault>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, operation: impl Into<String>) -> Result<T, Fault> {
        self.map_err(|error| Fault::system(operation, &error.into()))
    }

    fn doing_to(self, operation: impl Into<String>, path: impl Into<String>) -> Result<T, Fault> {
        self.map_err(|error| Fault::system(operation, &error.into()).at(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_one_line() {
        let error = std::io::Error::from_raw_os_error(libc::ENOENT);
        let fault = Fault::system("open", &error).at("/etc/x").on("gw1").on("later");
        assert_eq!(fault.to_string(), "gw1: open /etc/x: No such file or directory (os error 2)");
        assert_eq!(fault.kind, FaultKind::NotFound);
        let hostile = Fault::new(FaultKind::System, "\x1b[2Jgone\nroot# ").to_string();
        assert_eq!(hostile, "\u{fffd}[2Jgone\u{fffd}root# ");
    }
}
