//! When Envoy may be shown the world after a start.
//!
//! A registrar that was started anew knows nothing yet, while Envoy still serves all of it. So nothing is
//! told to Envoy until every port that Docker publishes has its shim registered again and its container
//! found, or until [`DEADLINE`] has passed. That time begins with Docker's first listing: while Docker says
//! nothing no container can be found, and what Envoy has is better than what is known. Where no shim has
//! registered either there is nothing to lose. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// How long it may take at most, once Docker was heard, until Envoy is told what is known, and that alone.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3);

/// How long `/readyz` waits at most for a first word from a seed. Longer than Envoy does: whoever asks may wait, for instance
/// with a rolling restart, until this host knows the others.
const SEED_DEADLINE: Duration = Duration::from_secs(5);

/// What is still waited for, each in words; nothing once ready.
pub(crate) type Waiting = Vec<String>;

/// Where Docker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DockerState {
    /// There is none on this host.
    Absent,
    /// It has not given its listing yet.
    Unheard,
    /// Its listing is known.
    Listed,
}

/// The gate between what is known and what Envoy is told.
#[derive(Debug)]
pub(crate) struct Readiness {
    started: Instant,
    /// When the time began that [`DEADLINE`] limits.
    since: Instant,
    /// Whether that was Docker's first listing.
    was_listed: bool,
    pub(crate) docker: DockerState,
    serving: bool,
}

/// How much of the world is still missing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Missing {
    /// Ports that Docker publishes and no shim has registered.
    pub(crate) shims: usize,
    /// Addresses of shims whose container is not found yet.
    pub(crate) containers: usize,
    /// Whether no seed was heard yet.
    pub(crate) cluster: bool,
}

impl Readiness {
    pub(crate) fn new(started: Instant, docker: DockerState) -> Self {
        Self { started, since: started, was_listed: false, docker, serving: false }
    }

    /// Whether Envoy has been shown the world; never goes back.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving
    }

    /// When the gate opens whatever is missing; `None` once it is open.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.serving).then(|| self.since + DEADLINE)
    }

    /// Opens the gate if it may be opened now; true if it was opened by this call.
    pub(crate) fn try_open(&mut self, now: Instant, missing: Missing) -> bool {
        if self.docker == DockerState::Listed && !self.was_listed {
            (self.was_listed, self.since) = (true, now);
        }
        let nobody_knows = self.docker == DockerState::Unheard && missing.containers > 0;
        if nobody_knows && now >= self.since + DEADLINE {
            // To be looked at again then, should nothing happen before.
            self.since = now;
            return false;
        }
        let complete =
            self.docker != DockerState::Unheard && missing.shims == 0 && missing.containers == 0 && !missing.cluster;
        let opens = !self.serving && (complete || now >= self.since + DEADLINE);
        self.serving |= opens;
        opens
    }

    /// What `/readyz` waits for.
    pub(crate) fn waiting(&self, now: Instant, missing: Missing) -> Waiting {
        let mut waiting = Vec::new();
        if self.docker == DockerState::Unheard {
            waiting.push("Docker's first listing".to_owned());
        }
        if !self.serving {
            waiting.push(format!(
                "{} published ports without a shim and {} addresses without a container, for at most {} s",
                missing.shims,
                missing.containers,
                DEADLINE.as_secs()
            ));
        }
        if missing.cluster && now < self.started + SEED_DEADLINE {
            waiting.push(format!("a first word from a seed, for at most {} s", SEED_DEADLINE.as_secs()));
        }
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: Missing = Missing { shims: 0, containers: 0, cluster: false };

    fn unheard() -> (Readiness, Instant) {
        let now = Instant::now();
        (Readiness::new(now, DockerState::Unheard), now)
    }

    #[test]
    fn envoy_is_told_as_soon_as_every_port_is_back_and_only_once() {
        let (mut readiness, now) = unheard();
        assert!(!readiness.try_open(now, COMPLETE), "nothing is known before Docker was heard");
        readiness.docker = DockerState::Listed;
        assert!(!readiness.try_open(now, Missing { shims: 1, containers: 0, cluster: false }));
        assert!(!readiness.try_open(now, Missing { shims: 0, containers: 1, cluster: false }));
        assert!(readiness.try_open(now, COMPLETE));
        assert!(!readiness.try_open(now, COMPLETE));
        assert_eq!(readiness.deadline(), None);
    }

    #[test]
    fn envoy_is_told_at_the_deadline_whatever_is_missing() {
        let (mut readiness, now) = unheard();
        let missing = Missing { shims: 7, containers: 0, cluster: false };
        let deadline = readiness.deadline().unwrap();
        assert!(!readiness.try_open(now, missing));
        assert!(readiness.try_open(deadline, missing));
        assert!(readiness.is_serving());
    }

    #[test]
    fn envoy_keeps_what_it_has_while_docker_says_nothing_of_the_containers_of_shims() {
        let (mut readiness, now) = unheard();
        let missing = Missing { shims: 0, containers: 1, cluster: false };
        for turn in 0..10 {
            assert!(!readiness.try_open(now + turn * DEADLINE, missing));
        }
        let listed = now + 10 * DEADLINE;
        readiness.docker = DockerState::Listed;
        assert!(!readiness.try_open(listed, missing), "it may still be found");
        assert_eq!(readiness.deadline(), Some(listed + DEADLINE));
        assert!(readiness.try_open(listed + DEADLINE, missing));
    }

    #[test]
    fn it_is_not_ready_while_docker_was_never_heard() {
        let (mut readiness, now) = unheard();
        readiness.try_open(now + DEADLINE, COMPLETE);
        assert_eq!(readiness.waiting(now, COMPLETE).len(), 1);
        readiness.docker = DockerState::Listed;
        assert!(readiness.waiting(now, COMPLETE).is_empty());
    }

    #[test]
    fn it_is_not_ready_before_a_seed_was_heard_or_its_time_is_over_although_envoy_is_told() {
        let now = Instant::now();
        let mut readiness = Readiness::new(now, DockerState::Absent);
        let alone = Missing { cluster: true, ..COMPLETE };
        assert!(readiness.try_open(now + DEADLINE, alone));
        assert_eq!(readiness.waiting(now + DEADLINE, alone), ["a first word from a seed, for at most 5 s"]);
        assert!(readiness.waiting(now + DEADLINE, COMPLETE).is_empty());
        assert!(readiness.waiting(now + SEED_DEADLINE, alone).is_empty());
    }

    #[test]
    fn a_host_without_docker_is_ready_at_once() {
        let now = Instant::now();
        let mut readiness = Readiness::new(now, DockerState::Absent);
        assert!(readiness.try_open(now, COMPLETE));
        assert!(readiness.waiting(now, COMPLETE).is_empty());
    }
}
