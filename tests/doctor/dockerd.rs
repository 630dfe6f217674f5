//! dockerd's settings, Docker's firewall, and containers' way out.

use std::fs;
use std::process::Command;
use std::time::Duration;

use lab::process::Process;
use lab::{Docker, Host, Lab, Proxy, eventually, on_both_dockers, parts};
use nix::sys::signal::Signal;

use crate::{await_health, await_problem, one_setting};

on_both_dockers!(
    a_dockerd_that_starts_no_shim_is_found,
    a_rule_in_docker_user_is_found,
    a_capture_that_is_off_while_dockers_firewall_is_on_is_found,
    containers_without_a_way_out_are_found,
);

fn a_dockerd_that_starts_no_shim_is_found(version: Docker) {
    let lab = Lab::of_this_test();
    let off = one_setting(&lab, "off", version).dockerd_arguments(&["--userland-proxy=false"]).without_envoy().start();
    await_problem(&off, "userland-proxy", &["is off"]);
    let own = one_setting(&lab, "own", version).proxy(Proxy::DockerProxy).without_envoy().start();
    await_problem(&own, "userland-proxy", &["docker-proxy, not the shim"]);

    // The file is right by now, and dockerd has not read it.
    let _dockerd = restart_without_proxy_path(&own);
    let settings = format!("{{\"userland-proxy-path\": \"{}\"}}", parts::ours("envoy-docker-shim").display());
    own.run_web(&["-p", "8080:80"]);
    fs::create_dir_all(own.path("/etc/docker")).expect("a host's folder can be written");
    fs::write(own.path("/etc/docker/daemon.json"), settings).expect("a host's folder can be written");
    await_problem(&own, "userland-proxy", &["2 of Docker's own docker-proxy", "restart docker"]);
    await_problem(&own, "shim", &["0.0.0.0:8080/tcp"]);
}

/// Has the same dockerd run with all of its settings but where the shim is.
fn restart_without_proxy_path(host: &Host) -> Process {
    let process = host.processes_of("dockerd")[0];
    let words = |name: &str| -> Vec<String> {
        let bytes = fs::read(format!("/proc/{process}/{name}")).expect("dockerd runs");
        let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    };
    let (mut arguments, environment) = (words("cmdline"), words("environ"));
    let path = arguments.iter().position(|word| word == "--userland-proxy-path").expect("the lab gives a path");
    arguments.drain(path..path + 2);
    host.end_dockerd(Signal::SIGTERM);
    let mut command = Command::new(&arguments[0]);
    command.args(&arguments[1..]).env_clear().envs(environment.iter().filter_map(|pair| pair.split_once('=')));
    let dockerd = Process::start("dockerd", host.namespace(), &mut command, &host.path("/run/lab/dockerd.log"));
    eventually("dockerd answers", Duration::from_secs(30), || {
        let output = host.try_docker(&["version"]);
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
    dockerd
}

fn a_rule_in_docker_user_is_found(version: Docker) {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", version).start();
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    let change = |what| host.namespace().run("iptables", &[what, "DOCKER-USER", "-s", "192.0.2.1", "-j", "DROP"]);
    change("-I");
    await_problem(&host, "capture", &["past Envoy", "DOCKER-USER holds 1 rule"]);
    change("-D");
    await_health(&host);
}

fn a_capture_that_is_off_while_dockers_firewall_is_on_is_found(version: Docker) {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", version).registrar_arguments(&["--capture", "none"]).start();
    host.run_web(&["-p", "127.0.0.1:8081:80"]);
    await_health(&host);
    host.run_web(&["-p", "8080:80"]);
    await_problem(&host, "capture", &["Docker's firewall is on", "past Envoy"]);
}

fn containers_without_a_way_out_are_found(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).start();
    let way_out = |value| host.namespace().run("sysctl", &["-w", &format!("net.ipv4.ip_forward={value}")]);
    await_health(&host);
    way_out(0);
    await_problem(&host, "egress", &["ip_forward is 0"]);
    way_out(1);
    host.namespace().run("iptables", &["-t", "nat", "-F", "POSTROUTING"]);
    await_problem(&host, "egress", &["no rule masquerades"]);
}

#[test]
fn dockers_rules_that_were_flushed_are_found() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).start();
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    await_health(&host);
    host.namespace().run("nft", &["flush", "ruleset"]);
    await_problem(&host, "capture", &["Docker's rules for published ports are gone", "restart dockerd"]);
}

#[test]
fn a_shim_that_was_removed_is_found() {
    let lab = Lab::of_this_test();
    let copy = std::env::temp_dir().join(format!("{}-shim", lab.name()));
    fs::copy(parts::ours("envoy-docker-shim"), &copy).expect("a program can be copied");
    let host = one_setting(&lab, "a", Docker::Current).proxy(Proxy::Program(copy.clone())).without_envoy().start();
    fs::remove_file(&copy).expect("it is there");
    await_problem(&host, "userland-proxy", &["no program is there"]);
}

#[test]
fn a_dockerd_that_hangs_is_found() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).start();
    let dockerd = host.processes_of("dockerd")[0];
    lab::process::send(dockerd, Signal::SIGSTOP).expect("dockerd runs");
    await_problem(&host, "docker", &["is stopped by a signal", "kill -CONT"]);
    lab::process::send(dockerd, Signal::SIGCONT).expect("dockerd runs");
    await_health(&host);
}

#[test]
fn a_dockerd_that_is_down_is_found_and_a_file_that_keeps_it_down() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).without_envoy().start();
    host.end_dockerd(Signal::SIGTERM);
    await_problem(&host, "docker", &["dockerd does not run", "systemctl start docker"]);
    fs::create_dir_all(host.path("/etc/docker")).expect("a host's folder can be written");
    let file = host.path("/etc/docker/daemon.json");
    fs::write(&file, "{\n  \"debug\": true\n  \"ipv6\": false\n}\n").expect("a host's folder can be written");
    await_problem(&host, "docker", &["can't start: /etc/docker/daemon.json is not valid", "line 3", "comma"]);
    fs::remove_file(&file).expect("it is there");
    host.start_dockerd();
    fs::write(&file, "{\"debug\": true}").expect("a host's folder can be written");
    await_problem(&host, "daemon-json", &["changed after dockerd started", "systemctl restart docker"]);
    fs::remove_file(&file).expect("it is there");
}
