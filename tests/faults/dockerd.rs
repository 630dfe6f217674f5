//! dockerd restarts, is killed, or hangs.

use std::thread::sleep;

use lab::http::Request;
use lab::load::{Load, Outcomes};
use lab::{Docker, Host, Lab, Proxy, eventually, on_both_dockers};
use nix::sys::signal::Signal;

use crate::SECOND;
use crate::rig::{Allowed, Rig};

on_both_dockers!(a_restarted_dockerd_leaves_ports_for_no_longer_than_with_docker_proxy, nobody_notices_a_hung_dockerd);

/// New connections per second.
const PER_SECOND: u32 = 200;
const PORTS: std::ops::Range<u16> = 8000..8005;

/// dockerd's proxies end with it; until it starts new ones, nobody may hold their ports, or it would not get them.
fn a_restarted_dockerd_leaves_ports_for_no_longer_than_with_docker_proxy(version: Docker) {
    restart_beside_docker_proxy(version, "restart", Signal::SIGTERM);
}

#[test]
#[ignore = "dockerd itself takes ten seconds to start after this"]
fn a_killed_dockerd_comes_back_with_every_port() {
    restart_beside_docker_proxy(Docker::Current, "kill -9", Signal::SIGKILL);
}

fn restart_beside_docker_proxy(version: Docker, name: &str, signal: Signal) {
    let lab = Lab::of_this_test();
    let ours = lab.host("ours").docker(version).live_restore().start();
    let theirs = lab.host("theirs").docker(version).live_restore().proxy(Proxy::DockerProxy);
    let theirs = theirs.without_registrar().without_envoy().start();
    let outcomes = [&ours, &theirs].map(|host| {
        for port in PORTS {
            host.run_web(&["-p", &format!("{port}:80")]);
        }
        if std::ptr::eq(host, &raw const ours) {
            PORTS.for_each(|port| drop(host.await_served_by_envoy(port)));
        }
        let load = Load::with_workers(host.namespace(), &Request::get("http://127.0.0.1:8000/"), PER_SECOND, 50);
        sleep(SECOND / 2);
        host.end_dockerd(signal);
        host.start_dockerd();
        await_answers(host);
        sleep(SECOND / 2);
        load.stop()
    });
    PORTS.for_each(|port| drop(ours.await_served_by_envoy(port)));
    let [with_shim, with_proxy] = &outcomes;
    for (who, one) in [("shim and Envoy", with_shim), ("docker-proxy", with_proxy)] {
        println!("{version:?} dockerd {name}, {who}: {} refused, {} lost, {} slow", one.refused, lost(one), one.slow);
    }
    // Connections begin at a steady pace, so those refused tell for how long nobody was there. The gap does not: of a
    // connection that is under way when its listener goes, Envoy sends the answer at once and the end later.
    assert!(with_shim.refused <= with_proxy.refused + u64::from(PER_SECOND / 2), "{outcomes:?}");
    assert!(lost(with_shim) <= lost(with_proxy) + 8, "{outcomes:?}");
}

fn await_answers(host: &Host) {
    for port in PORTS {
        eventually(&format!("port {port} answers"), 20 * SECOND, || host.get(&format!("http://127.0.0.1:{port}/")));
    }
}

fn lost(outcomes: &Outcomes) -> u64 {
    outcomes.failed() - outcomes.refused
}

fn nobody_notices_a_hung_dockerd(version: Docker) {
    let rig = Rig::new(version, |host| host);
    rig.suffer("dockerd SIGSTOP for 3 s", Allowed::NOTHING, |host| {
        let dockerd = host.processes_of("dockerd");
        dockerd.iter().for_each(|id| crate::signal(*id, Signal::SIGSTOP));
        sleep(3 * SECOND);
        dockerd.iter().for_each(|id| crate::signal(*id, Signal::SIGCONT));
    });
    rig.suffer("registrar restart, dockerd hung", Allowed::NOTHING, |host| {
        let dockerd = host.processes_of("dockerd");
        dockerd.iter().for_each(|id| crate::signal(*id, Signal::SIGSTOP));
        host.end_registrar(Signal::SIGKILL);
        host.spawn_registrar();
        sleep(4 * SECOND);
        dockerd.iter().for_each(|id| crate::signal(*id, Signal::SIGCONT));
        host.await_registrar();
    });
}
