//! The table in the real kernel: `nft`, which the crate itself never uses, says what is there.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod namespace;

use std::time::{Duration, Instant};

use capture::{Asked, Capture, LEASE, Mode, Notice, Watch};
use model::{Protocol, PublishedPort};
use namespace::{Namespace, feed, run};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

fn tcp(address: &str, port: u16) -> PublishedPort {
    PublishedPort { address: address.parse().unwrap(), port, protocol: Protocol::Tcp }
}

/// Diverts these ports, whatever the firewall does.
fn diverting(ports: &[PublishedPort]) -> Capture {
    let mut capture = Capture::new(Asked::Divert);
    capture.set_ports(ports.iter().copied());
    capture.tick(Instant::now());
    assert_eq!(capture.status().mode, Mode::Divert, "{:?}", capture.status());
    capture
}

fn listed() -> String {
    run("nft", "-n list ruleset")
}

/// The elements of a set as `nft` shows them.
fn elements(set: &str) -> Vec<String> {
    let shown = run("nft", &format!("-n list set inet envoy-docker-shim {set}"));
    let Some((_, list)) = shown.split_once("elements = {") else { return Vec::new() };
    let (list, _) = list.split_once('}').unwrap();
    list.split(',').map(|element| element.trim().to_owned()).collect()
}

/// All notices that come within a moment, as one.
fn notices(watch: &Watch) -> Notice {
    let mut all = Notice::default();
    let mut fd = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    while poll(&mut fd, PollTimeout::from(50_u16)).unwrap() > 0 {
        let notice = watch.read().unwrap();
        all.own_table |= notice.own_table;
        all.other_tables |= notice.other_tables;
    }
    all
}

#[test]
fn the_table_is_what_the_documentation_shows() {
    Namespace::new().within(|| {
        let ports = [tcp("0.0.0.0", 8080), tcp("::", 8080), tcp("127.0.0.1", 8081), tcp("fd00::1", 8082)];
        let _capture = diverting(&ports);
        let shown = run("nft", "list set inet envoy-docker-shim lease");
        assert!(shown.contains("type inet_proto") && shown.contains("timeout 1m"), "{shown}");
        let comment = "comment \"Envoy Docker Shim, layout 1\"";
        let divert = [
            format!("meta nfproto ipv4 tcp dport @any4 dnat ip to :tcp dport {comment}"),
            format!("meta nfproto ipv6 tcp dport @any6 dnat ip6 to :tcp dport {comment}"),
            format!("ip daddr . tcp dport @one4 dnat ip to :tcp dport {comment}"),
            format!("ip6 daddr . tcp dport @one6 dnat ip6 to :tcp dport {comment}"),
        ];
        let listed = run("nft", "list ruleset");
        for line in divert {
            assert!(listed.contains(&line), "{line} is not in\n{listed}");
        }
        for chain in ["prerouting priority dstnat - 10", "output priority -110"] {
            assert!(listed.contains(&format!("type nat hook {chain}; policy accept;")), "{listed}");
        }
        let entrance = format!("fib daddr type local meta l4proto @lease jump divert {comment}");
        assert_eq!(listed.matches(&entrance).count(), 2, "{listed}");
        assert_eq!(elements("any4"), ["8080"]);
        assert_eq!(elements("any6"), ["8080"]);
        assert_eq!(elements("one4"), ["127.0.0.1 . 8081"]);
        assert_eq!(elements("one6"), ["fd00::1 . 8082"]);
    });
}
