//! Envoy dies, restarts, is upgraded, crashes again and again, or stands still.

use std::thread::sleep;
use std::time::Duration;

use lab::load::Outcomes;
use lab::{Docker, on_both_dockers};
use nix::sys::signal::Signal;

use crate::SECOND;
use crate::rig::{ANYWHERE, Allowed, Rig};

on_both_dockers!(
    nobody_is_refused_when_envoy_fails_or_is_replaced,
    without_the_kernels_help_those_are_lost_that_wait_for_an_envoy_that_ends,
);

/// Deaths in a row of a crash loop.
const CRASHES: u64 = 5;

fn nobody_is_refused_when_envoy_fails_or_is_replaced(version: Docker) {
    let rig = Rig::new(version, |host| host);
    rig.suffer("Envoy kill -9", Allowed::IN_HANDS, |host| {
        host.end_envoy(Signal::SIGKILL);
        sleep(SECOND / 2);
        host.start_envoy();
    });
    rig.suffer("Envoy SIGTERM", Allowed::IN_HANDS, |host| {
        host.end_envoy(Signal::SIGTERM);
        sleep(SECOND / 2);
        host.start_envoy();
    });
    rig.suffer("Envoy restart, 1 worker", Allowed::IN_HANDS, |host| {
        host.end_envoy(Signal::SIGTERM);
        host.start_envoy_with_workers(1);
    });
    rig.suffer("Envoy restart, 4 workers", Allowed::IN_HANDS, |host| {
        host.end_envoy(Signal::SIGTERM);
        host.start_envoy_with_workers(4);
    });
    rig.suffer("Envoy hot restart, 4 to 2 workers", Allowed::NOTHING, |host| host.hot_restart_envoy(1, 2));
    rig.suffer("Envoy hot restart, 2 to 4 workers", Allowed::NOTHING, |host| host.hot_restart_envoy(2, 4));
    rig.suffer("Envoy kill -9 after hot restarts", Allowed::IN_HANDS, |host| {
        host.end_envoy(Signal::SIGKILL);
        host.start_envoy();
    });
    rig.suffer("Envoy crash loop, 5 times", Allowed::in_hands(CRASHES), |host| {
        for _ in 0..CRASHES {
            host.end_envoy(Signal::SIGKILL);
            host.start_envoy();
            // It dies as soon as it serves.
            host.await_served_by_envoy(ANYWHERE);
        }
    });
    rig.suffer("Envoy kill -9, registrar dead too", Allowed::IN_HANDS, |host| {
        host.end_registrar(Signal::SIGKILL);
        host.end_envoy(Signal::SIGKILL);
        sleep(SECOND / 2);
        host.start_registrar();
        host.start_envoy();
    });
}

fn without_the_kernels_help_those_are_lost_that_wait_for_an_envoy_that_ends(version: Docker) {
    let rig = Rig::new(version, |host| host);
    rig.host.namespace().run("sysctl", &["--quiet", "--write", "net.ipv4.tcp_migrate_req=0"]);
    rig.suffer("without: Envoy kill -9", Allowed::while_envoy_ends(), |host| {
        host.end_envoy(Signal::SIGKILL);
        sleep(SECOND / 2);
        host.start_envoy();
    });
    rig.suffer("without: Envoy SIGTERM", Allowed::while_envoy_ends(), |host| {
        host.end_envoy(Signal::SIGTERM);
        sleep(SECOND / 2);
        host.start_envoy();
    });
    rig.suffer("without: Envoy restart", Allowed::while_envoy_ends(), |host| {
        host.end_envoy(Signal::SIGTERM);
        host.start_envoy();
    });
}

#[test]
fn clients_wait_for_a_stopped_envoy_until_the_shim_takes_over_and_none_is_refused() {
    let rig = Rig::new(Docker::Current, |host| host).patient(300, Duration::from_secs(20));
    let outcomes = rig.suffer("Envoy SIGSTOP for 10 s", Allowed::NOTHING, |host| {
        host.signal_envoy(Signal::SIGSTOP);
        host.await_served_by("shim", ANYWHERE);
        let ports = host.ports(ANYWHERE);
        let says =
            |row: &serde_json::Value| row["problem"].as_str().is_some_and(|text| text.contains("takes no connections"));
        assert!(ports.iter().all(says), "the stopped Envoy is named: {ports:?}");
        sleep(10 * SECOND);
        host.signal_envoy(Signal::SIGCONT);
        host.await_served_by_envoy(ANYWHERE);
        assert!(host.ports(ANYWHERE).iter().all(|row| row["problem"].is_null()), "{:?}", host.ports(ANYWHERE));
    });
    // All that were given to the stopped Envoy waited for it; those that came later did not.
    let (waited, answered) = outcomes.iter().fold((0, 0), |(slow, ok), one: &Outcomes| (slow + one.slow, ok + one.ok));
    let worst = outcomes.iter().map(|one| one.slowest).max().unwrap_or_default();
    println!("{waited} of {answered} clients waited for the stopped Envoy, for at most {worst:.1?}");
    for one in &outcomes {
        assert!(one.slow * 4 < one.ok, "those of the first second wait, the rest is the shim's: {one:?}");
        assert!(one.longest_gap < 2 * SECOND, "{one:?}");
    }
}
