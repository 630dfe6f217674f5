//! How long things took.

use std::fmt;
use std::time::Duration;

/// A collection of times.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.0.len()
    }

    /// The time within which this part of all, 0 to 1, lies; zero where there are none.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = ((sorted.len() as f64 * part).ceil() as usize).saturating_sub(1);
        sorted.get(index).copied().unwrap_or_default()
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        Self(times.into_iter().collect())
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, p99, max] = [0.5, 0.99, 1.0].map(|part| self.quantile(part).as_secs_f64());
        write!(f, "median {median:.3} s, p99 {p99:.3} s, max {max:.3} s (of {})", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        let times: Times = (1..=100).rev().map(Duration::from_secs).collect();
        assert_eq!(times.quantile(0.5), Duration::from_secs(50));
        assert_eq!(times.quantile(0.99), Duration::from_secs(99));
        assert_eq!(times.quantile(1.0), Duration::from_secs(100));
        assert_eq!(Times::default().quantile(0.5), Duration::ZERO);
    }
}
