//! What those who watch are told: never that a host is down whose machine lives.

use std::collections::{BTreeMap, BTreeSet};

use gossip::HostStatus;
use sim::{Cluster, Conditions, Death, Options};

use crate::common::{SECOND, agree, settled};

/// Watchers of every host.
#[derive(Default)]
struct Watchers {
    /// The hosts that have known the world since they started: from then on their watchers are told everything.
    whole: BTreeSet<usize>,
    /// Who was told how often of whom that it is down.
    told: BTreeMap<(usize, usize), usize>,
}

impl Watchers {
    fn watch(&mut self, cluster: &mut Cluster, looks: usize) {
        for _ in 0..looks {
            cluster.run_for(SECOND / 50);
            let running: Vec<_> = cluster.running().collect();
            for observer in running {
                if cluster.gossip(observer).is_settled() {
                    self.whole.insert(observer);
                }
                if self.whole.contains(&observer) {
                    self.look(cluster, observer);
                }
            }
        }
    }

    fn look(&mut self, cluster: &Cluster, observer: usize) {
        let down = cluster.gossip(observer).hosts().filter(|view| view.status == HostStatus::Down);
        for view in down {
            if let Some(subject) = (0..12).find(|host| *cluster.name(*host) == view.name) {
                *self.told.entry((observer, subject)).or_default() += 1;
            }
        }
    }

    fn kill(&mut self, cluster: &mut Cluster, host: usize) {
        cluster.kill(host, Death::Registrar);
        self.whole.remove(&host);
    }
}

fn options(seed: u64, instances: usize) -> Options {
    Options { seed, hosts: 12, instances, conditions: Conditions::default() }
}

#[test]
fn restarts_of_many_registrars_tell_nobody_that_a_live_host_is_down() {
    for seed in 0..6 {
        let mut cluster = settled(seed, 12);
        let mut watchers = Watchers::default();
        watchers.watch(&mut cluster, 1);
        for round in 0..3 {
            for host in 2..11 {
                watchers.kill(&mut cluster, host);
            }
            // Long enough for the others to lose some of them.
            watchers.watch(&mut cluster, 50 + 150 * round);
            for host in 2..11 {
                cluster.start(host);
                watchers.watch(&mut cluster, 5);
            }
            watchers.watch(&mut cluster, 500);
            agree(&mut cluster, 60 * SECOND);
        }
        assert!(watchers.told.is_empty(), "seed {seed}: {:?}", watchers.told);
    }
}

/// A host without instances has nothing to knock at but its registrar: each restart used to be told as its end.
#[test]
fn registrars_that_restart_one_after_the_other_tell_nobody_that_a_live_host_is_down() {
    for (seed, instances) in [(1, 2), (2, 0), (3, 0), (4, 1)] {
        let mut cluster = Cluster::new(options(seed, instances));
        cluster.start_all(SECOND);
        agree(&mut cluster, 30 * SECOND);
        let mut watchers = Watchers::default();
        for away in [25, 150, 300] {
            for host in 0..12 {
                watchers.kill(&mut cluster, host);
                watchers.watch(&mut cluster, away);
                cluster.start(host);
                watchers.watch(&mut cluster, 25);
            }
            watchers.watch(&mut cluster, 300);
        }
        assert!(watchers.told.is_empty(), "seed {seed}, {instances} instances: {:?}", watchers.told);
    }
}
