//! This host's own firewall: what it closes is found, and the command that is named opens it.

use std::time::Duration;

use lab::http::Request;
use lab::{Client, Docker, Host, Lab};
use serde_json::Value;

use crate::{await_health, await_problem, one_setting, report};

/// Denies by default, in a table of its own.
const NFT: &str = r"
nft add table inet mine
nft add chain inet mine input '{ type filter hook input priority 0; policy drop; }'
nft add rule inet mine input ct state established,related accept
nft add rule inet mine input iif lo accept
nft add rule inet mine input meta l4proto '{ icmp, ipv6-icmp }' accept
nft add rule inet mine input tcp dport 22 accept
";

/// Denies one port.
const IPTABLES: &str = "
iptables -A INPUT -p tcp --dport 8080 -j REJECT --reject-with tcp-reset
ip6tables -A INPUT -p tcp --dport 8080 -j DROP
";

/// Denies by default.
const UFW: &str = "/usr/sbin/ufw allow 22/tcp && /usr/sbin/ufw --force enable";

#[test]
fn ports_that_rules_of_nftables_close_are_found_and_opened_by_what_is_named() {
    closed_and_opened(NFT, &["the nftables table inet mine", "denies by default"]);
}

#[test]
fn ports_that_rules_of_iptables_close_are_found_and_opened_by_what_is_named() {
    closed_and_opened(IPTABLES, &["iptables", "--dport 8080"]);
}

#[test]
fn ports_that_ufw_closes_are_found_and_opened_by_what_is_named() {
    closed_and_opened(UFW, &["ufw, which denies by default", "ufw allow 8080/tcp"]);
}

/// One published port and one service port, closed by `rules`, and opened by the commands of `check`.
fn closed_and_opened(rules: &str, words: &[&str]) {
    let lab = Lab::of_this_test();
    let arguments = ["--assign-service-address", "--insecure-gossip"];
    let host = one_setting(&lab, "a", Docker::Current).registrar_arguments(&arguments).start();
    let client = lab.client("client");
    host.install_ufw();
    let container = host.run_web(&["-p", "8080:80", "-l", "ServicePort_80=9500"]);
    host.await_served_by_envoy(8080);
    await_health(&host);
    assert!(is_open(&host, &client));

    host.namespace().run("sh", &["-ec", rules]);
    assert!(!is_open(&host, &client));
    await_problem(&host, "firewall", &[&["other hosts can't reach", "8080/tcp"], words].concat());
    let said = host.shimctl(&["explain", "8080"]);
    assert!(said.contains("Other hosts can't reach it") && !said.contains("it is the same"), "{said}");

    for fix in fixes(&host) {
        host.namespace().run("sh", &["-ec", &fix]);
    }
    await_health(&host);
    assert!(is_open(&host, &client), "what `check` named opens the port");
    let service = host.get_from(&container, "http://192.168.168.168:9500/");
    assert_eq!(service.expect("the service port is open").status, 200);
}

/// The commands of all problems.
fn fixes(host: &Host) -> Vec<String> {
    let report = report(host).expect("check answers");
    let problems = report["problems"].as_array().cloned().unwrap_or_default();
    let fix = |problem: &Value| {
        let fix = problem["fix"].as_str().expect("each of these problems has a command");
        fix.split(" (or,").next().unwrap_or_default().replace("ufw ", "/usr/sbin/ufw ")
    };
    problems.iter().map(fix).collect()
}

fn is_open(host: &Host, client: &Client) -> bool {
    let open = |address: String| {
        let request = Request::get(&format!("http://{address}:8080/")).limit(Duration::from_millis(500));
        client.send(&request).is_ok()
    };
    open(host.address().to_string()) && open(format!("[{}]", host.address6()))
}
