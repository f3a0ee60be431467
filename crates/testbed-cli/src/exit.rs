//! Exit codes: part of what the command promises.

use std::process::ExitCode;

/// What `testbed --help` says of them.
pub(crate) const HELP: &str = "\
Exit codes: 0 all passed, 1 tests failed, 2 the call or the file is wrong, 3 the testbed failed,
4 nothing to run, 130 interrupted. `exec` and `shell` end as the command they ran, or with 125;
`wait` and what asks the network (`ping`, `tcp`, ...) end with 1 where the answer is no.";

/// How the command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked; all tests passed.
    Success,
    /// Tests failed.
    TestsFailed,
    /// The call or the file is wrong.
    Usage,
    /// The testbed failed: a machine did not start, a link could not be made.
    TestbedFailed,
    /// There was nothing to run.
    NothingToRun,
    /// Ctrl-C, or a request to end.
    Interrupted,
    /// As what ran in a machine did, or as the command's own words say.
    Inner(u8),
}

impl Exit {
    /// The number that the caller sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::TestsFailed => 1,
            Exit::Usage => 2,
            Exit::TestbedFailed => 3,
            Exit::NothingToRun => 4,
            Exit::Interrupted => 130,
            Exit::Inner(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
