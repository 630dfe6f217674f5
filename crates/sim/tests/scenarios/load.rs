//! Many changes, long records, and what an attacker with a recording can do.

use std::time::Duration;

use gossip::{Gossip, KeyRing, Refusal, StdRng, generate_key};
use rand::SeedableRng as _;
use sim::{Cluster, Conditions, Options};

use crate::common::{SECOND, agree, settled};

#[test]
fn a_change_is_known_everywhere_within_a_second() {
    let mut cluster = settled(1, 30);
    for round in 0..30 {
        cluster.change(round);
        cluster.run_for(Duration::from_millis(700));
    }
    cluster.run_for(15 * SECOND);
    let (each, last, incomplete) = cluster.spread();
    assert_eq!((each.count(), incomplete), (30 * 29, 0));
    assert!(each.quantile(0.5) <= Duration::from_millis(300), "{each}");
    assert!(last.quantile(0.99) <= SECOND, "{last}");
}

/// foca alone: 8 % of all broadcasts never reach some host.
#[test]
fn a_change_is_known_everywhere_however_much_is_lost() {
    let mut cluster = settled(2, 12);
    cluster.network.conditions.loss = 0.3;
    for round in 0..40 {
        cluster.change(round % 12);
        cluster.run_for(SECOND);
    }
    cluster.run_for(40 * SECOND);
    let (_, _, incomplete) = cluster.spread();
    assert_eq!(incomplete, 0);
    cluster.network.conditions.loss = 0.0;
    agree(&mut cluster, 30 * SECOND);
}

#[test]
fn a_host_with_more_than_a_datagram_can_hold_is_known_whole() {
    let mut cluster = settled(3, 20);
    cluster.announce_many(4, 800);
    cluster.run_for(15 * SECOND);
    let (_, last, incomplete) = cluster.spread();
    assert_eq!(incomplete, 0);
    assert!(last.quantile(1.0) <= 5 * SECOND, "{last}");
    agree(&mut cluster, SECOND);
}

#[test]
fn a_flood_of_changes_passes_and_all_agree() {
    let mut cluster = settled(4, 20);
    for round in 0..1_000 {
        cluster.change(round % 20);
        cluster.run_for(Duration::from_millis(20));
    }
    let took = agree(&mut cluster, 30 * SECOND);
    assert!(took <= 15 * SECOND, "{took:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let conditions = Conditions { loss: 0.1, duplication: 0.1, ..Conditions::default() };
        let mut cluster = Cluster::new(Options { seed: 5, hosts: 8, instances: 2, conditions });
        cluster.start_all(SECOND);
        cluster.change(3);
        cluster.run_for(30 * SECOND);
        let counters: Vec<_> = cluster.running().map(|host| cluster.gossip(host).counters().clone()).collect();
        (counters, cluster.gossip(0).knowledge(), cluster.losses().to_vec())
    };
    assert_eq!(run(), run());
}

#[test]
fn keys_are_rotated_without_losing_anybody() {
    let mut cluster = settled(6, 6);
    let mut rng = StdRng::seed_from_u64(1);
    let (old, new) = (generate_key(&mut rng).to_string(), generate_key(&mut rng).to_string());
    // The cluster begins with the key that everybody knows; from there to `old` is no rotation.
    let set_all = |cluster: &mut Cluster, keys: &str, pause: Duration| {
        for host in 0..6 {
            cluster.with(host, |gossip, _| gossip.set_keys(KeyRing::parse(keys).unwrap()));
            cluster.run_for(pause);
        }
    };
    set_all(&mut cluster, &old, Duration::ZERO);
    cluster.run_for(10 * SECOND);
    cluster.watch_anew();
    for keys in [format!("{old}\n{new}"), format!("{new}\n{old}"), new] {
        set_all(&mut cluster, &keys, 5 * SECOND);
    }
    cluster.change(3);
    agree(&mut cluster, 5 * SECOND);
    assert!(cluster.losses().is_empty(), "{:?}", cluster.losses());
    let unknown = |gossip: &Gossip| gossip.counters().refused(Refusal::UnknownKey);
    assert_eq!(cluster.running().map(|host| unknown(cluster.gossip(host))).sum::<u64>(), 0);
}
