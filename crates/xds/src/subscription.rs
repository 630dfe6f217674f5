//! What one client wants of one kind of resource: names, or all ("wildcard").
//!
//! The rules are those of Envoy's `xds_protocol.rst`, "How the client specifies what resources to return". The
//! legacy form of the wildcard is a first request without names; it does not exist for endpoints.

use std::collections::HashSet;

use crate::store::Name;
use crate::weight::NAME_COST;
use crate::{ResourceType, StreamError};

/// Stands for all names.
const WILDCARD: &str = "*";

/// The most names that one client may ask for, of one kind.
pub const MAX_SUBSCRIBED_NAMES: usize = 100_000;

/// The longest name that may be asked for, in bytes.
pub const MAX_NAME_LENGTH: usize = 1024;

/// What a request changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    /// Names that must be answered, whether the client has them or not.
    pub(crate) asked: Vec<Name>,
    /// Names that are no longer asked for by name.
    pub(crate) dropped: Vec<Name>,
    /// Everything is wanted now, or asked for again.
    pub(crate) all_asked: bool,
    /// Not everything is wanted any longer.
    pub(crate) all_dropped: bool,
}

/// What one client wants of one kind of resource.
#[derive(Debug)]
pub(crate) struct Subscription {
    legacy_wildcard_allowed: bool,
    all: bool,
    names: HashSet<Name>,
    /// Names that the client has not asked for yet, but will.
    anticipated: HashSet<Name>,
    /// The lengths of `names` together.
    bytes: usize,
}

impl Subscription {
    pub(crate) fn new(resource_type: ResourceType) -> Self {
        let legacy_wildcard_allowed = resource_type != ResourceType::Endpoint;
        Self { legacy_wildcard_allowed, all: false, names: HashSet::new(), anticipated: HashSet::new(), bytes: 0 }
    }

    /// How much memory the names take.
    pub(crate) fn weight(&self) -> usize {
        self.bytes + (self.names.len() + self.anticipated.len()) * NAME_COST
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.all || self.names.contains(name) || self.anticipated.contains(name)
    }

    pub(crate) fn wants_all(&self) -> bool {
        self.all
    }

    /// Whether nothing is wanted by name.
    pub(crate) fn names_nothing(&self) -> bool {
        self.names.is_empty()
    }

    /// Counts the name as wanted, because the client is about to ask for it. When it does, it is answered
    /// nevertheless: it may not have been listening yet.
    pub(crate) fn anticipate(&mut self, name: Name) {
        if !self.names.contains(&name) {
            self.anticipated.insert(name);
        }
    }

    /// The client will not ask for the name after all.
    pub(crate) fn cancel(&mut self, name: &str) {
        self.anticipated.remove(name);
    }

    /// Takes in the lists of a delta request. `first`: it is the first of its kind on the stream.
    pub(crate) fn update_delta(
        &mut self,
        subscribe: Vec<String>,
        unsubscribe: &[String],
        first: bool,
    ) -> Result<Interest, StreamError> {
        check(self.names.len() + subscribe.len(), subscribe.iter().chain(unsubscribe))?;
        let mut interest = Interest::default();
        if subscribe.is_empty() && first && self.legacy_wildcard_allowed {
            (self.all, interest.all_asked) = (true, true);
        }
        for name in subscribe {
            if name == WILDCARD {
                (self.all, interest.all_asked) = (true, true);
            } else {
                let name = Name::from(name);
                self.anticipated.remove(&name);
                if self.names.insert(Name::clone(&name)) {
                    self.bytes += name.len();
                }
                interest.asked.push(name);
            }
        }
        // Last, so that a name in both lists is not wanted: this is how a client subscribes to nothing.
        for name in unsubscribe {
            if name == WILDCARD {
                interest.all_dropped = self.all;
                (self.all, interest.all_asked) = (false, false);
            } else {
                let named = self.names.take(name.as_str());
                self.bytes -= named.as_ref().map_or(0, |name| name.len());
                let known = named.or_else(|| self.anticipated.take(name.as_str()));
                interest.dropped.extend(known);
            }
        }
        interest.asked.retain(|name| self.names.contains(name));
        Ok(interest)
    }

    /// Takes in the complete list of a state-of-the-world request.
    pub(crate) fn update_sotw(&mut self, list: Vec<String>) -> Result<Interest, StreamError> {
        check(list.len(), &list)?;
        let all = list.iter().any(|name| name == WILDCARD) || (list.is_empty() && self.legacy_wildcard_allowed);
        self.legacy_wildcard_allowed &= list.is_empty();
        let names: HashSet<Name> = list.into_iter().filter(|name| name != WILDCARD).map(Name::from).collect();
        let interest = Interest {
            asked: names.difference(&self.names).cloned().collect(),
            dropped: self.names.difference(&names).cloned().collect(),
            all_asked: all && !self.all,
            all_dropped: self.all && !all,
        };
        interest.asked.iter().for_each(|name| self.cancel(name));
        (self.all, self.names) = (all, names);
        self.bytes = self.names.iter().map(|name| name.len()).sum();
        Ok(interest)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Name> {
        self.names.iter()
    }
}

fn check<'a>(count: usize, names: impl IntoIterator<Item = &'a String>) -> Result<(), StreamError> {
    if count > MAX_SUBSCRIBED_NAMES {
        return Err(StreamError::TooManyNames);
    }
    match names.into_iter().find(|name| name.len() > MAX_NAME_LENGTH) {
        Some(name) => Err(StreamError::NameTooLong(name[..name.floor_char_boundary(64)].to_owned())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wanted after each step, as the names and `*`.
    fn wanted(subscription: &Subscription) -> String {
        let mut wanted: Vec<&str> = subscription.names.iter().map(|name| &**name).collect();
        wanted.extend(subscription.all.then_some("*"));
        wanted.sort_unstable();
        wanted.join(" ")
    }

    fn names(list: &str) -> Vec<String> {
        list.split_whitespace().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn s01_to_s06_and_s16_a_list_replaces_the_last_and_an_empty_one_means_all_only_before_any_name() {
        use ResourceType::{Endpoint, Listener};
        // Kind, then pairs of list and what is wanted with it.
        let cases: [(_, &[(&str, &str)]); 6] = [
            (Listener, &[("", "*"), ("", "*"), ("* A", "* A"), ("A", "A"), ("", "")]),
            (Listener, &[("*", "*"), ("", "")]),
            (Listener, &[("", "*"), ("A", "A"), ("", ""), ("", "")]),
            (Listener, &[("* A A", "* A")]),
            (Endpoint, &[("", ""), ("A B", "A B"), ("B", "B"), ("", ""), ("A", "A")]),
            (Endpoint, &[("*", "*")]),
        ];
        for (resource_type, steps) in cases {
            let mut subscription = Subscription::new(resource_type);
            for (list, expected) in steps {
                subscription.update_sotw(names(list)).unwrap();
                assert_eq!(wanted(&subscription), *expected, "{steps:?} at {list:?}");
            }
        }
    }

    #[test]
    fn d02_to_d04_and_d10_to_d12_lists_of_a_delta_request_add_and_take_away() {
        use ResourceType::{Endpoint, Listener};
        /// Subscribe, unsubscribe, and what is wanted then.
        type Step = (&'static str, &'static str, &'static str);
        let cases: [(_, &[Step]); 6] = [
            (Listener, &[("", "", "*"), ("A", "", "* A"), ("", "*", "A"), ("", "A", "")]),
            (Listener, &[("*", "*", ""), ("", "", "")]),
            (Listener, &[("*", "", "*"), ("", "B", "*"), ("", "", "*")]),
            (Listener, &[("A", "", "A"), ("", "", "A"), ("", "A", ""), ("", "", "")]),
            (Endpoint, &[("", "", ""), ("A B", "", "A B"), ("", "", "A B"), ("C", "A", "B C")]),
            (Endpoint, &[("A", "A", "")]),
        ];
        for (resource_type, steps) in cases {
            let mut subscription = Subscription::new(resource_type);
            for (index, (subscribe, unsubscribe, expected)) in steps.iter().enumerate() {
                subscription.update_delta(names(subscribe), &names(unsubscribe), index == 0).unwrap();
                assert_eq!(wanted(&subscription), *expected, "{steps:?} at {index}");
            }
        }
    }

    #[test]
    fn a_name_that_is_asked_for_again_must_be_answered_again() {
        let mut subscription = Subscription::new(ResourceType::Endpoint);
        for first in [true, false] {
            let interest = subscription.update_delta(names("A"), &[], first).unwrap();
            assert_eq!(interest.asked, [Name::from("A")]);
        }
    }

    #[test]
    fn too_many_or_too_long_names_end_the_stream_and_leave_the_subscription_alone() {
        let mut subscription = Subscription::new(ResourceType::Endpoint);
        let long = vec!["x".repeat(MAX_NAME_LENGTH + 1)];
        let many: Vec<String> = (0..=MAX_SUBSCRIBED_NAMES).map(|n| n.to_string()).collect();
        assert_eq!(subscription.update_sotw(long.clone()), Err(StreamError::NameTooLong("x".repeat(64))));
        assert_eq!(subscription.update_delta(vec![], &long, true), Err(StreamError::NameTooLong("x".repeat(64))));
        assert_eq!(subscription.update_sotw(many.clone()), Err(StreamError::TooManyNames));
        assert_eq!(subscription.update_delta(many, &[], true), Err(StreamError::TooManyNames));
        assert_eq!(wanted(&subscription), "");
    }
}
