//! The registrar and its sockets.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use lab::{Docker, Lab, on_both_dockers, parts};
use nix::sys::signal::Signal;

use crate::{await_finding, await_health, await_problem, one_setting};

on_both_dockers!(nothing_is_found_on_a_host_with_one_setting);

fn nothing_is_found_on_a_host_with_one_setting(version: Docker) {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", version).start();
    await_health(&host);
    host.run_web(&["-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "5353:53/udp"]);
    host.await_served_by_envoy(8080);
    await_health(&host);
    assert!(host.shimctl(&["check"]).ends_with("no problem found"));
}

#[test]
fn a_registrar_that_ended_or_hangs_is_found() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).without_envoy().start();
    host.signal_registrar(Signal::SIGSTOP);
    await_problem(&host, "registrar", &["it is stopped by a signal (process", "kill -CONT"]);
    host.signal_registrar(Signal::SIGCONT);
    host.end_registrar(Signal::SIGTERM);
    await_problem(&host, "registrar", &["it does not run", "not installed", "deploy/install"]);
}

#[test]
fn sockets_that_are_missing_or_open_or_anothers_are_found() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).start();
    let folder = "/run/envoy-docker-shim";
    let set_mode = |path: &str, mode| {
        fs::set_permissions(host.path(path), Permissions::from_mode(mode)).expect("root may do that");
    };
    set_mode(folder, 0o700);
    await_problem(&host, "sockets", &["is closed to others", "chmod 755"]);
    set_mode(folder, 0o755);
    await_health(&host);
    for name in ["registrar.sock", "admin.sock", "xds.sock"] {
        set_mode(&format!("{folder}/{name}"), 0o666);
        await_problem(&host, "sockets", &[name, "mode 666"]);
        set_mode(&format!("{folder}/{name}"), 0o600);
    }
    host.namespace().run("chown", &["65534", &format!("{folder}/registrar.sock")]);
    await_problem(&host, "sockets", &["registrar.sock belongs to uid 65534"]);
    host.namespace().run("rm", &[&format!("{folder}/registrar.sock")]);
    await_problem(&host, "sockets", &["registrar.sock is not there"]);
    host.end_registrar(Signal::SIGTERM);
    host.start_registrar();
    await_health(&host);
}

#[test]
fn swarm_on_the_gossip_port_is_named_where_it_keeps_the_registrar_from_starting() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).without_registrar().without_envoy().start();
    host.docker(&["swarm", "init", "--advertise-addr", &host.address().to_string()]);
    let mut registrar = Command::new(parts::ours("envoy-docker-registrar"));
    let output = host.namespace().output(registrar.arg("--insecure-gossip"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaint.contains("--gossip-listen"), "{complaint}");
    await_finding(&host, "hints", "gossip-port", &["dockerd (process", "Swarm", "gossip-listen"]);
    await_problem(&host, "registrar", &["it does not run"]);
}
