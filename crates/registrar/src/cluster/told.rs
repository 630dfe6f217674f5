//! What those who watch, listeners and Prometheus are told of this host among others.

use std::collections::BTreeMap;

use catalog::OwnInstance;
use model::{InstanceId, InstanceKey, Status};

use super::{Cluster, status_word};
use crate::listeners::Target;
use crate::metrics::ClusterNumbers;
use crate::watch::View;

/// The most problems of labels that a host is said to have.
const LABEL_PROBLEMS_MAX: usize = 8;

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

    /// What is wrong with the labels of this host's instances, as far as they are about the cluster.
    pub(super) fn label_problems(&self) -> Vec<String> {
        let mut problems =
            self.own.label_problems().map(|(key, problem)| format!("instance {}/{key}: {problem}", self.name));
        let shown: Vec<_> = problems.by_ref().take(LABEL_PROBLEMS_MAX).collect();
        let unsaid = problems.count();
        shown.into_iter().chain((unsaid > 0).then(|| format!("and {unsaid} more problems of labels"))).collect()
    }
}
