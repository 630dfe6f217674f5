//! What happens to connections: a client, a host with Docker's rules, and a container, each in its own namespace.
//!
//! Docker's rules are written with iptables as dockerd writes them (nat/DOCKER, from both hooks). Each test asks who
//! answers: the port's own socket on the host, or the container that Docker's rules lead to.

use std::time::{Duration, Instant};

use crate::machines::{Machines, ip, tcp};
use crate::namespace::{Namespace, feed, run};
use capture::{Asked, Capture, Mode};
use model::PublishedPort;

const HOST4: &str = "10.77.0.1";
const HOST6: &str = "fd77::1";
const CLIENT4: &str = "10.77.0.2";
const CLIENT6: &str = "fd77::2";

struct Lab {
    client: Namespace,
    host: Namespace,
    container: Namespace,
}

impl Lab {
    /// The host's ports 8080 and 9090 answer "socket", the container's port 80 answers "container".
    fn new() -> Self {
        let Machines { client, host, container } = Machines::new();
        client.within(|| {
            run("ip", &format!("route add default via {HOST4}"));
            run("ip", &format!("route add default via {HOST6}"));
        });
        host.serve("[::]:8080".parse().unwrap(), "socket");
        host.serve("[::]:9090".parse().unwrap(), "socket");
        container.serve("[::]:80".parse().unwrap(), "container");
        Self { client, host, container }
    }

    /// As dockerd does it, with one of the programs `iptables-nft` and `iptables-legacy`.
    fn docker_publishes(&self, variant: &str, match_address: &str, port: u16) {
        self.host.within(|| {
            docker_rules(&format!("iptables-{variant}"), "! -d 127.0.0.0/8", match_address, port, "172.17.0.2:80");
            docker_rules(&format!("ip6tables-{variant}"), "! -d ::1/128", "", port, "[fd17::2]:80");
        });
    }

    fn divert(&self, ports: &[PublishedPort]) -> Capture {
        self.host.within(|| {
            let mut capture = Capture::new(Asked::Auto);
            capture.set_ports(ports.iter().copied());
            capture.tick(Instant::now());
            assert_eq!(capture.status().mode, Mode::Divert, "{:?}", capture.status());
            capture
        })
    }
}

fn docker_rules(iptables: &str, output: &str, match_address: &str, port: u16, to: &str) {
    run(iptables, "-w -t nat -N DOCKER");
    run(iptables, "-w -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER");
    run(iptables, &format!("-w -t nat -A OUTPUT {output} -m addrtype --dst-type LOCAL -j DOCKER"));
    let rule = format!("{match_address} ! -i docker0 -p tcp -m tcp --dport {port} -j DNAT --to-destination {to}");
    run(iptables, &format!("-w -t nat -A DOCKER {rule}"));
    run(iptables, "-w -N DOCKER-USER");
    run(iptables, "-w -A DOCKER-USER -j RETURN");
    run(iptables, "-w -A FORWARD -j DOCKER-USER");
}

/// As Docker's own nftables back end does it.
const DOCKER_NFTABLES: &str = r#"
table ip docker-bridges {
  chain nat-PREROUTING { type nat hook prerouting priority -100; fib daddr type local counter jump nat-prerouting-and-output; }
  chain nat-OUTPUT { type nat hook output priority -100; ip daddr != 127.0.0.0/8 fib daddr type local counter jump nat-prerouting-and-output; }
  chain nat-prerouting-and-output { iifname != "docker0" tcp dport 8080 counter dnat to 172.17.0.2:80 comment "DNAT"; }
}
table ip6 docker-bridges {
  chain nat-PREROUTING { type nat hook prerouting priority -100; fib daddr type local counter jump nat-prerouting-and-output; }
  chain nat-OUTPUT { type nat hook output priority -100; ip6 daddr != ::1 fib daddr type local counter jump nat-prerouting-and-output; }
  chain nat-prerouting-and-output { iifname != "docker0" tcp dport 8080 counter dnat to [fd17::2]:80 comment "DNAT"; }
}
"#;

fn any() -> [PublishedPort; 2] {
    [tcp("0.0.0.0", 8080), tcp("::", 8080)]
}

/// With Docker's rules alone the container answers; diverted, the port's own socket does.
fn sockets_answer_before_docker(lab: &Lab) {
    assert_eq!(lab.client.ask(ip(HOST4), 8080), format!("container {CLIENT4}"), "Docker's rules work");
    assert_eq!(lab.client.ask(ip(HOST6), 8080), format!("container {CLIENT6}"));
    assert!(lab.host.ask(ip(HOST4), 8080).starts_with("container"));

    let mut capture = lab.divert(&any());
    assert_eq!(lab.client.ask(ip(HOST4), 8080), format!("socket {CLIENT4}"), "with the client's address");
    assert_eq!(lab.client.ask(ip(HOST6), 8080), format!("socket {CLIENT6}"));
    for own in [HOST4, HOST6, "127.0.0.1", "::1", "172.17.0.1", "fd17::1"] {
        assert!(lab.host.ask(ip(own), 8080).starts_with("socket"), "{own}");
    }
    assert_eq!(lab.container.ask(ip("172.17.0.1"), 8080), "socket 172.17.0.2");
    assert_eq!(lab.container.ask(ip(HOST4), 8080), "socket 172.17.0.2");
    assert_eq!(lab.container.ask(ip(HOST6), 8080), "socket fd17::2");

    lab.host.within(|| capture.remove_for_good(Instant::now()).unwrap());
    assert_eq!(lab.client.ask(ip(HOST4), 8080), format!("container {CLIENT4}"), "Docker serves again at once");
}

#[test]
fn sockets_answer_before_iptables_nft() {
    let lab = Lab::new();
    lab.docker_publishes("nft", "", 8080);
    sockets_answer_before_docker(&lab);
}

#[test]
fn sockets_answer_before_iptables_legacy() {
    let lab = Lab::new();
    lab.docker_publishes("legacy", "", 8080);
    sockets_answer_before_docker(&lab);
}

#[test]
fn sockets_answer_before_dockers_own_nftables() {
    let lab = Lab::new();
    lab.host.within(|| feed("nft", "-f -", DOCKER_NFTABLES));
    sockets_answer_before_docker(&lab);
}

#[test]
fn a_port_of_the_same_number_elsewhere_is_not_diverted() {
    let lab = Lab::new();
    lab.docker_publishes("nft", "", 8080);
    let _capture = lab.divert(&any());
    // A packet that only passes through the host.
    assert_eq!(lab.client.ask(ip("172.17.0.2"), 80), format!("container {CLIENT4}"));
    lab.container.serve("[::]:8080".parse().unwrap(), "other");
    assert_eq!(lab.client.ask(ip("172.17.0.2"), 8080), format!("other {CLIENT4}"));
}

#[test]
fn a_port_for_one_address_stays_closed_at_the_others() {
    let lab = Lab::new();
    lab.docker_publishes("nft", "-d 127.0.0.1/32", 7070);
    lab.host.serve("127.0.0.1:7070".parse().unwrap(), "socket");
    let _capture = lab.divert(&[tcp("127.0.0.1", 7070)]);
    assert_eq!(lab.host.ask(ip("127.0.0.1"), 7070), "socket 127.0.0.1");
    for client in [&lab.client, &lab.container] {
        assert_eq!(client.ask(ip(HOST4), 7070), "ConnectionRefused");
        assert_eq!(client.ask(ip("172.17.0.1"), 7070), "ConnectionRefused");
    }
}

#[test]
fn one_port_on_two_addresses_goes_to_two_sockets() {
    let lab = Lab::new();
    lab.host.within(|| run("ip", "addr add 10.77.0.9/24 dev eth0"));
    lab.docker_publishes("nft", "", 7070);
    lab.host.serve("10.77.0.1:7070".parse().unwrap(), "first");
    lab.host.serve("10.77.0.9:7070".parse().unwrap(), "second");
    let mut capture = lab.divert(&[tcp("10.77.0.1", 7070), tcp("10.77.0.9", 7070)]);
    assert_eq!(lab.client.ask(ip("10.77.0.1"), 7070), format!("first {CLIENT4}"));
    assert_eq!(lab.client.ask(ip("10.77.0.9"), 7070), format!("second {CLIENT4}"));
    lab.host.within(|| {
        capture.remove(&tcp("10.77.0.9", 7070));
        capture.tick(Instant::now());
    });
    assert_eq!(lab.client.ask(ip("10.77.0.9"), 7070), format!("container {CLIENT4}"), "Docker's own path");
}

#[test]
fn a_port_of_one_family_leaves_the_other_family_alone() {
    let lab = Lab::new();
    lab.docker_publishes("nft", "", 8080);
    let _capture = lab.divert(&[tcp("0.0.0.0", 8080)]);
    assert_eq!(lab.client.ask(ip(HOST4), 8080), format!("socket {CLIENT4}"));
    assert_eq!(lab.client.ask(ip(HOST6), 8080), format!("container {CLIENT6}"));
}

#[test]
fn an_input_rule_for_the_published_port_holds() {
    let lab = Lab::new();
    lab.docker_publishes("nft", "", 8080);
    lab.host.within(|| run("iptables-nft", "-w -A INPUT -p tcp --dport 8080 -j REJECT --reject-with tcp-reset"));
    assert_eq!(lab.client.ask(ip(HOST4), 8080), format!("container {CLIENT4}"), "with Docker alone it does not");
    let _capture = lab.divert(&any());
    assert_eq!(lab.client.ask(ip(HOST4), 8080), "ConnectionRefused");
}

#[test]
fn when_the_lease_runs_out_docker_serves_without_anybody_acting() {
    let lab = Lab::new();
    lab.docker_publishes("nft", "", 8080);
    let _capture = lab.divert(&any());
    // The same as 60 s without a registrar, in 1 s.
    let lease = "flush set inet envoy-docker-shim lease; add element inet envoy-docker-shim lease { tcp timeout 1s }";
    lab.host.within(|| feed("nft", "-f -", lease));
    assert_eq!(lab.client.ask(ip(HOST4), 8080), format!("socket {CLIENT4}"));
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(lab.client.ask(ip(HOST4), 8080), format!("container {CLIENT4}"));
}

#[test]
fn nobody_slips_past_while_the_table_is_changed() {
    let lab = Lab::new();
    lab.docker_publishes("nft", "", 8080);
    let mut capture = lab.divert(&any());
    let asked = std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            lab.host.within(|| {
                let mut now = Instant::now();
                for round in 0..200_u16 {
                    // A renewed lease, an element more, or a registrar that starts again.
                    now += Duration::from_secs(15);
                    match round % 4 {
                        0 => capture.add(&tcp("0.0.0.0", 20_000 + round)),
                        1 => capture.remove(&tcp("0.0.0.0", 20_000 + round - 1)),
                        2 => {
                            capture = Capture::new(Asked::Auto);
                            capture.set_ports(any());
                        }
                        _ => {}
                    }
                    capture.tick(now);
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        });
        let mut asked = 0;
        while !changing.is_finished() {
            assert_eq!(lab.client.ask(ip(HOST4), 8080), format!("socket {CLIENT4}"));
            asked += 1;
        }
        asked
    });
    println!("{asked} connections while the table was changed 200 times");
    assert!(asked > 200, "{asked}");
}
