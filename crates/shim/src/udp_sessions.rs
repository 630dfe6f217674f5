//! Which client talks through which socket, and for how long: a table with a bound and a clock passed in.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use crate::datagrams::Route;
use crate::slots::{Key, Slots};

/// How long a session lasts without a datagram in either direction; docker-proxy's.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Sessions of one port: each takes one of the host's about 28,000 ephemeral ports.
pub(crate) const SESSIONS_MAX: usize = 8192;
/// Sessions that are looked at to find one that is idle, when there is no room.
const EVICTION_LOOKS: usize = 16;

/// A client's socket.
#[derive(Debug)]
pub(crate) struct Session<T> {
    /// Whose it is.
    pub(crate) route: Route,
    /// The socket towards the container.
    pub(crate) socket: T,
    /// How many answers to ask the kernel for: what came last time, and some more.
    pub(crate) expected: usize,
    /// Whether the kernel merges answers that come together (`UDP_GRO`).
    pub(crate) is_merged: bool,
    last_used: Instant,
}

/// The sessions of one port.
#[derive(Debug)]
pub(crate) struct Sessions<T> {
    capacity: usize,
    slots: Slots<Session<T>>,
    by_route: HashMap<Route, Key>,
    /// Every session once, the next first, with the time at which it is looked at: no later than it can be idle.
    looks: BinaryHeap<Reverse<(Instant, Key)>>,
}

impl<T> Sessions<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.clamp(1, SESSIONS_MAX),
            slots: Slots::new(),
            by_route: HashMap::new(),
            looks: BinaryHeap::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.len() == 0
    }

    /// The session of a client, which is in use `now`.
    pub(crate) fn find(&mut self, route: &Route, now: Instant) -> Option<Key> {
        let key = *self.by_route.get(route)?;
        self.touch(key, now).map(|_| key)
    }

    /// A session, which is in use `now`.
    pub(crate) fn touch(&mut self, key: Key, now: Instant) -> Option<&mut Session<T>> {
        let session = self.slots.get_mut(key)?;
        session.last_used = now;
        Some(session)
    }

    /// Adds a session; where there is no room, the one that was idle for longest (about) makes it.
    pub(crate) fn insert(&mut self, route: Route, socket: T, now: Instant) -> Key {
        if self.slots.len() >= self.capacity {
            self.evict();
        }
        let key = self.slots.insert(Session { route, socket, expected: 1, is_merged: false, last_used: now });
        self.by_route.insert(route, key);
        self.looks.push(Reverse((now + IDLE_TIMEOUT, key)));
        key
    }

    /// Ends the sessions that have been idle for too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.deadline().is_some_and(|at| at <= now) {
            let Some(Reverse((at, key))) = self.looks.pop() else { return };
            self.end_or_look_later(at, key);
        }
    }

    /// When [`Self::expire`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.looks.peek().map(|Reverse((at, _))| *at)
    }

    fn evict(&mut self) {
        for look in 1..=EVICTION_LOOKS {
            let Some(Reverse((at, key))) = self.looks.pop() else { return };
            if look == EVICTION_LOOKS {
                return self.remove(key);
            }
            if self.end_or_look_later(at, key) {
                return;
            }
        }
    }

    /// Yields whether it was ended: it has not been used since it was looked at last.
    fn end_or_look_later(&mut self, at: Instant, key: Key) -> bool {
        let Some(session) = self.slots.get_mut(key) else { return false };
        let idle_at = session.last_used + IDLE_TIMEOUT;
        if idle_at > at {
            self.looks.push(Reverse((idle_at, key)));
            return false;
        }
        self.remove(key);
        true
    }

    /// Ends a session.
    pub(crate) fn remove(&mut self, key: Key) {
        if let Some(session) = self.slots.remove(key) {
            self.by_route.remove(&session.route);
        }
        if self.is_empty() {
            // Memory is dear in a process that mostly sleeps.
            self.by_route = HashMap::new();
            self.looks = BinaryHeap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(client: u16) -> Route {
        Route { client: ([192, 0, 2, 1], client).into(), local: Some([198, 51, 100, 1].into()) }
    }

    #[test]
    fn a_client_has_a_session_for_each_of_our_addresses() {
        let now = Instant::now();
        let mut sessions = Sessions::new(10);
        let other = Route { local: Some([198, 51, 100, 2].into()), ..route(1) };
        let key = sessions.insert(route(1), 'a', now);
        assert_eq!(sessions.find(&route(1), now), Some(key));
        assert_eq!(sessions.find(&other, now), None);
    }

    #[test]
    fn a_session_ends_after_its_time_without_a_datagram() {
        let start = Instant::now();
        let mut sessions = Sessions::new(10);
        let idle = sessions.insert(route(1), 'a', start);
        let busy = sessions.insert(route(2), 'b', start);
        let later = start + IDLE_TIMEOUT - Duration::from_secs(1);
        assert!(sessions.touch(busy, later).is_some());
        assert_eq!(sessions.deadline(), Some(start + IDLE_TIMEOUT));
        sessions.expire(start + IDLE_TIMEOUT);
        assert!(sessions.slots.get_mut(idle).is_none());
        assert_eq!(sessions.deadline(), Some(later + IDLE_TIMEOUT));
        sessions.expire(later + IDLE_TIMEOUT);
        assert!(sessions.is_empty());
        assert_eq!(sessions.deadline(), None);
    }

    #[test]
    fn a_session_ends_in_time_whoever_was_looked_at_before() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut sessions = Sessions::new(10);
        let soon_idle = sessions.insert(route(1), 'a', start);
        assert!(sessions.touch(soon_idle, start + second).is_some());
        sessions.insert(route(2), 'b', start + 89 * second);
        sessions.expire(start + IDLE_TIMEOUT);
        assert_eq!(sessions.deadline(), Some(start + second + IDLE_TIMEOUT), "before the other's");
        sessions.expire(start + second + IDLE_TIMEOUT);
        assert!(sessions.slots.get_mut(soon_idle).is_none());
    }

    #[test]
    fn without_room_an_idle_session_makes_it() {
        let start = Instant::now();
        let mut sessions = Sessions::new(3);
        for client in 1..=3 {
            sessions.insert(route(client), 'a', start);
        }
        let later = start + Duration::from_secs(1);
        assert!(sessions.find(&route(1), later).is_some());
        sessions.insert(route(4), 'a', later);
        assert!(sessions.find(&route(1), later).is_some(), "in use");
        assert!(sessions.find(&route(2), later).is_none(), "the oldest that is not");
        assert_eq!((sessions.slots.len(), sessions.by_route.len(), sessions.looks.len()), (3, 3, 3));
    }

    #[test]
    fn any_number_of_clients_stays_within_the_bound() {
        let start = Instant::now();
        let mut sessions = Sessions::new(50);
        for client in 1..=5000 {
            let now = start + Duration::from_millis(client.into());
            sessions.insert(route(client), 'a', now);
            // All that there are stay in use.
            for other in client.saturating_sub(60)..=client {
                let _ = sessions.find(&route(other), now);
            }
        }
        assert_eq!((sessions.slots.len(), sessions.by_route.len(), sessions.looks.len()), (50, 50, 50));
    }
}
