//! What ports, services and hosts say of themselves.

use lab::{Docker, Host, Lab};
use nix::sys::signal::Signal;

use crate::{await_finding, await_health, await_problem, one_setting};

#[test]
fn a_wrong_label_is_found() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).start();
    host.run_web(&["-p", "8080:80", "-l", "ProxyMode=grpc"]);
    await_problem(&host, "port", &["0.0.0.0:8080/tcp, [::]:8080/tcp", "ProxyMode"]);
}

#[test]
fn a_service_address_that_the_host_does_not_have_is_found() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).start();
    host.run_web(&["-p", "8080:80", "-l", "ServicePort_80=9500"]);
    await_problem(&host, "cluster", &["192.168.168.168", "dev lo"]);
    host.namespace().run("ip", &["address", "add", "192.168.168.168", "dev", "lo"]);
    await_health(&host);
}

/// A host that gossips without a key, and has no Envoy.
fn gossiping(lab: &Lab, name: &str, arguments: &[&str]) -> Host {
    let all = [&["--insecure-gossip"], arguments].concat();
    one_setting(lab, name, Docker::Current).registrar_arguments(&all).without_envoy().start()
}

#[test]
fn two_hosts_of_one_name_and_a_host_that_is_down_are_found() {
    let lab = Lab::of_this_test();
    let host = |name: &str, arguments: &[&str]| gossiping(&lab, name, arguments);
    let first = host("a", &[]);
    let seed = first.address().to_string();
    let other = host("b", &["--seed", &seed]);
    let twin = host("c", &["--seed", &seed, "--host-name", "b"]);
    await_problem(&twin, "cluster", &["is called b too", "--host-name"]);
    await_problem(&other, "cluster", &["is called b too", "--host-name"]);
    twin.end_registrar(Signal::SIGTERM);
    let id = other.run_web(&["-p", "8080:80", "-l", "ServicePort_80=9500"]);
    lab::eventually("the first host hears of it", std::time::Duration::from_secs(10), || {
        let listed = first.shimctl(&["services", "--instances"]);
        if listed.contains(&id[..12]) { Ok(()) } else { Err(listed) }
    });
    other.end_registrar(Signal::SIGKILL);
    other.docker(&["kill", &id]);
    await_problem(&first, "cluster", &["host b is down, and 1 of its instances"]);
}

#[test]
fn connections_that_an_envoy_loses_when_it_dies_are_a_hint() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).start();
    let set = |value| host.namespace().run("sysctl", &["-w", &format!("net.ipv4.tcp_migrate_req={value}")]);
    set(0);
    await_finding(&host, "hints", "tcp-migrate-req", &["net.ipv4.tcp_migrate_req=1"]);
    set(1);
    assert!(host.shimctl(&["check"]).contains("ok       tcp-migrate-req"));
}

#[test]
fn two_services_that_claim_one_port_are_found() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).registrar_arguments(&["--service-address", "127.0.0.1"]).start();
    for name in ["first", "second"] {
        host.run_web(&["-P", "--expose", "80", "-l", &format!("ServiceName={name}"), "-l", "ServicePort_80=9500"]);
    }
    await_problem(&host, "service", &["second", "first"]);
}

#[test]
fn seeds_collectors_and_instances_that_nobody_answers_for_are_found() {
    let lab = Lab::of_this_test();
    let host = |name: &str, arguments: &[&str]| gossiping(&lab, name, arguments);
    let first = host("a", &[]);
    let seed = first.address().to_string();
    let lonely = host("b", &["--seed", "10.77.0.99", "--trace-collector", "10.77.0.99:4317"]);
    await_problem(&lonely, "seed", &["10.77.0.99:7946"]);
    await_problem(&lonely, "traces", &["10.77.0.99:4317"]);
    let other = host("c", &["--seed", &seed]);
    other.run_web(&["-p", "8080:80", "-l", "ServicePort_80=9500"]);
    other.namespace().run("iptables", &["-A", "INPUT", "-p", "tcp", "--dport", "8080", "-j", "DROP"]);
    await_problem(&first, "reach", &["on host c", "8080", "shimctl check firewall"]);
    await_problem(&other, "firewall", &["8080/tcp", "iptables -I INPUT"]);
}
