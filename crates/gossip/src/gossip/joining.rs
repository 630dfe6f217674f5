//! Getting into the cluster, noticing that one is cut off, and getting in again.
//!
//! The way in is always the same: a stream to somebody known, on which both sides tell what they remember of
//! each other; then a fresh membership under an identity that is later than all that is remembered.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foca::Member;
use rand::RngExt as _;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use super::Gossip;
use super::streams::Purpose;
use crate::hosts::HostStatus;
use crate::identity::HostIdentity;
use crate::members::Members;
use crate::message::Standing;
use crate::timers::Wake;

/// Who has heard nothing from several others for so long is the one that is cut off.
const SILENCE: Duration = Duration::from_secs(4);

const WATCH_EVERY: Duration = Duration::from_millis(500);
const RECONCILE_EVERY: Duration = Duration::from_secs(10);
const EXCHANGE_EVERY: Duration = Duration::from_secs(10);

/// The same, until this host has heard for the first time what those inside know.
const FIRST_EXCHANGE_EVERY: Duration = Duration::from_millis(500);

/// How many are asked at once to be let in.
const JOIN_AT_ONCE: usize = 3;

/// Who gets in and then hears nothing waits longer each time, up to 2^5 s.
const IN_VAIN_MAX: u32 = 5;

/// How long a lost host is asked for often.
const LATELY: Duration = Duration::from_secs(600);

/// Where this host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is alone, or on its way in.
    Outside {
        since: Instant,
        /// It was inside, and hears nobody: what it knew stays as it was.
        cut_off: bool,
        attempts: u32,
    },
    Inside,
    /// Another host has its name and keeps it.
    Yielding,
    Leaving {
        step: u8,
    },
    Left,
}

impl Phase {
    pub(super) const fn outside(since: Instant, cut_off: bool) -> Self {
        Self::Outside { since, cut_off, attempts: 0 }
    }

    pub(super) const fn standing(self) -> Standing {
        match self {
            Self::Outside { .. } => Standing::Outside,
            Self::Inside => Standing::Inside,
            Self::Yielding | Self::Leaving { .. } | Self::Left => Standing::Apart,
        }
    }
}

impl Gossip {
    /// The addresses of hosts to get in by. Names are looked up by the driver, again and again; call this with
    /// every result. This host's own address among them is harmless.
    pub fn set_seeds(&mut self, now: Instant, seeds: Vec<SocketAddr>) {
        self.seeds.set(seeds);
        if matches!(self.phase, Phase::Outside { .. }) {
            self.timers.set_earlier(Wake::Join, now);
        }
    }

    /// Asks a few hosts to let this one in.
    pub(super) fn join(&mut self, now: Instant) {
        let Phase::Outside { attempts, .. } = &mut self.phase else { return };
        *attempts += 1;
        // Quick at first, then gentle on a network that may be down for long.
        let pause = Duration::from_secs(if *attempts <= 30 { 1 } else { 5 });
        let pause = pause * (1 << self.in_vain.min(IN_VAIN_MAX));
        let mut ways = self.ways_in();
        ways.shuffle(&mut self.rng);
        // A seed is worth more than a host of which nobody knows whether it is still there.
        ways.sort_by_key(|way| (!self.seeds.contains(*way), !self.seeds.is_untried(*way)));
        if let [first_seed, .., last] = &mut ways[..]
            && self.rng.random()
        {
            std::mem::swap(first_seed, last);
        }
        for way in ways.into_iter().take(JOIN_AT_ONCE) {
            self.open_stream(now, way, Purpose::Exchange);
        }
        let next = now + pause + Duration::from_millis(self.rng.random_range(0..200));
        self.timers.set(Wake::Join, next);
    }

    /// Where somebody may be who could let this host in.
    fn ways_in(&self) -> Vec<SocketAddr> {
        let known = self.hosts.iter().filter(|(_, host)| host.status != HostStatus::Left);
        let known = known.map(|(_, host)| host.identity.address);
        let ways: BTreeSet<_> = self.seeds.iter().chain(known).collect();
        ways.into_iter().filter(|way| *way != self.identity.address && !self.has_stream_to(*way)).collect()
    }

    /// Begins a membership with somebody who is known to be there.
    pub(super) fn enter(&mut self, now: Instant, peer: HostIdentity) {
        self.timers.clear_foca();
        let mut members = Members::new(self.identity.clone(), self.fork_rng());
        for host in self.catalogue.hosts() {
            members.learn(host, self.catalogue.stamp(host));
        }
        members.apply(std::iter::once(Member::alive(peer.clone())));
        members.announce_to(peer);
        self.members = Some(members);
        self.phase = Phase::Inside;
        (self.last_heard, self.entered) = (now, now);
        self.timers.clear(&Wake::Join);
        self.timers.set(Wake::Watch, now + WATCH_EVERY);
        self.timers.set(Wake::Reconcile, now + RECONCILE_EVERY);
        let within = if self.is_informed { EXCHANGE_EVERY } else { FIRST_EXCHANGE_EVERY };
        let exchange = self.soon(now, within);
        self.timers.set_earlier(Wake::Exchange, exchange);
        // What did not change while this host was outside, the others know.
        if self.own.has_news() {
            self.timers.set_earlier(Wake::Spread, now);
        }
        self.problems_changed();
        self.settle(now);
    }

    /// Ends this membership, with all that it suspected, and looks for a way in again.
    pub(super) fn step_outside(&mut self, now: Instant, cut_off: bool) {
        if self.phase != Phase::Inside {
            return;
        }
        self.end_membership();
        self.identity = self.identity.renewed();
        self.phase = Phase::outside(now, cut_off);
        self.in_vain += u32::from(self.last_heard == self.entered);
        let soonest = now + Duration::from_secs((1 << self.in_vain.min(IN_VAIN_MAX)) - 1);
        let at = self.soon(soonest, Duration::from_millis(100));
        self.timers.set(Wake::Join, at);
        self.problems_changed();
    }

    pub(super) fn end_membership(&mut self) {
        self.members = None;
        self.timers.clear_foca();
        [Wake::Watch, Wake::Reconcile, Wake::Exchange, Wake::Spread].iter().for_each(|wake| self.timers.clear(wake));
    }

    /// Looks whether anything is heard, and adapts to the number of hosts. After this process stood still, this
    /// comes before any suspicion that ran out meanwhile.
    pub(super) fn watch(&mut self, now: Instant) {
        let Some(members) = &mut self.members else { return };
        let lost_lately = self.last_loss.is_some_and(|loss| now.saturating_duration_since(loss) < LATELY);
        members.adapt(lost_lately);
        let is_silent = now.saturating_duration_since(self.last_heard) >= SILENCE;
        // Of two hosts, neither can tell which is cut off: then the other is looked at like any lost host.
        if is_silent && members.others() > 1 {
            self.step_outside(now, true);
        } else {
            self.timers.set(Wake::Watch, now + WATCH_EVERY);
        }
    }

    /// Who let this host in may have died before it told all. So everybody is asked who may know.
    fn seek_information(&mut self, now: Instant) {
        let mut ways = self.ways_in();
        ways.shuffle(&mut self.rng);
        for way in ways.into_iter().take(JOIN_AT_ONCE) {
            self.open_stream(now, way, Purpose::Exchange);
        }
        let next = now + FIRST_EXCHANGE_EVERY.mul_f64(self.rng.random_range(0.8..1.2));
        self.timers.set(Wake::Exchange, next);
    }

    /// Compares what is known with somebody: mostly a member, now and then a seed or a lost host, by which two
    /// halves of a cluster find each other again.
    pub(super) fn begin_exchange(&mut self, now: Instant) {
        if !self.is_informed {
            return self.seek_information(now);
        }
        let Some(members) = &self.members else { return };
        self.exchanges_begun += 1;
        let lost = self.hosts.iter().filter(|(_, host)| host.status == HostStatus::Down);
        let lost: Vec<_> = lost.map(|(_, host)| host.identity.address).chain(self.seeds.iter()).collect();
        let present: Vec<_> = members.active().map(|identity| identity.address).collect();
        // The operator is to be told of every seed how it fares.
        let is_untried = |seed: &SocketAddr| self.seeds.is_untried(*seed) && !present.contains(seed);
        let untried: Vec<_> =
            self.seeds.iter().filter(|seed| *seed != self.identity.address).filter(is_untried).collect();
        let others = match self.exchanges_begun % 5 {
            0 if !lost.is_empty() => lost,
            1 | 3 if !untried.is_empty() => untried,
            _ => present,
        };
        let with = others.choose(&mut self.rng).copied().filter(|with| *with != self.identity.address);
        if let Some(with) = with.filter(|with| !self.has_stream_to(*with)) {
            self.open_stream(now, with, Purpose::Exchange);
        }
        let next = now + EXCHANGE_EVERY.mul_f64(self.rng.random_range(0.8..1.2));
        self.timers.set(Wake::Exchange, next);
    }
}
