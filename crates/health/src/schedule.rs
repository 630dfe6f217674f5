//! When checks are due, and how many may be made at once.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use model::{InstanceKey, Timing};

use crate::check::Probe;

/// How many checks may be made at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Over the network: each holds a socket.
    pub network: usize,
    /// External: each is a process.
    pub processes: usize,
    /// Further ones over the network that may take longer than [`PATIENT`]. They have places of their own, so that those
    /// who hold theirs for a minute keep nobody else waiting.
    pub patient_network: usize,
    /// The same of External ones.
    pub patient_processes: usize,
}

impl Default for Limits {
    /// 128 sockets let a thousand instances, all of them silent for 3 s, be checked every 24 s, and the others
    /// in between. 16 processes are as many as a small host bears.
    fn default() -> Self {
        Self { network: 128, processes: 16, patient_network: 32, patient_processes: 4 }
    }
}

/// A check that may take longer than this is patient.
pub const PATIENT: Duration = Duration::from_secs(5);

/// What a check holds while it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Network,
    Process,
    PatientNetwork,
    PatientProcess,
}

impl Lane {
    pub(crate) const ALL: [Self; 4] = [Self::Network, Self::Process, Self::PatientNetwork, Self::PatientProcess];

    pub(crate) fn of(probe: &Probe, timing: &Timing) -> Self {
        let is_patient = timing.timeout > PATIENT;
        match probe {
            Probe::HttpGet(_) | Probe::Tcp(_) if is_patient => Self::PatientNetwork,
            Probe::HttpGet(_) | Probe::Tcp(_) => Self::Network,
            Probe::External(_) if is_patient => Self::PatientProcess,
            Probe::External(_) => Self::Process,
        }
    }
}

/// The checks that wait for their time.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// In the order of [`Lane::ALL`].
    queues: [Queue; 4],
}

#[derive(Debug)]
struct Queue {
    /// The longest overdue first, so that nobody waits for ever.
    due: BTreeSet<(Instant, InstanceKey)>,
    running: usize,
    limit: usize,
}

impl Schedule {
    pub(crate) fn new(limits: Limits) -> Self {
        // A limit of nothing would mean that nobody is ever known to be alive.
        let queue = |limit: usize| Queue { due: BTreeSet::new(), running: 0, limit: limit.max(1) };
        let limit = |lane| match lane {
            Lane::Network => limits.network,
            Lane::Process => limits.processes,
            Lane::PatientNetwork => limits.patient_network,
            Lane::PatientProcess => limits.patient_processes,
        };
        Self { queues: Lane::ALL.map(|lane| queue(limit(lane))) }
    }

    const fn queue(&mut self, lane: Lane) -> &mut Queue {
        &mut self.queues[lane as usize]
    }

    pub(crate) fn add(&mut self, lane: Lane, due: Instant, key: InstanceKey) {
        self.queue(lane).due.insert((due, key));
    }

    pub(crate) fn remove(&mut self, lane: Lane, due: Instant, key: InstanceKey) {
        self.queue(lane).due.remove(&(due, key));
    }

    /// The next instance whose check may begin now; it counts as begun.
    pub(crate) fn take(&mut self, lane: Lane, now: Instant) -> Option<InstanceKey> {
        let queue = self.queue(lane);
        let (due, key) = *queue.due.first().filter(|_| queue.running < queue.limit)?;
        if due > now {
            return None;
        }
        queue.due.pop_first();
        queue.running += 1;
        Some(key)
    }

    /// A check that was taken has ended.
    pub(crate) fn ended(&mut self, lane: Lane) {
        let queue = self.queue(lane);
        queue.running = queue.running.saturating_sub(1);
    }

    /// When the next check may begin; `None` where none waits, or as many as may are being made.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let queues = self.queues.iter().filter(|queue| queue.running < queue.limit);
        queues.filter_map(|queue| queue.due.first()).map(|(due, _)| *due).min()
    }
}

/// A part of `interval`, another one for each instance and host. It spreads checks out that all began at once,
/// after a restart of the registrar, say; the interval then keeps them apart.
pub(crate) fn spread(interval: Duration, key: InstanceKey, seed: u64) -> Duration {
    let mut hasher = DefaultHasher::new();
    (key, seed).hash(&mut hasher);
    let parts = u32::try_from(hasher.finish() % 1024).unwrap_or_default() + 1;
    interval * parts / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_spread_over_the_whole_interval() {
        let interval = Duration::from_secs(3);
        let mut quarters = [0; 4];
        for number in 0..400u16 {
            let [high, low] = number.to_be_bytes();
            let at = spread(interval, InstanceKey::from_bytes([0, 0, 0, 0, high, low]), 7);
            assert!(at > Duration::ZERO && at <= interval);
            quarters[((at.as_millis() - 1) / 750) as usize] += 1;
        }
        assert!(quarters.iter().all(|count| (60..140).contains(count)), "{quarters:?}");
    }

    #[test]
    fn the_longest_overdue_comes_first_and_no_more_than_the_limit() {
        let start = Instant::now();
        let key = |number| InstanceKey::from_bytes([number; 6]);
        let at = |ms| start + Duration::from_millis(ms);
        let mut schedule = Schedule::new(Limits { network: 2, processes: 1, ..Limits::default() });
        for (number, ms) in [(1, 30), (2, 10), (3, 20), (4, 99)] {
            schedule.add(Lane::Network, at(ms), key(number));
        }
        schedule.add(Lane::Process, at(50), key(5));
        assert_eq!(schedule.next_due(), Some(at(10)));
        let mut take = |lane| schedule.take(lane, at(60));
        assert_eq!([take(Lane::Network), take(Lane::Network), take(Lane::Network)], [Some(key(2)), Some(key(3)), None]);
        assert_eq!(schedule.next_due(), Some(at(50)), "the other queue has room");
        assert_eq!([schedule.take(Lane::Process, at(60)), schedule.take(Lane::Process, at(60))], [Some(key(5)), None]);
        assert_eq!(schedule.next_due(), None, "the limits are reached");
        schedule.ended(Lane::Network);
        assert_eq!(schedule.next_due(), Some(at(30)));
        assert_eq!(schedule.take(Lane::Network, at(60)), Some(key(1)));
        schedule.ended(Lane::Network);
        assert_eq!(schedule.take(Lane::Network, at(60)), None, "not due yet");
    }
}
