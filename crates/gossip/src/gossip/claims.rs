//! Two hosts at one gossip address: a host that was renamed leaves its old name behind, and a wrong advertise address is
//! another host's.
//!
//! Who answers there, with the key, has the address. The other is no longer served, however its ports answer: they are
//! the first one's now. No order of lives or clocks decides this, only a direct look, and it takes nothing from the host
//! that answers. The other stays out as long as it says the same in the same life, so that it does not come and go; in
//! its next life, or at another address, it is seen anew.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use model::HostName;

use super::Gossip;
use super::streams::Purpose;
use crate::hosts::{Host, HostStatus};
use crate::identity::HostIdentity;
use crate::timers::Wake;

/// All hosts hear of a clash at once; they do not all look at the same moment.
const LOOK_WITHIN: Duration = Duration::from_millis(500);

const fn is_present(host: &Host) -> bool {
    matches!(host.status, HostStatus::Alive | HostStatus::Suspect)
}

impl Gossip {
    /// A host takes part at this address: where another one does too, somebody has to look.
    pub(super) fn note_presence(&mut self, now: Instant, address: SocketAddr) {
        if self.is_contested(address) {
            let at = self.soon(now, LOOK_WITHIN);
            self.timers.set_earlier(Wake::Holder(address), at);
        }
    }

    fn is_contested(&self, address: SocketAddr) -> bool {
        let there = self.hosts.iter().filter(|(_, host)| is_present(host) && host.identity.address == address).count();
        there + usize::from(address == self.identity.address) > 1
    }

    /// Asks who answers at an address that two hosts claim.
    pub(super) fn look_for_holder(&mut self, now: Instant, address: SocketAddr) {
        let asks = |purpose: &Purpose| *purpose == Purpose::Holder;
        let is_asked = self.sessions.values().any(|session| asks(&session.purpose) && session.remote == address);
        if self.is_contested(address) && !is_asked && self.open_stream(now, address, Purpose::Holder).is_none() {
            self.timers.set(Wake::Holder(address), now + LOOK_WITHIN);
        }
    }

    /// Looks again at all addresses that two hosts claim: the last look may have come to nothing.
    pub(super) fn look_for_holders(&mut self, now: Instant) {
        let mut claims = BTreeMap::from([(self.identity.address, 1)]);
        for (_, host) in self.hosts.iter().filter(|(_, host)| is_present(host)) {
            *claims.entry(host.identity.address).or_default() += 1;
        }
        let contested: Vec<_> = claims.into_iter().filter(|(_, count)| *count > 1).collect();
        contested.into_iter().for_each(|(address, _)| self.note_presence(now, address));
    }

    /// Somebody has said there who it is, with the key.
    pub(super) fn answered_at(&mut self, now: Instant, address: SocketAddr, holder: &HostName) {
        let is_other = |(name, host): &(&HostName, &Host)| *name != holder && host.identity.address == address;
        let others: Vec<_> = self.hosts.iter().filter(is_other).map(|(name, _)| name.clone()).collect();
        for name in others {
            let check = self.hosts.get_mut(&name).and_then(|host| host.check.take());
            if let Some(stream) = check.and_then(|check| check.stream) {
                self.close_stream(stream);
            }
            self.probes.retain(|_, host| *host != name);
            if self.hosts.supersede(&name, holder, now) {
                self.timers.clear(&Wake::Check(name.clone()));
                self.changed.insert(name);
            }
        }
        if address == self.identity.address && self.address_holder.as_ref() != Some(holder) {
            self.address_holder = Some(holder.clone());
            self.problems_changed();
        }
    }

    /// Whether another host answered at the address of this identity in this life, and is still there.
    pub(super) fn is_superseded(&self, identity: &HostIdentity) -> bool {
        let Some(host) = self.hosts.get(&identity.name) else { return false };
        let Some(holder) = &host.superseded else { return false };
        let claims_the_same =
            |known: &HostIdentity| known.incarnation == identity.incarnation && known.address == identity.address;
        let has_gone = |holder: &Host| {
            matches!(holder.status, HostStatus::Down | HostStatus::Left) || holder.identity.address != identity.address
        };
        claims_the_same(&host.identity) && !self.hosts.get(holder).is_some_and(has_gone)
    }

    /// The other host that answers at this host's own address, as long as it does.
    pub(super) fn holder_of_own_address(&self) -> Option<&HostName> {
        let is_there = |host: &Host| is_present(host) && host.identity.address == self.identity.address;
        self.address_holder.as_ref().filter(|holder| self.hosts.get(holder).is_some_and(is_there))
    }

    /// Whether this address of a host whose registrar does not answer belongs to another that takes part, and began its
    /// life later: what answers there is the other's.
    pub(super) fn is_anothers(&self, name: &HostName, address: IpAddr) -> bool {
        let Some(own) = self.hosts.get(name).filter(|host| host.status != HostStatus::Alive) else { return false };
        let is_later =
            |other: &Host| other.status == HostStatus::Alive && other.identity.incarnation > own.identity.incarnation;
        let announces = |other: &HostName| other != name && self.hosts.get(other).is_some_and(is_later);
        let gossips = |(other, host): (&HostName, &Host)| {
            other != name && host.identity.address.ip() == address && is_later(host)
        };
        self.catalogue.claimants(address).any(announces) || self.hosts.iter().any(gossips)
    }
}
