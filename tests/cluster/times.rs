//! How long it takes until other hosts follow a container's life. Takes minutes: see `scripts/test --faults`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lab::http::Request;
use lab::load::Load;
use lab::measure::quantile;
use lab::{Host, Lab, eventually};

use crate::rig::{SPREAD, await_answers, instances, plain, run_web_9500, run_web_9500_at_once, url};

const ROUNDS: usize = 100;
/// Requests per second on the host that is watched; half of them go to the container in question.
const RATE: u32 = 200;
/// How often that host's Envoy is asked what it has sent.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Where other hosts reach the newest instance on this host.
fn endpoint(host: &Host, id: &str) -> SocketAddr {
    let published = host.docker(&["port", id, "80/tcp"]);
    let port = published.lines().next().and_then(|line| line.rsplit(':').next()).and_then(|port| port.parse().ok());
    SocketAddr::new(host.address(), port.unwrap_or_else(|| panic!("docker port: {published}")))
}

/// From `docker kill` until Envoy on `other` sends its last connection or request to the instance, and until it no
/// longer has the endpoint at all. Requests are sent all the while.
fn kill(backend: &Host, id: &str, other: &Host) -> (Duration, Duration) {
    let endpoint = endpoint(backend, id);
    let load = Load::start(other.namespace(), &Request::get(&url(9500)), RATE);
    let sent = || other.envoy_sent_to(endpoint);
    let first = sent();
    eventually("requests are sent to it", SPREAD, || if sent() > first { Ok(()) } else { Err("none") });
    let killed = Instant::now();
    let (mut last, mut seen) = (Duration::ZERO, sent());
    std::thread::scope(|scope| {
        let killing = scope.spawn(|| backend.docker(&["kill", id]));
        while let Some(now) = sent() {
            if Some(now) > seen {
                (last, seen) = (killed.elapsed(), Some(now));
            }
            assert!(killed.elapsed() < SPREAD, "its endpoint is never withdrawn");
            std::thread::sleep(LOOK_EVERY);
        }
        killing.join().expect("docker kill succeeds");
    });
    let gone = killed.elapsed();
    let outcomes = load.stop();
    assert_eq!(outcomes.failed(), 0, "{outcomes:?}");
    (last, gone)
}

/// From when `docker run` returns until Envoy on `other` sends its first connection or request to the instance.
fn start(backend: &Host, other: &Host) -> (String, Duration) {
    let load = Load::start(other.namespace(), &Request::get(&url(9500)), RATE);
    let id = run_web_9500_at_once(backend);
    let started = Instant::now();
    let endpoint = endpoint(backend, &id);
    let first =
        eventually("another host's Envoy sends requests to it", SPREAD, || match other.envoy_sent_to(endpoint) {
            Some(1..) => Ok(started.elapsed()),
            sent => Err(format!("{sent:?}")),
        });
    let outcomes = load.stop();
    assert_eq!(outcomes.failed(), 0, "{outcomes:?}");
    (id, first)
}

#[test]
#[ignore = "takes minutes"]
fn five_hosts_follow_a_start_and_a_kill_within_a_second() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b", "c", "d", "e"]);
    let backend = &hosts[0];
    let stays = run_web_9500(&hosts[1]);
    hosts.iter().for_each(|host| await_answers(host, &url(9500), &[&stays]));
    let (mut starts, mut lasts, mut gones) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let other = &hosts[1 + round % 4];
        let (id, first) = start(backend, other);
        starts.push(first);
        let (last, gone) = kill(backend, &id, other);
        lasts.push(last);
        gones.push(gone);
        backend.docker(&["rm", &id]);
        eventually("all know that it is gone", SPREAD, || {
            let listed: Vec<_> = hosts.iter().map(|host| instances(host, 9500).len()).collect();
            if listed == [1; 5] { Ok(()) } else { Err(format!("{listed:?}")) }
        });
    }
    let kinds = [
        ("docker run returned to first request", starts),
        ("docker kill to last request", lasts),
        ("docker kill to endpoint gone", gones),
    ];
    for (what, times) in kinds {
        let [median, p99, worst] = [0.5, 0.99, 1.0].map(|share| quantile(&times, share));
        println!("{what}, {ROUNDS} rounds on 5 hosts: median {median:.0?}, p99 {p99:.0?}, worst {worst:.0?}");
        assert!(p99 < Duration::from_secs(1), "{what}: {times:?}");
    }
}
