//! The registrar is killed, restarted, hangs, or comes late. Envoy serves on with what it knows.

use std::thread::sleep;

use lab::http::passed_envoy;
use lab::{Docker, Host, Lab, eventually, on_both_dockers};
use nix::sys::signal::Signal;

use crate::SECOND;
use crate::rig::{Allowed, Rig};

on_both_dockers!(
    nobody_notices_when_the_registrar_fails,
    a_container_made_anew_while_no_registrar_runs_is_given_to_envoy_by_the_next
);

fn nobody_notices_when_the_registrar_fails(version: Docker) {
    let rig = Rig::new(version, |host| host);
    let before = changes_in_envoy(&rig.host);
    rig.suffer("registrar kill -9", Allowed::NOTHING, |host| {
        host.end_registrar(Signal::SIGKILL);
        sleep(SECOND / 2);
        host.start_registrar();
    });
    rig.suffer("registrar restart", Allowed::NOTHING, |host| {
        host.end_registrar(Signal::SIGTERM);
        host.start_registrar();
    });
    rig.suffer("registrar SIGSTOP for 3 s", Allowed::NOTHING, |host| {
        host.signal_registrar(Signal::SIGSTOP);
        sleep(3 * SECOND);
        host.signal_registrar(Signal::SIGCONT);
        host.await_registrar();
    });
    rig.suffer("registrar kill -9, five times", Allowed::NOTHING, |host| {
        for _ in 0..5 {
            host.end_registrar(Signal::SIGKILL);
            host.spawn_registrar();
            sleep(SECOND / 5);
        }
        host.await_registrar();
    });
    assert_eq!(changes_in_envoy(&rig.host), before, "Envoy was told nothing new");
}

/// How often Envoy's listeners and Envoy clusters were changed in any way.
pub(crate) fn changes_in_envoy(host: &Host) -> Vec<(String, u64)> {
    host.envoy_stats(r"^(listener_manager\.listener_(added|modified|removed|in_place_updated)|cluster_manager\.cluster_(added|modified|removed))$")
}

#[test]
fn a_hung_registrar_holds_up_neither_docker_run_nor_docker_rm() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["--name", "old", "-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    host.signal_registrar(Signal::SIGSTOP);
    host.run_web(&["--name", "new", "-p", "8081:80"]);
    assert_eq!(host.get("http://127.0.0.1:8081/").expect("the shim answers").status, 200);
    let begun = std::time::Instant::now();
    host.docker(&["rm", "-f", "old"]);
    let took = begun.elapsed();
    println!("docker rm beside a hung registrar: {took:.1?}");
    // Two shims that each wait 0.2 s for a word, and docker's own time.
    assert!(took < 2 * SECOND, "{took:?}");
    host.run_web(&["--name", "old", "-p", "8080:80"]);
    assert_eq!(host.get("http://127.0.0.1:8080/").expect("the port is free, and answers").status, 200);
    host.signal_registrar(Signal::SIGCONT);
    host.await_served_by_envoy(8081);
    eventually("Envoy takes the port back that was taken from it", 10 * SECOND, || {
        let ports = host.ports(8080);
        if ports.iter().all(|row| row["served_by"] == "envoy") { Ok(()) } else { Err(format!("{ports:?}")) }
    });
}

/// Its shims end Envoy's sockets, and what Envoy has of the port is what the next registrar wants it to have.
fn a_container_made_anew_while_no_registrar_runs_is_given_to_envoy_by_the_next(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).start();
    let run = || host.run_web(&["--name", "web", "-p", "8080:80"]);
    run();
    host.await_served_by_envoy(8080);
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        host.end_registrar(signal);
        host.docker(&["rm", "-f", "web"]);
        run();
        assert_eq!(host.get("http://127.0.0.1:8080/").expect("the shim answers").status, 200);
        host.start_registrar();
        let begun = std::time::Instant::now();
        let ports = host.await_served_by_envoy(8080);
        println!("{version:?}: Envoy listens again {:.1?} after the registrar was ready", begun.elapsed());
        assert!(ports.iter().all(|row| row["problem"].is_null()), "{ports:?}");
        assert!(passed_envoy(&host.get("http://127.0.0.1:8080/").expect("the port answers")));
    }
}

#[test]
fn a_registrar_that_comes_late_or_with_another_socket_finds_every_port() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").without_registrar().without_envoy().start();
    host.spawn_envoy();
    for port in 8000..8010 {
        host.run_web(&["-p", &format!("{port}:80")]);
    }
    sleep(2 * SECOND);
    let begun = std::time::Instant::now();
    host.spawn_registrar();
    for port in 8000..8010 {
        host.await_served_by_envoy(port);
    }
    println!("10 ports served by Envoy {:.1?} after a registrar that started late", begun.elapsed());
    // The folder and all in it vanish, as when /run is mounted anew.
    host.end_registrar(Signal::SIGKILL);
    host.namespace().run("rm", &["-rf", "/run/envoy-docker-shim"]);
    host.start_registrar();
    for port in 8000..8010 {
        host.await_served_by_envoy(port);
    }
}
