//! The seeds, and how the last attempt to reach each of them ended: for the operator, who has to be told what is wrong
//! with a seed that nobody answers. When a seed is asked is decided in `gossip::joining`; names are the driver's.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use model::HostName;

use crate::output::OpenFailure;
use crate::refusal::Refusal;

/// How long what a seed's own host tried here explains why the seed hangs up.
const HINT_LASTS: Duration = Duration::from_secs(300);

/// How an attempt to reach a seed ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeedOutcome {
    /// Nobody has tried yet.
    Untried,
    /// It is this host itself, which is harmless.
    Itself,
    /// It said who it is.
    Reached(HostName),
    /// There is no TCP connection to it.
    NotConnected(OpenFailure),
    /// It accepted the connection, and said nothing within 3 s.
    Silent,
    /// It hung up before it said who it is: most likely it has other gossip keys, or it is busy.
    HungUp,
    /// It hung up, and its own attempts to reach this host are refused for this reason: one of
    /// [`Refusal::UnknownKey`], [`Refusal::OtherCluster`], [`Refusal::OtherVersion`], [`Refusal::BadSeal`].
    Mismatch(Refusal),
    /// It answered something else than gossip.
    NotGossip,
}

/// A seed's address, and how the last attempt to reach it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedView {
    /// The address.
    pub address: SocketAddr,
    /// How the last attempt ended.
    pub outcome: SeedOutcome,
    /// When it ended; `None` where there was none.
    pub tried: Option<Instant>,
    /// When somebody last answered there.
    pub reached: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Try {
    outcome: SeedOutcome,
    at: Instant,
    reached: Option<Instant>,
}

/// At most [`crate::SEEDS_MAX`] addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seeds {
    addresses: Vec<SocketAddr>,
    tries: BTreeMap<SocketAddr, Try>,
    /// Why a stream from a seed's address was refused here last.
    refused: BTreeMap<IpAddr, (Refusal, Instant)>,
}

impl Seeds {
    pub(crate) fn set(&mut self, mut addresses: Vec<SocketAddr>) {
        addresses.truncate(crate::SEEDS_MAX);
        self.tries.retain(|address, _| addresses.contains(address));
        self.refused.retain(|from, _| addresses.iter().any(|address| address.ip() == *from));
        self.addresses = addresses;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses.iter().copied()
    }

    pub(crate) fn contains(&self, address: SocketAddr) -> bool {
        self.addresses.contains(&address)
    }

    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|seed| seed.ip() == address)
    }

    /// Whether nobody has tried this address yet.
    pub(crate) fn is_untried(&self, address: SocketAddr) -> bool {
        !self.tries.contains_key(&address)
    }

    /// An attempt has ended. What is no seed is passed over.
    pub(crate) fn tried(&mut self, address: SocketAddr, outcome: SeedOutcome, now: Instant) {
        if !self.contains(address) {
            return;
        }
        let before = self.tries.get(&address).and_then(|before| before.reached);
        let is_reached = matches!(outcome, SeedOutcome::Reached(_) | SeedOutcome::Itself);
        let reached = if is_reached { Some(now) } else { before };
        self.tries.insert(address, Try { outcome, at: now, reached });
    }

    /// A stream from this address was refused here. It may say what is wrong between the two.
    pub(crate) fn was_refused(&mut self, from: IpAddr, why: Refusal, now: Instant) {
        let tells = [Refusal::UnknownKey, Refusal::OtherCluster, Refusal::OtherVersion, Refusal::BadSeal];
        if self.has(from) && tells.contains(&why) {
            self.refused.insert(from, (why, now));
        }
    }

    /// How each fares, in the order in which they were given.
    pub(crate) fn views(&self, now: Instant) -> impl Iterator<Item = SeedView> + '_ {
        self.iter().map(move |address| {
            let last = self.tries.get(&address);
            let outcome = last.map_or(SeedOutcome::Untried, |last| last.outcome.clone());
            let hint = self.refused.get(&address.ip());
            let hint = hint.filter(|(_, at)| now.saturating_duration_since(*at) < HINT_LASTS);
            let outcome = match (outcome, hint) {
                (SeedOutcome::HungUp, Some((why, _))) => SeedOutcome::Mismatch(*why),
                (outcome, _) => outcome,
            };
            SeedView { address, outcome, tried: last.map(|last| last.at), reached: last.and_then(|last| last.reached) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::new([10, 0, 0, last].into(), 7946)
    }

    fn outcome(seeds: &Seeds, address: SocketAddr, now: Instant) -> SeedOutcome {
        seeds.views(now).find(|view| view.address == address).unwrap().outcome
    }

    #[test]
    fn a_seed_keeps_when_it_was_last_reached_while_later_attempts_fail() {
        let (mut seeds, start) = (Seeds::default(), Instant::now());
        seeds.set(vec![at(1), at(2)]);
        assert_eq!(outcome(&seeds, at(1), start), SeedOutcome::Untried);
        seeds.tried(at(1), SeedOutcome::Reached("a".parse().unwrap()), start);
        let later = start + Duration::from_secs(9);
        seeds.tried(at(1), SeedOutcome::NotConnected(OpenFailure::TimedOut), later);
        seeds.tried(at(9), SeedOutcome::Silent, later);
        let views: Vec<_> = seeds.views(later).collect();
        assert_eq!(views.len(), 2, "10.0.0.9 is no seed");
        assert_eq!((views[0].tried, views[0].reached), (Some(later), Some(start)));
        assert!(seeds.is_untried(at(2)) && !seeds.is_untried(at(1)));
        seeds.set(vec![at(2)]);
        seeds.set(vec![at(1)]);
        assert_eq!(outcome(&seeds, at(1), later), SeedOutcome::Untried, "it was no seed in between");
    }

    #[test]
    fn a_seed_that_hangs_up_is_explained_by_what_its_own_host_tried_here_lately() {
        let (mut seeds, now) = (Seeds::default(), Instant::now());
        seeds.set(vec![at(1)]);
        seeds.was_refused(at(1).ip(), Refusal::UnknownKey, now);
        seeds.was_refused(at(1).ip(), Refusal::TooMuch, now);
        seeds.was_refused(at(2).ip(), Refusal::UnknownKey, now);
        assert_eq!(seeds.refused.len(), 1);
        seeds.tried(at(1), SeedOutcome::HungUp, now);
        assert_eq!(outcome(&seeds, at(1), now), SeedOutcome::Mismatch(Refusal::UnknownKey));
        assert_eq!(outcome(&seeds, at(1), now + HINT_LASTS), SeedOutcome::HungUp);
        seeds.tried(at(1), SeedOutcome::Silent, now);
        assert_eq!(outcome(&seeds, at(1), now), SeedOutcome::Silent, "what is seen counts more");
    }
}
