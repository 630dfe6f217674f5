//! `scripts/resync`: every shim announces itself again, and those that do not are named.

use std::process::{Command, Output};

use lab::process::send;
use lab::{Host, Lab, parts};
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
