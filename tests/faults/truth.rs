//! `shimctl ports` tells what is: registrations without a process, processes without a registration, and ports that
//! Docker publishes and nobody registered.

use std::io::Write;
use std::os::unix::net::UnixStream;

use lab::{Host, Lab, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{SECOND, shim_of, signal};

/// The row of an address, in what `shimctl ports` prints.
fn row(host: &Host, address: &str, port: u16) -> Option<Value> {
    let ports = host.shimctl_json(&["ports"]);
    let is_it = |row: &&Value| row["host_address"] == address && row["host_port"] == port;
    ports.as_array().into_iter().flatten().find(is_it).cloned()
}

fn await_problem(host: &Host, port: u16, words: &str) -> Value {
    eventually(&format!("port {port} says: {words}"), 5 * SECOND, || {
        let row = row(host, "0.0.0.0", port).ok_or("it is not listed")?;
        if row["problem"].as_str().is_some_and(|problem| problem.contains(words)) {
            Ok(row)
        } else {
            Err(row.to_string())
        }
    })
}

#[test]
fn a_registration_ends_with_its_process_and_the_port_says_so() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["--name", "web", "-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    signal(shim_of(&host, "0.0.0.0", 8080), Signal::SIGKILL);
    let row = await_problem(&host, 8080, "was killed");
    assert_eq!((&row["served_by"], &row["shim_pid"]), (&"envoy".into(), &Value::Null), "{row}");
    // With Envoy gone as well nobody is left.
    host.end_envoy(Signal::SIGKILL);
    let row = await_problem(&host, 8080, "Envoy does not listen either");
    assert!(
        row["served_by"] == "docker" && row["problem"].as_str().is_some_and(|text| text.contains("was killed")),
        "{row}"
    );
    host.start_envoy();
    // The mend that it names.
    host.docker(&["restart", "-t", "1", "web"]);
    let ports = host.await_served_by_envoy(8080);
    assert!(ports.iter().all(|row| row["problem"].is_null()), "{ports:?}");
}

#[test]
fn a_process_without_a_registration_is_shown_with_the_mend() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    let shim = shim_of(&host, "0.0.0.0", 8080);
    signal(shim, Signal::SIGSTOP);
    host.end_registrar(Signal::SIGKILL);
    host.start_registrar();
    let row = await_problem(&host, 8080, "resync");
    assert_eq!(row["shim_pid"], Value::Null, "{row}");
    println!("a shim that does not register: {row}");
    assert_eq!(row["served_by"], "envoy", "who serves it goes on to: {row}");
    signal(shim, Signal::SIGCONT);
    eventually("all is well once it goes on", 5 * SECOND, || {
        let ports = host.ports(8080);
        let is_well =
            |row: &Value| row["problem"].is_null() && row["shim_pid"].is_number() && row["served_by"] == "envoy";
        if ports.len() == 2 && ports.iter().all(is_well) { Ok(()) } else { Err(format!("{ports:?}")) }
    });
}

#[test]
fn a_port_that_docker_publishes_with_another_proxy_is_shown_with_the_mend() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").proxy(lab::Proxy::DockerProxy).start();
    host.run_web(&["-p", "8080:80"]);
    let row = await_problem(&host, 8080, "--userland-proxy-path");
    assert_eq!(row["served_by"], "docker", "{row}");
    assert_eq!(host.get("http://127.0.0.1:8080/").expect("docker-proxy answers").status, 200);
}

#[test]
fn a_claim_of_a_port_by_something_that_is_no_shim_does_not_take_it_from_the_shim() {
    use shim_wire::Message;
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    let published = model::PublishedPort { address: [0, 0, 0, 0].into(), port: 8999, protocol: model::Protocol::Tcp };
    let register = shim_wire::Register {
        version: shim_wire::VERSION,
        published,
        container: ([172, 17, 0, 99], 80).into(),
        problem: String::new(),
        shareable: true,
        socket_inode: 0,
        observes: false,
    };
    let mut bytes = Vec::new();
    shim_wire::FromShim::Register(register).encode(&mut bytes);
    let mut claim = UnixStream::connect(host.path("/run/envoy-docker-shim/registrar.sock")).expect("root may");
    claim.write_all(&bytes).expect("the registrar reads");
    // Nothing has that address: the claim is shown, and says that no container is behind it.
    let row = await_problem(&host, 8999, "container");
    assert_eq!(row["container_id"], Value::Null, "{row}");
    println!("a registration without a container: {row}");
    drop(claim);
    eventually("the claim goes with its connection", 3 * SECOND, || {
        if row_is_gone(&host, 8999) { Ok(()) } else { Err("it is listed") }
    });
    host.await_served_by_envoy(8080);
}

fn row_is_gone(host: &Host, port: u16) -> bool {
    row(host, "0.0.0.0", port).is_none()
}
