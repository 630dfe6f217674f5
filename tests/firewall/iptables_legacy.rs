//! Docker's rules in the older interface of the kernel, by `iptables-legacy`: found, and diverted past as well.

use lab::http::{passed_envoy, request_header};
use lab::{Docker, Lab, on_both_dockers};
use nix::sys::signal::Signal;

use crate::{await_capture, await_diverted, one_setting, our_table};

on_both_dockers!(rules_that_docker_wrote_with_iptables_legacy_are_found_and_ports_diverted);

/// As `update-alternatives --set iptables /usr/sbin/iptables-legacy` does it, on this host alone.
const SWITCH: &str = "
set -e
nft flush ruleset
ln -sf /usr/sbin/iptables-legacy /etc/alternatives/iptables
ln -sf /usr/sbin/ip6tables-legacy /etc/alternatives/ip6tables";

fn rules_that_docker_wrote_with_iptables_legacy_are_found_and_ports_diverted(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).start(), lab.client("client"));
    host.end_dockerd(Signal::SIGTERM);
    host.namespace().run("sh", &["-c", SWITCH]);
    host.start_dockerd();
    host.run_web(&["-p", "8080:80"]);
    await_diverted(&host, 8080);
    let rules = host.namespace().run("iptables-legacy", &["-t", "nat", "-S", "DOCKER"]);
    assert!(rules.contains("--dport 8080") && rules.contains("DNAT"), "Docker's rules are there: {rules}");
    let reason = await_capture(&host, "divert");
    assert!(reason.contains("iptables (legacy)") && !reason.contains("nf_tables"), "{reason}");
    let url = format!("http://{}:8080/", host.address());
    let answer = client.get(&url).expect("the port answers");
    assert_eq!(request_header(&answer, "x-forwarded-for"), Some(client.address().to_string()));

    // Of these changes the kernel gives no notice.
    let change = |what: &'static str| host.namespace().run("iptables-legacy", &[what, "DOCKER-USER", "-j", "ACCEPT"]);
    change("-I");
    let reason = await_capture(&host, "left-alone");
    assert!(reason.contains("DOCKER-USER holds 1 rule of yours"), "{reason}");
    assert_eq!(our_table(&host), "");
    assert!(!passed_envoy(&client.get(&url).expect("Docker's own path serves")));
    change("-D");
    await_diverted(&host, 8080);
    assert!(passed_envoy(&client.get(&url).expect("the port answers")));
}
