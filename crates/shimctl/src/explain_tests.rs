use std::collections::BTreeMap;

use super::*;
use crate::show_ports::tests::port;
use crate::show_services::tests::{instance, service};

fn envoy(capture: &str, capture_reason: &str) -> Envoy {
    Envoy {
        connected: true,
        node_id: None,
        version: None,
        in_sync: true,
        capture: capture.to_owned(),
        capture_reason: capture_reason.to_owned(),
        capture_problem: None,
        capture_setting: "auto".to_owned(),
        docker_problem: None,
        trace_collector: None,
        capture_unproxied: false,
        service_addresses: Vec::new(),
        resources: BTreeMap::new(),
        nacks: 0,
        last_nack: None,
    }
}

/// A registrar that knows nothing, on a host without rules.
fn quiet() -> Answers {
    Answers {
        ports: Vec::new(),
        services: Vec::new(),
        envoy: envoy("off", ""),
        has_firewall: true,
        firewall: Firewall::default(),
        interfaces: firewall::usual_interfaces(),
    }
}

fn web(served_by: ServedBy) -> Port {
    Port {
        container_name: Some("happy_turing".to_owned()),
        service_name: Some("web".to_owned()),
        environment_name: Some("test".to_owned()),
        proxy_mode: Some("http".to_owned()),
        served_by,
        ..port("0.0.0.0:8080", "tcp", Some(17), 0)
    }
}

/// All that is said of one port.
fn said(port: Port, envoy: Envoy) -> String {
    let answers = Answers { ports: vec![port], services: Vec::new(), envoy, ..quiet() };
    explain(&Subject::parse("8080").unwrap(), &answers).iter().map(Explanation::in_words).collect()
}

#[test]
fn a_port_that_envoy_serves_is_explained_with_what_its_death_would_change() {
    let expected = "\
0.0.0.0:8080/tcp
  It leads to port 80 of the container happy_turing, which is the service web in the environment test.
  Envoy answers: the kernel gives it every new connection, and it passes its requests on, and counts, logs and traces them (mode http).
  From other hosts it is the same: where Docker's firewall would lead them past, they are diverted here.
  If Envoy died, the kernel would give new connections to the shim (process 17) at once, and it would forward them unseen; those that are open through Envoy would end.
";
    assert_eq!(said(web(ServedBy::Envoy), envoy("divert", "the firewall is on")), expected);
}

#[test]
fn where_others_are_led_past_envoy_the_reason_is_said() {
    let text = said(web(ServedBy::Envoy), envoy("left-alone", "DOCKER-USER holds 1 rule of yours"));
    assert!(text.contains("straight to the container: DOCKER-USER holds 1 rule of yours."), "{text}");
    let none = Port { proxy_mode: Some("none".to_owned()), ..web(ServedBy::Shim) };
    let text = said(none, envoy("divert", "the firewall is on"));
    assert!(text.contains("the mode is none.") && text.contains("straight to the container.\n"), "{text}");
    let local = Port { host_address: "127.0.0.1".parse().unwrap(), ..web(ServedBy::Envoy) };
    assert!(said(local, envoy("divert", "")).contains("Only this host itself reaches it."));
}

#[test]
fn a_port_that_the_shim_serves_says_why_and_what_is_wrong() {
    let udp = Port { protocol: "udp".to_owned(), ..web(ServedBy::Shim) };
    let text = said(udp, envoy("off", "Docker's firewall is off"));
    assert!(text.contains("only TCP passes Envoy") && text.contains("nothing would change"), "{text}");
    let alone = Port { problem: Some("no Envoy is connected".to_owned()), ..web(ServedBy::Shim) };
    let text = said(alone, envoy("off", "Docker's firewall is off"));
    assert!(text.contains("see below") && text.ends_with("Problem: no Envoy is connected.\n"), "{text}");
}

#[test]
fn a_port_whose_shim_was_killed_has_nobody_behind_envoy() {
    for capture_unproxied in [false, true] {
        let killed = Port { shim_pid: None, shim: Shim::Lost, ..web(ServedBy::Envoy) };
        let text = said(killed, Envoy { capture_unproxied, ..envoy("divert", "Docker's firewall is on") });
        assert!(text.contains("nobody would take its place"), "{text}");
    }
}

#[test]
fn a_port_that_never_had_a_shim_is_not_said_to_have_lost_it_whatever_else_is_wrong_with_it() {
    for problem in [None, Some("label ProxyMode: \"grpc\" is no mode".to_owned())] {
        let bare = Port { shim_pid: None, shim: Shim::None, problem, ..web(ServedBy::Envoy) };
        let text = said(bare, Envoy { capture_unproxied: true, ..envoy("divert", "Docker's firewall is on") });
        assert!(
            text.contains("until Docker's own path has the port") && !text.contains("restart the container"),
            "{text}"
        );
    }
}

#[test]
fn a_service_names_who_gets_requests_and_who_does_not() {
    let instances = vec![instance("a/0123456789ab", "alive"), instance("b/0123456789ab", "unhealthy")];
    let services = vec![service("web", Some(9500), instances), service("web", None, Vec::new())];
    let answers = Answers { ports: Vec::new(), services, ..quiet() };
    let expected = "\
service web in the environment test, service port 9500
  A connection to a service address at port 9500 comes to the Envoy of the host that it begins on.
  Envoy gives it to one of these: a/0123456789ab at 10.0.0.1:8000.
  These get nothing new: b/0123456789ab (unhealthy: ask on b).
  If this host's Envoy died, the registrar would pass connections to service ports on until it is back.
";
    for subject in [Subject::Service("web".to_owned()), Subject::parse("9500").unwrap()] {
        let said: String = explain(&subject, &answers).iter().map(Explanation::in_words).collect();
        assert_eq!(said, expected);
    }
}

#[test]
fn a_service_whose_port_is_anothers_says_whose() {
    let problem = Some("service port 9500 is api's".to_owned());
    let web = Service { problem, ..service("web", Some(9500), vec![instance("a/0123456789ab", "alive")]) };
    let api = service("api", Some(9500), vec![instance("b/0123456789ab", "alive")]);
    let answers = Answers { ports: Vec::new(), services: vec![web, api], ..quiet() };
    let said = |name: &str| -> String {
        explain(&Subject::Service(name.to_owned()), &answers).iter().map(Explanation::in_words).collect()
    };
    let expected = "\
service web in the environment test, service port 9500
  Nothing comes to it at this port: connections to a service address at port 9500 go to the service api in the environment test, which claims it as well and comes first by name.
  Problem: service port 9500 is api's.
";
    assert_eq!(said("web"), expected);
    assert!(said("api").contains("Envoy gives it to one of these: b/0123456789ab"), "{}", said("api"));
}

#[test]
fn a_service_on_a_host_without_envoy_says_so() {
    let services = vec![service("web", Some(9500), Vec::new())];
    let away = Envoy { connected: false, ..envoy("off", "") };
    let answers = Answers { ports: Vec::new(), services, envoy: away, ..quiet() };
    let said: String = explain(&Subject::parse("9500").unwrap(), &answers).iter().map(Explanation::in_words).collect();
    assert!(
        said.contains("No instance is alive") && said.contains("the registrar passes connections to service ports on"),
        "{said}"
    );
}

#[test]
fn a_service_with_many_instances_names_some() {
    let many = (0..20).map(|number| instance(&format!("h{number}/0123456789ab"), "alive")).collect();
    let answers = Answers { ports: Vec::new(), services: vec![service("web", Some(1), many)], ..quiet() };
    let said: String = explain(&Subject::parse("1").unwrap(), &answers).iter().map(Explanation::in_words).collect();
    assert!(said.contains("h7/0123456789ab at 10.0.0.1:8000 and 12 more."), "{said}");
}

#[test]
fn a_port_that_the_firewall_closes_is_not_said_to_be_the_same_from_other_hosts() {
    let answers = |rules: &str| Answers {
        ports: vec![web(ServedBy::Envoy)],
        envoy: envoy("divert", "the firewall is on"),
        firewall: firewall::of_iptables(&format!("*filter\n{rules}COMMIT\n")),
        ..quiet()
    };
    let said = |rules: &str| -> String {
        explain(&Subject::parse("8080").unwrap(), &answers(rules)).iter().map(Explanation::in_words).collect()
    };
    let closed = said(":INPUT DROP [0:0]\n:ufw-user-input - [0:0]\n");
    assert!(closed.contains("Other hosts can't reach it: ufw") && closed.contains("ufw allow 8080/tcp"), "{closed}");
    assert!(!closed.contains("it is the same"), "{closed}");
    assert!(said(":INPUT DROP [0:0]\n-A INPUT -s 10.0.0.0/8 -j ACCEPT\n").contains("Only some hosts reach it"));
    assert!(said(":INPUT ACCEPT [0:0]\n-A INPUT -m mark --mark 1 -j DROP\n").contains("can't be told"));
    assert!(said(":INPUT ACCEPT [0:0]\n").contains("it is the same"));
}
