//! A host's name, and the order of what a host says.
//!
//! What a host says is in [`crate::host_record`]; where hosts find each other is the gossip crate's matter.

use std::fmt;
use std::str::FromStr;

use crate::name::{Correction, NAME_MAX_LENGTH, corrected_distinctly};

/// The highest incarnation, 2^48 - 1: milliseconds of Unix time reach it in the year 10889.
pub const INCARNATION_MAX: u64 = (1 << 48) - 1;

/// The name of a host, unique in its cluster: 1 to 63 of `A-Z a-z 0-9 . _ -`.
///
/// A host *is* its name: it keeps its identity when it restarts or changes its address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

/// The text is no host name; it is what was given, cut to a length fit for a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host name: expected 1 to {NAME_MAX_LENGTH} of A-Z a-z 0-9 . _ -")]
pub struct NotAHostName(pub String);

impl HostName {
    /// The name made of `text`, and how it had to be changed: a changed one ends with a hash of `text`, since two hosts of
    /// one name can't be in a cluster. `None` where `text` is empty.
    #[must_use]
    pub fn corrected(text: &str) -> Option<(Self, Option<Correction>)> {
        let (name, correction) = corrected_distinctly(text);
        (!name.is_empty()).then_some((Self(name), correction))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = NotAHostName;

    fn from_str(text: &str) -> Result<Self, NotAHostName> {
        match Self::corrected(text) {
            Some((name, None)) => Ok(name),
            _ => Err(NotAHostName(text.chars().take(NAME_MAX_LENGTH + 1).collect())),
        }
    }
}

/// One life of a host's registrar. A later life has a higher number.
///
/// It is the greater of the Unix time in milliseconds and one more than any peer remembers. So nothing need
/// be kept on disk, and a clock that was set back does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation(u64);

impl Incarnation {
    /// The incarnation of this number; numbers beyond [`INCARNATION_MAX`] count as that.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        if number > INCARNATION_MAX { Self(INCARNATION_MAX) } else { Self(number) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The incarnation of a host that peers remember as `remembered`: higher than that, and never lower than
    /// `self`. Only at [`INCARNATION_MAX`] can it fail to be higher.
    #[must_use]
    pub fn beyond(self, remembered: Self) -> Self {
        self.max(Self::new(remembered.0 + 1))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one state of what a host says of itself. Of two states the one with the higher stamp is later.
///
/// Only the host itself makes new stamps. No clock takes part in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp {
    /// The life that said it.
    pub incarnation: Incarnation,
    /// Counts the states of that life, from 1.
    pub version: u64,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_corrected_for_its_own_host_and_refused_from_others() {
        let (name, correction) = HostName::corrected("host 1").unwrap();
        assert_eq!((name.as_str().len(), &name.as_str()[..7]), (15, "host-1-"));
        assert!(correction.is_some());
        assert_eq!("host 1".parse::<HostName>(), Err(NotAHostName("host 1".to_owned())));
        assert!("".parse::<HostName>().is_err());
        assert!("x".repeat(NAME_MAX_LENGTH).parse::<HostName>().is_ok());
        assert_eq!("x".repeat(300).parse::<HostName>().unwrap_err().0.len(), NAME_MAX_LENGTH + 1);
    }

    #[test]
    fn names_that_are_changed_stay_apart() {
        let used = |text: &str| HostName::corrected(text).unwrap().0;
        let long = "x".repeat(NAME_MAX_LENGTH);
        let names = [
            used("host-1"),
            used("host 1"),
            used("host/1"),
            used(&long),
            used(&(long.clone() + "a")),
            used(&(long + "b")),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert!(names.iter().all(|name| name.as_str().parse::<HostName>().as_ref() == Ok(name)), "{names:?}");
    }

    #[test]
    fn an_incarnation_goes_beyond_what_is_remembered_even_if_the_clock_was_set_back() {
        let now = Incarnation::new(1_000);
        assert_eq!(now.beyond(Incarnation::new(500)), now);
        assert_eq!(now.beyond(Incarnation::new(1_000)).get(), 1_001);
        assert_eq!(now.beyond(Incarnation::new(9_000)).get(), 9_001);
        assert_eq!(now.beyond(Incarnation::new(u64::MAX)).get(), INCARNATION_MAX);
    }

    #[test]
    fn stamps_order_by_incarnation_before_version() {
        let stamp = |incarnation, version| Stamp { incarnation: Incarnation::new(incarnation), version };
        assert!(stamp(2, 0) > stamp(1, 99));
        assert!(stamp(2, 2) > stamp(2, 1));
    }
}
