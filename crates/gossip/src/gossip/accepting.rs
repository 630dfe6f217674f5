//! Which streams of others are let in: a share for every source, and a part that is kept for hosts that are known.
//!
//! Whoever reaches the gossip port can open a stream and say nothing. So a stream that has not said who it is holds its
//! place only until another needs it: of the source that holds most such places, the oldest goes. Streams that have said
//! who they are hold the key, and are never ended for others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use super::Gossip;
use super::streams::{Purpose, Session, StreamEnd};
use crate::channel::Channel;
use crate::output::StreamId;
use crate::refusal::Refusal;

/// The most streams of known hosts, and of those that have said who they are. All hosts of a large cluster may look at
/// one at the same moment.
const KNOWN_MAX: usize = 128;

/// The most streams of others that have not said who they are.
const STRANGERS_MAX: usize = 32;

/// The most streams of one known host's address that have not said who they are.
const KNOWN_SOURCE_MAX: usize = 8;

/// The most streams of one other source that have not said who they are.
const STRANGER_SOURCE_MAX: usize = 4;

/// Whose share a stream takes from: an address, of IPv6 the network that one customer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source(IpAddr);

impl Source {
    fn of(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

impl Gossip {
    /// Another host has opened a stream. `None`: there are too many, and it is to be closed. Another one may be closed
    /// for it.
    pub fn handle_stream_accepted(&mut self, now: Instant, from: SocketAddr) -> Option<StreamId> {
        if !self.make_way(now, from) {
            self.counters.count_refused(Refusal::TooMuch);
            return None;
        }
        self.counters.streams_accepted += 1;
        let channel = Channel::accept(&mut self.rng);
        Some(self.add_session(now, Some(channel), from, false, Purpose::Exchange))
    }

    /// Whether one that has just said who it is may go on: all those together are bounded as well.
    pub(super) fn may_stay(&self) -> bool {
        self.accepted().filter(|(_, session)| session.peer.is_some()).count() <= KNOWN_MAX
    }

    /// Whether there is a place for a stream from there, after another was ended if need be.
    fn make_way(&mut self, now: Instant, from: SocketAddr) -> bool {
        let (source, is_known) = (Source::of(from), self.is_known(from.ip()));
        let unnamed = || self.accepted().filter(|(_, session)| session.peer.is_none());
        let of_source = |session: &Session| Source::of(session.remote) == source;
        let oldest_of_source = unnamed().find(|(_, session)| of_source(session)).map(|(id, _)| id);
        let held = unnamed().filter(|(_, session)| of_source(session)).count();
        let victim = if held >= if is_known { KNOWN_SOURCE_MAX } else { STRANGER_SOURCE_MAX } {
            oldest_of_source
        } else if is_known && self.known_streams() >= KNOWN_MAX {
            let mut of_known = unnamed().filter(|(_, session)| self.is_known(session.remote.ip()));
            let Some((oldest, _)) = of_known.next() else { return false };
            Some(oldest)
        } else if !is_known {
            self.strangers_victim()
        } else {
            None
        };
        if let Some(victim) = victim {
            self.counters.count_refused(Refusal::TooMuch);
            self.end_stream(now, victim, StreamEnd::Refused(Refusal::TooMuch));
        }
        true
    }

    /// Which stream of an unknown source goes so that another can come: the oldest of the source that holds most.
    fn strangers_victim(&self) -> Option<StreamId> {
        let unnamed = self.accepted().filter(|(_, session)| session.peer.is_none());
        let mut sources = BTreeMap::<_, (usize, StreamId)>::new();
        let mut all = 0;
        for (id, session) in unnamed.filter(|(_, session)| !self.is_known(session.remote.ip())) {
            all += 1;
            sources.entry(Source::of(session.remote)).or_insert((0, id)).0 += 1;
        }
        let largest = sources.into_values().max_by_key(|(count, oldest)| (*count, std::cmp::Reverse(*oldest)));
        largest.filter(|_| all >= STRANGERS_MAX).map(|(_, oldest)| oldest)
    }

    fn known_streams(&self) -> usize {
        self.accepted().filter(|(_, session)| session.peer.is_some() || self.is_known(session.remote.ip())).count()
    }

    /// The streams that others opened, the oldest first.
    fn accepted(&self) -> impl Iterator<Item = (StreamId, &Session)> {
        self.sessions.iter().filter(|(_, session)| !session.opener).map(|(id, session)| (*id, session))
    }

    /// Whether a host of the cluster, or a seed, is at this address. Known hosts keep their part while they are down.
    fn is_known(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.seeds.has(address) || self.hosts.is_at(address) || self.catalogue.claimants(address).next().is_some()
    }
}
