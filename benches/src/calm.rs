//! Quiet moments of a host that others work on too.

use crate::Outcome;
use std::time::{Duration, Instant};

/// A round begins on a busy host rather than later than this.
const PATIENCE: Duration = Duration::from_secs(5);
/// The part of all processors' time that others may take in a quiet moment.
const NOISE: f64 = 0.1;

/// Waits until the host has done next to nothing for a while, or for five seconds.
///
/// A neighbour slows what is measured, and its floor as well, but seldom both at once.
pub(crate) fn wait(window: Duration) -> Outcome<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let before = Times::now()?;
        std::thread::sleep(window);
        if Times::now()?.busy_since(&before) <= NOISE {
            return Ok(());
        }
    }
    Ok(())
}

/// What all processors have done since the host was started (proc_stat(5)), in clock ticks.
pub(crate) struct Times {
    idle: u64,
    /// What the host of this host gave to others while something here wanted to run.
    pub(crate) stolen: u64,
    all: u64,
}

impl Times {
    pub(crate) fn now() -> Outcome<Times> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().ok_or("/proc/stat is empty")?;
        let ticks: Vec<u64> =
            line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        let [_, _, _, idle, waiting, _, _, stolen, ..] = ticks[..] else {
            return Err("/proc/stat has no times".into());
        };
        Ok(Times { idle: idle + waiting, stolen, all: ticks.iter().take(8).sum() })
    }

    fn busy_since(&self, before: &Times) -> f64 {
        let all = self.all.saturating_sub(before.all);
        let idle = self.idle.saturating_sub(before.idle);
        if all == 0 { 0.0 } else { 1.0 - idle as f64 / all as f64 }
    }
}
