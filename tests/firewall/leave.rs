//! `shimctl leave`: nothing of ours stays in the kernel, and Docker's own path serves.

use std::process::Command;
use std::time::Duration;

use lab::http::{Request, passed_envoy};
use lab::load::Load;
use lab::{Docker, Lab, eventually, on_both_dockers, parts};
use nix::sys::signal::Signal;

use crate::{await_diverted, one_setting, our_table, peer};

on_both_dockers!(after_leave_nothing_is_left_in_the_kernel_and_docker_serves);

fn after_leave_nothing_is_left_in_the_kernel_and_docker_serves(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).start(), lab.client("client"));
    let rules = || host.namespace().run("nft", &["--stateless", "list", "ruleset"]);
    host.run_web(&["-p", "8080:80", "-l", "ServicePort_80=9500"]);
    await_diverted(&host, 8080);
    eventually("the service port is captured, too", Duration::from_secs(5), || {
        let table = our_table(&host);
        if table.contains("9500") { Ok(()) } else { Err(table) }
    });
    let url = format!("http://{}:8080/", host.address());
    assert!(passed_envoy(&client.get(&url).expect("the port answers")));
    let load = Load::start(client.namespace(), &Request::get(&url), 100);

    // A stop may be half of a restart: the table stays.
    host.end_registrar(Signal::SIGTERM);
    assert!(our_table(&host).contains("8080"));
    host.start_registrar();
    await_diverted(&host, 8080);

    host.shimctl(&["leave"]);
    assert!(host.registrar_end().success(), "it ends as if all were well, so that nobody starts it again");
    assert!(!rules().contains("envoy-docker-shim"), "{}", rules());
    let answer = client.get(&url).expect("the port answers");
    assert_eq!((passed_envoy(&answer), peer(&answer)), (false, client.address().to_string()), "by Docker's own path");
    let outcomes = load.stop();
    assert_eq!(outcomes.failed(), 0, "nobody noticed: {outcomes:?}");

    host.start_registrar();
    await_diverted(&host, 8080);
    assert!(passed_envoy(&client.get(&url).expect("the port answers")), "a new registrar begins anew");
}

#[test]
fn leave_says_who_may_say_it_and_to_whom() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::Current).without_envoy().start();
    let program = host.expose(&parts::ours("shimctl"));
    let as_user = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", &program]);
        let output = host.namespace().output(command.args(arguments));
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (succeeded, complaint) = as_user(&["leave"]);
    assert!(!succeeded && complaint.contains("run this as root"), "{complaint}");
    host.end_registrar(Signal::SIGTERM);
    let output = host.try_shimctl(&["leave"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.contains("no registrar listens on /run/envoy-docker-shim/admin.sock"), "{complaint}");
}
