//! The registrar or dockerd ends and comes back: nothing is lost, and Envoy hardly notices.

use std::time::{Duration, Instant};

use lab::http::Request;
use lab::load::Load;
use lab::{Docker, Host, Lab, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{on_both_dockers, passed_envoy};

on_both_dockers!(every_port_is_back_after_dockerd_restarts_with_live_restore);

const CONTAINERS: u16 = 10;

fn start_containers(host: &Host) {
    for port in 8000..8000 + CONTAINERS {
        host.run_web(&["-p", &format!("{port}:80"), "-l", &format!("ServiceName=web{port}")]);
    }
    (8000..8000 + CONTAINERS).for_each(|port| drop(host.await_served_by_envoy(port)));
}

/// What `shimctl ports` says of each port, without what differs from one look to the next.
fn listed(host: &Host) -> Vec<Value> {
    let ports = host.shimctl_json(&["ports"]);
    let mut ports = ports.as_array().cloned().unwrap_or_default();
    for port in &mut ports {
        port.as_object_mut().expect("a port is an object").remove("announced_at_ms");
    }
    ports.sort_by_key(ToString::to_string);
    ports
}

/// How often Envoy's listeners were changed in any way.
fn changes_in_envoy(host: &Host) -> Vec<(String, u64)> {
    host.envoy_stats(r"^(listener_manager\.listener_(added|modified|removed|in_place_updated)|cluster_manager\.cluster_(added|modified|removed))$")
}

#[test]
fn a_killed_registrar_has_all_ports_back_within_a_second_and_envoy_is_told_nothing_new() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    start_containers(&host);
    let (before, changes) = (listed(&host), changes_in_envoy(&host));
    assert_eq!(before.len(), 2 * usize::from(CONTAINERS), "{before:?}");
    let load = Load::start(host.namespace(), &Request::get("http://127.0.0.1:8000/"), 50);
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        host.end_registrar(signal);
        assert!(!host.try_shimctl(&["ports"]).status.success(), "without a registrar shimctl fails");
        let start = Instant::now();
        host.spawn_registrar();
        eventually("shimctl lists the same ports as before", Duration::from_secs(10), || {
            let output = host.try_shimctl(&["--output", "json", "ports"]);
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
            let now = listed(&host);
            if now == before { Ok(()) } else { Err(format!("{now:#?}")) }
        });
        let elapsed = start.elapsed();
        println!("ports back {elapsed:?} after {signal} and start");
        assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    }
    host.await_registrar();
    // Long enough for an Envoy that reconnects to be told something.
    host.run_web(&["-p", "9000:80"]);
    host.await_served_by_envoy(9000);
    host.docker(&["rm", "-f", &host.docker(&["ps", "-lq"])]);
    let outcomes = load.stop();
    assert_eq!(outcomes.failed(), 0, "nobody notices: {outcomes:?}");
    let difference = |name: &str| {
        let find = |stats: &[(String, u64)]| stats.iter().find(|(own, _)| own.ends_with(name)).map(|(_, value)| *value);
        find(&changes_in_envoy(&host)).zip(find(&changes)).map(|(now, then)| now - then)
    };
    assert_eq!(difference("listener_added"), Some(2), "only the new container's two listeners");
    assert_eq!(difference("listener_modified"), Some(0));
    assert_eq!(difference("cluster_modified"), Some(0));
}

fn every_port_is_back_after_dockerd_restarts_with_live_restore(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).live_restore().start();
    start_containers(&host);
    let before = host.shims();
    host.end_dockerd(Signal::SIGTERM);
    host.start_dockerd();
    for port in 8000..8000 + CONTAINERS {
        host.await_served_by_envoy(port);
        for address in ["127.0.0.1", "[::1]"] {
            let answer = host.get(&format!("http://{address}:{port}/")).expect("the port answers");
            assert!(passed_envoy(&answer), "{}", answer.text());
        }
    }
    let after = host.shims();
    assert_eq!(after.len(), before.len(), "as many shims as before");
    assert!(after.iter().all(|id| !before.contains(id)), "all of them new");
}

#[test]
fn a_registrar_finds_docker_again() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["--name", "web", "--restart", "always", "-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    host.end_dockerd(Signal::SIGTERM);
    eventually("the port goes with its container", Duration::from_secs(5), || {
        let ports = host.ports(8080);
        if ports.is_empty() { Ok(()) } else { Err(format!("{ports:?}")) }
    });
    host.start_dockerd();
    eventually("the container runs again", Duration::from_secs(10), || {
        let running = host.docker(&["ps", "-q"]);
        if running.is_empty() { Err("not yet") } else { Ok(()) }
    });
    let port = &host.await_served_by_envoy(8080)[0];
    assert_eq!(port["container_name"], "web");
    host.run_web(&["-p", "8081:80", "-l", "ServiceName=late"]);
    assert_eq!(host.await_served_by_envoy(8081)[0]["service_name"], "late");
}
