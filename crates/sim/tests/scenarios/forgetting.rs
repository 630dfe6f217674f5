//! What is forgotten of hosts that are gone, and when.

use std::time::Duration;

use gossip::HostStatus;
use sim::{Cluster, Death};

use crate::common::{SECOND, settled, status};

const HOUR: Duration = Duration::from_secs(3600);

/// Lets time pass in which nothing happens anywhere.
fn sleep(cluster: &mut Cluster, time: Duration) {
    let running: Vec<_> = cluster.running().collect();
    running.into_iter().for_each(|host| cluster.pause(host, time));
    cluster.run_for(time + 60 * SECOND);
}

fn restart(cluster: &mut Cluster, host: usize) {
    cluster.kill(host, Death::Registrar);
    cluster.run_for(SECOND);
    cluster.start(host);
    cluster.run_for(60 * SECOND);
}

/// foca remembers a dead member for an hour, a record is kept for a day: a registrar that starts in between has the record
/// of a host of which it never heard anything.
#[test]
fn a_dead_hosts_record_is_forgotten_although_registrars_restart_again_and_again() {
    let mut cluster = settled(1, 4);
    let dead = cluster.name(3).clone();
    cluster.kill(3, Death::Machine);
    cluster.run_for(60 * SECOND);
    assert_eq!(status(&cluster, 0, 3), Some(HostStatus::Down));
    sleep(&mut cluster, 2 * HOUR);
    restart(&mut cluster, 1);
    assert!(cluster.gossip(1).host(&dead).is_some(), "it is still known to the others");
    for (hours, restarted) in [(20, 2), (2, 1), (20, 0), (20, 2), (20, 0), (8, 1)] {
        sleep(&mut cluster, HOUR * hours);
        restart(&mut cluster, restarted);
    }
    let known: Vec<_> = (0..3).filter(|host| cluster.gossip(*host).host(&dead).is_some()).collect();
    println!("after {:?} h known to {known:?}", cluster.elapsed().as_secs() / 3600);
    assert!(known.is_empty(), "after {} h still known to {known:?}", cluster.elapsed().as_secs() / 3600);
}
