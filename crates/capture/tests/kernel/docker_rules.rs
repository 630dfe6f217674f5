//! What `auto` makes of the rules that it finds in the real kernel.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::namespace::{Namespace, feed, run};
use crate::notices::notices;
use capture::{Asked, Capture, Choice, Mode};
use model::{Protocol, PublishedPort};

fn tcp(port: u16) -> PublishedPort {
    PublishedPort { address: [0, 0, 0, 0].into(), port, protocol: Protocol::Tcp }
}

/// With one published port, 8080.
fn auto() -> Capture {
    let mut capture = Capture::new(Asked::Auto);
    capture.set_ports([tcp(8080)]);
    capture
}

fn chosen() -> Choice {
    let mut capture = auto();
    capture.tick(Instant::now());
    capture.status()
}

/// Chains as dockerd leaves them behind when it is restarted with its firewall off.
fn docker_chains(iptables: &str) {
    run(iptables, "-w -t nat -N DOCKER");
    run(iptables, "-w -t nat -A DOCKER -i docker0 -j RETURN");
    run(iptables, "-w -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER");
    run(iptables, "-w -N DOCKER-USER");
    run(iptables, "-w -A DOCKER-USER -j RETURN");
}

fn docker_translates(iptables: &str, protocol: &str, port: &str) {
    let to = if iptables.starts_with("ip6") { "[fd17::2]:80" } else { "172.17.0.2:80" };
    let rule = format!("! -i docker0 -p {protocol} -m {protocol} --dport {port} -j DNAT --to-destination {to}");
    run(iptables, &format!("-w -t nat -A DOCKER {rule}"));
}

const PROGRAMS: [&str; 4] = ["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"];

#[test]
fn without_rules_the_firewall_is_off() {
    Namespace::new().within(|| assert_eq!(chosen().mode, Mode::Off));
}

#[test]
fn chains_and_translations_of_other_ports_are_leftovers() {
    for iptables in PROGRAMS {
        Namespace::new().within(|| {
            docker_chains(iptables);
            assert_eq!(chosen().mode, Mode::Off, "{iptables}");
            docker_translates(iptables, "tcp", "9090");
            docker_translates(iptables, "udp", "8080");
            assert_eq!(chosen().mode, Mode::Off, "{iptables}");
        });
    }
}

#[test]
fn a_translation_of_the_published_port_is_found() {
    for iptables in PROGRAMS {
        for port in ["8080", "8000:8100"] {
            Namespace::new().within(|| {
                docker_chains(iptables);
                docker_translates(iptables, "tcp", port);
                let choice = chosen();
                assert_eq!(choice.mode, Mode::Divert, "{iptables} {port}: {choice:?}");
                let name = if iptables.ends_with("nft") { "iptables (nf_tables)" } else { "iptables (legacy)" };
                assert!(choice.reason.contains(name), "{iptables}: {}", choice.reason);
            });
        }
    }
}

#[test]
fn rules_of_the_users_are_left_their_traffic() {
    for iptables in PROGRAMS {
        for rule in [
            "-p tcp -j DROP",
            "-i eth0 -m conntrack --ctstate NEW -j ACCEPT",
            "-i eth1 -j RETURN",
            "-m limit --limit 1/s -j RETURN",
        ] {
            Namespace::new().within(|| {
                docker_chains(iptables);
                docker_translates(iptables, "tcp", "8080");
                run(iptables, &format!("-w -I DOCKER-USER {rule}"));
                let choice = chosen();
                assert_eq!(choice.mode, Mode::LeftAlone, "{iptables} {rule}: {choice:?}");
                assert!(choice.reason.contains("DOCKER-USER holds 1 rule of yours"), "{}", choice.reason);
                assert!(!run("nft", "list tables").contains("envoy-docker-shim"));
            });
        }
    }
}

#[test]
fn reading_loads_no_table_that_was_not_in_use() {
    Namespace::new().within(|| {
        chosen();
        for names in ["/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"] {
            assert_eq!(std::fs::read_to_string(names).unwrap_or_default(), "");
        }
    });
}

#[test]
fn a_change_of_dockers_mind_is_followed() {
    Namespace::new().within(|| {
        docker_chains("iptables-nft");
        let mut capture = auto();
        let watch = capture.watch().unwrap();
        let start = Instant::now();
        capture.tick(start);
        assert_eq!(capture.status().mode, Mode::Off);

        docker_translates("iptables-nft", "tcp", "8080");
        let notice = notices(&watch);
        assert!(notice.other_tables);
        capture.noticed(notice, start);
        let due = capture.tick(start).unwrap();
        assert_eq!(capture.status().mode, Mode::Off, "a moment later");
        assert!(due <= start + Duration::from_millis(50));
        capture.tick(due);
        assert_eq!(capture.status().mode, Mode::Divert);

        run("iptables-nft", "-w -A DOCKER-USER -s 10.0.0.1 -j DROP");
        capture.tick(due + Duration::from_secs(15));
        assert_eq!(capture.status().mode, Mode::LeftAlone, "found without a notice, too");
        assert!(!run("nft", "list tables").contains("envoy-docker-shim"));
    });
}

#[test]
fn a_flush_that_takes_dockers_rules_along_is_a_problem() {
    Namespace::new().within(|| {
        docker_chains("iptables-nft");
        docker_translates("iptables-nft", "tcp", "8080");
        let mut capture = auto();
        let watch = capture.watch().unwrap();
        let mut now = Instant::now();
        capture.tick(now);
        assert_eq!(capture.status().problem, None);

        run("nft", "flush ruleset");
        let notice = notices(&watch);
        assert!(notice.own_table && notice.other_tables, "{notice:?}");
        capture.noticed(notice, now);
        while capture.status().problem.is_none() {
            now = capture.tick(now).unwrap();
        }
        assert_eq!(capture.status().mode, Mode::Divert);
        assert!(capture.status().problem.unwrap().contains("restart dockerd"));
        assert!(run("nft", "list tables").contains("envoy-docker-shim"));

        // dockerd starts again: its shims end, and others register.
        capture.set_ports([]);
        capture.tick(now);
        assert!(!run("nft", "list tables").contains("envoy-docker-shim"));
        docker_chains("iptables-nft");
        docker_translates("iptables-nft", "tcp", "8080");
        capture.set_ports([tcp(8080)]);
        capture.tick(now);
        assert_eq!((capture.status().mode, capture.status().problem), (Mode::Divert, None));
    });
}

#[test]
fn rules_in_a_map_or_of_any_port_count_for_all_ports() {
    Namespace::new().within(|| {
        feed("nft", "-f -", "table ip nat { chain DOCKER { ip protocol tcp dnat to 172.17.0.2; }; }");
        assert_eq!(chosen().mode, Mode::Divert);
    });
}

#[test]
fn without_net_admin_it_says_so() {
    let output = Command::new("setpriv")
        .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "docker_rules::in_a_process_without_net_admin", "--nocapture"])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("1 passed"), "{printed}");
}

#[test]
#[ignore = "the test above runs it, in a process without the capability"]
fn in_a_process_without_net_admin() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    for (asked, has_problem) in [(Asked::Auto, false), (Asked::Divert, true)] {
        let mut capture = Capture::new(asked);
        capture.set_ports([tcp(8080)]);
        capture.tick(Instant::now());
        let choice = capture.status();
        assert_eq!(choice.mode, Mode::LeftAlone, "{choice:?}");
        assert!(choice.reason.contains("CAP_NET_ADMIN"), "{}", choice.reason);
        assert_eq!(choice.problem.is_some(), has_problem);
        assert!(capture.try_services().unwrap_err().contains("CAP_NET_ADMIN"));
        capture.set_services([([192, 168, 168, 168].into(), 9500)]);
        capture.tick(Instant::now() + Duration::from_secs(5));
        assert!(capture.services_problem().unwrap().contains("CAP_NET_ADMIN"));
    }
    let refused = capture::AssignedAddress::assign([192, 168, 168, 168].into()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
}
