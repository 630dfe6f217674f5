//! What is to be done when: this crate's own wake-ups, and foca's timers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use foca::Timer;
use model::HostName;

use crate::identity::HostIdentity;
use crate::output::StreamId;

/// A wake-up of this crate. There is at most one of each; setting it again moves it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wake {
    /// Look whether anything is heard at all.
    Watch,
    /// Try to get into the cluster.
    Join,
    /// Compare knowledge with somebody.
    Exchange,
    /// Compare who is served with who is a member.
    Reconcile,
    /// Spread what changed here.
    Spread,
    /// Ask whether the other host of this name is still there.
    Clash,
    /// The next step of leaving.
    Leave,
    /// Fetch a record that was announced.
    Fetch(HostName),
    /// Begin or end a direct check.
    Check(HostName),
    /// Ask who answers at an address that two hosts claim.
    Holder(SocketAddr),
    /// The stream has taken too long.
    Stream(StreamId),
}

/// One thing that is due.
#[derive(Debug)]
pub(crate) enum Due {
    Wake(Wake),
    Foca(Timer<HostIdentity>),
}

/// Everything that is to be done later, in the order in which it is due.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    wakes: BTreeMap<Wake, Instant>,
    order: BTreeSet<(Instant, Wake)>,
    foca: BTreeMap<(Instant, u64), Timer<HostIdentity>>,
    foca_set: u64,
}

impl Timers {
    pub(crate) fn set(&mut self, wake: Wake, at: Instant) {
        self.clear(&wake);
        self.order.insert((at, wake.clone()));
        self.wakes.insert(wake, at);
    }

    /// Moves the wake-up only towards now.
    pub(crate) fn set_earlier(&mut self, wake: Wake, at: Instant) {
        if self.wakes.get(&wake).is_none_or(|set| *set > at) {
            self.set(wake, at);
        }
    }

    pub(crate) fn clear(&mut self, wake: &Wake) {
        if let Some((wake, at)) = self.wakes.remove_entry(wake) {
            self.order.remove(&(at, wake));
        }
    }

    /// foca's timers are delivered exactly once, never early, and in the order in which they are due.
    pub(crate) fn add_foca(&mut self, timer: Timer<HostIdentity>, at: Instant) {
        self.foca_set += 1;
        self.foca.insert((at, self.foca_set), timer);
    }

    /// To be called when the foca that set them is dropped.
    pub(crate) fn clear_foca(&mut self) {
        self.foca.clear();
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let wake = self.order.first().map(|(at, _)| *at);
        let foca = self.foca.first_key_value().map(|((at, _), _)| *at);
        wake.into_iter().chain(foca).min()
    }

    /// The next thing that is due at `now`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Due> {
        let due = self.next().filter(|at| *at <= now)?;
        if self.foca.first_key_value().is_some_and(|((at, _), _)| *at == due) {
            return self.foca.pop_first().map(|(_, timer)| Due::Foca(timer));
        }
        let (_, wake) = self.order.pop_first()?;
        self.wakes.remove(&wake);
        Some(Due::Wake(wake))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn things_come_in_the_order_in_which_they_are_due_and_never_early() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut timers = Timers::default();
        timers.set(Wake::Join, at(30));
        timers.set(Wake::Watch, at(10));
        timers.add_foca(Timer::PeriodicGossip(1), at(20));
        timers.add_foca(Timer::PeriodicAnnounce(1), at(20));
        assert_eq!(timers.next(), Some(at(10)));
        assert!(timers.pop(at(9)).is_none());
        assert!(matches!(timers.pop(at(99)), Some(Due::Wake(Wake::Watch))));
        assert!(matches!(timers.pop(at(99)), Some(Due::Foca(Timer::PeriodicGossip(1)))));
        assert!(matches!(timers.pop(at(99)), Some(Due::Foca(Timer::PeriodicAnnounce(1)))));
        assert!(matches!(timers.pop(at(99)), Some(Due::Wake(Wake::Join))));
        assert!(timers.pop(at(99)).is_none());
    }

    #[test]
    fn a_wake_up_is_there_once() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut timers = Timers::default();
        timers.set(Wake::Join, at(10));
        timers.set(Wake::Join, at(20));
        timers.set_earlier(Wake::Join, at(30));
        assert_eq!(timers.next(), Some(at(20)));
        timers.set_earlier(Wake::Join, at(15));
        assert!(timers.pop(at(15)).is_some());
        assert_eq!(timers.next(), None);
    }
}
