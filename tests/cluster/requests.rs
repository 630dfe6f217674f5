//! Requests are sent all the while, and those who send them notice nothing.

use std::time::{Duration, Instant};

use lab::http::Request;
use lab::load::{Load, Outcomes};
use lab::{Host, Lab, eventually};
use nix::sys::signal::Signal;

use crate::rig::{await_agreement, await_answers, await_instances, instances, plain, run_web_9500, url};

/// Requests per second on each host.
const RATE: u32 = 50;
/// How long it goes on after what is tried, so that what comes late is counted too.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Steady requests to service port 9500 on each of these hosts.
fn start<'a>(hosts: impl IntoIterator<Item = &'a Host>) -> Vec<Load> {
    let request = Request::get(&url(9500));
    hosts.into_iter().map(|host| Load::start(host.namespace(), &request, RATE)).collect()
}

#[track_caller]
fn assert_unnoticed(loads: Vec<Load>, what: &str) {
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
    let loads = start(&hosts);
    let drained = format!("a/{}", &ids[0][..12]);
    hosts[0].shimctl(&["drain", &drained]);
    for host in &hosts {
        await_answers(host, &url(9500), &[&ids[1], &ids[2]]);
    }
    hosts[0].shimctl(&["undrain", &drained]);
    await_instances(&hosts, 9500, 3, "alive");
    assert_unnoticed(loads, "drained and undrained");

    let loads = start(&hosts);
    hosts[1].docker(&["stop", &ids[1]]);
    await_instances(&hosts, 9500, 2, "alive");
    assert_unnoticed(loads, "stopped");

    let loads = start(&hosts);
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
    let loads = start(&hosts);
    hosts[2].docker(&["kill", &ids[2]]);
    await_instances(&hosts, 9500, 2, "alive");
    assert_unnoticed(loads, "killed");
}

#[test]
fn nobody_notices_when_registrars_restart() {
    let lab = Lab::of_this_test();
    let (hosts, _) = three(&lab);
    let loads = start(&hosts);
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
    let loads = start(&hosts[..2]);
    hosts[2].shimctl(&["leave"]);
    assert!(hosts[2].registrar_end().success(), "it ends as if all were well");
    await_instances(&hosts[..2], 9500, 2, "alive");
    assert_unnoticed(loads, "a host left");
    await_agreement(&hosts[..2]);
}

#[test]
fn a_killed_host_costs_no_request_that_may_be_retried_and_is_withdrawn() {
    let lab = Lab::of_this_test();
    let (mut hosts, _) = three(&lab);
    let loads = start(&hosts[..2]);
    let posts: Vec<_> = hosts[..2]
        .iter()
        .map(|host| Load::start(host.namespace(), &Request::get(&url(9500)).method("POST").body("x"), RATE))
        .collect();
    let killed = Instant::now();
    drop(hosts.pop());
    let withdrawn = eventually("the killed host's instance is withdrawn", Duration::from_secs(30), || {
        let counts: Vec<_> = hosts.iter().map(|host| instances(host, 9500).len()).collect();
        if counts == [2, 2] { Ok(killed.elapsed()) } else { Err(format!("{counts:?}")) }
    });
    std::thread::sleep(AFTERWARDS);
    let failed_before: Vec<_> = posts.iter().map(|load| load.outcomes().failed()).collect();
    std::thread::sleep(AFTERWARDS);
    let posts: Vec<Outcomes> = posts.into_iter().map(Load::stop).collect();
    let failed_after: Vec<_> = posts.iter().map(Outcomes::failed).collect();
    println!("withdrawn after {withdrawn:?}; requests that change something: {posts:?}");
    assert_eq!(failed_before, failed_after, "nothing fails once the host is withdrawn");
    assert_unnoticed(loads, "a host was killed");
    await_agreement(&hosts);
}
