//! How long it takes until another host follows a container's life. Takes minutes: see `scripts/test --faults`.

use std::time::{Duration, Instant};

use lab::{Lab, eventually};

use crate::rig::{SPREAD, answered_by, await_answers, instances, plain, run_web_9500, url};

const ROUNDS: usize = 100;

#[test]
#[ignore = "takes minutes"]
fn five_hosts_follow_a_start_and_a_kill_within_a_second() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b", "c", "d", "e"]);
    let (backend, other) = (&hosts[0], &hosts[4]);
    let stays = run_web_9500(&hosts[1]);
    await_answers(other, &url(9500), &[&stays]);
    let (mut starts, mut kills) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let id = run_web_9500(backend);
        let listens = Instant::now();
        eventually("another host's Envoy sends requests to it", SPREAD, || match answered_by(other, &url(9500)) {
            Ok(own) if own == id[..12] => Ok(()),
            answer => Err(format!("{answer:?}")),
        });
        starts.push(listens.elapsed());
        let killed = Instant::now();
        backend.docker(&["kill", &id]);
        eventually("another host knows that it is gone", SPREAD, || {
            let listed = instances(other, 9500);
            if listed.len() == 1 { Ok(()) } else { Err(format!("{listed:?}")) }
        });
        kills.push(killed.elapsed());
        backend.docker(&["rm", &id]);
    }
    for (what, times) in [("listening to first answer", &mut starts), ("docker kill to withdrawn", &mut kills)] {
        times.sort_unstable();
        println!("{what}: median {:?}, p99 {:?}", times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
        assert!(times[ROUNDS / 2] < Duration::from_secs(1), "{what}: {times:?}");
    }
}
