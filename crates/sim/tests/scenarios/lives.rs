//! Hosts that start, restart, leave, move, and share a name.

use std::time::Duration;

use gossip::{HostStatus, Problem};
use sim::network::Attachment;
use sim::{Cluster, Conditions, Death, Options};

use crate::common::{SECOND, agree, innocents, renewals, served_by_all, settled, status};

const TEN_YEARS_MS: u64 = 10 * 365 * 24 * 3600 * 1000;
const START_MS: u64 = 1_800_000_000_000;

/// foca alone: a joiner of 1,000 hosts needs 20 minutes to know them all.
#[test]
fn who_joins_knows_everybody_and_everything_at_once() {
    let mut cluster = Cluster::new(Options { seed: 1, hosts: 80, instances: 2, conditions: Conditions::default() });
    (0..79).for_each(|host| cluster.start(host));
    agree(&mut cluster, 60 * SECOND);
    cluster.run_for(20 * SECOND);
    cluster.start(79);
    let knows = |cluster: &Cluster| {
        cluster.gossip(79).members() == 79 && cluster.gossip(79).knowledge() == cluster.gossip(0).knowledge()
    };
    let took = cluster.run_until(10 * SECOND, knows).expect("knows everybody");
    assert!(took <= 2 * SECOND, "{took:?}");
    agree(&mut cluster, 2 * SECOND);
}

#[test]
fn a_seed_that_comes_late_is_found() {
    let mut cluster = Cluster::new(Options { seed: 1, hosts: 6, instances: 2, conditions: Conditions::default() });
    (3..6).for_each(|host| cluster.start(host));
    cluster.run_for(60 * SECOND);
    assert!(!cluster.gossip(4).is_inside());
    cluster.start(0);
    let took = agree(&mut cluster, 20 * SECOND);
    assert!(took <= 8 * SECOND, "{took:?}");
}

#[test]
fn a_quick_restart_takes_nothing_away() {
    for seed in 0..3 {
        let mut cluster = settled(seed, 10);
        cluster.kill(5, Death::Registrar);
        cluster.run_for(SECOND / 2);
        cluster.start(5);
        let took = agree(&mut cluster, 10 * SECOND);
        assert!(took <= 3 * SECOND, "seed {seed}: {took:?}");
        assert!(cluster.losses().is_empty(), "seed {seed}: {:?}", cluster.losses());
    }
}

/// foca tells of a quick restart only as a rename.
#[test]
fn a_host_that_comes_back_elsewhere_is_known_there_at_once() {
    for seed in 0..4 {
        let mut cluster = settled(seed, 8);
        let name = cluster.name(5).clone();
        let before = cluster.gossip(1).host(&name).unwrap().address.unwrap();
        let elsewhere = std::net::SocketAddr::new(before.ip(), before.port() + 1);
        cluster.kill(5, Death::Registrar);
        cluster.run_for(SECOND / 2);
        cluster.start_as(5, name.clone(), elsewhere, START_MS + 100_000);
        let is_known = |cluster: &Cluster| {
            let others = cluster.running().filter(|host| *host != 5);
            others.map(|host| cluster.gossip(host).host(&name).unwrap().address).all(|at| at == Some(elsewhere))
        };
        let took = cluster.run_until(20 * SECOND, is_known).expect("known");
        assert!(took <= 2 * SECOND, "seed {seed}: {took:?}");
        assert!(cluster.losses().is_empty(), "seed {seed}: {:?}", cluster.losses());
        agree(&mut cluster, 10 * SECOND);
    }
}

#[test]
fn a_rolling_restart_of_all_hosts_takes_nothing_away() {
    let mut cluster = settled(1, 10);
    for host in 0..10 {
        cluster.kill(host, Death::Registrar);
        cluster.run_for(SECOND / 2);
        cluster.start(host);
        cluster.run_for(SECOND / 2);
        assert!((0..10).all(|host| served_by_all(&cluster, host)), "{host}");
    }
    agree(&mut cluster, 10 * SECOND);
    let withdrawn = cluster.losses().iter().filter(|(.., status)| *status == HostStatus::Down).count();
    assert_eq!(withdrawn, 0);
}

/// foca alone renews its identity once for every second that the clock was set back.
#[test]
fn a_clock_that_was_set_back_does_no_harm() {
    for (seed, clock) in [(1, START_MS - TEN_YEARS_MS), (2, START_MS + TEN_YEARS_MS), (3, 0)] {
        let mut cluster = settled(seed, 10);
        for restart in 0..2 {
            cluster.kill(5, Death::Registrar);
            cluster.run_for(SECOND);
            cluster.start_at(5, clock);
            let took = agree(&mut cluster, 20 * SECOND);
            assert!(took <= 3 * SECOND, "seed {seed}, restart {restart}: {took:?}");
        }
        assert!(renewals(&cluster, &[]) <= 2, "seed {seed}: {}", renewals(&cluster, &[]));
    }
}

#[test]
fn a_host_that_leaves_is_gone_everywhere_even_on_a_bad_network() {
    for seed in 0..3 {
        let mut cluster = settled(seed, 10);
        cluster.network.conditions.loss = 0.2;
        cluster.leave(5, 2 * SECOND);
        cluster.run_for(3 * SECOND);
        let left =
            |cluster: &Cluster| (0..10).filter(|h| *h != 5).all(|h| status(cluster, h, 5) == Some(HostStatus::Left));
        let took = cluster.run_until(10 * SECOND, left).expect("gone");
        assert!(took <= 2 * SECOND, "seed {seed}: {took:?}");
        cluster.network.conditions.loss = 0.0;
        cluster.kill(5, Death::Registrar);
        cluster.run_for(30 * SECOND);
        assert!(left(&cluster), "seed {seed}");
        cluster.start(5);
        cluster.announce_many(5, 2);
        agree(&mut cluster, 10 * SECOND);
    }
}

#[test]
fn a_second_host_of_the_same_name_takes_no_part_and_both_are_told() {
    for (seed, clock) in [(1, START_MS + TEN_YEARS_MS), (2, START_MS - TEN_YEARS_MS)] {
        let mut cluster = settled(seed, 8);
        let (name, stamp) = (cluster.name(2).clone(), cluster.gossip(2).stamp(cluster.name(2)));
        // The eighth machine goes, and comes back under the third's name at its own address.
        let address = cluster.gossip(3).host(cluster.name(7)).unwrap().address.unwrap();
        cluster.leave(7, Duration::ZERO);
        cluster.run_for(3 * SECOND);
        cluster.kill(7, Death::Registrar);
        cluster.watch_anew();
        cluster.start_as(7, name.clone(), address, clock);
        cluster.run_for(40 * SECOND);
        assert!(
            matches!(cluster.gossip(7).problems()[..], [Problem::NameTaken(..)]),
            "{:?}",
            cluster.gossip(7).problems()
        );
        assert!(!cluster.gossip(7).is_inside());
        assert!(
            matches!(cluster.gossip(2).problems()[..], [Problem::NameContested(..)]),
            "{:?}",
            cluster.gossip(2).problems()
        );
        for observer in [0, 1, 3, 4, 5, 6] {
            let view = cluster.gossip(observer).host(&name).unwrap();
            assert_eq!((view.status, view.served), (HostStatus::Alive, true));
            assert_eq!(view.instances.len(), 2);
            assert_eq!(view.address, Some(cluster.gossip(observer).host(&name).unwrap().address.unwrap()));
            assert!(view.stamp >= stamp);
        }
        let losses: Vec<_> = cluster.losses().iter().filter(|(observer, ..)| *observer != 7).collect();
        assert!(losses.is_empty(), "seed {seed}: {losses:?}");
        // The first one goes: now the second may have the name.
        cluster.kill(2, Death::Machine);
        assert!(cluster.run_until(60 * SECOND, |cluster| cluster.gossip(7).is_inside()).is_some());
        assert!(cluster.gossip(7).problems().is_empty());
    }
}

#[test]
fn two_hosts_of_one_name_that_meet_after_a_partition_are_sorted_out() {
    for seed in 0..3 {
        let mut cluster = settled(seed, 8);
        let name = cluster.name(2).clone();
        let address = cluster.gossip(3).host(cluster.name(7)).unwrap().address.unwrap();
        cluster.leave(7, Duration::ZERO);
        cluster.run_for(3 * SECOND);
        cluster.kill(7, Death::Registrar);
        cluster.network.partition([(0, 1), (6, 1), (7, 1)]);
        cluster.run_for(30 * SECOND);
        cluster.start_as(7, name.clone(), address, START_MS + 100_000);
        cluster.run_for(30 * SECOND);
        assert!(cluster.gossip(7).is_inside(), "alone on its side it has the name");
        cluster.network.heal();
        cluster.run_for(60 * SECOND);
        assert!(!cluster.gossip(7).is_inside(), "seed {seed}: the younger one yields");
        assert!(cluster.gossip(2).is_inside());
        assert!(matches!(cluster.gossip(7).problems()[..], [Problem::NameTaken(..)]));
        for observer in [0, 1, 3, 4, 5, 6] {
            let view = cluster.gossip(observer).host(&name).unwrap();
            let own = cluster.gossip(2).stamp(&name);
            assert_eq!((view.status, view.stamp), (HostStatus::Alive, own), "seed {seed}: host {observer}");
        }
    }
}

/// Two hosts with one advertise address: one of them can't be reached there.
#[test]
fn a_host_with_another_hosts_address_harms_only_itself() {
    let mut cluster = settled(1, 6);
    let taken = cluster.gossip(0).host(cluster.name(2)).unwrap().address.unwrap();
    cluster.kill(5, Death::Registrar);
    let name = "newcomer".parse().unwrap();
    cluster.start_as(5, name, taken, START_MS + 100_000);
    cluster.run_for(60 * SECOND);
    let lost: Vec<_> =
        cluster.losses().iter().filter(|(observer, subject, ..)| *observer != 5 && *subject < 5).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(renewals(&cluster, &[5]), 0);
}

#[test]
fn a_host_on_a_lossy_line_leaves_no_trace_when_it_gets_better() {
    let mut cluster = settled(1, 10);
    for round in 0..10 {
        let loss = if round % 2 == 0 { 1.0 } else { 0.0 };
        cluster.network.attachments.insert(5, Attachment { loss_in: loss, loss_out: loss, ..Attachment::default() });
        cluster.run_for(5 * SECOND);
    }
    cluster.network.heal();
    agree(&mut cluster, 15 * SECOND);
    assert_eq!(innocents(&cluster, &[5]), 0);
}
