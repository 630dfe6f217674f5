//! When Envoy may be shown the world after a start.
//!
//! A registrar that was started anew knows nothing yet, while Envoy still serves all of it. So nothing is
//! told to Envoy until every port that Docker publishes has its shim registered again and its container
//! found, or until [`DEADLINE`] has passed. That time begins with Docker's first listing. Until Docker is heard,
//! what Envoy has is better than what is known: after the same time Envoy is told of what is new, and keeps the
//! rest for as long as Docker says nothing. Pure: the time is an argument.

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

/// What Envoy is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gate {
    /// Nothing.
    Shut,
    /// What is new. Docker was not heard, so what is not known may be there.
    Ajar,
    /// All that is known, and that there is no more.
    Open,
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
    gate: Gate,
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
        Self { started, since: started, was_listed: false, docker, gate: Gate::Shut }
    }

    /// What Envoy is told; never less than before.
    pub(crate) fn gate(&self) -> Gate {
        self.gate
    }

    /// Whether Envoy has been shown the world; never goes back.
    pub(crate) fn is_serving(&self) -> bool {
        self.gate == Gate::Open
    }

    /// When the gate opens further whatever is missing; `None` where nothing but an event opens it.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let furthest = if self.docker == DockerState::Unheard { Gate::Ajar } else { Gate::Open };
        (self.gate < furthest).then(|| self.since + DEADLINE)
    }

    /// Opens the gate as far as it may be opened now; yields how far, if this call opened it further.
    pub(crate) fn try_open(&mut self, now: Instant, missing: Missing) -> Option<Gate> {
        if self.docker == DockerState::Listed && !self.was_listed {
            (self.was_listed, self.since) = (true, now);
        }
        let is_time = now >= self.since + DEADLINE;
        let is_complete = missing.shims == 0 && missing.containers == 0 && !missing.cluster;
        let gate = match self.docker {
            DockerState::Unheard if is_time => Gate::Ajar,
            DockerState::Absent | DockerState::Listed if is_time || is_complete => Gate::Open,
            DockerState::Unheard | DockerState::Absent | DockerState::Listed => Gate::Shut,
        };
        let opens = gate > self.gate;
        self.gate = self.gate.max(gate);
        opens.then_some(gate)
    }

    /// What `/readyz` waits for. `docker_problem` says why Docker is not heard, naming its socket.
    pub(crate) fn waiting(&self, now: Instant, missing: Missing, docker_problem: Option<&str>) -> Waiting {
        let mut waiting = Vec::new();
        if self.docker == DockerState::Unheard {
            let reason = docker_problem.map(|problem| format!(" ({problem})")).unwrap_or_default();
            waiting.push(format!("Docker's first listing{reason}"));
        }
        if !self.is_serving() {
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
        assert_eq!(readiness.try_open(now, COMPLETE), None, "nothing is known before Docker was heard");
        readiness.docker = DockerState::Listed;
        assert_eq!(readiness.try_open(now, Missing { shims: 1, containers: 0, cluster: false }), None);
        assert_eq!(readiness.try_open(now, Missing { shims: 0, containers: 1, cluster: false }), None);
        assert_eq!(readiness.try_open(now, COMPLETE), Some(Gate::Open));
        assert_eq!(readiness.try_open(now, COMPLETE), None);
        assert_eq!(readiness.deadline(), None);
    }

    #[test]
    fn envoy_is_told_at_the_deadline_whatever_is_missing() {
        let (mut readiness, now) = unheard();
        readiness.docker = DockerState::Listed;
        let missing = Missing { shims: 7, containers: 0, cluster: false };
        assert_eq!(readiness.try_open(now, missing), None);
        let deadline = readiness.deadline().unwrap();
        assert_eq!(readiness.try_open(deadline, missing), Some(Gate::Open));
        assert!(readiness.is_serving());
    }

    #[test]
    fn envoy_is_told_of_what_is_new_alone_for_as_long_as_docker_says_nothing() {
        for missing in [COMPLETE, Missing { shims: 0, containers: 1, cluster: false }] {
            let (mut readiness, now) = unheard();
            assert_eq!(readiness.try_open(readiness.deadline().unwrap(), missing), Some(Gate::Ajar));
            assert_eq!(readiness.deadline(), None, "nothing but Docker's word opens it further");
            for turn in 2..10 {
                assert_eq!(readiness.try_open(now + turn * DEADLINE, missing), None);
            }
        }
    }

    #[test]
    fn shims_and_containers_are_waited_for_from_dockers_first_word_however_late_that_comes() {
        let (mut readiness, now) = unheard();
        let missing = Missing { shims: 0, containers: 1, cluster: false };
        let listed = now + 10 * DEADLINE;
        readiness.try_open(listed, missing);
        readiness.docker = DockerState::Listed;
        assert_eq!(readiness.try_open(listed, missing), None, "it may still be found");
        assert_eq!(readiness.deadline(), Some(listed + DEADLINE));
        assert_eq!(readiness.try_open(listed + DEADLINE, missing), Some(Gate::Open));
    }

    #[test]
    fn it_is_not_ready_while_docker_was_never_heard() {
        let (mut readiness, now) = unheard();
        readiness.try_open(now + DEADLINE, COMPLETE);
        let problem = Some("Docker at unix:///x.sock: no such file");
        let waiting = readiness.waiting(now, COMPLETE, problem);
        assert_eq!(waiting[0], "Docker's first listing (Docker at unix:///x.sock: no such file)");
        readiness.docker = DockerState::Listed;
        readiness.try_open(now + DEADLINE, COMPLETE);
        assert!(readiness.waiting(now, COMPLETE, None).is_empty());
    }

    #[test]
    fn it_is_not_ready_before_a_seed_was_heard_or_its_time_is_over_although_envoy_is_told() {
        let now = Instant::now();
        let mut readiness = Readiness::new(now, DockerState::Absent);
        let alone = Missing { cluster: true, ..COMPLETE };
        assert_eq!(readiness.try_open(now + DEADLINE, alone), Some(Gate::Open));
        assert_eq!(readiness.waiting(now + DEADLINE, alone, None), ["a first word from a seed, for at most 5 s"]);
        assert!(readiness.waiting(now + DEADLINE, COMPLETE, None).is_empty());
        assert!(readiness.waiting(now + SEED_DEADLINE, alone, None).is_empty());
    }

    #[test]
    fn a_host_without_docker_is_ready_at_once() {
        let now = Instant::now();
        let mut readiness = Readiness::new(now, DockerState::Absent);
        assert_eq!(readiness.try_open(now, COMPLETE), Some(Gate::Open));
        assert!(readiness.waiting(now, COMPLETE, None).is_empty());
    }
}
