//! dockerd starts no shim for a port: Docker's own path serves, and the port's listing names it; or Envoy does, if the
//! user asks for that, with Docker's own path as the way back.

use std::time::{Duration, Instant};

use lab::http::{Request, passed_envoy};
use lab::load::Load;
use lab::{Client, Docker, Host, HostBuilder, Lab, Proxy, eventually, on_both_dockers};
use nix::sys::signal::Signal;

use crate::positions::{
    assert_every_position_is_answered_through_envoy, assert_every_position_over_ipv6_is_answered_through_envoy,
};
use crate::{assert_refused, one_setting, our_table, peer};

on_both_dockers!(
    with_the_userland_proxy_off_docker_serves_and_the_listing_says_why,
    every_client_is_answered_through_envoy_although_no_shim_runs,
    every_client_over_ipv6_is_answered_through_envoy_although_no_shim_runs,
    an_unproxied_port_of_the_loopback_address_is_closed_to_others,
);

fn with_the_userland_proxy_off_docker_serves_and_the_listing_says_why(version: Docker) {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", version).dockerd_arguments(&["--userland-proxy=false"]).start();
    let client = lab.client("client");
    host.run_web(&["-p", "8080:80"]);
    let ports = eventually("the port is listed", Duration::from_secs(5), || {
        let ports = host.ports(8080);
        if ports.is_empty() { Err("no such port") } else { Ok(ports) }
    });
    println!("{}", host.shimctl(&["ports"]));
    let check = check(&host);
    assert!(check.contains("userland-proxy is off") && check.contains("capture-unproxied"), "{check}");
    for port in &ports {
        assert_eq!(port["served_by"], "docker", "{port}");
        let problem = port["problem"].as_str().unwrap_or_default();
        assert!(problem.contains("no shim") && problem.contains("--userland-proxy-path"), "{port}");
        assert!(problem.contains("--capture-unproxied"), "{port}");
    }
    let answer = client.get(&format!("http://{}:8080/", host.address())).expect("Docker's own path serves");
    assert_eq!((passed_envoy(&answer), peer(&answer)), (false, client.address().to_string()));
    assert_eq!(our_table(&host), "", "nothing is diverted to nobody");
}

/// A host whose dockerd starts no shims, and whose user asks for Envoy all the same.
fn unproxied<'a>(lab: &'a Lab, version: Docker) -> HostBuilder<'a> {
    let host = one_setting(lab, "a", version).dockerd_arguments(&["--userland-proxy=false"]);
    host.registrar_arguments(&["--capture-unproxied"])
}

/// Waits until Envoy serves the port, on all addresses that Docker publishes it on. (Without its proxy, it publishes on
/// IPv6 only where the container's network has it.)
fn await_caught(host: &Host, port: u16) {
    eventually(&format!("port {port} is served by Envoy"), Duration::from_secs(5), || {
        let (ports, table) = (host.ports(port), our_table(host));
        let is_served = !ports.is_empty() && ports.iter().all(|port| port["served_by"] == "envoy");
        if is_served && table.contains(&port.to_string()) { Ok(()) } else { Err(format!("{ports:?} {table}")) }
    });
}

/// What `shimctl check` prints.
fn check(host: &Host) -> String {
    String::from_utf8_lossy(&host.try_shimctl(&["check"]).stdout).into_owned()
}

fn every_client_is_answered_through_envoy_although_no_shim_runs(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (unproxied(&lab, version).start(), lab.client("client"));
    assert_every_position_is_answered_through_envoy(&host, &client, await_caught);
    assert!(host.shims().is_empty());
}

fn every_client_over_ipv6_is_answered_through_envoy_although_no_shim_runs(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (unproxied(&lab, version).ipv6_network().start(), lab.client("client"));
    assert_every_position_over_ipv6_is_answered_through_envoy(&host, &client);
}

fn an_unproxied_port_of_the_loopback_address_is_closed_to_others(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (unproxied(&lab, version).start(), lab.client("client"));
    host.run_web(&["-p", "127.0.0.1:8081:80"]);
    host.run_web(&["--name", "neighbour"]);
    await_caught(&host, 8081);
    let inside = "http://127.0.0.1:8081/";
    assert!(passed_envoy(&host.get(inside).expect("it answers on this host")));
    let (own, own6) = (host.address(), host.address6());
    for url in [format!("http://{own}:8081/"), format!("http://[{own6}]:8081/")] {
        assert_refused(&client.get(&url), "from another host");
        assert_refused(&host.get(&url), "at another address of this host");
    }
    assert_refused(&host.get_from("neighbour", &format!("http://{own}:8081/")), "from a container");
    // Whoever connects to where Envoy catches them is meant for no port.
    for url in [format!("http://{own}:15002/"), format!("http://[{own6}]:15002/")] {
        let outcome = client.get(&url);
        assert!(outcome.is_err(), "{outcome:?}");
    }
}

/// How long clients may be refused before Docker's own path serves.
const GAP: Duration = Duration::from_millis(500);
const PER_SECOND: u32 = 200;

/// A host that serves port 8080 without a shim, and somebody who asks.
fn serving(lab: &Lab, builder: HostBuilder<'_>) -> (Host, Client) {
    let (host, client) = (builder.start(), lab.client("client"));
    host.run_web(&["-p", "8080:80"]);
    await_caught(&host, 8080);
    (host, client)
}

fn load(host: &Host, client: &Client) -> Load {
    let request = Request::get(&format!("http://{}:8080/", host.address())).limit(Duration::from_secs(2));
    Load::with_workers(client.namespace(), &request, PER_SECOND, PER_SECOND)
}

fn await_answer_from_docker(host: &Host, client: &Client, limit: Duration) -> Duration {
    let start = Instant::now();
    let request = Request::get(&format!("http://{}:8080/", host.address())).limit(Duration::from_millis(200));
    eventually("Docker's own path serves", limit, || {
        let answer = client.send(&request).map_err(|error| error.to_string())?;
        if passed_envoy(&answer) { Err("Envoy does".to_owned()) } else { Ok(()) }
    });
    start.elapsed()
}

#[test]
fn docker_serves_at_once_when_envoy_is_gone_and_envoy_again_when_it_is_back() {
    let lab = Lab::of_this_test();
    let (host, client) = serving(&lab, unproxied(&lab, Docker::Current));
    let load = load(&host, &client);
    std::thread::sleep(Duration::from_secs(1));
    host.end_envoy(Signal::SIGKILL);
    let since = await_answer_from_docker(&host, &client, GAP);
    let port = &host.ports(8080)[0];
    assert!(port["served_by"] == "docker" && port["problem"].as_str().unwrap_or_default().contains("Envoy"), "{port}");
    std::thread::sleep(Duration::from_secs(1));
    host.start_envoy();
    await_caught(&host, 8080);
    let outcomes = load.stop();
    println!("Envoy killed: Docker serves {since:.1?} later, longest gap {:.1?}: {outcomes:?}", outcomes.longest_gap);
    assert!(outcomes.longest_gap < GAP, "{outcomes:?}");
    assert!(outcomes.refused < u64::from(PER_SECOND) / 4, "{outcomes:?}");
    assert!(passed_envoy(&client.get(&format!("http://{}:8080/", host.address())).expect("it answers")));
}

#[test]
fn docker_serves_when_envoy_is_stopped() {
    let lab = Lab::of_this_test();
    let (host, client) = serving(&lab, unproxied(&lab, Docker::Current));
    host.signal_envoy(Signal::SIGSTOP);
    // The look at its queue needs somebody who waits.
    let load = load(&host, &client);
    let since = await_answer_from_docker(&host, &client, Duration::from_secs(5));
    host.signal_envoy(Signal::SIGCONT);
    await_caught(&host, 8080);
    let outcomes = load.stop();
    println!("Envoy stopped: Docker serves {since:.1?} later: {outcomes:?}");
    assert_eq!(outcomes.refused, 0, "{outcomes:?}");
}

#[test]
fn without_a_registrar_they_are_served_still() {
    let lab = Lab::of_this_test();
    let (host, client) = serving(&lab, unproxied(&lab, Docker::Current));
    let load = load(&host, &client);
    host.end_registrar(Signal::SIGKILL);
    await_answer_from_docker(&host, &client, Duration::from_secs(4));
    // Nobody is there to notice, and nobody has to.
    host.end_envoy(Signal::SIGKILL);
    std::thread::sleep(Duration::from_secs(1));
    let outcomes = load.stop();
    assert_eq!((outcomes.refused, outcomes.failed()), (0, 0), "{outcomes:?}");
    host.start_registrar();
    host.start_envoy();
    await_caught(&host, 8080);
    assert!(passed_envoy(&client.get(&format!("http://{}:8080/", host.address())).expect("it answers")));
}

#[test]
fn a_port_of_dockers_own_proxy_is_envoys_until_a_shim_has_it() {
    let lab = Lab::of_this_test();
    let builder = one_setting(&lab, "a", Docker::Current).proxy(Proxy::DockerProxy);
    let (host, client) = serving(&lab, builder.registrar_arguments(&["--capture-unproxied"]));
    let url = format!("http://{}:8080/", host.address());
    assert!(passed_envoy(&client.get(&url).expect("it answers")) && host.shims().is_empty());
    assert!(our_table(&host).contains("unproxied_any4"), "{}", our_table(&host));
}

#[test]
fn where_nothing_is_diverted_the_port_stays_dockers_and_says_why() {
    let lab = Lab::of_this_test();
    let builder = unproxied(&lab, Docker::Current).registrar_arguments(&["--capture", "none"]);
    let (host, client) = (builder.start(), lab.client("client"));
    host.run_web(&["-p", "8080:80"]);
    let problem = eventually("the port says why", Duration::from_secs(5), || {
        let ports = host.ports(8080);
        let problem = ports.first().and_then(|port| port["problem"].as_str()).unwrap_or_default().to_owned();
        if problem.contains("--capture none") { Ok(problem) } else { Err(format!("{ports:?}")) }
    });
    assert!(problem.contains("Docker's own path") && check(&host).contains("--capture none"), "{problem}");
    assert!(!passed_envoy(&client.get(&format!("http://{}:8080/", host.address())).expect("it answers")));
}
