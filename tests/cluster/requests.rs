//! Requests are sent all the while, and those who send them notice nothing.

use std::time::{Duration, Instant};

use lab::http::Request;
use lab::load::Load;
use lab::{Host, Lab, eventually};
use nix::sys::signal::Signal;

use crate::rig::{await_agreement, await_answers, await_instances, await_truth, instances, plain, run_web_9500, url};

/// Requests per second on each host.
const RATE: u32 = 50;
/// Requests per second on each host of those that take a while, and how long they take.
const LONG_RATE: u32 = 20;
const LONG: Duration = Duration::from_millis(300);
/// How long those who ask wait for an answer when a host vanishes; and how many of them do so at the same time, so that
/// the load goes on meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);
const WAITING_MAX: u32 = 200;
/// Clients that keep their connection.
const KEPT: u32 = 10;
/// How long it goes on after what is tried, so that what comes late is counted too.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Steady requests to service port 9500 on each of these hosts.
pub(crate) fn start<'a>(hosts: impl IntoIterator<Item = &'a Host>) -> Vec<Load> {
    let request = Request::get(&url(9500));
    hosts.into_iter().map(|host| Load::start(host.namespace(), &request, RATE)).collect()
}

/// Some of these requests are under way whenever something happens.
fn long() -> Request {
    Request::get(&format!("{}sleep/{}", url(9500), LONG.as_millis()))
}

/// As [`start`], and on each host this request too.
fn start_with<'a>(hosts: impl IntoIterator<Item = &'a Host> + Clone, request: &Request) -> Vec<Load> {
    let others = hosts.clone().into_iter().map(|host| Load::start(host.namespace(), request, LONG_RATE));
    let others: Vec<_> = others.collect();
    start(hosts).into_iter().chain(others).collect()
}

/// Of a kind that may not be sent twice.
fn changing(request: Request) -> Request {
    request.method("POST").body("x")
}

#[track_caller]
pub(crate) fn assert_unnoticed(loads: Vec<Load>, what: &str) {
    std::thread::sleep(AFTERWARDS);
    for (number, load) in loads.into_iter().enumerate() {
        let outcomes = load.stop();
        assert!(outcomes.ok > 0 && outcomes.failed() == 0, "{what}, load {number}: {outcomes:?}");
    }
}

/// Three hosts with one instance each, seen by all.
fn three(lab: &Lab) -> (Vec<Host>, Vec<String>) {
    let hosts = plain(lab, &["a", "b", "c"]);
    let ids: Vec<_> = hosts.iter().map(run_web_9500).collect();
    let all: Vec<_> = ids.iter().map(String::as_str).collect();
    hosts.iter().for_each(|host| await_answers(host, &url(9500), &all));
    (hosts, ids)
}

#[test]
fn nobody_notices_when_an_instance_is_drained_stopped_or_rolled() {
    let lab = Lab::of_this_test();
    let (hosts, mut ids) = three(&lab);
    // Requests under way are not cut off, whatever they change.
    let loads = start_with(&hosts, &changing(long()));
    let drained = format!("a/{}", &ids[0][..12]);
    hosts[0].shimctl(&["drain", &drained]);
    for host in &hosts {
        await_answers(host, &url(9500), &[&ids[1], &ids[2]]);
    }
    hosts[0].shimctl(&["undrain", &drained]);
    await_instances(&hosts, 9500, 3, "alive");
    assert_unnoticed(loads, "drained and undrained");

    let loads = start_with(&hosts, &long());
    hosts[1].docker(&["stop", &ids[1]]);
    await_instances(&hosts, 9500, 2, "alive");
    assert_unnoticed(loads, "stopped");

    let loads = start_with(&hosts, &long());
    hosts[1].docker(&["start", &ids[1]]);
    await_instances(&hosts, 9500, 3, "alive");
    for (host, id) in hosts.iter().zip(&mut ids) {
        let old = std::mem::replace(id, run_web_9500(host));
        await_instances(&hosts, 9500, 4, "alive");
        host.docker(&["stop", &old]);
        await_instances(&hosts, 9500, 3, "alive");
    }
    assert_unnoticed(loads, "rolled");
    await_agreement(&hosts);
}

#[test]
fn nobody_notices_when_an_instance_is_killed() {
    let lab = Lab::of_this_test();
    let (hosts, ids) = three(&lab);
    let loads = start_with(&hosts, &long());
    hosts[2].docker(&["kill", &ids[2]]);
    await_instances(&hosts, 9500, 2, "alive");
    assert_unnoticed(loads, "killed");
}

#[test]
fn nobody_notices_when_registrars_restart() {
    let lab = Lab::of_this_test();
    let (hosts, _) = three(&lab);
    let loads = start_with(&hosts, &changing(long()));
    hosts[0].end_registrar(Signal::SIGTERM);
    hosts[0].start_registrar();
    hosts[1].end_registrar(Signal::SIGKILL);
    std::thread::sleep(Duration::from_secs(6));
    for host in [&hosts[0], &hosts[2]] {
        let listed = instances(host, 9500);
        assert_eq!(listed.len(), 3, "a crashed registrar takes no instances away: {listed:?} {}", host.api("hosts"));
    }
    hosts[1].start_registrar();
    await_instances(&hosts, 9500, 3, "alive");
    assert_unnoticed(loads, "registrars restarted");
    await_agreement(&hosts);
}

#[test]
fn nobody_notices_when_a_host_leaves() {
    let lab = Lab::of_this_test();
    let (hosts, _) = three(&lab);
    let loads = start_with(&hosts[..2], &changing(long()));
    hosts[2].shimctl(&["leave"]);
    assert!(hosts[2].registrar_end().success(), "it ends as if all were well");
    await_instances(&hosts[..2], 9500, 2, "alive");
    assert_unnoticed(loads, "a host left");
    await_agreement(&hosts[..2]);
}

/// Ends the third host in this way, under load on the other two.
fn lose_a_host(lab: &Lab, end: fn(&Host)) {
    let (hosts, _) = three(lab);
    let rest = &hosts[..2];
    let load = |host: &Host, request: Request| {
        Load::with_workers(host.namespace(), &request.limit(PATIENCE), LONG_RATE, WAITING_MAX)
    };
    let kept = rest.iter().map(|host| {
        let request = Request::get(&url(9500)).limit(PATIENCE);
        Load::over_kept_connections(host.namespace(), &request, LONG_RATE, KEPT)
    });
    let kept: Vec<_> = kept.collect();
    let gets: Vec<_> =
        rest.iter().flat_map(|host| [Request::get(&url(9500)), long()].map(|get| load(host, get))).collect();
    let posts: Vec<_> = rest.iter().map(|host| load(host, changing(Request::get(&url(9500))))).collect();
    // All of them are on their way.
    std::thread::sleep(AFTERWARDS);
    let lost = Instant::now();
    end(&hosts[2]);
    let withdrawn = eventually("the lost host's instance is withdrawn", Duration::from_secs(30), || {
        let counts: Vec<_> = rest.iter().map(|host| instances(host, 9500).len()).collect();
        if counts == [2, 2] { Ok(lost.elapsed()) } else { Err(format!("{counts:?}")) }
    });
    std::thread::sleep(AFTERWARDS);
    let failed_before: Vec<_> = posts.iter().map(|load| load.outcomes().failed()).collect();
    std::thread::sleep(AFTERWARDS);
    let failed_after: Vec<_> = posts.iter().map(|load| load.outcomes().failed()).collect();
    let gets: Vec<_> = gets.into_iter().map(Load::stop).collect();
    let kept: Vec<_> = kept.into_iter().map(Load::stop).collect();
    let posts: Vec<_> = posts.into_iter().map(Load::stop).collect();
    println!("withdrawn after {withdrawn:?}");
    println!("requests that may be retried: {gets:#?}");
    println!("the same over connections that are kept: {kept:#?}");
    println!("requests that may change something: {posts:#?}");
    assert_eq!(failed_before, failed_after, "nothing fails once the host is withdrawn");
    for outcomes in kept {
        assert!(outcomes.ok > 0 && outcomes.failed() == 0, "over connections that are kept: {outcomes:?}");
    }
    for outcomes in gets {
        assert!(outcomes.ok > 0 && outcomes.failed() == 0, "a request that may be retried failed: {outcomes:?}");
    }
    await_agreement(rest);
    hosts[2].boot();
    await_truth(&hosts);
}

#[test]
fn a_host_that_crashes_costs_no_request_that_may_be_retried() {
    lose_a_host(&Lab::of_this_test(), Host::crash);
}

#[test]
fn a_host_without_power_costs_no_request_that_may_be_retried() {
    lose_a_host(&Lab::of_this_test(), Host::cut_power);
}
