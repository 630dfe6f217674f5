//! All hosts come to know the same, whatever the network did.

use std::time::Duration;

use sim::{Cluster, Conditions, Death, Options};

const SECOND: Duration = Duration::from_secs(1);

fn cluster(seed: u64, hosts: usize, conditions: Conditions) -> Cluster {
    Cluster::new(Options { seed, hosts, instances: 3, conditions })
}

/// Waits until all agree, and fails with what is wrong and the seed.
fn settle(cluster: &mut Cluster, seed: u64, limit: Duration) -> Duration {
    let took = cluster.run_until(limit, Cluster::agrees);
    assert_eq!(cluster.oracle.broken(), [] as [String; 0], "seed {seed}");
    took.unwrap_or_else(|| panic!("seed {seed}: after {limit:?}: {}", cluster.disagreement().unwrap_or_default()))
}

#[test]
fn hosts_that_start_together_find_each_other() {
    for seed in 0..5 {
        let mut cluster = cluster(seed, 10, Conditions::default());
        cluster.start_all(SECOND);
        let took = settle(&mut cluster, seed, 15 * SECOND);
        assert!(took <= 5 * SECOND, "seed {seed}: {took:?}");
    }
}

#[test]
fn hosts_agree_on_a_bad_network() {
    for seed in 0..5 {
        let bad =
            Conditions { loss: 0.2, duplication: 0.1, delay_max: Duration::from_millis(100), ..Conditions::default() };
        let mut cluster = cluster(seed, 10, bad);
        cluster.start_all(SECOND);
        for round in 0..20 {
            cluster.change(round % 10);
            cluster.run_for(SECOND);
        }
        cluster.network.conditions = Conditions::default();
        settle(&mut cluster, seed, 60 * SECOND);
    }
}

#[test]
fn a_dead_machine_is_withdrawn_and_the_others_are_not() {
    for seed in 0..5 {
        let mut cluster = cluster(seed, 8, Conditions::default());
        cluster.start_all(SECOND);
        settle(&mut cluster, seed, 15 * SECOND);
        cluster.run_for(20 * SECOND);
        cluster.watch_anew();
        cluster.kill(3, Death::Machine);
        let withdrawn = |cluster: &Cluster| {
            let name = cluster.name(3).clone();
            cluster.running().all(|host| !cluster.gossip(host).host(&name).unwrap().served)
        };
        let took = cluster.run_until(20 * SECOND, withdrawn).expect("withdrawn");
        assert!(took <= 10 * SECOND, "seed {seed}: {took:?}");
        assert!(cluster.losses().iter().all(|(_, subject, ..)| *subject == 3), "seed {seed}: {:?}", cluster.losses());
        cluster.start(3);
        settle(&mut cluster, seed, 15 * SECOND);
    }
}
