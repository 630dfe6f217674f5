//! Notices a listener that Envoy was given and took, but does not listen on.
//!
//! It happens when Envoy's sockets are ended from outside: by a shim that is told to stop while no registrar runs, or by
//! an operator (`ss --kill`). Envoy does not notice, and a registrar that comes later finds that Envoy has the listener
//! already. What helps is to take the listener away and to give it anew. An operator may also have drained Envoy, which
//! then listens on nothing whatever it is given: so tries become rare. Pure: looking and sending are the caller's part.

use std::collections::BTreeMap;

use model::PublishedPort;
use xds::resources::names;
use xds::{Hub, ResourceType};

/// How many looks in a row, of those that `watchdog` makes, must find nobody listening: one second. Envoy opens its
/// sockets within milliseconds of taking a listener.
const PATIENCE: u32 = 5;

/// The same where Envoy listens on nothing at all: 30 s. It may have started, and have taken its listeners, but not be
/// ready to open them before all its Envoy clusters are.
const PATIENCE_WITH_A_SILENT_ENVOY: u32 = 150;

/// The most looks between two tries for one port: about five minutes. Until then they double.
const LONGEST_PATIENCE: u32 = 1500;

/// What Envoy has of a listener on which it does not listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Has {
    /// It acknowledged the listener as it is to be.
    Accepted,
    /// Surely nothing.
    Nothing,
    /// Something else: an older state, or it has not answered.
    Other,
}

impl Has {
    pub(crate) fn of(port: &PublishedPort, hub: &Hub) -> Self {
        let name = names::port_listener(port);
        if hub.is_accepted(ResourceType::Listener, &name) {
            Self::Accepted
        } else if hub.is_released(ResourceType::Listener, &name) {
            Self::Nothing
        } else {
            Self::Other
        }
    }
}

/// What is to be done with a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mend {
    /// Take it away.
    Withdraw,
    /// Give it again.
    Restore,
}

/// What was seen so far, for ports that Envoy is to serve and does not listen on.
#[derive(Debug, Default)]
pub(crate) struct MissingListeners {
    ports: BTreeMap<PublishedPort, Missing>,
    /// On how many ports Envoy listened at the last look.
    heard: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    looks: u32,
    tries: u32,
    is_withdrawn: bool,
}

impl MissingListeners {
    /// Whether the port was taken away, and is to be given again. Until that is done it counts as missing, also where
    /// Envoy opened it in the last moment.
    pub(crate) fn is_withdrawn(&self, port: &PublishedPort) -> bool {
        self.ports.get(port).is_some_and(|missing| missing.is_withdrawn)
    }

    /// Takes in one look: on how many of the ports that it is to serve Envoy listens, and what it has of the others.
    pub(crate) fn look(
        &mut self,
        heard: usize,
        missing: impl IntoIterator<Item = (PublishedPort, Has)>,
    ) -> Vec<(PublishedPort, Mend)> {
        // An Envoy that opens one port after the other is given its time.
        let is_opening = heard > self.heard;
        self.heard = heard;
        let mut before = std::mem::take(&mut self.ports);
        let mut mends = Vec::new();
        for (port, has) in missing {
            let mut missing = before.remove(&port).unwrap_or_default();
            if is_opening {
                missing.looks = 0;
            }
            mends.extend(missing.next(has, heard > 0).map(|mend| (port, mend)));
            self.ports.insert(port, missing);
        }
        mends
    }
}

impl Missing {
    fn next(&mut self, has: Has, envoy_listens: bool) -> Option<Mend> {
        match has {
            Has::Accepted => {
                self.is_withdrawn = false; // somebody gave it again already
                self.looks += 1;
                (self.looks >= self.patience(envoy_listens)).then(|| {
                    (self.looks, self.tries, self.is_withdrawn) = (0, self.tries.saturating_add(1), true);
                    Mend::Withdraw
                })
            }
            Has::Nothing if self.is_withdrawn => {
                self.is_withdrawn = false;
                Some(Mend::Restore)
            }
            Has::Nothing | Has::Other => None,
        }
    }

    fn patience(&self, envoy_listens: bool) -> u32 {
        let first = if envoy_listens { PATIENCE } else { PATIENCE_WITH_A_SILENT_ENVOY };
        first.saturating_mul(2_u32.saturating_pow(self.tries)).min(LONGEST_PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use model::Protocol;

    use super::*;

    fn port(number: u16) -> PublishedPort {
        PublishedPort { address: [0, 0, 0, 0].into(), port: number, protocol: Protocol::Tcp }
    }

    /// After how many looks something is done about one port, when Envoy listens on so many others.
    fn looks_until_mended(listeners: &mut MissingListeners, heard: usize) -> u32 {
        let is_mended = |_: &u32| !listeners.look(heard, [(port(1), Has::Accepted)]).is_empty();
        (1..10_000).find(is_mended).expect("something is done at last")
    }

    #[test]
    fn a_listener_without_sockets_is_taken_away_after_a_second_and_given_again_once_it_is_gone() {
        let mut listeners = MissingListeners::default();
        listeners.look(1, []);
        for _ in 1..PATIENCE {
            assert_eq!(listeners.look(1, [(port(1), Has::Accepted)]), []);
        }
        assert_eq!(listeners.look(1, [(port(1), Has::Accepted)]), [(port(1), Mend::Withdraw)]);
        assert_eq!(listeners.look(1, [(port(1), Has::Other)]), [], "its removal is under way");
        assert_eq!(listeners.look(1, [(port(1), Has::Nothing)]), [(port(1), Mend::Restore)]);
        assert_eq!(listeners.look(1, [(port(1), Has::Nothing)]), [], "once is enough");
        assert_eq!(listeners.look(2, []), []);
    }

    #[test]
    fn a_listener_that_opens_while_it_is_taken_away_is_given_again_all_the_same() {
        let mut listeners = MissingListeners::default();
        listeners.look(1, []);
        looks_until_mended(&mut listeners, 1);
        assert!(listeners.is_withdrawn(&port(1)));
        assert_eq!(listeners.look(2, [(port(1), Has::Other)]), [], "it opened, and its removal is under way");
        assert_eq!(listeners.look(1, [(port(1), Has::Nothing)]), [(port(1), Mend::Restore)]);
        assert!(!listeners.is_withdrawn(&port(1)));
    }

    #[test]
    fn what_envoy_was_not_given_or_does_not_take_is_not_our_concern() {
        let mut listeners = MissingListeners::default();
        for has in [Has::Nothing, Has::Other].into_iter().cycle().take(1000) {
            assert_eq!(listeners.look(1, [(port(1), has)]), []);
        }
    }

    #[test]
    fn tries_become_rare_and_are_quick_again_once_envoy_has_listened() {
        let mut listeners = MissingListeners::default();
        listeners.look(1, []);
        let mut looks = || looks_until_mended(&mut listeners, 1);
        let [first, second, third] = [looks(), looks(), looks()];
        assert_eq!([first, second, third], [PATIENCE, 2 * PATIENCE, 4 * PATIENCE]);
        assert_eq!((0..40).map(|_| looks()).max(), Some(LONGEST_PATIENCE));
        listeners.look(1, []);
        assert_eq!(looks_until_mended(&mut listeners, 1), PATIENCE);
    }

    #[test]
    fn an_envoy_that_opens_one_port_after_the_other_is_left_alone() {
        let mut listeners = MissingListeners::default();
        for heard in 1..100 {
            assert_eq!(listeners.look(heard, [(port(1), Has::Accepted)]), []);
        }
    }

    #[test]
    fn an_envoy_that_listens_on_nothing_may_be_about_to_start() {
        let mut listeners = MissingListeners::default();
        assert_eq!(looks_until_mended(&mut listeners, 0), PATIENCE_WITH_A_SILENT_ENVOY);
    }
}
