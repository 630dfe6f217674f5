//! All checks of a host: which are due, which are being made, and what follows from their results.
//!
//! A new instance is checked at once, and again after 100 ms, 200 ms and so on until it answers or its interval
//! is reached: it gets traffic as soon as it can take it. These early failures don't count.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use model::instance::Text;
use model::{InstanceKey, Status, Timing};

use crate::check::{Check, Outcome, Probe, REASON_MAX_LENGTH};
use crate::rise_fall::RiseFall;
use crate::schedule::{Lane, Limits, Schedule, spread};

/// How soon a new instance that failed its first check is checked again. Doubles up to its interval.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// Names one check that was begun. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeId(u64);

/// A check to be made now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// To be given back with the outcome.
    pub id: ProbeId,
    /// What is to be done.
    pub probe: Probe,
    /// How long it may take. What took longer is to be reported as unhealthy.
    pub timeout: Duration,
}

/// An instance's status is another one now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusChange {
    /// Whose.
    pub key: InstanceKey,
    /// What it was.
    pub before: Status,
    /// What it is now.
    pub status: Status,
    /// What was seen, in words for the operator.
    pub reason: Text<REASON_MAX_LENGTH>,
}

/// What is known of an instance's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health<'a> {
    /// Its status, drains aside.
    pub status: Status,
    /// What was seen last; empty where nothing was.
    pub reason: &'a str,
    /// What is checked.
    pub check: &'a Check,
}

/// The checks of a host's instances. Every [`Started`] check must be [`Self::finished`], whatever became of its
/// instance: it holds one of the few places.
#[derive(Debug)]
pub struct Checker {
    instances: HashMap<InstanceKey, Checked>,
    running: HashMap<ProbeId, Running>,
    schedule: Schedule,
    next_id: u64,
    seed: u64,
}

#[derive(Debug)]
struct Checked {
    check: Check,
    health: RiseFall,
    reason: Text<REASON_MAX_LENGTH>,
    phase: Phase,
    /// After how long it is checked again while nothing is known of it.
    retry: Duration,
    /// Whether its next check is moved away from those of others.
    is_to_spread: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Due(Instant),
    Running(ProbeId),
    /// Nothing is to be probed.
    Settled,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    key: InstanceKey,
    lane: Lane,
    since: Instant,
}

impl Checker {
    /// Knows no instance yet. `seed` should differ from host to host, so that hosts that check the same thing
    /// don't do it at the same moment.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self { instances: HashMap::new(), running: HashMap::new(), schedule: Schedule::new(limits), next_id: 0, seed }
    }

    /// Adds an instance, whose status is `Unknown` before this, or changes how it is checked. The same check
    /// again changes nothing. A status that was found by checking stays until the new check says otherwise; a
    /// container that was started anew is to be removed first.
    pub fn set(&mut self, key: InstanceKey, check: Check, now: Instant) -> Option<StatusChange> {
        let before = match self.instances.get(&key) {
            Some(known) if known.check == check => return None,
            Some(known) => known.health.status(),
            None => Status::Unknown,
        };
        let was_checked = self.unschedule(key);
        let (status, reason) = match check.word() {
            Some((status, reason)) => (status, Text::cut(reason)),
            None => was_checked.unwrap_or_default(),
        };
        let phase = match &check {
            Check::Probed(probe, timing) => self.due(Lane::of(probe, timing), now, key),
            Check::Docker(_) | Check::Running | Check::AlwaysSuccessful => Phase::Settled,
        };
        let health = RiseFall::new(status);
        let checked = Checked { check, health, reason: reason.clone(), phase, retry: FIRST_RETRY, is_to_spread: true };
        self.instances.insert(key, checked);
        (status != before).then_some(StatusChange { key, before, status, reason })
    }

    /// Forgets an instance; results of its checks mean nothing any longer.
    pub fn remove(&mut self, key: InstanceKey) {
        self.unschedule(key);
        self.instances.remove(&key);
    }

    /// When [`Self::start`] is to be called next. `None`: after the next other call.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.schedule.next_due()
    }

    /// The checks to be made now: those that are due, as far as the limits allow.
    pub fn start(&mut self, now: Instant) -> Vec<Started> {
        let mut started = Vec::new();
        for lane in Lane::ALL {
            while let Some(key) = self.schedule.take(lane, now) {
                started.extend(self.begin(key, lane, now));
            }
        }
        started
    }

    /// Takes in what came of a check. A result that is late, of an instance that was removed or is checked
    /// otherwise by now, changes nothing.
    pub fn finished(&mut self, id: ProbeId, outcome: Outcome, now: Instant) -> Option<StatusChange> {
        let Running { key, lane, since } = self.running.remove(&id)?;
        self.schedule.ended(lane);
        let instance = self.instances.get_mut(&key).filter(|instance| instance.phase == Phase::Running(id))?;
        let Check::Probed(_, timing) = instance.check else { return None };
        let before = instance.health.status();
        let change = instance.observe(outcome.healthy, &timing);
        instance.reason = outcome.reason;
        let due = (since + instance.delay(&timing, key, self.seed)).max(now);
        instance.phase = Phase::Due(due);
        self.schedule.add(lane, due, key);
        change.map(|status| StatusChange { key, before, status, reason: instance.reason.clone() })
    }

    /// What is known of an instance's health; `None` for an instance that is not.
    #[must_use]
    pub fn health(&self, key: InstanceKey) -> Option<Health<'_>> {
        let instance = self.instances.get(&key)?;
        Some(Health { status: instance.health.status(), reason: instance.reason.as_str(), check: &instance.check })
    }

    fn begin(&mut self, key: InstanceKey, lane: Lane, now: Instant) -> Option<Started> {
        let instance = self.instances.get_mut(&key)?;
        let Check::Probed(probe, timing) = &instance.check else { return None };
        self.next_id += 1;
        let id = ProbeId(self.next_id);
        self.running.insert(id, Running { key, lane, since: now });
        instance.phase = Phase::Running(id);
        Some(Started { id, probe: probe.clone(), timeout: timing.timeout })
    }

    fn due(&mut self, lane: Lane, now: Instant, key: InstanceKey) -> Phase {
        self.schedule.add(lane, now, key);
        Phase::Due(now)
    }

    /// Takes an instance out of the schedule; its status, if it was found by probing.
    fn unschedule(&mut self, key: InstanceKey) -> Option<(Status, Text<REASON_MAX_LENGTH>)> {
        let instance = self.instances.get(&key)?;
        let Check::Probed(probe, timing) = &instance.check else { return None };
        if let Phase::Due(due) = instance.phase {
            self.schedule.remove(Lane::of(probe, timing), due, key);
        }
        Some((instance.health.status(), instance.reason.clone()))
    }
}

impl Checked {
    /// Takes in a result; the new status, if it is another one now.
    fn observe(&mut self, healthy: bool, timing: &Timing) -> Option<Status> {
        if !healthy && self.is_new(timing) {
            self.health.forget_streak();
            return None;
        }
        self.health.observe(healthy, timing)
    }

    /// Whether it may still be starting.
    fn is_new(&self, timing: &Timing) -> bool {
        self.health.status() == Status::Unknown && self.retry < timing.interval
    }

    /// From the start of the last check to the next.
    fn delay(&mut self, timing: &Timing, key: InstanceKey, seed: u64) -> Duration {
        if self.is_new(timing) {
            let delay = self.retry;
            self.retry *= 2;
            return delay;
        }
        if std::mem::take(&mut self.is_to_spread) { spread(timing.interval, key, seed) } else { timing.interval }
    }
}

#[cfg(test)]
#[path = "checker/tests.rs"]
mod tests;
