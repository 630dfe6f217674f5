//! What the scenarios share.

use std::time::Duration;

use gossip::HostStatus;
use sim::{Cluster, Conditions, Options};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A cluster that runs, agrees, and has come to rest.
pub(crate) fn settled(seed: u64, hosts: usize) -> Cluster {
    let mut cluster = Cluster::new(Options { seed, hosts, instances: 2, conditions: Conditions::default() });
    cluster.start_all(SECOND);
    agree(&mut cluster, 30 * SECOND);
    cluster.run_for(15 * SECOND);
    cluster.watch_anew();
    cluster
}

/// Waits until all agree and says how long it took; fails with what is wrong.
pub(crate) fn agree(cluster: &mut Cluster, limit: Duration) -> Duration {
    let took = cluster.run_until(limit, Cluster::agrees);
    assert_eq!(cluster.oracle.broken(), [] as [String; 0]);
    took.unwrap_or_else(|| panic!("after {limit:?}: {}", cluster.disagreement().unwrap_or_default()))
}

/// How often a host that was not `guilty` was doubted by one that was not either.
pub(crate) fn innocents(cluster: &Cluster, guilty: &[usize]) -> usize {
    let innocent = |host: &usize| !guilty.contains(host);
    cluster.losses().iter().filter(|(observer, subject, ..)| innocent(observer) && innocent(subject)).count()
}

/// Whether all others serve the host.
pub(crate) fn served_by_all(cluster: &Cluster, host: usize) -> bool {
    served_by(cluster, host) == cluster.running().filter(|other| *other != host).count()
}

/// How many others serve the host.
pub(crate) fn served_by(cluster: &Cluster, host: usize) -> usize {
    let name = cluster.name(host);
    let others = cluster.running().filter(|other| *other != host);
    others.filter(|other| cluster.gossip(*other).status(name).is_some_and(|(_, served)| served)).count()
}

/// How one host sees another.
pub(crate) fn status(cluster: &Cluster, observer: usize, subject: usize) -> Option<HostStatus> {
    cluster.gossip(observer).status(cluster.name(subject)).map(|(status, _)| status)
}

/// How often hosts, except some, had to take a new identity.
pub(crate) fn renewals(cluster: &Cluster, except: &[usize]) -> u64 {
    let hosts = cluster.running().filter(|host| !except.contains(host));
    hosts.map(|host| cluster.gossip(host).counters().renewals).sum()
}
