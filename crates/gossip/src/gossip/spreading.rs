//! What changed here goes out, what changed elsewhere comes in, and the last words of a host that leaves.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use model::{HostName, HostRecord, Instance, Stamp};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;

use super::Gossip;
use super::joining::Phase;
use super::streams::Purpose;
use crate::broadcasts::Arrived;
use crate::delta::Novelty;
use crate::delta::{Broadcast, News};
use crate::hosts::HostStatus;
use crate::identity::HostIdentity;
use crate::members::Members;
use crate::output::Output;
use crate::own::LeftOut;
use crate::refusal::Refusal;
use crate::timers::Wake;

/// The least time between two broadcasts of this host's changes: what changes faster goes out together.
const SPREAD_EVERY: Duration = Duration::from_millis(200);

/// The most records that are being fetched because they were announced; others come with the next exchange.
const FETCHES_MAX: usize = 64;

/// How often one record is asked for.
const FETCH_ATTEMPTS: u8 = 4;

/// How often the last words of a host that leaves are repeated, and how long apart.
const LAST_WORDS: u8 = 4;
const LAST_WORDS_EVERY: Duration = Duration::from_millis(100);

/// How long a host that has left stays to answer.
const LINGER: Duration = Duration::from_secs(1);

/// A record that was announced, and is missing here.
#[derive(Clone, Debug)]
pub(super) struct Fetch {
    stamp: Stamp,
    from: SocketAddr,
    attempts: u8,
}

impl Gossip {
    /// Says what all of this host's instances are. Call it at every change of any of them, the first time only
    /// when they are all known: until then, peers go on with what they know from this host's last life.
    ///
    /// The addresses of containers' ports must be among [`crate::Config::own_addresses`]; others do not believe
    /// them otherwise. Returns those that can't be announced; all others are.
    pub fn announce(&mut self, now: Instant, instances: Vec<Instance>) -> Vec<LeftOut> {
        if matches!(self.phase, Phase::Leaving { .. } | Phase::Left) {
            return Vec::new();
        }
        let (changed, left_out) = self.own.say(now, &self.rules.own_addresses, instances);
        if changed {
            self.own_changed(now);
        }
        if left_out != self.left_out {
            self.left_out.clone_from(&left_out);
            self.problems_changed();
        }
        left_out
    }

    fn own_changed(&mut self, now: Instant) {
        let name = self.own_name().clone();
        if let Some(record) = self.own.said() {
            self.catalogue.merge(&name, record.clone());
        }
        let next = self.last_spread.map_or(now, |last| last + SPREAD_EVERY);
        if next > now {
            self.timers.set_earlier(Wake::Spread, next);
        } else {
            self.spread(now);
        }
        self.settle(now);
    }

    /// Sends out what changed here.
    pub(super) fn spread(&mut self, now: Instant) {
        let Some(members) = &mut self.members else { return };
        if let Some(news) = self.own.news(now) {
            members.spread(&news);
            self.last_spread = Some(now);
        }
    }

    /// A broadcast came in that says something new.
    pub(super) fn hear(&mut self, now: Instant, arrived: Arrived) {
        let Arrived { broadcast, from } = arrived;
        let known = self.catalogue.get(&broadcast.host);
        let novelty = broadcast.novelty(known.map(|record| record.stamp));
        let stamp = broadcast.stamp();
        if stamp.incarnation > self.latest_plausible(now) {
            self.counters.count_refused(Refusal::TooFarAhead);
            if let Some(members) = &self.members {
                members.learn(&broadcast.host, known.map(|record| record.stamp));
            }
            return;
        }
        let applied = match (&broadcast.news, novelty) {
            (_, Novelty::Stale) => return,
            (News::Delta(delta), Novelty::Fresh) => delta.apply(known.map(AsRef::as_ref)).ok(),
            _ => None,
        };
        match applied {
            Some(record) => self.learn(now, &broadcast.host, record),
            None => self.fetch_soon(now, broadcast.host, stamp, from),
        }
    }

    /// Takes in a record of another host, if it is later than what is known.
    pub(super) fn learn(&mut self, now: Instant, host: &HostName, record: HostRecord) {
        if host == self.own_name() || record.stamp.incarnation > self.latest_plausible(now) {
            return;
        }
        let (left, stamp) = (record.left, record.stamp);
        let is_first = self.catalogue.get(host).is_none();
        let is_heard_of = self.hosts.get(host).is_some();
        if is_first && is_heard_of {
            self.make_room_for_record();
        }
        if !self.catalogue.merge(host, record) {
            return;
        }
        // Who never heard of the host itself can't know when to forget it, so it tells nobody of it.
        self.catalogue.set_told(host, is_heard_of);
        if is_first {
            // What was found when nothing was known to knock at says little.
            self.look_again(now, host);
        }
        if let Some(members) = &mut self.members {
            members.learn(host, Some(stamp));
        }
        self.changed.insert(host.clone());
        if left && self.hosts.left(host, now) {
            self.timers.clear(&Wake::Check(host.clone()));
        }
        if self.fetches.get(host).is_some_and(|fetch| fetch.stamp <= stamp) {
            self.fetched(host, stamp);
        }
    }

    /// A record that was announced is here: now others may ask this host for it.
    fn fetched(&mut self, host: &HostName, stamp: Stamp) {
        self.fetches.remove(host);
        self.timers.clear(&Wake::Fetch(host.clone()));
        if let Some(members) = &mut self.members {
            members.spread(&Broadcast { host: host.clone(), news: News::Head(stamp) });
        }
    }

    fn fetch_soon(&mut self, now: Instant, host: HostName, stamp: Stamp, from: SocketAddr) {
        if self.fetches.len() >= FETCHES_MAX && !self.fetches.contains_key(&host) {
            return;
        }
        let fetch = self.fetches.entry(host.clone()).or_insert(Fetch { stamp, from, attempts: 0 });
        fetch.stamp = fetch.stamp.max(stamp);
        let at = now + Duration::from_millis(self.rng.random_range(20..150));
        self.timers.set_earlier(Wake::Fetch(host), at);
    }

    /// Asks for a record: first who told of it, then its host, then anybody.
    pub(super) fn fetch(&mut self, now: Instant, host: HostName) {
        let Some(fetch) = self.fetches.get_mut(&host) else { return };
        if fetch.attempts >= FETCH_ATTEMPTS {
            self.fetches.remove(&host);
            return;
        }
        fetch.attempts += 1;
        let (attempt, teller) = (fetch.attempts, fetch.from);
        let members = self.members.iter().flat_map(Members::active);
        let present: Vec<_> = members.map(|identity| identity.address).collect();
        let owner = || self.hosts.get(&host).map(|host| host.identity.address);
        let from = match attempt {
            1 => Some(teller),
            2 => owner(),
            _ => present.choose(&mut self.rng).copied(),
        };
        if let Some(from) = from.filter(|from| !self.has_stream_to(*from)) {
            self.open_stream(now, from, Purpose::Exchange);
        }
        let next = now + Duration::from_millis(self.rng.random_range(300..600));
        self.timers.set(Wake::Fetch(host), next);
    }

    /// The host takes part, under this identity.
    pub(super) fn host_is_up(&mut self, now: Instant, identity: HostIdentity) {
        let name = identity.name.as_ref().clone();
        if self.is_superseded(&identity) || !self.make_room_for_host(&name) {
            return;
        }
        self.catalogue.recall(&name);
        self.catalogue.set_told(&name, true);
        self.timers.clear(&Wake::Check(name.clone()));
        let has_left = self
            .catalogue
            .get(&name)
            .is_some_and(|record| record.left && record.stamp.incarnation >= identity.incarnation);
        if has_left {
            self.hosts.heard_of(identity, now);
            return;
        }
        let address = identity.address;
        let changed = self.hosts.up(identity, now);
        if changed.contains(&name) {
            self.note_claims_on(address.ip());
            self.note_presence(now, address);
        }
        self.changed.extend(changed);
    }

    /// Leaves the cluster: first all instances drain, for as long as `drain`, then this host is gone from all
    /// others at once. Ends with [`Output::Left`]; nothing can be announced any more.
    ///
    /// Without it, a host that stops counts as failed, and its instances are served while they answer.
    pub fn leave(&mut self, now: Instant, drain: Duration) {
        if matches!(self.phase, Phase::Leaving { .. } | Phase::Left) {
            return;
        }
        self.phase = Phase::Leaving { step: 0 };
        self.timers.clear(&Wake::Join);
        if self.own.said().is_some_and(|record| !record.instances().is_empty()) {
            self.own.drain(now);
            self.own_changed(now);
            self.timers.set(Wake::Leave, now + drain);
        } else {
            self.timers.set(Wake::Leave, now);
        }
    }

    /// Says that this host has left, a few times, then ends its membership, and says that a few times.
    pub(super) fn continue_leaving(&mut self, now: Instant) {
        let Phase::Leaving { step } = &mut self.phase else { return };
        *step += 1;
        let step = *step;
        if step == 1 {
            self.own.leave(now);
            self.own_changed(now);
        }
        let Some(members) = &mut self.members else { return self.end(now) };
        if step == LAST_WORDS {
            members.leave();
        } else {
            members.gossip();
        }
        if step > 2 * LAST_WORDS {
            self.end(now);
        } else {
            let pause = if step == 2 * LAST_WORDS { LINGER } else { LAST_WORDS_EVERY };
            self.timers.set(Wake::Leave, now + pause);
        }
        self.settle(now);
    }

    fn end(&mut self, _now: Instant) {
        self.phase = Phase::Left;
        self.end_membership();
        let open: Vec<_> = self.sessions.keys().copied().collect();
        open.into_iter().for_each(|stream| self.close_stream(stream));
        self.timers = crate::timers::Timers::default();
        self.outputs.push_back(Output::Left);
    }

    /// Hosts that announce this address are to be seen anew: somebody takes part in the cluster there.
    fn note_claims_on(&mut self, address: IpAddr) {
        let claimants = self.catalogue.claimants(address).filter(|host| *host != self.own_name());
        let claimants: Vec<_> = claimants.cloned().collect();
        self.changed.extend(claimants);
    }

    /// Whether the host has said that it left.
    pub(super) fn has_said_goodbye(&self, host: &HostName) -> bool {
        self.catalogue.get(host).is_some_and(|record| record.left)
            || self.hosts.get(host).is_some_and(|host| host.status == HostStatus::Left)
    }
}
