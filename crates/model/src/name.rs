//! Names: of services and environments, and Docker's container ids.
//!
//! A name is what it is everywhere: in labels, spans, Envoy's stats and file names. So it is held to
//! characters that are safe in all of them, and what does not fit is replaced, never refused: a container must
//! not lose its port because of a label.

use std::fmt;
use std::str::FromStr;

/// The longest name, in characters: that of a DNS label (RFC 1035, 2.3.4).
pub const NAME_MAX_LENGTH: usize = 63;

/// A name that had to be changed to be usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// What was asked for, cut to a length fit for a message.
    pub asked: String,
    /// What is used.
    pub used: String,
}

impl fmt::Display for Correction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the name {:?} was changed to {:?}: names are A-Z a-z 0-9 . _ - and at most {NAME_MAX_LENGTH} long",
            self.asked, self.used
        )
    }
}

/// Replaces every character that a name may not have by `-`, and cuts it to [`NAME_MAX_LENGTH`].
pub(crate) fn corrected(text: &str) -> (String, Option<Correction>) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let used: String = text.chars().take(NAME_MAX_LENGTH).map(|c| if allowed(c) { c } else { '-' }).collect();
    if used == text {
        return (used, None);
    }
    // One character more than a name can have shows that it was too long.
    let asked = text.chars().take(NAME_MAX_LENGTH + 1).collect();
    (used.clone(), Some(Correction { asked, used }))
}

/// The name of a service: 1 to 63 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(String);

impl ServiceName {
    /// The name made of `text`, and how it had to be changed. `None` where `text` is empty.
    #[must_use]
    pub fn corrected(text: &str) -> Option<(Self, Option<Correction>)> {
        let (name, correction) = corrected(text);
        (!name.is_empty()).then_some((Self(name), correction))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an environment: 0 to 63 of `A-Z a-z 0-9 . _ -`. The empty name is an environment like others.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvironmentName(String);

impl EnvironmentName {
    /// The name made of `text`, and how it had to be changed.
    #[must_use]
    pub fn corrected(text: &str) -> (Self, Option<Correction>) {
        let (name, correction) = corrected(text);
        (Self(name), correction)
    }

    /// The name as text; may be empty.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A service is its name and its environment together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// The label `ServiceName`, or what stands for it.
    pub name: ServiceName,
    /// The label `EnvironmentName`, or what stands for it.
    pub environment: EnvironmentName,
}

/// Docker's id of a container: 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

/// The text is no container id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAContainerId;

impl fmt::Display for NotAContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a container id: expected 64 hexadecimal digits")
    }
}

impl std::error::Error for NotAContainerId {}

impl ContainerId {
    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, as Docker's own listings show it.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContainerId {
    type Err = NotAContainerId;

    fn from_str(text: &str) -> Result<Self, NotAContainerId> {
        let is_id = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if is_id { Ok(Self(text.to_owned())) } else { Err(NotAContainerId) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_good_name_is_left_alone() {
        let (name, correction) = ServiceName::corrected("web-1.prod_a").unwrap();
        assert_eq!((name.as_str(), correction), ("web-1.prod_a", None));
    }

    #[test]
    fn other_characters_become_dashes_and_are_reported() {
        let (name, correction) = ServiceName::corrected("größe/x y").unwrap();
        assert_eq!(name.as_str(), "gr--e-x-y");
        assert!(correction.unwrap().to_string().contains("größe/x y"));
    }

    #[test]
    fn a_service_needs_a_name_but_an_environment_does_not() {
        assert_eq!(ServiceName::corrected(""), None);
        assert_eq!(EnvironmentName::corrected(""), (EnvironmentName::default(), None));
    }

    #[test]
    fn only_64_hexadecimal_digits_are_a_container_id() {
        let id = "0123456789ab".repeat(5) + "cdef";
        assert_eq!(id.parse::<ContainerId>().unwrap().short(), "0123456789ab");
        for bad in ["", "ep-1", &id[1..], &format!("{}g", &id[1..])] {
            assert_eq!(bad.parse::<ContainerId>(), Err(NotAContainerId), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_corrected_name_needs_no_second_correction(text in ".{0,200}") {
            let (once, _) = EnvironmentName::corrected(&text);
            prop_assert!(once.as_str().chars().count() <= NAME_MAX_LENGTH);
            prop_assert_eq!(EnvironmentName::corrected(once.as_str()), (once.clone(), None));
        }
    }
}
