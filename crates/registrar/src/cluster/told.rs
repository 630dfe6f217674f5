//! What those who watch, listeners and Prometheus are told of this host among others.

use std::collections::BTreeMap;

use catalog::{OwnInstance, ServiceRow};
use health::StatusChange;
use model::{InstanceId, InstanceKey, Status};
use tracing::{debug, info, warn};

use super::{Cluster, status_word};
use crate::listeners::Target;
use crate::metrics::ClusterNumbers;
use crate::watch::View;

/// The most problems of one kind that a service or a host is said to have.
pub(super) const PROBLEMS_MAX: usize = 8;

/// Once for each change, and not for each check.
pub(super) fn log_found(found: &StatusChange) {
    let StatusChange { key, before, status, reason } = found;
    let reason = reason.as_str();
    match (before, status) {
        (_, Status::Unhealthy) => warn!(instance = %key, reason, "it is unhealthy, and gets no requests from now on"),
        (Status::Unhealthy, _) => info!(instance = %key, %status, reason, "it is no longer unhealthy"),
        _ => debug!(instance = %key, %status, reason, "what checks found"),
    }
}

impl Cluster {
    /// Has those of the own instances be listeners that want to.
    pub(super) fn set_listeners(&self) {
        let target = |(key, own): (&InstanceKey, &OwnInstance)| {
            Some(Target::instance(&InstanceId { host: self.name.clone(), key: *key }, own.listener?))
        };
        let listeners: Vec<_> = self.announced.iter().filter_map(target).collect();
        self.audience.listeners.send_if_modified(|known| {
            let differs = *known != listeners;
            *known = listeners;
            differs
        });
    }

    /// Has those who watch look again.
    pub(crate) fn tell_audience(&self) {
        self.audience.changed.notify_one();
    }

    /// Takes in how a listener fares.
    pub(crate) fn listener_reported(&mut self, listener: String, problem: Option<String>) {
        match problem {
            Some(problem) => drop(self.listener_problems.insert(listener, problem)),
            None => drop(self.listener_problems.remove(&listener)),
        }
        self.tell_audience();
    }

    /// All that is told to those who watch. `is_whole`: the world is known.
    pub(crate) fn view(&self, is_whole: bool) -> View {
        View { services: self.service_rows(), hosts: self.hosts(), is_whole }
    }

    /// How much there is of everything.
    pub(crate) fn numbers(&self) -> ClusterNumbers {
        let rows = self.service_rows();
        let all = rows.iter().flat_map(|row| &row.instances);
        // One with several service ports stands in several rows.
        let statuses: BTreeMap<_, _> =
            all.map(|listed| ((&listed.host, listed.instance.key()), listed.instance.status)).collect();
        let mut instances = BTreeMap::from(Status::ALL.map(|status| (status.as_str(), 0)));
        for status in statuses.values() {
            *instances.entry(status.as_str()).or_default() += 1;
        }
        let mut hosts = BTreeMap::from([("alive", 1), ("suspect", 0), ("down", 0)]);
        for view in self.gossip.iter().flat_map(|(gossip, _)| gossip.hosts()) {
            *hosts.entry(status_word(view.status)).or_default() += 1;
        }
        ClusterNumbers {
            instances,
            hosts,
            checks_passed: self.checks.0,
            checks_failed: self.checks.1,
            failing_listeners: self.listener_problems.len(),
            gossip: self.gossip.as_ref().map(|(gossip, _)| gossip.counters().clone()),
        }
    }

    /// What hosts don't tell each other: why own instances are not alive, and what is wrong with their labels.
    pub(super) fn add_own_knowledge(&self, row: &mut ServiceRow) {
        let mut problems: Vec<_> = row.problem.take().into_iter().collect();
        for listed in row.instances.iter_mut().filter(|listed| listed.host == self.name) {
            let key = listed.instance.key();
            listed.reason = self.own.reason(key).map(str::to_owned);
            problems.extend(
                self.own.problems(key).iter().map(|problem| format!("instance {}/{key}: {problem}", self.name)),
            );
        }
        let unsaid = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        problems.extend((unsaid > 0).then(|| format!("and {unsaid} more problems")));
        row.problem = (!problems.is_empty()).then(|| problems.join("; "));
    }

    /// What is wrong with the labels of this host's instances, as far as they are about the cluster.
    pub(super) fn label_problems(&self) -> Vec<String> {
        let mut problems =
            self.own.label_problems().map(|(key, problem)| format!("instance {}/{key}: {problem}", self.name));
        let shown: Vec<_> = problems.by_ref().take(PROBLEMS_MAX).collect();
        let unsaid = problems.count();
        shown.into_iter().chain((unsaid > 0).then(|| format!("and {unsaid} more problems of labels"))).collect()
    }
}
