//! What is asked of a health check: its kind, its argument, and how often and how patiently it is made.
//!
//! Where this comes from is in [`crate::service_labels`] for containers and in the registrar for static
//! services. What is done with it is not here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest argument of a check, in bytes.
pub const ARGS_MAX_LENGTH: usize = 1024;

/// How often a check may be made: 100 ms to an hour.
pub const INTERVAL_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));

/// How long a check may take: 10 ms to a minute.
pub const TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));

/// How many results in a row may be asked for: 1 to 100.
pub const STREAK_RANGE: (u32, u32) = (1, 100);

/// How it is found out whether an instance is healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckKind {
    /// An HTTP GET that is answered by a status of 200 to 299.
    HttpGet,
    /// A TCP connection that is accepted.
    Tcp,
    /// A command that exits with 0.
    External,
    /// Nothing is done: it is healthy as long as it runs.
    AlwaysSuccessful,
}

impl CheckKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::HttpGet, Self::Tcp, Self::External, Self::AlwaysSuccessful];

    /// The label's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HttpGet => "HttpGet",
            Self::Tcp => "Tcp",
            Self::External => "External",
            Self::AlwaysSuccessful => "AlwaysSuccessful",
        }
    }
}

impl fmt::Display for CheckKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no check; it is what was given, cut to a length fit for a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown health check {0:?}: expected HttpGet, Tcp, External or AlwaysSuccessful")]
pub struct UnknownCheckKind(pub String);

impl FromStr for CheckKind {
    type Err = UnknownCheckKind;

    fn from_str(text: &str) -> Result<Self, UnknownCheckKind> {
        let named = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        named.ok_or_else(|| UnknownCheckKind(text.chars().take(32).collect()))
    }
}

/// How often a check is made, and how patiently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timing {
    /// From the start of one check to the start of the next; in [`INTERVAL_RANGE`].
    pub interval: Duration,
    /// How long a check may take before it counts as failed; in [`TIMEOUT_RANGE`].
    pub timeout: Duration,
    /// How many successes in a row make an instance alive; in [`STREAK_RANGE`].
    pub rise: u32,
    /// How many failures in a row make it unhealthy; in [`STREAK_RANGE`].
    pub fall: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self { interval: Duration::from_secs(3), timeout: Duration::from_secs(3), rise: 1, fall: 2 }
    }
}

/// What is asked of an instance's health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckSettings {
    /// What is done; `None` where nothing is said, and the default for what the instance is applies.
    pub kind: Option<CheckKind>,
    /// The URL, address or command line, as it was written: templates in it are not filled in yet. At most
    /// [`ARGS_MAX_LENGTH`] bytes.
    pub args: Option<String>,
    /// How often, and how patiently.
    pub timing: Timing,
}

/// Why a text is not the number or duration that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTiming {
    /// It is no duration.
    #[error("expected a duration such as 3s, 500ms or 1m")]
    NotADuration,
    /// It is no number.
    #[error("expected a number")]
    NotANumber,
    /// It is a duration that makes no sense here.
    #[error("expected {0:?} to {1:?}")]
    DurationRange(Duration, Duration),
    /// It is a number that makes no sense here.
    #[error("expected {0} to {1}")]
    NumberRange(u32, u32),
}

/// Reads a duration: a whole number and `ms`, `s`, `m` or `h`.
///
/// # Errors
/// The text is something else, or lies outside of `range`.
pub fn duration(text: &str, range: (Duration, Duration)) -> Result<Duration, BadTiming> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or(BadTiming::NotADuration)?;
    let (number, unit) = text.split_at(unit_at);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(BadTiming::NotADuration),
    };
    let number: u64 = number.parse().map_err(|_| BadTiming::NotADuration)?;
    let duration = Duration::from_millis(number.saturating_mul(milliseconds));
    let is_in_range = (range.0..=range.1).contains(&duration);
    if is_in_range { Ok(duration) } else { Err(BadTiming::DurationRange(range.0, range.1)) }
}

/// Reads how many results in a row are asked for: a number of [`STREAK_RANGE`].
///
/// # Errors
/// The text is something else.
pub fn streak(text: &str) -> Result<u32, BadTiming> {
    let number = text.parse().map_err(|_| BadTiming::NotANumber)?;
    let (least, most) = STREAK_RANGE;
    if (least..=most).contains(&number) { Ok(number) } else { Err(BadTiming::NumberRange(least, most)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANY: (Duration, Duration) = (Duration::ZERO, Duration::MAX);

    #[test]
    fn every_kind_parses_from_its_own_spelling() {
        for kind in CheckKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert!("httpget".parse::<CheckKind>().unwrap_err().to_string().contains("\"httpget\""));
    }

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, ms) in [("3s", 3000), ("500ms", 500), ("1m", 60_000), ("2h", 7_200_000), ("0s", 0)] {
            assert_eq!(duration(text, ANY), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "3", "s", "-3s", "+3s", "1.5s", "3 s", "3S", "1m30s", "99999999999999999999s"] {
            assert_eq!(duration(bad, ANY), Err(BadTiming::NotADuration), "{bad}");
        }
    }

    #[test]
    fn what_lies_outside_of_the_range_is_refused_and_the_range_named() {
        assert!(duration("100ms", INTERVAL_RANGE).is_ok() && duration("1h", INTERVAL_RANGE).is_ok());
        let error = duration("99ms", INTERVAL_RANGE).unwrap_err();
        assert_eq!(error.to_string(), "expected 100ms to 3600s");
        assert!(duration("18446744073709551615h", INTERVAL_RANGE).is_err(), "too large to multiply");
        assert_eq!(streak("101").unwrap_err().to_string(), "expected 1 to 100");
        assert_eq!((streak("1"), streak("100")), (Ok(1), Ok(100)));
        assert_eq!(streak("two"), Err(BadTiming::NotANumber));
    }

    #[test]
    fn the_defaults_are_in_range() {
        let timing = Timing::default();
        assert!((INTERVAL_RANGE.0..=INTERVAL_RANGE.1).contains(&timing.interval));
        assert!((TIMEOUT_RANGE.0..=TIMEOUT_RANGE.1).contains(&timing.timeout));
        assert!(streak(&timing.rise.to_string()).is_ok() && streak(&timing.fall.to_string()).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_is_a_duration_outside_of_its_range(text in "[0-9]{0,25}(ms|s|m|h|x|)") {
            if let Ok(duration) = duration(&text, INTERVAL_RANGE) {
                prop_assert!((INTERVAL_RANGE.0..=INTERVAL_RANGE.1).contains(&duration));
            }
        }
    }
}
