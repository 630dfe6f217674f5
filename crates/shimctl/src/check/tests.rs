use std::collections::BTreeMap;

use admin_api::gossip::{Gossip, Seed, SeedOutcome, Standing};
use admin_api::{Envoy, Host, Nack, ServedBy};

use super::super::DOCKER_PROXY;
use super::super::facts::{ConfigFile, Descriptors, Docker, DockerSettings, Found, Kernel, Program, Unreachable};
use super::*;
use crate::firewall::{self, Firewall};
use crate::process::ShimProcess;
use crate::show_ports::tests::port;

/// A host on which all is well.
fn healthy() -> Facts {
    let file = |path: &str, uid, mode| File { path: path.into(), found: Some(Found { uid, mode }) };
    let settings = DockerSettings {
        userland_proxy: true,
        userland_proxy_path: Some("/usr/local/bin/envoy-docker-shim".to_owned()),
        iptables: true,
    };
    Facts {
        is_root: true,
        registrar: Registrar::Answers(Box::new(Answers {
            waiting_for: Vec::new(),
            ports: vec![Port { served_by: ServedBy::Envoy, ..web("0.0.0.0:80") }],
            services: Vec::new(),
            hosts: vec![host("a", "alive")],
            envoy: envoy(),
            gossip: None,
        })),
        folder: file("/run/x", 0, 0o755),
        shim_socket: file("/run/x/registrar.sock", 0, 0o600),
        admin_socket: file("/run/x/admin.sock", 0, 0o600),
        xds_socket: file("/run/x/xds.sock", 101, 0o600),
        programs: vec![program("dockerd", 0), program("envoy", 101), program(REGISTRAR, 0)],
        docker: Some(Docker { pid: 7, settings, has_started_shim: true, has_proxy_program: true, silence: None }),
        kernel: Kernel {
            tcp_migrate_req: Some(1),
            ip_forward: Some(1),
            first_unprivileged_port: Some(1024),
            masquerades: Some(true),
        },
        gossip_port_holder: None,
        docker_config: ConfigFile { path: "/etc/docker/daemon.json".into(), problem: None, is_newer: false },
        has_docker_socket: true,
        not_installed: Vec::new(),
        stopped_shims: Vec::new(),
        collector_silence: None,
        unreachable: Vec::new(),
        proxies: Vec::new(),
        firewall: Firewall::default(),
        interfaces: firewall::usual_interfaces(),
    }
}

fn program(name: &str, uid: u32) -> Program {
    let descriptors = Some(Descriptors { open: 50, max: 1 << 20 });
    Program { name: name.to_owned(), pid: 7, uid, capabilities: 0x400, is_stopped: false, descriptors }
}

fn host(name: &str, status: &str) -> Host {
    Host { name: name.to_owned(), address: None, status: status.to_owned(), instances: 0, since: 0, problem: None }
}

fn web(published: &str) -> Port {
    Port { proxy_mode: Some("http".to_owned()), ..port(published, "tcp", Some(9), 1) }
}

fn envoy() -> Envoy {
    Envoy {
        connected: true,
        node_id: Some("envoy".to_owned()),
        version: Some("1.40.0".to_owned()),
        in_sync: true,
        capture: "divert".to_owned(),
        capture_reason: "Docker's firewall is on".to_owned(),
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

/// The names of what is found once `break_it` was done to a healthy host, and all its words.
fn found(break_it: impl FnOnce(&mut Facts)) -> (Vec<&'static str>, String) {
    let mut facts = healthy();
    break_it(&mut facts);
    let report = report(&facts);
    let words = report.in_words();
    (report.problems.into_iter().map(|finding| finding.check).collect(), words)
}

fn answers(facts: &mut Facts) -> &mut Answers {
    match &mut facts.registrar {
        Registrar::Answers(answers) => answers,
        Registrar::Silent(reason) => panic!("{reason}"),
    }
}

fn docker(facts: &mut Facts) -> &mut Docker {
    facts.docker.as_mut().unwrap()
}

/// Exactly one problem is found, of this name, and it says these words.
#[track_caller]
fn assert_found(check: &str, words: &[&str], break_it: impl FnOnce(&mut Facts)) {
    let (checks, text) = found(break_it);
    assert_eq!(checks, [check], "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

#[test]
fn nothing_is_found_on_a_healthy_host() {
    let report = report(&healthy());
    assert_eq!((report.problems, report.hints), (Vec::new(), Vec::new()));
    assert!(report.passed.iter().any(|passed| passed.check == "firewall"), "{:?}", report.passed);
}

#[test]
fn a_registrar_that_is_silent_is_told_from_one_that_does_not_run() {
    let silent = || Registrar::Silent("no answer from 127.0.0.1:7777: refused\nmore".to_owned());
    assert_found("registrar", &["it runs (process 7)", "refused", "--address"], |facts| facts.registrar = silent());
    assert_found("registrar", &["it does not run", "systemctl start"], |facts| {
        facts.registrar = silent();
        facts.programs.retain(|program| program.name != REGISTRAR);
    });
}

#[test]
fn swarms_hold_on_the_gossip_port_is_a_hint_where_the_registrar_does_not_run() {
    let (checks, text) = found(|facts| {
        facts.registrar = Registrar::Silent("refused".to_owned());
        facts.gossip_port_holder = Some(("dockerd".to_owned(), 7));
    });
    assert_eq!(checks, ["registrar"]);
    assert!(text.contains("gossip-port: dockerd (process 7)") && text.contains("Swarm"), "{text}");
}

#[test]
fn a_registrar_that_waits_says_for_what() {
    assert_found("registrar", &["Docker's first listing"], |facts| {
        answers(facts).waiting_for.push("Docker's first listing".to_owned());
    });
}

#[test]
fn sockets_that_are_missing_or_open_or_anothers_are_named() {
    assert_found("sockets", &["registrar.sock is not there"], |facts| facts.shim_socket.found = None);
    assert_found("sockets", &["admin.sock has the mode 666"], |facts| {
        facts.admin_socket.found = Some(Found { uid: 0, mode: 0o666 });
    });
    assert_found("sockets", &["admin.sock belongs to uid 5"], |facts| {
        facts.admin_socket.found = Some(Found { uid: 5, mode: 0o600 });
    });
    assert_found("sockets", &["chmod 755"], |facts| facts.folder.found = Some(Found { uid: 0, mode: 0o700 }));
    let (checks, _) = found(|facts| facts.xds_socket.found = None);
    assert!(checks.is_empty(), "Envoy is connected by TCP");
}

#[test]
fn a_dockerd_that_does_not_start_shims_is_named() {
    assert_found("userland-proxy", &["is off", "daemon.json"], |facts| docker(facts).settings.userland_proxy = false);
    assert_found("userland-proxy", &["its own docker-proxy"], |facts| {
        docker(facts).settings.userland_proxy_path = None;
    });
    assert_found("userland-proxy", &["/usr/bin/docker-proxy, not the shim"], |facts| {
        docker(facts).settings.userland_proxy_path = Some("/usr/bin/docker-proxy".to_owned());
    });
    assert_found("userland-proxy", &["no program is there"], |facts| docker(facts).has_proxy_program = false);
    assert_found("userland-proxy", &["2 of Docker's own"], |facts| {
        facts.programs.extend([program(DOCKER_PROXY, 0), program(DOCKER_PROXY, 0)]);
    });
}

#[test]
fn a_dockerd_that_hangs_is_named() {
    assert_found("docker", &["does not answer: nothing came"], |facts| {
        docker(facts).silence = Some("nothing came in time".to_owned());
    });
}

#[test]
fn ports_without_a_shim_are_named_up_to_a_bound() {
    assert_found("shim", &["0.0.0.0:1/tcp, 0.0.0.0:2/tcp, 0.0.0.0:3/tcp and 2 more"], |facts| {
        let bare = |number: u16| Port {
            served_by: ServedBy::Docker,
            shim_pid: None,
            problem: Some("no shim".to_owned()),
            ..web(&format!("0.0.0.0:{number}"))
        };
        answers(facts).ports = (1..=5).map(bare).collect();
    });
}

#[test]
fn containers_without_a_way_out_are_named() {
    assert_found("egress", &["ip_forward is 0"], |facts| facts.kernel.ip_forward = Some(0));
    assert_found("egress", &["masquerades"], |facts| {
        docker(facts).settings.iptables = false;
        answers(facts).envoy.capture = "off".to_owned();
        facts.kernel.masquerades = Some(false);
    });
    let (checks, _) = found(|facts| {
        docker(facts).settings.iptables = false;
        facts.kernel.masquerades = None;
    });
    assert!(checks.is_empty(), "what can't be seen is not held against anybody");
}

#[test]
fn a_capture_that_does_not_fit_dockers_firewall_is_named() {
    assert_found("capture", &["DOCKER-USER holds 1 rule"], |facts| {
        let envoy = &mut answers(facts).envoy;
        (envoy.capture, envoy.capture_reason) = ("left-alone".to_owned(), "DOCKER-USER holds 1 rule".to_owned());
    });
    assert_found("capture", &["past Envoy: off by --capture none", "take the setting capture out"], |facts| {
        let envoy = &mut answers(facts).envoy;
        envoy.capture_setting = "none".to_owned();
        (envoy.capture, envoy.capture_reason) = ("off".to_owned(), "off by --capture none".to_owned());
    });
    assert_found("capture", &["rules for published ports are gone", "systemctl restart docker"], |facts| {
        answers(facts).envoy.capture = "off".to_owned();
    });
    assert_found("capture", &["fix: restart dockerd"], |facts| {
        answers(facts).envoy.capture_problem = Some("restart dockerd".to_owned());
    });
    let (checks, _) = found(|facts| {
        answers(facts).envoy.capture = "off".to_owned();
        answers(facts).ports = vec![web("127.0.0.1:80")];
    });
    assert!(checks.is_empty(), "from other hosts nobody reaches it anyway");
}

#[test]
fn an_envoy_that_is_away_or_elsewhere_is_named() {
    assert_found("envoy", &["no Envoy runs"], |facts| {
        answers(facts).envoy.connected = false;
        facts.programs.retain(|program| program.name != "envoy");
    });
    assert_found("envoy", &["process 7), and is not connected"], |facts| answers(facts).envoy.connected = false);
}

#[test]
fn an_envoy_under_another_user_is_named_whether_it_is_connected_or_not() {
    for connected in [true, false] {
        assert_found("envoy-user", &["runs as uid 101", "is uid 0", "envoy-user: 101"], |facts| {
            facts.xds_socket.found = Some(Found { uid: 0, mode: 0o600 });
            answers(facts).envoy.connected = connected;
        });
    }
}

#[test]
fn an_envoy_that_is_older_than_those_tested_is_a_hint() {
    let of = |version: &str| found(|facts| answers(facts).envoy.version = Some(version.to_owned()));
    let (checks, text) = of("1.37.0");
    assert!(checks.is_empty() && text.contains("Envoy 1.37.0 is older") && text.contains("1.40 or later"), "{text}");
    for new in ["1.40.0", "2.0.0-dev", "unknown"] {
        assert!(!of(new).1.contains("hint     envoy-version"), "{new}");
    }
}

#[test]
fn an_envoy_that_is_short_of_file_descriptors_is_a_problem_and_one_with_few_a_hint() {
    let of =
        |open: u64, max: u64| move |facts: &mut Facts| facts.programs[1].descriptors = Some(Descriptors { open, max });
    assert_found("envoy-descriptors", &["49152 of its 65536", "LimitNOFILE"], of(49_152, 65_536));
    let (checks, text) = found(of(50, 1024));
    assert!(checks.is_empty() && text.contains("room for some 512 connections"), "{text}");
    assert!(found(of(49_151, 65_536)).1.contains("ok       envoy-descriptors"));
}

#[test]
fn a_low_port_needs_an_envoy_that_may_bind_it() {
    assert_found("envoy-capability", &["port 80", "CAP_NET_BIND_SERVICE"], |facts| facts.programs[1].capabilities = 0);
    let (checks, _) = found(|facts| {
        facts.programs[1].capabilities = 0;
        facts.kernel.first_unprivileged_port = Some(80);
    });
    assert!(checks.is_empty());
}

#[test]
fn what_envoy_rejected_is_said() {
    assert_found("envoy-sync", &["it rejected port/x: no such field"], |facts| {
        let envoy = &mut answers(facts).envoy;
        envoy.in_sync = false;
        let (resource_type, resource) = ("listeners".to_owned(), Some("port/x".to_owned()));
        envoy.last_nack = Some(Nack { resource_type, resource, message: "no such field".to_owned(), time_ms: 1 });
    });
}

#[test]
fn a_problem_that_many_ports_share_is_told_once() {
    let (checks, text) = found(|facts| {
        let sick = |number: u16| Port {
            problem: Some("label ProxyMode: \"grpc\"".to_owned()),
            served_by: ServedBy::Envoy,
            ..web(&format!("0.0.0.0:{number}"))
        };
        answers(facts).ports = (8000..8500).map(sick).collect();
    });
    assert_eq!(checks, ["port"]);
    assert!(text.contains("0.0.0.0:8000/tcp, 0.0.0.0:8001/tcp, 0.0.0.0:8002/tcp and 497 more"), "{text}");
}

#[test]
fn what_is_wrong_at_a_service_address_is_named() {
    assert_found("service", &["service ports at 192.168.168.168", "end it"], |facts| {
        answers(facts).envoy.service_addresses.push(admin_api::ServiceAddress {
            address: "192.168.168.168".parse().unwrap(),
            served_by: admin_api::ServiceServer::Nobody,
            problem: Some("another program listens at 192.168.168.168:15001: end it".to_owned()),
        });
    });
}

#[test]
fn hosts_say_what_is_wrong_with_them_and_those_that_are_down_are_named() {
    assert_found("cluster", &["host a", "give it another --host-name"], |facts| {
        answers(facts).hosts[0].problem = Some("another host is called a too: give it another --host-name".to_owned());
    });
    let (_, text) = found(|facts| {
        let problem = Some("announces instances at 10.0.0.1: not used from here".to_owned());
        answers(facts).hosts.push(Host { problem, ..host("b", "alive") });
    });
    assert!(text.contains("cluster: host b: announces instances at 10.0.0.1"), "{text}");
    let down = |instances| Host { instances, ..host("b", "down") };
    assert_found("cluster", &["host b is down, and 2 of"], |facts| answers(facts).hosts.push(down(2)));
    let (checks, _) = found(|facts| answers(facts).hosts.push(down(0)));
    assert!(checks.is_empty(), "it left, or had nothing to offer");
}

#[test]
fn what_could_be_better_is_a_hint_and_no_problem() {
    let (checks, text) = found(|facts| {
        facts.kernel.tcp_migrate_req = Some(0);
        facts.is_root = false;
    });
    assert!(
        checks.is_empty() && text.contains("sysctl -w net.ipv4.tcp_migrate_req=1") && text.contains("as root"),
        "{text}"
    );
}

#[test]
fn without_a_shim_all_is_well_where_envoy_is_to_serve_such_ports_and_each_that_it_does_not_is_named() {
    let without_shims = |facts: &mut Facts| {
        docker(facts).settings.userland_proxy = false;
        let answers = answers(facts);
        answers.envoy.capture_unproxied = true;
        answers.ports = vec![Port { served_by: ServedBy::Envoy, shim_pid: None, ..web("0.0.0.0:80") }];
    };
    let (checks, text) = found(without_shims);
    assert!(checks.is_empty(), "{text}");
    assert_found("port", &["0.0.0.0:80", "off by --capture none"], |facts| {
        without_shims(facts);
        let port = &mut answers(facts).ports[0];
        (port.served_by, port.problem) = (ServedBy::Docker, Some("off by --capture none".to_owned()));
    });
}

/// A firewall that denies all but SSH.
fn denying() -> Firewall {
    firewall::of_iptables("*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n")
}

#[test]
fn a_firewall_that_closes_published_ports_is_named_with_the_command_that_opens_them() {
    let words = ["0.0.0.0:80/tcp", "denies by default", "iptables -I INPUT -p tcp --dport 80 -j ACCEPT", "127.0.0.1"];
    assert_found("firewall", &words, |facts| facts.firewall = denying());
    let (checks, text) = found(|facts| {
        facts.firewall = denying();
        answers(facts).envoy.capture = "off".to_owned();
        answers(facts).ports[0].host_address = "127.0.0.1".parse().unwrap();
    });
    assert!(checks.is_empty(), "{text}");
    let (checks, text) = found(|facts| {
        facts.firewall = denying();
        answers(facts).ports[0].proxy_mode = Some("none".to_owned());
    });
    assert!(checks.is_empty(), "Docker's own rules lead to it, past INPUT: {text}");
}

#[test]
fn with_dockers_firewall_off_every_port_comes_by_input() {
    let words = ["0.0.0.0:53/udp", "iptables -I INPUT -p udp --dport 53"];
    assert_found("firewall", &words, |facts| {
        facts.firewall = denying();
        docker(facts).settings.iptables = false;
        let answers = answers(facts);
        answers.envoy.capture = "off".to_owned();
        answers.ports = vec![port("0.0.0.0:53", "udp", Some(9), 1)];
    });
}

#[test]
fn a_firewall_that_closes_gossip_or_service_ports_is_named() {
    let words = ["registrars can't reach 10.0.0.1:7946/udp", "iptables -I INPUT -d 10.0.0.1 -p udp --dport 7946"];
    assert_found("firewall", &words, |facts| {
        facts.firewall = denying();
        answers(facts).ports.clear();
        answers(facts).gossip = Some(gossip(Vec::new()));
    });
    let words = ["containers can't reach service ports at 192.168.168.168", "-d 192.168.168.168 -p tcp --dport 15001"];
    assert_found("firewall", &words, |facts| {
        facts.firewall = denying();
        let answers = answers(facts);
        answers.ports.clear();
        answers.services.push(crate::show_services::tests::service("web", Some(9500), Vec::new()));
        answers.envoy.service_addresses.push(admin_api::ServiceAddress {
            address: "192.168.168.168".parse().unwrap(),
            served_by: admin_api::ServiceServer::Envoy,
            problem: None,
        });
    });
}

#[test]
fn a_firewall_that_lets_some_in_or_can_not_be_read_is_a_hint() {
    let rules = "*filter\n:INPUT DROP [0:0]\n-A INPUT -s 10.0.0.0/8 -j ACCEPT\nCOMMIT\n";
    let (checks, text) = found(|facts| facts.firewall = firewall::of_iptables(rules));
    assert!(checks.is_empty() && text.contains("only some hosts can reach 0.0.0.0:80/tcp"), "{text}");
    let rules = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m mark --mark 1 -j DROP\nCOMMIT\n";
    let (checks, text) = found(|facts| facts.firewall = firewall::of_iptables(rules));
    assert!(checks.is_empty() && text.contains("can't be told") && text.contains("--mark 1"), "{text}");
    assert!(!text.contains("ok       firewall"), "{text}");
    let (checks, text) = found(|facts| facts.firewall.unseen = Some("no nft".to_owned()));
    assert!(checks.is_empty() && text.contains("can't be told: no nft"), "{text}");
}

#[test]
fn before_the_registrar_runs_what_it_will_find_closed_is_a_hint() {
    let (checks, text) = found(|facts| {
        facts.registrar = Registrar::Silent("refused".to_owned());
        facts.firewall = denying();
        facts.proxies = vec![ShimProcess {
            pid: 9,
            start_time: 1,
            address: "0.0.0.0".parse().unwrap(),
            port: 8080,
            protocol: "tcp".to_owned(),
        }];
    });
    assert_eq!(checks, ["registrar"]);
    assert!(text.contains("can't reach 0.0.0.0:8080/tcp once the registrar runs"), "{text}");
}

/// Gossip that is on, with these seeds.
fn gossip(seeds: Vec<Seed>) -> Gossip {
    Gossip {
        standing: Standing::Inside,
        host_name: "a".to_owned(),
        cluster_name: "default".to_owned(),
        address: Some("10.0.0.1".parse().unwrap()),
        port: Some(7946),
        key_fingerprints: Vec::new(),
        members: Vec::new(),
        seeds,
        refused: BTreeMap::new(),
        problems: Vec::new(),
    }
}

fn seed(name: &str, outcome: SeedOutcome) -> Seed {
    let problem = (outcome != SeedOutcome::Reached).then(|| format!("{name} says nothing: look at its firewall"));
    Seed { seed: name.to_owned(), outcome, problem, addresses: Vec::new() }
}

#[test]
fn seeds_that_nobody_answers_at_are_a_problem_and_a_hint_where_another_one_answers() {
    assert_found("seed", &["web1:7946: web1:7946 says nothing"], |facts| {
        answers(facts).gossip = Some(gossip(vec![seed("web1:7946", SeedOutcome::NoAnswer)]));
    });
    let both = |outcome| {
        found(move |facts| {
            let seeds = vec![seed("web1:7946", SeedOutcome::Reached), seed("web2:7946", outcome)];
            answers(facts).gossip = Some(gossip(seeds));
        })
    };
    let (checks, text) = both(SeedOutcome::NoAnswer);
    assert!(checks.is_empty() && text.contains("hint     seed: web2:7946"), "{text}");
    assert_eq!(both(SeedOutcome::WrongKey).0, ["seed"], "that does not pass by itself");
}

#[test]
fn a_dockerd_that_does_not_run_is_named_with_why_it_can_not_start() {
    assert_found("docker", &["dockerd does not run", "systemctl start docker"], |facts| facts.docker = None);
    assert_found("docker", &["can't start: /etc/docker/daemon.json", "expected `,` at line 3", "jq ."], |facts| {
        facts.docker = None;
        facts.docker_config.problem = Some("expected `,` at line 3".to_owned());
    });
    let (checks, _) = found(|facts| {
        (facts.docker, facts.has_docker_socket) = (None, false);
        answers(facts).ports.clear();
    });
    assert!(checks.is_empty(), "a host without Docker");
}

#[test]
fn a_configuration_file_that_is_invalid_or_was_not_read_is_named_once() {
    assert_found("daemon-json", &["is not valid: expected `,`", "will not start again"], |facts| {
        facts.docker_config.problem = Some("expected `,` at line 3".to_owned());
        docker(facts).settings.userland_proxy_path = None;
    });
    assert_found("daemon-json", &["changed after dockerd started", "systemctl restart docker"], |facts| {
        facts.docker_config.is_newer = true;
        docker(facts).has_started_shim = false;
    });
    let (checks, text) = found(|facts| facts.docker_config.is_newer = true);
    assert!(checks.is_empty() && text.contains("hint     daemon-json"), "it starts shims: {text}");
}

#[test]
fn a_program_that_is_not_there_is_not_said_to_be_enabled_at_once() {
    assert_found("envoy", &["not installed", "put Envoy (1.40 or later) at /usr/local/bin/envoy"], |facts| {
        answers(facts).envoy.connected = false;
        facts.programs.retain(|program| program.name != "envoy");
        facts.not_installed.push("envoy");
    });
    assert_found("registrar", &["not installed", "deploy/install"], |facts| {
        facts.registrar = Registrar::Silent("refused".to_owned());
        facts.programs.retain(|program| program.name != REGISTRAR);
        facts.not_installed.push(REGISTRAR);
    });
}

#[test]
fn what_is_stopped_by_a_signal_is_named_with_its_process() {
    fn stop(facts: &mut Facts, name: &str) {
        let program = facts.programs.iter_mut().find(|program| program.name == name).unwrap();
        (program.is_stopped, program.pid) = (true, 17);
    }
    assert_found("envoy", &["is stopped by a signal", "kill -CONT 17"], |facts| stop(facts, "envoy"));
    assert_found("docker", &["is stopped by a signal", "kill -CONT 17"], |facts| {
        stop(facts, "dockerd");
        docker(facts).pid = 17;
        docker(facts).silence = Some("nothing came in time".to_owned());
    });
    assert_found("registrar", &["is stopped by a signal", "kill -CONT 17"], |facts| {
        stop(facts, REGISTRAR);
        facts.registrar = Registrar::Silent("nothing came".to_owned());
    });
    assert_found("shim", &["0.0.0.0:80/tcp (process 9)", "kill -CONT"], |facts| {
        facts.stopped_shims.push("0.0.0.0:80/tcp (process 9)".to_owned());
    });
}

#[test]
fn a_trace_collector_that_nobody_answers_at_is_named() {
    assert_found("traces", &["10.0.0.9:4317 can't be reached", "refused", "trace-collector"], |facts| {
        answers(facts).envoy.trace_collector = Some("10.0.0.9:4317".to_owned());
        facts.collector_silence = Some("the connection is refused".to_owned());
    });
}

#[test]
fn instances_that_another_hosts_firewall_closes_are_named_by_host() {
    assert_found("reach", &["on host b", "web at 10.0.0.2:8080", "shimctl check firewall"], |facts| {
        let of = |port| Unreachable {
            host: "b".to_owned(),
            service: "web".to_owned(),
            at: std::net::SocketAddr::new("10.0.0.2".parse().unwrap(), port),
            reason: "nothing answers within 1 s".to_owned(),
        };
        facts.unreachable = vec![of(8080), of(8081)];
    });
}

#[test]
fn one_cause_is_one_problem() {
    assert_found("envoy-capability", &["port 80"], |facts| {
        facts.programs[1].capabilities = 0;
        let answers = answers(facts);
        answers.envoy.in_sync = false;
        answers.ports = vec![Port {
            served_by: ServedBy::Shim,
            problem: Some("Envoy rejected the port: Permission denied".to_owned()),
            ..web("0.0.0.0:80")
        }];
    });
    assert_found("envoy", &["no Envoy runs"], |facts| {
        facts.programs.retain(|program| program.name != "envoy");
        let answers = answers(facts);
        answers.envoy.connected = false;
        let problem = Some("no Envoy is connected: the shim forwards".to_owned());
        answers.ports = vec![Port { served_by: ServedBy::Shim, problem, ..web("0.0.0.0:80") }];
    });
}

#[test]
fn what_another_finding_explains_is_not_said_to_be_well() {
    let (_, text) = found(|facts| {
        facts.programs[1].capabilities = 0;
        answers(facts).envoy.in_sync = false;
        answers(facts).envoy.docker_problem = Some("refused".to_owned());
        answers(facts).waiting_for.push("Docker's first listing".to_owned());
    });
    assert!(!text.contains("ok       registrar") && !text.contains("ok       envoy-sync"), "{text}");
}

#[test]
fn a_registrar_that_does_not_hear_a_docker_that_answers_says_where_it_listens() {
    assert_found("docker", &["does not hear it: Docker at unix:///x.sock", "correct docker-host"], |facts| {
        answers(facts).envoy.docker_problem = Some("Docker at unix:///x.sock: no such file".to_owned());
        answers(facts).waiting_for.push("Docker's first listing".to_owned());
    });
}
