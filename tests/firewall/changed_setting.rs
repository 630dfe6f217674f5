//! dockerd is restarted with its firewall off, and on again: `auto` follows.

use lab::http::passed_envoy;
use lab::{Client, Docker, Host, Lab, on_both_dockers};
use nix::sys::signal::Signal;

use crate::{await_capture, await_diverted, one_setting, our_table};

on_both_dockers!(auto_follows_when_dockerd_is_restarted_with_another_firewall_setting);

const FIREWALL_OFF: [&str; 2] = ["--iptables=false", "--ip6tables=false"];

fn auto_follows_when_dockerd_is_restarted_with_another_firewall_setting(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).start(), lab.client("client"));
    host.run_web(&["--name", "web", "-p", "8080:80"]);
    await_diverted(&host, 8080);
    assert_through_envoy(&host, &client);

    restart(&host, &FIREWALL_OFF);
    host.await_served_by_envoy(8080);
    let reason = await_capture(&host, "off");
    assert!(reason.contains("firewall is off"), "{reason}");
    assert_eq!(our_table(&host), "", "there is nothing to divert");
    assert_through_envoy(&host, &client);

    restart(&host, &[]);
    await_diverted(&host, 8080);
    let reason = await_capture(&host, "divert");
    assert!(reason.contains("firewall is on"), "{reason}");
    assert_through_envoy(&host, &client);
}

/// dockerd ends with its containers, as without live-restore, and is started with these arguments.
fn restart(host: &Host, arguments: &[&str]) {
    host.end_dockerd(Signal::SIGTERM);
    host.start_dockerd_with(arguments);
    host.docker(&["start", "web"]);
    host.await_program("web");
}

fn assert_through_envoy(host: &Host, client: &Client) {
    for address in [host.address().to_string(), format!("[{}]", host.address6())] {
        let answer = client.get(&format!("http://{address}:8080/")).expect("the port answers");
        assert!(passed_envoy(&answer), "{address}: {}", answer.text());
    }
}
