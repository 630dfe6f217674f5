//! Hosts that are renamed, and hosts that claim one address.

use std::net::SocketAddr;

use gossip::{HostStatus, Problem};
use model::HostName;
use sim::{Cluster, Death};

use crate::common::{SECOND, renewals, settled, status};

const START_MS: u64 = 1_800_000_000_000;

fn address(cluster: &Cluster, host: usize) -> SocketAddr {
    cluster.gossip(0).host(cluster.name(host)).and_then(|view| view.address).expect("the host is known")
}

/// Whether all others serve the host's machine once, under its new name.
fn is_renamed(cluster: &Cluster, old: &HostName, new: &HostName) -> bool {
    (0..5).all(|observer| {
        let gossip = cluster.gossip(observer);
        gossip.status(new) == Some((HostStatus::Alive, true)) && gossip.host(old).is_none_or(|old| !old.served)
    })
}

/// Renames the last of six hosts: its registrar is away for some time, and its ports always answer.
fn rename(seed: u64, away_s: u32, port: u16) {
    let mut cluster = settled(seed, 6);
    let old = cluster.name(5).clone();
    let new: HostName = "renamed".parse().expect("a valid name");
    let at = SocketAddr::new(address(&cluster, 5).ip(), port);
    cluster.kill(5, Death::Registrar);
    cluster.run_for(SECOND * away_s);
    cluster.start_as(5, new.clone(), at, START_MS + 100_000);
    let took = cluster.run_until(60 * SECOND, |cluster| is_renamed(cluster, &old, &new));
    let took = took.unwrap_or_else(|| panic!("seed {seed}, away {away_s} s, port {port}: both names are served"));
    assert!(took <= 15 * SECOND, "seed {seed}, away {away_s} s, port {port}: {took:?}");
    for _ in 0..300 {
        cluster.run_for(SECOND / 5);
        assert!(is_renamed(&cluster, &old, &new), "seed {seed}, away {away_s} s, port {port}: it came back");
    }
    let innocent = cluster.losses().iter().filter(|(observer, subject, ..)| *observer != 5 && *subject < 5).count();
    assert_eq!(innocent, 0, "seed {seed}");
}

#[test]
fn a_renamed_host_is_served_once_although_its_ports_answer() {
    for (seed, away_s) in [(1, 0), (2, 1), (3, 5), (4, 40)] {
        rename(seed, away_s, 7946);
    }
}

#[test]
fn a_renamed_host_at_another_gossip_port_is_served_once() {
    for (seed, away_s) in [(1, 1), (2, 40)] {
        rename(seed, away_s, 7950);
    }
}

/// How often `observers` began or ceased to serve the host, within five minutes.
fn flaps(cluster: &mut Cluster, name: &HostName, observers: &[usize]) -> usize {
    let served = |cluster: &Cluster, observer: usize| cluster.gossip(observer).status(name).is_some_and(|(_, s)| s);
    let mut last: Vec<_> = observers.iter().map(|observer| served(cluster, *observer)).collect();
    let mut flaps = 0;
    for _ in 0..3_000 {
        cluster.run_for(SECOND / 10);
        for (observer, last) in observers.iter().zip(&mut last) {
            let now = served(cluster, *observer);
            flaps += usize::from(std::mem::replace(last, now) != now);
        }
    }
    flaps
}

/// A wrong `--advertise-address`: the newcomer can speak, and nobody can reach it.
#[test]
fn of_two_hosts_at_one_address_the_one_that_answers_is_served_and_the_other_does_not_flap() {
    for seed in 0..3 {
        let mut cluster = settled(seed, 6);
        let taken = address(&cluster, 2);
        cluster.kill(5, Death::Machine);
        cluster.run_for(60 * SECOND);
        cluster.watch_anew();
        let name: HostName = "newcomer".parse().unwrap();
        cluster.start_as(5, name.clone(), taken, START_MS + 100_000);
        let flaps = flaps(&mut cluster, &name, &[0, 1, 2, 3, 4]);
        println!("seed {seed}: {flaps} flaps");
        assert!(flaps <= 10, "seed {seed}: each may see it come once and go once, and {flaps} times it did");
        for observer in [0, 1, 3, 4] {
            assert_eq!(status(&cluster, observer, 2), Some(HostStatus::Alive), "seed {seed}");
        }
        let lost: Vec<_> = cluster.losses().iter().filter(|(by, whom, ..)| *by != 5 && *whom < 5).collect();
        assert!(lost.is_empty(), "seed {seed}: {lost:?}");
        assert_eq!(renewals(&cluster, &[5]), 0);
        let problems = cluster.gossip(5).problems();
        assert!(problems.iter().any(|problem| problem.to_string().contains("host-2")), "seed {seed}: {problems:?}");
        assert!(!matches!(problems[..], [Problem::CutOff]), "{problems:?}");
    }
}
