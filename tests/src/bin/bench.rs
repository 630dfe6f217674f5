//! `scripts/bench`: measures beside docker-proxy, in one run, and prints the figures.
//!
//! What is measured is in `lab::measure`, which the tests use too. Nothing here passes or fails.

use std::time::Duration;

use lab::measure::{durations, mean_pss_kb, quantile, round};
use lab::{Docker, Host, Lab, Proxy};

/// Rounds of `docker run`, requests and `docker rm -f`.
const ROUNDS: usize = 200;
/// How often each `docker run` is timed.
const TURNS: usize = 15;
/// Ports of the container that has many.
const PORTS: usize = 50;

fn main() {
    for version in [Docker::V20, Docker::Current] {
        let lab = Lab::new("bench");
        let ours = lab.host("ours").docker(version).start();
        let theirs = lab.host("theirs").docker(version).proxy(Proxy::DockerProxy).without_registrar().without_envoy();
        let theirs = theirs.start();
        println!("\ndockerd {}", ours.docker(&["version", "--format", "{{.Server.Version}}"]));
        until_envoy(&ours);
        start_and_stop(&ours, &theirs);
        memory(&ours, &theirs);
    }
}

fn until_envoy(host: &Host) {
    let rounds: Vec<_> = (0..ROUNDS).map(|turn| round(host, ["127.0.0.1", "[::1]"][turn % 2], 8080)).collect();
    let waits: Vec<_> = rounds.iter().map(|round| round.until_envoy).collect();
    let refused: u32 = rounds.iter().map(|round| round.refused).sum();
    let [median, p99, worst] = [0.5, 0.99, 1.0].map(|share| quantile(&waits, share));
    println!("  from docker run to an answer through Envoy, {ROUNDS} rounds ({refused} connections refused):");
    println!("    median {median:.1?}, p99 {p99:.1?}, worst {worst:.1?}; target: p99 at most 50 ms, 0 refused");
}

fn start_and_stop(ours: &Host, theirs: &Host) {
    let many = format!("9000-{}:80-{}", 9000 + PORTS - 1, 80 + PORTS - 1);
    let mut times: [Vec<Duration>; 6] = Default::default();
    // In turns, so that all meet the same load of the machine.
    for _ in 0..TURNS {
        for (place, host) in [ours, theirs].into_iter().enumerate() {
            times[3 * place].extend(timed(|| host.run_web_at_once(&["--name", "none"])));
            times[3 * place + 1].extend(timed(|| host.run_web_at_once(&["--name", "many", "-p", &many])));
            host.docker(&["rm", "-f", "none"]);
            times[3 * place + 2].extend(timed(|| host.docker(&["rm", "-f", "many"])));
        }
    }
    let [none, many, remove, none_theirs, many_theirs, remove_theirs] = times.map(|times| quantile(&times, 0.5));
    let (more, more_theirs) = (many.saturating_sub(none), many_theirs.saturating_sub(none_theirs));
    println!("  a container with {PORTS} ports, median of {TURNS}:");
    println!("    docker run, over one without ports: shim {more:.1?}, docker-proxy {more_theirs:.1?}; target: half");
    println!("    docker rm -f: shim {remove:.1?}, docker-proxy {remove_theirs:.1?}");
}

fn timed<T>(mut work: impl FnMut() -> T) -> Vec<Duration> {
    durations(1, |_| drop(work()))
}

fn memory(ours: &Host, theirs: &Host) {
    let many = format!("9000-{}:80-{}", 9000 + PORTS - 1, 80 + PORTS - 1);
    for host in [ours, theirs] {
        host.run_web(&["-p", &many]);
        let answered = host.get("http://127.0.0.1:9000/");
        assert!(answered.is_ok(), "{answered:?}");
    }
    ours.await_served_by_envoy(9000);
    let (shims, proxies) = (ours.shims(), theirs.processes_of("docker-proxy"));
    let (shim, proxy) = (mean_pss_kb(&shims), mean_pss_kb(&proxies));
    println!("  memory (Pss) per process over {} and {} processes:", shims.len(), proxies.len());
    println!("    shim {shim} kB, docker-proxy {proxy} kB; target: a tenth");
}
