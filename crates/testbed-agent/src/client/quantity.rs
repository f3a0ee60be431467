//! Durations as people write them: the same that the file takes.

use std::time::Duration;

/// No deadline is longer: 31 days.
const LONGEST: f64 = 31.0 * 24.0 * 3600.0;

/// `10s`, `500ms`, `1.5h`, `1h 30m`. Units: ms, s, m or min, h. At least 1 ms, at most 31 days.
///
/// # Errors
/// What a duration is.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "a duration is a number and a unit, ms, s, m or h: 500ms, 10s, \"1h 30m\"";
    let mut seconds = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(FORM);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
            return Err(FORM);
        }
        let number: f64 = number.parse().map_err(|_| FORM)?;
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
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
    match seconds {
        ..0.001 => Err("a duration is at least 1 ms"),
        LONGEST.. => Err("a duration is at most 31 days"),
        // Milliseconds are exact; both bounds were checked, so the number fits.
        _ => Ok(Duration::from_millis((seconds * 1000.0).round() as u64)),
    }
}

/// The number of a signal: `TERM`, `SIGTERM`, `term` or `15`.
pub(super) fn signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (0..=64).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// Those with names that programs are sent (signal(7)).
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ABRT", libc::SIGABRT),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("WINCH", libc::SIGWINCH),
];
