//! Envoy and the registrar in containers on the host's network, as people run them.

use lab::{Docker, Host, Lab, image, parts};

use crate::{on_both_dockers, passed_envoy};

on_both_dockers!(envoy_in_a_container_serves_ports, envoy_and_registrar_in_containers_serve_ports);

/// Where the sockets are, on the host and in the containers.
const RUN: &str = "/run/envoy-docker-shim:/run/envoy-docker-shim";

/// As `deploy/compose.yaml` starts it, with an image made here.
fn run_envoy(host: &Host) {
    let tar = image::of_programs("envoy", &[(&parts::envoy(), "/usr/local/bin/envoy")]);
    host.import(&tar, "envoy", &[]);
    let bootstrap = format!("{}:/etc/envoy-docker-shim/envoy.yaml:ro", parts::envoy_bootstrap().display());
    host.docker(&[
        "run",
        "-d",
        "--name",
        "envoy",
        "--network",
        "host",
        "--read-only",
        "--user",
        "0:0",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "NET_BIND_SERVICE",
        "--security-opt",
        "no-new-privileges",
        "-v",
        RUN,
        "-v",
        &bootstrap,
        "envoy",
        "/usr/local/bin/envoy",
        "--config-path",
        "/etc/envoy-docker-shim/envoy.yaml",
        "--drain-time-s",
        "5",
        "--drain-strategy",
        "immediate",
        "--disable-hot-restart",
    ]);
}

/// As `deploy/compose.yaml` starts it, with an image made here.
fn run_registrar(host: &Host) {
    let program = parts::ours("envoy-docker-registrar");
    let tar = image::of_programs("registrar", &[(&program, "/usr/local/bin/envoy-docker-registrar")]);
    host.import(&tar, "registrar", &[]);
    host.docker(&[
        "run",
        "-d",
        "--name",
        "registrar",
        "--network",
        "host",
        "--pid",
        "host",
        "--read-only",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "CHOWN",
        "--security-opt",
        "no-new-privileges",
        "-v",
        RUN,
        "-v",
        "/run/docker.sock:/var/run/docker.sock",
        "registrar",
        "/usr/local/bin/envoy-docker-registrar",
    ]);
}

fn serves_before_and_after_restarts(host: &Host, programs: &[&str]) {
    let id = host.run_web(&["-p", "8080:80", "-p", "80:80", "-l", "ServiceName=web"]);
    for program in [&[""], programs].concat() {
        if !program.is_empty() {
            host.docker(&["restart", "-t", "1", program]);
        }
        for port in [8080, 80] {
            host.await_served_by_envoy(port);
            for address in ["127.0.0.1", "[::1]"] {
                let answer = host.get(&format!("http://{address}:{port}/")).expect("the port answers");
                assert!(passed_envoy(&answer), "after {program:?}: {}", answer.text());
                assert_eq!(answer.json()["hostname"], id[..12]);
            }
        }
    }
    let shim = host.ports(8080)[0]["shim_pid"].as_u64().expect("the shim's process id is known");
    assert!(host.shims().contains(&host.namespace().outside_id(shim)), "and it is the host's");
}

fn envoy_in_a_container_serves_ports(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).without_envoy().start();
    run_envoy(&host);
    serves_before_and_after_restarts(&host, &["envoy"]);
}

fn envoy_and_registrar_in_containers_serve_ports(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).without_envoy().without_registrar().start();
    run_registrar(&host);
    host.await_registrar();
    run_envoy(&host);
    serves_before_and_after_restarts(&host, &["envoy", "registrar"]);
}
