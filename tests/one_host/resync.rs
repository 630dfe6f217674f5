//! `scripts/resync`: every shim announces itself again, and those that do not are named.

use std::process::{Command, Output};
use std::time::Duration;

use lab::process::send;
use lab::{Host, Lab, eventually, parts};
use nix::sys::signal::Signal;

/// Runs it on the host; yields its output and all that it printed.
fn resync(host: &Host) -> (Output, String) {
    let output =
        host.namespace().output(Command::new(parts::project().join("scripts/resync")).args(["--timeout", "3"]));
    let printed = [&output.stdout[..], &output.stderr[..]].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    (output, printed)
}

#[test]
fn resync_reports_what_is_there_and_names_a_stopped_shim() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["-p", "8080:80", "-p", "8081:80"]);
    host.await_served_by_envoy(8080);
    host.await_served_by_envoy(8081);

    let (output, printed) = resync(&host);
    assert!(output.status.success(), "{printed}");

    // With the registrar new, the shims must have announced themselves to this one.
    host.end_registrar(Signal::SIGKILL);
    host.start_registrar();
    let (output, printed) = resync(&host);
    assert!(output.status.success(), "{printed}");

    let ports = host.ports(8080);
    let inner = ports.iter().find(|port| port["host_address"] == "0.0.0.0").and_then(|port| port["shim_pid"].as_u64());
    let shim = host.namespace().outside_id(inner.expect("the shim's id is listed"));
    send(shim, Signal::SIGSTOP).expect("the shim runs");
    let (output, printed) = resync(&host);
    assert!(!output.status.success(), "a stopped shim can't announce itself: {printed}");
    assert!(printed.contains("0.0.0.0:8080"), "the stopped shim's port is named: {printed}");
    assert!(!printed.contains("0.0.0.0:8081"), "the others are not: {printed}");
    // What Envoy serves goes on, whatever the shim does.
    host.get("http://127.0.0.1:8080/").expect("the port answers");

    send(shim, Signal::SIGCONT).expect("the shim is still there");
    let (output, printed) = resync(&host);
    assert!(output.status.success(), "{printed}");

    host.end_registrar(Signal::SIGKILL);
    let (output, printed) = resync(&host);
    assert!(!output.status.success(), "without a registrar there is nothing to be listed by: {printed}");
    assert!(printed.contains("registrar"), "{printed}");
}

#[test]
fn reload_has_the_running_shim_of_a_mapping_announce_itself_again() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["-p", "8080:80"]);
    let port = host.await_served_by_envoy(8080).remove(0);
    let announced = port["announced_at_ms"].as_u64().expect("the shim announced itself");
    let text = |field: &str| port[field].as_str().map_or_else(|| port[field].to_string(), ToOwned::to_owned);
    let reload = |host_port: &str| {
        let mut command = Command::new(parts::ours("envoy-docker-shim"));
        command.args(["-reload", "-proto", "tcp", "-host-ip", &text("host_address"), "-host-port", host_port]);
        command.args(["-container-ip", &text("container_address"), "-container-port", "80"]);
        host.namespace().output(&mut command)
    };
    assert_eq!(reload("8080").status.code(), Some(0));
    eventually("the shim announces itself again", Duration::from_secs(3), || {
        let ports = host.ports(8080);
        let again = ports.iter().any(|now| now["announced_at_ms"].as_u64() > Some(announced));
        if again { Ok(()) } else { Err(format!("{ports:?}")) }
    });
    let output = reload("8099");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("8099"), "{output:?}");
    host.await_served_by_envoy(8080);
}
