//! Services, instances and hosts at one moment, and what differs between two of them. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use admin_api::watch::{HostKey, ServiceKey, WatchEvent};
use catalog::ServiceRow;
use model::{HostName, Instance, InstanceId};

use super::View;
use crate::services_view;

/// The step by which times are kept apart that must differ.
pub(crate) const TICK: Duration = Duration::from_micros(1);

/// All that is told to watchers, as it was at one moment. What did not change since the state before is the same
/// object, so that states are cheap to hold and to compare.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) services: BTreeMap<ServiceKey, Arc<admin_api::Service>>,
    pub(crate) hosts: BTreeMap<String, Arc<admin_api::Host>>,
    pub(crate) instances: BTreeMap<InstanceId, Arc<Known>>,
    /// When the instances of a host last changed, as far as any were ever known.
    pub(crate) hosts_changed: BTreeMap<HostName, SystemTime>,
    /// When any instance last changed. It grows with each change, whatever the clock does.
    pub(crate) changed_at: SystemTime,
    /// See [`View::is_whole`].
    pub(crate) is_whole: bool,
}

/// An instance, and since when it has been as it is. The time is when this registrar noticed.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) id: InstanceId,
    pub(crate) instance: Arc<Instance>,
    pub(crate) changed_at: SystemTime,
}

impl Default for State {
    /// Nothing is known yet.
    fn default() -> Self {
        Self {
            services: BTreeMap::new(),
            hosts: BTreeMap::new(),
            instances: BTreeMap::new(),
            hosts_changed: BTreeMap::new(),
            changed_at: SystemTime::UNIX_EPOCH,
            is_whole: false,
        }
    }
}

impl State {
    /// The state after `before`.
    pub(crate) fn next(before: &Self, view: &View, now: SystemTime) -> Self {
        let now = now.max(before.changed_at + TICK);
        let services = services_view::services(&view.services);
        let instances = instances(before, &view.services, now);
        let mut hosts_changed = before.hosts_changed.clone();
        let mut changed_at = before.changed_at;
        for (id, _) in differing(&before.instances, &instances) {
            hosts_changed.insert(id.host.clone(), now);
            changed_at = now;
        }
        // Of hosts that are forgotten nothing need be remembered.
        hosts_changed.retain(|host, _| view.hosts.iter().any(|known| known.name == host.as_str()));
        if changed_at == SystemTime::UNIX_EPOCH {
            changed_at = now;
        }
        Self {
            services: kept(&before.services, services.into_iter().map(|service| (ServiceKey::of(&service), service))),
            hosts: kept(&before.hosts, view.hosts.iter().map(|host| (host.name.clone(), host.clone()))),
            instances,
            hosts_changed,
            changed_at,
            is_whole: view.is_whole,
        }
    }

    /// What a watcher is told who was last told `before`, or nothing.
    pub(crate) fn events_since(&self, before: Option<&Self>) -> Vec<WatchEvent> {
        let Some(before) = before else { return vec![WatchEvent::State(self.whole())] };
        let hosts = differing(&before.hosts, &self.hosts).map(|(name, host)| match host {
            Some(host) => WatchEvent::Host((**host).clone()),
            None => WatchEvent::HostGone(HostKey { name: name.clone() }),
        });
        let services = differing(&before.services, &self.services).map(|(key, service)| match service {
            Some(service) => WatchEvent::Service((**service).clone()),
            None => WatchEvent::ServiceGone(key.clone()),
        });
        hosts.chain(services).collect()
    }

    fn whole(&self) -> admin_api::watch::State {
        admin_api::watch::State {
            services: self.services.values().map(|service| (**service).clone()).collect(),
            hosts: self.hosts.values().map(|host| (**host).clone()).collect(),
        }
    }
}

/// Every instance once, whichever services' rows it stands in.
fn instances(before: &State, rows: &[ServiceRow], now: SystemTime) -> BTreeMap<InstanceId, Arc<Known>> {
    let mut instances = BTreeMap::new();
    for listed in rows.iter().flat_map(|row| &row.instances) {
        let id = InstanceId { host: listed.host.clone(), key: listed.instance.key() };
        let known = before.instances.get(&id).filter(|known| known.instance == listed.instance).cloned();
        let known = known.unwrap_or_else(|| {
            Arc::new(Known { id: id.clone(), instance: Arc::clone(&listed.instance), changed_at: now })
        });
        instances.insert(id, known);
    }
    instances
}

/// A map of these values; those that were there before are the same objects.
fn kept<K: Ord, V: PartialEq>(before: &BTreeMap<K, Arc<V>>, now: impl Iterator<Item = (K, V)>) -> BTreeMap<K, Arc<V>> {
    let keep = |(key, value): (K, V)| {
        let same = before.get(&key).filter(|known| ***known == value).cloned();
        (key, same.unwrap_or_else(|| Arc::new(value)))
    };
    now.map(keep).collect()
}

/// What is another object in `after` than in `before`, and what is no longer there, in the order of keys by kind.
pub(crate) fn differing<'a, K: Ord, V>(
    before: &'a BTreeMap<K, Arc<V>>,
    after: &'a BTreeMap<K, Arc<V>>,
) -> impl Iterator<Item = (&'a K, Option<&'a Arc<V>>)> {
    let gone = before.keys().filter(|key| !after.contains_key(key)).map(|key| (key, None));
    let is_new = |(key, value): &(&K, &Arc<V>)| !before.get(key).is_some_and(|known| Arc::ptr_eq(known, value));
    gone.chain(after.iter().filter(is_new).map(|(key, value)| (key, Some(value))))
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(crate) mod tests;
