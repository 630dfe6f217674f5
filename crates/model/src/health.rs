//! Whether an instance may be sent traffic.
//!
//! How it is found out (checks, rise and fall) is not here.

use std::fmt;
use std::str::FromStr;

/// The status of an instance, as its own host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Status {
    /// Healthy: the only status that gets traffic.
    Alive,
    /// Its health check fails.
    Unhealthy,
    /// Not checked yet.
    #[default]
    Unknown,
    /// Finishes what it has and gets nothing new.
    Draining,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Alive, Self::Unhealthy, Self::Unknown, Self::Draining];

    /// The spelling of the API: `alive`, `unhealthy`, `unknown` or `draining`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no status; it is what was given, cut to a length fit for a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown status {0:?}: expected alive, unhealthy, unknown or draining")]
pub struct UnknownStatus(pub String);

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        let named = Self::ALL.into_iter().find(|status| status.as_str() == text);
        named.ok_or_else(|| UnknownStatus(text.chars().take(32).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_parses_from_its_own_spelling() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert_eq!("Alive".parse::<Status>(), Err(UnknownStatus("Alive".to_owned())));
    }
}
