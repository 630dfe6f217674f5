//! Envoy: not there, under another user, without a right that it needs.

use std::process::Command;

use lab::process::{Process, limit, open_files};
use lab::{Docker, Host, Lab, parts};
use nix::sys::signal::Signal;

use crate::{await_finding, await_health, await_problem, one_setting, report};

#[test]
fn an_envoy_that_is_gone_is_found() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).start();
    host.end_envoy(Signal::SIGKILL);
    await_problem(&host, "envoy", &["no Envoy runs"]);
    host.start_envoy();
    await_health(&host);
}

#[test]
fn an_idle_envoy_that_was_stopped_is_found() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).start();
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    host.signal_envoy(Signal::SIGSTOP);
    await_problem(&host, "envoy", &["is stopped by a signal", "kill -CONT"]);
    host.signal_envoy(Signal::SIGCONT);
    await_health(&host);
}

#[test]
fn an_envoy_that_runs_out_of_file_descriptors_is_found() {
    let lab = Lab::of_this_test();
    // Of root's, whose limits root may change anywhere.
    let host = lab.host("a").docker(Docker::Current).firewall().start();
    let envoy = host.processes_of("envoy")[0];
    let open = open_files(envoy);
    limit(envoy, &format!("--nofile={}:", open + open / 8));
    await_problem(&host, "envoy-descriptors", &["file descriptors in use", "LimitNOFILE"]);
    // The fix that it names, as far as the test's own limits go.
    limit(envoy, "--nofile=2048:");
    await_finding(&host, "hints", "envoy-descriptors", &["room for some 1024 connections"]);
    await_health(&host);
}

#[test]
fn an_envoy_that_looks_for_the_registrar_elsewhere_is_found() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).start();
    let elsewhere = ["--envoy-user", "65534", "--xds-listen", "unix:/run/envoy-docker-shim/elsewhere.sock"];
    let _registrar = another_registrar(&lab, &host, &elsewhere);
    await_problem(&host, "envoy", &["is not connected to the registrar", "envoy.yaml"]);
}

#[test]
fn an_envoy_under_another_user_is_found() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).start();
    let _registrar = another_registrar(&lab, &host, &["--envoy-user", "12345"]);
    await_problem(&host, "envoy-user", &["runs as uid 65534", "uid 12345", "envoy-user: 65534"]);
}

/// A registrar with other settings, in the place of the host's.
fn another_registrar(lab: &Lab, host: &Host, arguments: &[&str]) -> Process {
    host.end_registrar(Signal::SIGTERM);
    let mut command = Command::new(parts::ours("envoy-docker-registrar"));
    command.args(arguments);
    let log = lab.logs().join("another-registrar.log");
    Process::start("another registrar", host.namespace(), &mut command, &log)
}

#[test]
fn an_envoy_that_may_not_serve_low_ports_is_found() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).start();
    let id = host.run_web(&["-p", "80:80"]);
    await_problem(&host, "envoy-capability", &["port 80 is published", "CAP_NET_BIND_SERVICE"]);
    let found = report(&host).expect("check answers");
    assert_eq!(found["problems"].as_array().map(Vec::len), Some(1), "one cause is one problem: {found}");
    host.namespace().run("sysctl", &["-w", "net.ipv4.ip_unprivileged_port_start=80"]);
    host.docker(&["rm", "-f", &id]);
    host.run_web(&["-p", "80:80"]);
    host.await_served_by_envoy(80);
    await_health(&host);
}
