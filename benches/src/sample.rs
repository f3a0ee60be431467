//! Times that were measured, and what is said of them.

use std::time::Duration;

/// Times of one thing, in the order in which they were taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The time below which this part of all times is.
    pub(crate) fn at(&self, part: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.at(0.5)
    }

    pub(crate) fn least(&self) -> Duration {
        self.at(0.0)
    }
}

/// Shows a time with a unit that fits it.
pub(crate) fn show(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    match us {
        _ if us < 1e4 => format!("{us:.0} µs"),
        _ if us < 1e6 => format!("{:.1} ms", us / 1e3),
        _ => format!("{:.2} s", us / 1e6),
    }
}

/// One thing and its floor, measured by turns.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    pub(crate) ours: Sample,
    pub(crate) floor: Sample,
}

impl Pair {
    /// Says how they compare, and whether the ratio of the medians is within the bar.
    pub(crate) fn tell(&self, name: &str, bar: f64) {
        let ratio =
            |at: fn(&Sample) -> Duration| at(&self.ours).as_secs_f64() / at(&self.floor).as_secs_f64();
        let by_median = ratio(Sample::median);
        for (who, sample) in [("ours", &self.ours), ("floor", &self.floor)] {
            crate::say(&format!(
                "{name:<22} {who:<6} median {:>9}  least {:>9}  p95 {:>9}",
                show(sample.median()),
                show(sample.least()),
                show(sample.at(0.95)),
            ));
        }
        crate::say(&format!(
            "{name:<22} ratio  {by_median:.2} by medians, {:.2} by least; bar {bar:.2}: {}",
            ratio(Sample::least),
            verdict(by_median <= bar),
        ));
    }
}

pub(crate) fn verdict(holds: bool) -> &'static str {
    if holds { "holds" } else { "does not hold" }
}
