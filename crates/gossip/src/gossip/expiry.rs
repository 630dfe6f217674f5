//! Forgetting hosts that are gone for long: what was heard of them and what they said, by one clock.
//!
//! A record whose host was never heard of here, neither as a member nor as lost, is an orphan: foca forgets a dead member
//! long before its record is forgotten, so a registrar that starts in between learns the record alone. It keeps it as
//! long as any other, and tells nobody of it: otherwise hosts that restart one after the other would hand it on for ever.

use std::time::{Duration, Instant};

use model::HostName;

use super::Gossip;
use crate::hosts::{Host, HostStatus};
use crate::identity::name_fingerprint;

/// How long a lost host's record is kept: as long as it may still come back the same.
const KEEP_DOWN: Duration = Duration::from_secs(24 * 3600);

/// How long a host is listed that has left.
const KEEP_LEFT: Duration = Duration::from_secs(3600);

impl Gossip {
    /// Forgets those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        let is_over = |host: &Host| {
            let age = now.saturating_duration_since(host.since);
            match host.status {
                HostStatus::Down => age >= KEEP_DOWN && !host.is_served(),
                HostStatus::Left => age >= KEEP_LEFT,
                HostStatus::Alive | HostStatus::Suspect => false,
            }
        };
        let old: Vec<_> = self.hosts.iter().filter(|(_, host)| is_over(host)).map(|(name, _)| name.clone()).collect();
        old.iter().for_each(|name| self.forget(name));
        self.expire_orphans(now);
    }

    fn expire_orphans(&mut self, now: Instant) {
        let is_orphan = |host: &HostName| self.hosts.get(host).is_none() && host != self.own_name();
        let orphans: Vec<_> = self.catalogue.hosts().filter(|host| is_orphan(host)).cloned().collect();
        let known = std::mem::take(&mut self.orphans);
        let since = |host: HostName| (host.clone(), known.get(&host).copied().unwrap_or(now));
        self.orphans = orphans.into_iter().map(since).collect();
        let over = self.orphans.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= KEEP_DOWN);
        let over: Vec<_> = over.map(|(host, _)| host.clone()).collect();
        over.iter().for_each(|host| self.forget(host));
    }

    /// Whether there is a place for one more host that takes part: the one that is gone for longest makes way.
    pub(super) fn make_room_for_host(&mut self, name: &HostName) -> bool {
        if self.hosts.get(name).is_some() || !self.hosts.is_full() {
            return true;
        }
        let Some(longest) = self.hosts.longest_gone().map(|host| host.identity.name.as_ref().clone()) else {
            self.problems_changed();
            return false;
        };
        self.forget(&longest);
        true
    }

    /// Makes a place for the record of a host that was heard of: of those that nobody vouches for the oldest goes, or else
    /// that of the host that is gone for longest.
    pub(super) fn make_room_for_record(&mut self) {
        if !self.catalogue.is_full() {
            return;
        }
        let oldest = self.orphans.iter().min_by_key(|(_, since)| **since).map(|(host, _)| host.clone());
        let orphan = oldest.filter(|host| self.hosts.get(host).is_none());
        let longest = || self.hosts.longest_gone().map(|host| host.identity.name.as_ref().clone());
        if let Some(host) = orphan.or_else(longest) {
            self.forget(&host);
        }
    }

    fn forget(&mut self, name: &HostName) {
        self.hosts.forget(name);
        self.catalogue.forget(name);
        self.orphans.remove(name);
        self.replay.forget(name_fingerprint(name));
        if let Some(members) = &self.members {
            members.learn(name, None);
        }
        self.changed.insert(name.clone());
    }
}
