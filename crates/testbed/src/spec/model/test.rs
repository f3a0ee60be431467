use super::need::Need;
use std::path::PathBuf;
use std::time::Duration;

/// Something with an id and an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    pub(in crate::spec) id: String,
    pub(in crate::spec) on: On,
    pub(in crate::spec) program: Program,
    pub(in crate::spec) timeout: Duration,
    pub(in crate::spec) fresh: Fresh,
    pub(in crate::spec) expect: Expect,
    pub(in crate::spec) needs: Vec<Need>,
    pub(in crate::spec) tags: Vec<String>,
    pub(in crate::spec) env: Vec<(String, String)>,
    pub(in crate::spec) user: Option<String>,
}

impl Test {
    /// Its id, unique in the testbed.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it runs.
    pub fn on(&self) -> &On {
        &self.on
    }

    /// What runs.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// How long it may take. A test whose deadline passes has failed.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// With whom it shares a copy of the testbed.
    pub fn fresh(&self) -> &Fresh {
        &self.fresh
    }

    /// Which end counts as success.
    pub fn expect(&self) -> Expect {
        self.expect
    }

    /// What the host, or the kernel of its machine, must be able to do; the test is skipped where it cannot.
    pub fn needs(&self) -> &[Need] {
        &self.needs
    }

    /// Its tags, in file order, each once.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Variables beyond those of its place.
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// The user it runs as, `name`, `name:group` or numbers; root if none. Never set for a test on the host.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
}

/// Where a test runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// On the host, with the command `testbed` speaking to its own copy.
    Host,
    /// On this machine.
    Machine(String),
}

/// What a test runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Text for `/bin/sh -c`.
    Shell(String),
    /// An executable file of the host.
    File(PathBuf),
}

/// How fresh the copy is that a test gets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fresh {
    /// A copy of its own.
    Testbed,
    /// One copy for all tests of this group, one after another in file order.
    Group(String),
    /// One copy for all such tests of the run, one after another in file order.
    Run,
}

/// Which end of a test counts as success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Exit status 0 before the deadline.
    Success,
    /// Anything else; the deadline's passing too.
    Failure,
}
