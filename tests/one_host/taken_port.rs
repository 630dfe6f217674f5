//! A port that somebody else has.

use std::net::TcpListener;

use lab::{Docker, Lab};

use crate::on_both_dockers;

on_both_dockers!(a_taken_port_fails_docker_run_with_a_message_that_names_the_address);

fn a_taken_port_fails_docker_run_with_a_message_that_names_the_address(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).start();
    host.need_web_image();
    for address in ["0.0.0.0:8080", "[::]:8080"] {
        let taken = host.namespace().in_network(|| TcpListener::bind(address)).expect("the port is free");
        let output = host.try_docker(&["run", "-d", "--name", "web", "-p", "8080:80", "web"]);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "the port is taken at {address}");
        assert!(complaint.contains(":8080"), "{complaint}");
        assert!(complaint.contains("address already in use"), "{complaint}");
        assert!(host.ports(8080).is_empty(), "{:?}", host.ports(8080));
        drop(taken);
        host.docker(&["rm", "-f", "web"]);
    }
    let at_one_address = format!("{}:8080", host.address());
    let taken = host.namespace().in_network(|| TcpListener::bind(&at_one_address)).expect("the port is free");
    let output = host.try_docker(&["run", "-d", "--name", "web", "-p", &format!("{at_one_address}:80"), "web"]);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains(&at_one_address), "the message names the address: {complaint}");
    drop(taken);
    host.docker(&["rm", "-f", "web"]);
    host.run_web(&["--name", "web", "-p", "8080:80"]);
    host.await_served_by_envoy(8080);
}
