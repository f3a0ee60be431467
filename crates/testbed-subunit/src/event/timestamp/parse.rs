use std::str::FromStr;

use super::{TimeError, Timestamp};

impl FromStr for Timestamp {
    type Err = TimeError;

    /// Reads RFC 3339 and what is close to it: `2026-11-20T19:00:01.5Z`, `2026-11-20 20:00:01+01:00`. Without a zone it
    /// is UTC. What is finer than a nanosecond is dropped, and a leap second is the second before it.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse(text.trim().as_bytes()).unwrap_or(Err(TimeError::Form))
    }
}

/// `None` where the form is wrong.
fn parse(text: &[u8]) -> Option<Result<Timestamp, TimeError>> {
    let (date, rest) = text.split_at_checked(10)?;
    let (between, rest) = rest.split_first()?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let [year @ .., b'-', _, _, b'-', _, _] = date else { return None };
    let (month, day) = (number(&date[5..7])?, number(&date[8..10])?);
    let [_, _, b':', _, _, b':', _, _] = clock else { return None };
    let (hour, minute, second) = (number(&clock[..2])?, number(&clock[3..5])?, number(&clock[6..])?);
    let in_range =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !matches!(between, b'T' | b't' | b' ') || !in_range {
        return None;
    }
    let (nanos, zone) = fraction(rest)?;
    let days = days_since_epoch(number(year)?, month, day);
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second.min(59) - offset(zone)?;
    Some(match u32::try_from(seconds) {
        Ok(seconds) => Timestamp::new(seconds, nanos),
        Err(_) if seconds < 0 => Err(TimeError::TooEarly),
        Err(_) => Err(TimeError::TooLate),
    })
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value: i64, digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        value.checked_mul(10)?.checked_add(digit.into())
    })
}

/// Nanoseconds of `.5`, and what stands behind them.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let [b'.' | b',', digits @ ..] = text else { return Some((0, text)) };
    let length = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    let (digits, zone) = digits.split_at(length);
    let nanos =
        (0..9).fold(0, |value, at| value * 10 + digits.get(at).map_or(0, |digit| u32::from(digit - b'0')));
    (length > 0).then_some((nanos, zone))
}

/// Seconds that a zone is ahead of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, rest) = match zone {
        [] | b"Z" | b"z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest {
        [_, _, b':', _, _] => (&rest[..2], &rest[3..]),
        [_, _, _, _] => rest.split_at(2),
        [_, _] => (rest, &rest[2..]),
        _ => return None,
    };
    Some(sign * (number(hours)? * 3_600 + number(minutes)? * 60))
}

/// Days of the proleptic Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil).
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_of_one_moment() {
        let moment = Ok(Timestamp::new(1_795_201_201, 500_000_000).unwrap());
        for text in [
            "2026-11-20T19:00:01.5Z",
            "2026-11-20 19:00:01.500000000",
            "2026-11-20T20:30:01.5000000004+01:30",
            "2026-11-20t14:00:01,5-0500",
            "2026-11-20T21:00:01.5+02",
        ] {
            assert_eq!(text.parse(), moment, "{text}");
        }
    }

    #[test]
    fn no_moments() {
        for text in [
            "",
            "2026-11-20",
            "2026-11-20T19:00",
            "2026-13-20T19:00:01Z",
            "2026-11-20T19:00:01.Z",
            "x2026-1-20T19:00:01",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(TimeError::Form), "{text}");
        }
        assert_eq!("1969-12-31T23:59:59Z".parse::<Timestamp>(), Err(TimeError::TooEarly));
        assert_eq!("2106-02-07T06:28:16Z".parse::<Timestamp>(), Err(TimeError::TooLate));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read(seconds in any::<u32>(), nanos in 0..1_000_000_000u32) {
            let moment = Timestamp::new(seconds, nanos).unwrap();
            prop_assert_eq!(moment.to_string().parse(), Ok(moment));
        }

        #[test]
        fn no_text_stops_it(text in "\\PC{0,40}|[-0-9T:. Z+]{0,40}") {
            let _ = text.parse::<Timestamp>();
        }
    }
}
