//! A container that is moved from one of Docker's networks to another is followed, and nobody else answers for it.

use lab::{Docker, Lab, on_both_dockers};

use crate::rig::{answered_by, await_agreement, await_answers, cluster, labels, url};

on_both_dockers!(a_container_that_moves_to_another_network_is_followed_on_every_host);

fn a_container_that_moves_to_another_network_is_followed_on_every_host(version: Docker) {
    let lab = Lab::of_this_test();
    let hosts = cluster(&lab, &["a", "b"], |host, _| host.docker(version));
    let a = &hosts[0];
    for (name, subnet) in [("first", "10.99.1.0/24"), ("second", "10.99.2.0/24")] {
        a.docker(&["network", "create", "--subnet", subnet, name]);
    }
    a.docker(&["network", "create", "--internal", "inner"]);
    let run = |service: &str, service_port, more: &[&str]| {
        let labels = labels(service, service_port);
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        a.run_web(&[&labels[..], more].concat())
    };

    // Its number on the host is another one afterwards.
    let moved = run("moved", 9500, &["--network", "first", "--ip", "10.99.1.7", "-p", "80"]);
    hosts.iter().for_each(|host| await_answers(host, &url(9500), &[&moved]));
    a.docker(&["network", "connect", "second", &moved]);
    a.docker(&["network", "disconnect", "first", &moved]);
    let other = run("other", 9501, &["--network", "first", "--ip", "10.99.1.7", "-p", "80"]);
    for host in &hosts {
        await_answers(host, &url(9500), &[&moved]);
        await_answers(host, &url(9501), &[&other]);
    }
    for host in &hosts {
        let answers: Vec<_> = (0..20).map(|_| answered_by(host, &url(9500))).collect();
        assert!(answers.iter().all(|answer| answer.as_deref() == Ok(&moved[..12])), "{}: {answers:?}", host.name());
    }

    // A network that has no way out publishes nothing.
    let late = run("late", 9502, &["--network", "inner", "-p", "80"]);
    a.docker(&["network", "connect", "first", &late]);
    hosts.iter().for_each(|host| await_answers(host, &url(9502), &[&late]));
    await_agreement(&hosts);
}
