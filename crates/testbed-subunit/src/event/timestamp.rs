mod parse;

use std::fmt;
use std::time::{Duration, SystemTime};

use thiserror::Error;

/// A moment that the wire can carry: 1970-01-01 to 2106-02-07T06:28:15.999999999, UTC, in nanoseconds.
///
/// It is shown as RFC 3339: `2026-11-20T19:00:01.500000000Z`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp {
    seconds: u32,
    nanos: u32,
}

/// Why something is no moment that the wire can carry.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum TimeError {
    /// It lies before 1970.
    #[error("time lies before 1970")]
    TooEarly,
    /// It lies past 2106-02-07T06:28:15Z.
    #[error("time lies past 2106-02-07T06:28:15Z")]
    TooLate,
    /// A second has fewer nanoseconds.
    #[error("{0} nanoseconds are a second or more")]
    Nanoseconds(u32),
    /// It is no time as RFC 3339 writes it.
    #[error("time is not written as in 2026-11-20T19:00:01Z")]
    Form,
}

const NANOS_PER_SECOND: u32 = 1_000_000_000;

impl Timestamp {
    /// `seconds` since 1970 and `nanos` nanoseconds.
    ///
    /// # Errors
    /// [`TimeError::Nanoseconds`] where `nanos` is a second or more. python-subunit carries them over into the
    /// seconds; no writer is known to make them.
    #[inline]
    pub fn new(seconds: u32, nanos: u32) -> Result<Self, TimeError> {
        if nanos >= NANOS_PER_SECOND {
            return Err(TimeError::Nanoseconds(nanos));
        }
        Ok(Self { seconds, nanos })
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> u32 {
        self.seconds
    }

    /// Nanoseconds into the second, less than 1,000,000,000.
    pub fn nanos(self) -> u32 {
        self.nanos
    }

    /// The time since 1970.
    pub fn since_epoch(self) -> Duration {
        Duration::new(self.seconds.into(), self.nanos)
    }

    /// The time from `earlier` to this moment. `None` where `earlier` is the later one, as when two clocks differ.
    pub fn since(self, earlier: Self) -> Option<Duration> {
        self.since_epoch().checked_sub(earlier.since_epoch())
    }

    /// Year, month and day of the proleptic Gregorian calendar.
    fn date(self) -> (u32, u32, u32) {
        // Days are counted from 0000-03-01, so that the leap day ends a year and a 400-year era has no exception
        // (Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days).
        let days = self.seconds / 86_400 + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        (era * 400 + year_of_era + u32::from(month <= 2), month, day)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        let (hour, minute, second) = (self.seconds / 3_600 % 24, self.seconds / 60 % 60, self.seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", self.nanos)
    }
}

impl TryFrom<SystemTime> for Timestamp {
    type Error = TimeError;

    fn try_from(time: SystemTime) -> Result<Self, TimeError> {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| TimeError::TooEarly)?;
        let seconds = u32::try_from(since.as_secs()).map_err(|_| TimeError::TooLate)?;
        Self::new(seconds, since.subsec_nanos())
    }
}

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        Self::UNIX_EPOCH + timestamp.since_epoch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_rfc_3339() {
        let shown = |seconds, nanos| Timestamp::new(seconds, nanos).unwrap().to_string();
        assert_eq!(shown(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(shown(951_782_400, 1), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(shown(951_868_799, 0), "2000-02-29T23:59:59.000000000Z");
        assert_eq!(shown(951_868_800, 0), "2000-03-01T00:00:00.000000000Z");
        assert_eq!(shown(1_795_201_201, 500_000_000), "2026-11-20T19:00:01.500000000Z");
        assert_eq!(shown(u32::MAX, 999_999_999), "2106-02-07T06:28:15.999999999Z");
    }

    #[test]
    fn only_what_the_wire_can_carry() {
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(Timestamp::try_from(epoch - Duration::from_nanos(1)), Err(TimeError::TooEarly));
        assert_eq!(Timestamp::try_from(epoch + Duration::from_secs(1 << 32)), Err(TimeError::TooLate));
        assert_eq!(Timestamp::new(0, NANOS_PER_SECOND), Err(TimeError::Nanoseconds(NANOS_PER_SECOND)));
        let last = Timestamp::new(u32::MAX, NANOS_PER_SECOND - 1).unwrap();
        assert_eq!(Timestamp::try_from(SystemTime::from(last)), Ok(last));
    }
}
