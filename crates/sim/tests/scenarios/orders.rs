//! What the operator of one host wants of another, on networks of all kinds.

use std::time::Duration;

use gossip::{Answer, ORDER_MAX, OrderError};
use model::Status;
use sim::network::Attachment;
use sim::{Cluster, Death};

use crate::common::{SECOND, agree, settled};

/// How one host sees the first instance of another.
fn first_status(cluster: &Cluster, observer: usize, subject: usize) -> Option<Status> {
    let view = cluster.gossip(observer).host(cluster.name(subject))?;
    view.instances.first().map(|instance| instance.status)
}

#[test]
fn a_drain_that_is_ordered_from_another_host_is_known_to_all_and_taken_back() {
    for seed in 0..5 {
        let mut cluster = settled(seed, 8);
        for (drains, status) in [(true, Status::Draining), (false, Status::Alive)] {
            let order = cluster.order(1, 5, 0, drains).unwrap();
            cluster.run_for(SECOND);
            assert_eq!(cluster.outcome(1, order), Some(&Ok(Answer::Done)), "seed {seed}");
            agree(&mut cluster, 5 * SECOND);
            assert!((0..8).filter(|host| *host != 5).all(|host| first_status(&cluster, host, 5) == Some(status)));
        }
    }
}

#[test]
fn every_order_ends_in_time_however_bad_the_network_and_one_that_is_answered_was_carried_out() {
    let (mut done, mut failed) = (0, 0);
    for seed in 0..30 {
        let mut cluster = settled(seed, 5);
        let loss = if seed % 2 == 0 { 0.1 } else { 0.5 };
        cluster.network.attachments.insert(
            3,
            Attachment { loss_in: loss, loss_out: loss, delay: Duration::from_millis(100), ..Attachment::default() },
        );
        let order = cluster.order(1, 3, 0, true).unwrap();
        cluster.run_for(ORDER_MAX);
        match cluster.outcome(1, order) {
            Some(Ok(answer)) => {
                assert_eq!((answer, first_status(&cluster, 1, 3).is_some()), (&Answer::Done, true), "seed {seed}");
                done += 1;
                cluster.network.heal();
                agree(&mut cluster, 60 * SECOND);
                assert_eq!(first_status(&cluster, 1, 3), Some(Status::Draining), "seed {seed}");
            }
            Some(Err(OrderError::Unreachable | OrderError::NoAnswer)) => failed += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(done > 5 && failed > 5, "{done} done, {failed} failed");
}

#[test]
fn an_order_to_a_host_whose_registrar_or_machine_is_gone_fails_with_the_reason() {
    let mut cluster = settled(1, 5);
    cluster.kill(3, Death::Registrar);
    cluster.kill(4, Death::Machine);
    for host in [3, 4] {
        let order = cluster.order(1, host, 0, true).unwrap();
        cluster.run_for(gossip::CONNECT_TIMEOUT);
        assert_eq!(cluster.outcome(1, order), Some(&Err(OrderError::Unreachable)), "host {host}");
    }
    cluster.run_for(60 * SECOND);
    assert_eq!(cluster.order(1, 4, 0, true), Err(OrderError::Down));
    // One whose registrar alone is gone is served on, and can't be asked.
    let order = cluster.order(1, 3, 0, true).unwrap();
    cluster.run_for(ORDER_MAX);
    assert_eq!(cluster.outcome(1, order), Some(&Err(OrderError::Unreachable)));
}

#[test]
fn a_registrar_that_stands_still_does_not_answer_and_can_be_asked_again_when_it_goes_on() {
    let mut cluster = settled(1, 4);
    let order = cluster.order(1, 2, 0, true).unwrap();
    cluster.pause(2, 5 * SECOND);
    cluster.run_for(ORDER_MAX);
    assert_eq!(cluster.outcome(1, order), Some(&Err(OrderError::NoAnswer)));
    cluster.run_for(3 * SECOND);
    agree(&mut cluster, 30 * SECOND);
    let order = cluster.order(1, 2, 0, true).unwrap();
    cluster.run_for(SECOND);
    assert_eq!(cluster.outcome(1, order), Some(&Ok(Answer::Done)));
    assert_eq!(first_status(&cluster, 3, 2), Some(Status::Draining));
}
