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

impl Correction {
    fn new(asked: &str, used: &str) -> Self {
        // One character more than a name can have shows that it was too long.
        Self { asked: asked.chars().take(NAME_MAX_LENGTH + 1).collect(), used: used.to_owned() }
    }
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

/// As [`corrected`], for hosts: with an ending that keeps two names apart that would otherwise become one.
pub(crate) fn corrected_distinctly(text: &str) -> (String, Option<Correction>) {
    let (used, correction) = corrected(text);
    let Some(Correction { asked, used: plain }) = correction else { return (used, None) };
    let ending = format!("-{:08x}", hash(text.as_bytes()));
    let kept: String = plain.chars().take(NAME_MAX_LENGTH - ending.len()).collect();
    let used = kept + &ending;
    (used.clone(), Some(Correction { asked, used }))
}

/// Replaces every character that a name may not have by `-`, and cuts it to [`NAME_MAX_LENGTH`].
pub(crate) fn corrected(text: &str) -> (String, Option<Correction>) {
    let used: String = text.chars().take(NAME_MAX_LENGTH).map(|c| if is_allowed(c) { c } else { '-' }).collect();
    if used == text {
        return (used, None);
    }
    let correction = Correction::new(text, &used);
    (used, Some(correction))
}

/// What stands between a name and its mark in [`ServiceName::marked`], and the mark's length with it, in characters.
const MARK_LENGTH: usize = 9;

/// A usable name, and a mark where it had to be corrected. Two texts may become the same name: their marks differ, so
/// that they stay two names, and nobody's requests go to somebody else.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Name {
    shown: String,
    mark: Option<u16>,
}

impl Name {
    /// Replaces every character that a name may not have by `-`. What is too long, with its mark, ends in a hash instead.
    fn corrected(text: &str) -> (Self, Option<Correction>) {
        let (used, correction) = corrected(text);
        if correction.is_none() {
            return (Self::read(text), None);
        }
        let room = NAME_MAX_LENGTH - MARK_LENGTH;
        let hash = hash(text.as_bytes());
        let name = if used.len() <= room {
            let [high, low, ..] = hash.to_be_bytes();
            Self { shown: used, mark: Some(u16::from_be_bytes([high, low])) }
        } else {
            Self::read(&format!("{}-{hash:08x}", &used[..room]))
        };
        let correction = Correction::new(text, &name.shown);
        (name, Some(correction))
    }

    /// Takes a mark off, if it is one.
    fn read(text: &str) -> Self {
        let whole = || Self { shown: text.to_owned(), mark: None };
        let Some((shown, digits)) =
            text.rsplit_once('-').filter(|(shown, digits)| !shown.is_empty() && digits.len() == 8)
        else {
            return whole();
        };
        let mark = digits.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let marked = Self { shown: shown.to_owned(), mark };
        if marked.mark.is_some() && marked.marked() == text { marked } else { whole() }
    }

    /// The name and its mark, with half a hash of both, by which [`Self::read`] tells it from other names.
    fn marked(&self) -> String {
        let Some(mark) = self.mark else { return self.shown.clone() };
        let half = hash(format!("{}-{mark:04x}", self.shown).as_bytes()) & 0xffff;
        format!("{}-{mark:04x}{half:04x}", self.shown)
    }
}

const fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// FNV-1a. Hosts tell each other what becomes of it, so it is never to be changed.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The name of a service: 1 to 63 of `A-Z a-z 0-9 . _ -`.
///
/// Two services whose names had to be corrected to the same text are not equal: see [`Self::marked`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Name);

impl ServiceName {
    /// The name made of `text`, and how it had to be changed. `None` where `text` is empty.
    #[must_use]
    pub fn corrected(text: &str) -> Option<(Self, Option<Correction>)> {
        let (name, correction) = Name::corrected(text);
        (!text.is_empty()).then_some((Self(name), correction))
    }

    /// The name as text, as it is shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.shown
    }

    /// The name as text, with a mark where it was corrected: as different as the names that were asked for. It is a
    /// name, too, and [`Self::corrected`] makes the same of it. Hosts tell each other this one.
    #[must_use]
    pub fn marked(&self) -> String {
        self.0.marked()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of an environment: 0 to 63 of `A-Z a-z 0-9 . _ -`. The empty name is an environment like others. As with
/// services, two that had to be corrected to the same text are not equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvironmentName(Name);

impl EnvironmentName {
    /// The name made of `text`, and how it had to be changed.
    #[must_use]
    pub fn corrected(text: &str) -> (Self, Option<Correction>) {
        let (name, correction) = Name::corrected(text);
        (Self(name), correction)
    }

    /// The name as text, as it is shown; may be empty.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.shown
    }

    /// As [`ServiceName::marked`].
    #[must_use]
    pub fn marked(&self) -> String {
        self.0.marked()
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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

impl Service {
    /// Whether both are shown alike, although they are two.
    #[must_use]
    pub fn looks_like(&self, other: &Self) -> bool {
        let shown = |service: &Self| (service.name.as_str().to_owned(), service.environment.as_str().to_owned());
        self != other && shown(self) == shown(other)
    }
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

    /// The names that are shown, and those that are told.
    fn names(texts: [&str; 2]) -> [(String, String); 2] {
        texts.map(|text| {
            let (name, correction) = ServiceName::corrected(text).unwrap();
            assert!(correction.is_some(), "{text}");
            (name.as_str().to_owned(), name.marked())
        })
    }

    #[test]
    fn two_names_that_look_alike_when_they_are_corrected_stay_two() {
        for (texts, shown) in [(["東京", "大阪"], "--"), (["shop web", "shop/web"], "shop-web")] {
            let [first, second] = names(texts);
            assert_eq!((first.0.as_str(), second.0.as_str()), (shown, shown));
            assert_ne!(first.1, second.1);
            assert_ne!(ServiceName::corrected(texts[0]), ServiceName::corrected(texts[1]));
            assert_ne!(ServiceName::corrected(texts[0]).unwrap().0, ServiceName::corrected(shown).unwrap().0);
        }
        let long = ["x".repeat(63) + "a", "x".repeat(63) + "b"];
        let [first, second] = names([&long[0], &long[1]]);
        assert_ne!(first.0, second.0, "they are cut, and told apart by what they end in");
    }

    #[test]
    fn what_hosts_tell_each_other_stays_as_it_is() {
        let marked = |text| ServiceName::corrected(text).unwrap().0.marked();
        assert_eq!(marked("web"), "web");
        assert_eq!(marked("shop web"), "shop-web-3a65b3d8");
        assert_eq!(marked(&"x".repeat(70)), format!("{}-77f3c97d", "x".repeat(54)));
    }

    proptest! {
        #[test]
        fn a_corrected_name_needs_no_second_correction(text in ".{0,200}") {
            let (once, _) = EnvironmentName::corrected(&text);
            prop_assert!(once.as_str().chars().count() <= NAME_MAX_LENGTH);
            let (shown, correction) = EnvironmentName::corrected(once.as_str());
            prop_assert_eq!((shown.as_str(), correction), (once.as_str(), None));
            prop_assert!(once.marked().len() <= NAME_MAX_LENGTH);
            prop_assert_eq!(EnvironmentName::corrected(&once.marked()), (once.clone(), None));
        }

        #[test]
        fn a_good_name_is_shown_as_it_is(text in "[A-Za-z0-9._-]{1,54}(-[0-9a-f]{8})?") {
            let (name, correction) = ServiceName::corrected(&text).unwrap();
            prop_assert_eq!((name.marked(), correction), (text, None));
        }
    }
}
