//! The user's own rules in INPUT hold for published ports, where with Docker alone they have no say.

use std::time::Duration;

use lab::http::{Request, passed_envoy};
use lab::{Client, Docker, Host, Lab, on_both_dockers};

use crate::{await_diverted, docker_alone, one_setting};

on_both_dockers!(
    a_port_denied_in_input_is_closed_and_open_with_docker_alone,
    under_deny_by_default_a_port_is_open_where_it_is_allowed,
);

/// A port that is denied, by each of the two programs that people use.
const DENY: &str = r"
iptables -A INPUT -p tcp --dport 8080 -j REJECT --reject-with tcp-reset
nft add table inet mine
nft add chain inet mine input '{ type filter hook input priority 0; }'
nft add rule inet mine input tcp dport 8081 reject with tcp reset
";

/// Everything is denied but what every host needs, and one published port.
const DENY_BY_DEFAULT: &str = r"
nft add table inet mine
nft add chain inet mine input '{ type filter hook input priority 0; policy drop; }'
nft add rule inet mine input ct state established,related accept
nft add rule inet mine input iif lo accept
nft add rule inet mine input meta l4proto ipv6-icmp accept
nft add rule inet mine input tcp dport 8080 accept
";

/// Whether a client gets an answer at this port.
pub(crate) fn is_open(host: &Host, client: &Client, port: u16) -> bool {
    let request = Request::get(&format!("http://{}:{port}/", host.address())).limit(Duration::from_millis(500));
    client.send(&request).is_ok()
}

fn a_port_denied_in_input_is_closed_and_open_with_docker_alone(version: Docker) {
    let lab = Lab::of_this_test();
    let (ours, theirs) = (one_setting(&lab, "ours", version).start(), docker_alone(&lab, "theirs", version).start());
    let client = lab.client("client");
    for host in [&ours, &theirs] {
        host.run_web(&["-p", "8080:80", "-p", "8081:80", "-p", "8082:80"]);
    }
    for port in [8080, 8081, 8082] {
        await_diverted(&ours, port);
        assert!(is_open(&ours, &client, port) && is_open(&theirs, &client, port), "{port} before any rule");
    }
    for host in [&ours, &theirs] {
        host.namespace().run("sh", &["-ec", DENY]);
    }
    for denied in [8080, 8081] {
        assert!(!is_open(&ours, &client, denied), "{denied} is denied");
        assert!(is_open(&theirs, &client, denied), "{denied} is denied, and Docker alone does not mind");
    }
    assert!(is_open(&ours, &client, 8082), "the port that nobody denied");
}

fn under_deny_by_default_a_port_is_open_where_it_is_allowed(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).start(), lab.client("client"));
    host.run_web(&["-p", "8080:80", "-p", "8081:80"]);
    await_diverted(&host, 8080);
    await_diverted(&host, 8081);
    host.namespace().run("sh", &["-ec", DENY_BY_DEFAULT]);
    for url in [format!("http://{}:8080/", host.address()), format!("http://[{}]:8080/", host.address6())] {
        assert!(passed_envoy(&client.get(&url).expect("the port that is allowed is open")));
    }
    assert!(!is_open(&host, &client, 8081), "the port that is not allowed is closed");
}
