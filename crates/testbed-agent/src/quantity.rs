//! Durations and sizes as people write them.

use std::time::Duration;

/// No deadline is longer: about a month.
const LONGEST: f64 = 31.0 * 24.0 * 3600.0;

/// `"10s"`, `"500ms"`, `"1.5h"`, `"1h 30m"`. Units: ms, s, m or min, h. At least 1 ms, at most 31 days.
///
/// # Errors
/// What is wrong with it, or what a duration is.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "a duration is a number and a unit, ms, s, m or h: \"500ms\", \"10s\", \"1h 30m\"";
    let mut seconds = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(FORM);
    }
    while !rest.is_empty() {
        let (number, after) = leading_number(rest).ok_or(FORM)?;
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        seconds += number
            * match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                _ => return Err(FORM),
            };
        rest = next.trim_start();
    }
    if seconds < 0.001 {
        return Err("a duration is at least 1 ms");
    }
    if seconds > LONGEST {
        return Err("a duration is at most 31 days");
    }
    // Milliseconds are exact; both bounds were checked, so the number fits.
    Ok(Duration::from_millis((seconds * 1000.0).round() as u64))
}

/// `"512M"`, `"1.5G"`, `"64KiB"`, `"4096"` bytes. K, M, G and T are powers of 1024. Positive, below 8 EiB.
///
/// # Errors
/// What is wrong with it, or what a size is.
pub fn parse_size(text: &str) -> Result<u64, &'static str> {
    const FORM: &str = "a size is a number of bytes, or one with K, M, G or T (powers of 1024): \"512M\"";
    let (number, unit) = leading_number(text.trim()).ok_or(FORM)?;
    let factor = match unit {
        "" | "B" => 1u64,
        "K" | "KB" | "KiB" => 1 << 10,
        "M" | "MB" | "MiB" => 1 << 20,
        "G" | "GB" | "GiB" => 1 << 30,
        "T" | "TB" | "TiB" => 1 << 40,
        _ => return Err(FORM),
    };
    let bytes = number * factor as f64;
    if bytes < 1.0 {
        return Err("a size is at least one byte");
    }
    if bytes >= 9.2e18 {
        return Err("a size is below 8 EiB");
    }
    // Both bounds were checked, so the number fits.
    Ok(bytes.round() as u64)
}

/// A number of digits with at most one point, and what follows it.
fn leading_number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return None;
    }
    Some((number.parse().ok()?, rest.trim_start()))
}

/// A duration as [`parse_duration`] reads it.
pub fn print_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if !millis.is_multiple_of(1000) {
        return format!("{millis}ms");
    }
    match millis / 1000 {
        seconds if seconds >= 120 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// A size as [`parse_size`] reads it.
pub fn print_size(bytes: u64) -> String {
    for (unit, shift) in [("T", 40), ("G", 30), ("M", 20), ("K", 10)] {
        if bytes.is_multiple_of(1 << shift) && bytes > 0 {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in
            [("1s", 1000), ("500ms", 500), ("1.5h", 5_400_000), ("1h 30m", 5_400_000), ("15min", 900_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "10 parsecs", "-1s", "0s", "1..5s", "1e3s", "99999h", "10s10", "5.s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in
            [("512M", 512 << 20), ("1.5G", 3 << 29), ("64KiB", 64 << 10), ("4096", 4096), ("1 T", 1 << 40)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1M", "0", "1X", "1MM", "99999999T", "512m"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn quantities_read_back_as_they_print(millis in 1u64..2_000_000_000, bytes in 1u64..1 << 50) {
            let span = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&print_duration(span)), Ok(span));
            prop_assert_eq!(parse_size(&print_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
