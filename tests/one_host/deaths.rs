//! Envoy dies, or was never there; so the registrar. Ports answer all the same.

use std::time::Duration;

use lab::http::Request;
use lab::load::Load;
use lab::{Docker, Host, Lab, Proxy, measure};
use nix::sys::signal::Signal;

use crate::{on_both_dockers, passed_envoy};

on_both_dockers!(
    no_connection_is_refused_when_envoy_is_killed_under_load,
    without_registrar_and_envoy_a_port_works_as_fast_as_with_docker_proxy,
);

/// New connections per second in each address family.
const PER_SECOND: u32 = 200;
/// Most connections that are lost with one Envoy: each of the 16 workers of both loads has one in its hands, and
/// may meet another of its sockets before the kernel has closed that too.
const IN_FLIGHT: u64 = 32;

fn no_connection_is_refused_when_envoy_is_killed_under_load(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (lab.host("a").docker(version).start(), lab.client("client"));
    host.run_web(&["-p", "8080:80", "-l", "ServiceName=web", "-l", "EnvironmentName=test"]);
    host.await_served_by_envoy(8080);
    let urls = [format!("http://{}:8080/", host.address()), format!("http://[{}]:8080/", host.address6())];
    let loads = urls.map(|url| Load::start(client.namespace(), &Request::get(&url), PER_SECOND));
    std::thread::sleep(Duration::from_millis(500));
    host.end_envoy(Signal::SIGKILL);
    std::thread::sleep(Duration::from_millis(1000));
    let without = loads.each_ref().map(|load| load.outcomes().ok);
    host.start_envoy();
    host.await_served_by_envoy(8080);
    std::thread::sleep(Duration::from_millis(500));
    let outcomes = loads.map(Load::stop);
    println!("outcomes over IPv4 and IPv6: {outcomes:?}, answered while Envoy was dead: {without:?}");
    for outcome in &outcomes {
        assert_eq!(outcome.refused, 0, "{outcome:?}");
        assert!(outcome.ok > u64::from(PER_SECOND), "{outcome:?}");
    }
    let lost: u64 = outcomes.iter().map(lab::load::Outcomes::failed).sum();
    assert!(lost <= IN_FLIGHT, "only what was in Envoy's hands is lost: {outcomes:?}");
    let new = host.envoy_stat(r"^http\.local/web/test/[^/]*/8080\.downstream_rq_total$");
    assert!(new > u64::from(PER_SECOND) / 4, "traffic is back on the new Envoy: it counted {new}");
    let answer = host.get("http://127.0.0.1:8080/").expect("the port answers");
    assert!(passed_envoy(&answer), "{}", answer.text());
}

fn answers_at_both_addresses(host: &Host, port: u16) {
    for address in ["127.0.0.1", "[::1]"] {
        let answer = host.get(&format!("http://{address}:{port}/")).expect("the port answers");
        assert!(!passed_envoy(&answer), "there is no Envoy: {}", answer.text());
    }
}

fn without_registrar_and_envoy_a_port_works_as_fast_as_with_docker_proxy(version: Docker) {
    let lab = Lab::of_this_test();
    let bare = |name| lab.host(name).docker(version).without_registrar().without_envoy();
    let (ours, theirs) = (bare("ours").start(), bare("theirs").proxy(Proxy::DockerProxy).start());
    let run = |host: &Host, turn: usize| {
        let port = 8000 + turn;
        host.run_web(&["-p", &format!("{port}:80")]);
        answers_at_both_addresses(host, u16::try_from(port).expect("a port"));
    };
    for host in [&ours, &theirs] {
        host.need_web_image();
    }
    // In turns, so that both meet the same load of the machine.
    let mut times = [Vec::new(), Vec::new()];
    for turn in 0..10 {
        times[0].extend(measure::durations(1, |_| run(&ours, turn)));
        times[1].extend(measure::durations(1, |_| run(&theirs, turn)));
    }
    let [with_shim, with_proxy] = times.map(|times| measure::quantile(&times, 0.5));
    println!("docker run and two requests, median: {with_shim:?} with the shim, {with_proxy:?} with docker-proxy");
    assert!(with_shim < with_proxy + Duration::from_millis(100), "{with_shim:?} against {with_proxy:?}");
}

#[test]
fn without_envoy_a_port_answers_and_says_so_and_envoy_takes_over_when_it_comes() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").without_envoy().start();
    host.run_web(&["-p", "8080:80"]);
    answers_at_both_addresses(&host, 8080);
    let ports = host.ports(8080);
    assert_eq!(ports.len(), 2, "{ports:?}");
    assert!(ports.iter().all(|port| port["served_by"] != "envoy" && !port["container_id"].is_null()), "{ports:?}");
    assert_eq!(host.api("envoy")["connected"], false);
    host.start_envoy();
    host.await_served_by_envoy(8080);
    assert!(passed_envoy(&host.get("http://127.0.0.1:8080/").expect("the port answers")));
}

#[test]
fn without_a_registrar_a_port_answers_and_registers_when_one_comes() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").without_registrar().without_envoy().start();
    host.run_web(&["-p", "8080:80"]);
    answers_at_both_addresses(&host, 8080);
    host.start_registrar();
    host.start_envoy();
    host.await_served_by_envoy(8080);
    assert!(passed_envoy(&host.get("http://127.0.0.1:8080/").expect("the port answers")));
}

#[test]
fn a_port_is_free_after_docker_rm_when_only_envoy_is_left_of_us() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["--name", "web", "-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    host.end_registrar(Signal::SIGKILL);
    host.docker(&["rm", "-f", "web"]);
    // Nobody tells Envoy, so the shim ended its sockets itself.
    host.run_web(&["--name", "web", "-p", "8080:80"]);
    answers_at_both_addresses(&host, 8080);
}

#[test]
fn a_frozen_envoy_loses_the_port_to_the_shim_until_it_thaws() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    host.signal_envoy(Signal::SIGSTOP);
    let hasty = Request::get("http://127.0.0.1:8080/").limit(Duration::from_millis(300));
    lab::eventually("the shim answers for a frozen Envoy", Duration::from_secs(10), || host.send(&hasty));
    host.signal_envoy(Signal::SIGCONT);
    lab::eventually("Envoy answers again", Duration::from_secs(10), || {
        let answer = host.send(&hasty).map_err(|error| error.to_string())?;
        if passed_envoy(&answer) { Ok(()) } else { Err("the shim answers".to_owned()) }
    });
}
