//! Hundreds of ports: start, restarts and stop, side by side with docker-proxy.

use std::thread;
use std::time::{Duration, Instant};

use lab::http::Request;
use lab::load::Load;
use lab::measure::quantile;
use lab::{Docker, Host, Lab, Proxy, eventually, on_both_dockers};
use nix::sys::signal::Signal;

use crate::SECOND;
use crate::registrar::changes_in_envoy;

on_both_dockers!(
    #[ignore = "takes a minute"]
    five_hundred_ports_start_restart_and_stop,
    removing_a_container_with_50_ports_takes_hardly_longer_than_with_docker_proxy,
);

const CONTAINERS: u16 = 10;
/// For each container.
const PORTS: u16 = 50;
/// `docker rm` may take so much longer than with docker-proxy.
const REMOVAL_ALLOWANCE: Duration = Duration::from_millis(100);
/// The same where Envoy leaves hardly any CPU time to others, on two cores that others use as well.
const BUSY_ALLOWANCE: Duration = Duration::from_millis(200);
/// Removals of which the median is taken.
const ROUNDS: usize = 7;
/// One for each address family.
const SHIMS: usize = 2 * CONTAINERS as usize * PORTS as usize;

fn range(first: u16) -> String {
    format!("{first}-{}:80-{}", first + PORTS - 1, 80 + PORTS - 1)
}

fn pair(lab: &Lab, version: Docker) -> [Host; 2] {
    let theirs = lab.host("theirs").docker(version).proxy(Proxy::DockerProxy).without_registrar().without_envoy();
    [lab.host("ours").docker(version).start(), theirs.start()]
}

/// Waits until Envoy serves all ports of all containers.
fn await_all_served(host: &Host) {
    eventually("Envoy serves every port", 60 * SECOND, || {
        let ports = host.api("ports");
        let rows = ports.as_array().map_or(0, Vec::len);
        let served = ports.as_array().into_iter().flatten().filter(|row| row["served_by"] == "envoy").count();
        if (rows, served) == (SHIMS, SHIMS) { Ok(()) } else { Err(format!("{served} of {rows}")) }
    });
}

fn name(container: u16) -> String {
    format!("many{container}")
}

fn first_port(container: u16) -> u16 {
    10_000 + 100 * container
}

fn start_all(host: &Host) {
    for container in 0..CONTAINERS {
        host.run_web(&["--name", &name(container), "-p", &range(first_port(container))]);
    }
}

fn remove_all(host: &Host) {
    let names: Vec<_> = (0..CONTAINERS).map(name).collect();
    host.docker(&[&["rm", "-f"], &names.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn five_hundred_ports_start_restart_and_stop(version: Docker) {
    let lab = Lab::of_this_test();
    let [ours, theirs] = pair(&lab, version);
    ours.need_web_image();
    theirs.need_web_image();
    let [start, start_theirs] = [&ours, &theirs].map(|host| timed(|| start_all(host)));
    let served = timed(|| await_all_served(&ours));
    println!("{version:?}: {SHIMS} listeners in {CONTAINERS} containers:");
    println!(
        "  start: shim {start:.1?} (and {served:.1?} until Envoy serves the last), docker-proxy {start_theirs:.1?}"
    );

    let before = changes_in_envoy(&ours);
    let url = format!("http://127.0.0.1:{}/", first_port(CONTAINERS - 1));
    let load = Load::with_workers(ours.namespace(), &Request::get(&url), 200, 20);
    // The second time long enough for the shims to look for it but once a second.
    for (signal, away) in [(Signal::SIGTERM, 0), (Signal::SIGKILL, 8)] {
        ours.end_registrar(signal);
        thread::sleep(away * SECOND);
        let ready = timed(|| ours.start_registrar());
        let listed = timed(|| await_all_served(&ours));
        println!(
            "  registrar restart after {signal} and {away} s: ready after {ready:.2?}, complete after {:.2?}",
            ready + listed
        );
    }
    // Long enough for an Envoy that has connected again to be told something.
    eventually("Envoy is in sync", 10 * SECOND, || {
        let envoy = ours.api("envoy");
        if envoy["connected"] == true && envoy["in_sync"] == true { Ok(()) } else { Err(envoy) }
    });
    thread::sleep(SECOND);
    assert_eq!(changes_in_envoy(&ours), before, "no resource was changed in Envoy");
    let outcomes = load.stop();
    println!("  200 connections/s meanwhile: {} answered, {} not", outcomes.ok, outcomes.failed());
    assert_eq!(outcomes.failed(), 0, "{outcomes:?}");
    let log = ours.registrar_log();
    assert_eq!(log.matches("Envoy is told from now on without_shim=0 without_container=0").count(), 3, "{log}");

    ours.end_envoy(Signal::SIGKILL);
    let ready = timed(|| ours.start_envoy());
    let again = timed(|| await_all_served(&ours));
    println!("  Envoy restart: ready after {ready:.1?}, serves the last port {again:.1?} later");

    let [stop, stop_theirs] = [&ours, &theirs].map(|host| timed(|| remove_all(host)));
    println!("  docker rm -f of all: shim {stop:.1?}, docker-proxy {stop_theirs:.1?}");
    assert!(
        ours.shims().is_empty() && ours.api("ports").as_array().is_some_and(Vec::is_empty),
        "{}",
        ours.api("ports")
    );
    assert!(
        start < start_theirs * 2 && stop < stop_theirs * 2 + 5 * SECOND,
        "{start:?} {start_theirs:?} {stop:?} {stop_theirs:?}"
    );
}

fn removing_a_container_with_50_ports_takes_hardly_longer_than_with_docker_proxy(version: Docker) {
    let lab = Lab::of_this_test();
    let hosts = pair(&lab, version);
    hosts.iter().for_each(Host::need_web_image);
    let ours = &hosts[0];
    let calm = format!("{version:?}: served for a while");
    compare_removals(&calm, &hosts, REMOVAL_ALLOWANCE, || thread::sleep(SECOND / 2));
    compare_removals("  as soon as Envoy serves the last port", &hosts, BUSY_ALLOWANCE, || {});
    let stop_envoy = || {
        thread::sleep(SECOND / 2);
        ours.signal_envoy(Signal::SIGSTOP);
    };
    compare_removals("  beside an Envoy that is stopped", &hosts, REMOVAL_ALLOWANCE, stop_envoy);
}

/// Compares how long `docker rm -f` of a container takes on the hosts, after `meanwhile` has happened to its ports.
fn compare_removals(case: &str, hosts: &[Host; 2], allowance: Duration, meanwhile: impl Fn()) {
    let mut times = [Vec::new(), Vec::new()];
    // In turns, so that both meet the same load of the machine.
    for _ in 0..ROUNDS {
        for (host, times) in hosts.iter().zip(&mut times) {
            host.run_web(&["--name", "many", "-p", &range(9000)]);
            let is_ours = !host.shims().is_empty();
            if is_ours {
                host.await_served_by_envoy(9000 + PORTS - 1);
                meanwhile();
            }
            times.push(timed(|| drop(host.docker(&["rm", "-f", "many"]))));
            if is_ours {
                host.signal_envoy(Signal::SIGCONT);
            }
        }
    }
    let [shim, proxy] = times.map(|times| quantile(&times, 0.5));
    println!("{case}: docker rm -f of {PORTS} ports, median of {ROUNDS}: shim {shim:.0?}, docker-proxy {proxy:.0?}");
    assert!(shim < proxy + allowance, "{case}: {shim:?} against {proxy:?}");
}
