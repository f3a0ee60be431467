use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// What a test is or has become (subunit v2, "Flags", low three bits).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Status {
    /// The test is there. Said when tests are listed.
    Exists = 1,
    /// It runs.
    InProgress = 2,
    /// It passed.
    Success = 3,
    /// It passed although it was expected to fail. A failure.
    UxSuccess = 4,
    /// It was not run.
    Skip = 5,
    /// It failed.
    Fail = 6,
    /// It failed, as expected.
    XFail = 7,
}

impl Status {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 7] =
        [Self::Exists, Self::InProgress, Self::Success, Self::UxSuccess, Self::Skip, Self::Fail, Self::XFail];

    /// The status of a code on the wire. 0 and numbers past 7 have none.
    #[inline]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// The code on the wire, 1 to 7.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Whether nothing more is to come of the test: every status but [`Status::InProgress`].
    pub fn is_final(self) -> bool {
        self != Self::InProgress
    }

    /// Whether a run with such a test has failed: [`Status::Fail`] and [`Status::UxSuccess`].
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Fail | Self::UxSuccess)
    }

    /// subunit's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::InProgress => "inprogress",
            Self::Success => "success",
            Self::UxSuccess => "uxsuccess",
            Self::Skip => "skip",
            Self::Fail => "fail",
            Self::XFail => "xfail",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no status of subunit.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("no status is called `{0}`")]
pub struct UnknownStatus(pub String);

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(word: &str) -> Result<Self, UnknownStatus> {
        let named = Self::ALL.into_iter().find(|status| status.as_str() == word);
        named.ok_or_else(|| UnknownStatus(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_words_come_back() {
        for (status, code) in Status::ALL.into_iter().zip(1..) {
            assert_eq!(status.code(), code);
            assert_eq!(Status::from_code(code), Some(status));
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert_eq!(Status::from_code(0), None);
        assert_eq!(Status::from_code(8), None);
        assert_eq!("error".parse::<Status>(), Err(UnknownStatus("error".to_owned())));
    }
}
