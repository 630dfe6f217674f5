//! The table in the real kernel: `nft`, which the crate itself never uses, says what is there.

use std::time::{Duration, Instant};

use crate::machines::tcp;
use crate::namespace::{Namespace, feed, run};
use crate::notices::notices;
use capture::{Asked, Capture, LEASE, Mode, Notice};
use model::{Protocol, PublishedPort};

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

#[test]
fn the_table_is_what_the_documentation_shows() {
    Namespace::new().within(|| {
        let ports = [tcp("0.0.0.0", 8080), tcp("::", 8080), tcp("127.0.0.1", 8081), tcp("fd00::1", 8082)];
        let mut capture = diverting(&ports);
        capture.set_services(
            [("192.168.168.168", 9500), ("fd00::a8", 9500)].map(|(address, port)| (address.parse().unwrap(), port)),
        );
        for unproxied in [tcp("0.0.0.0", 7070), tcp("::", 7070), tcp("127.0.0.1", 7071), tcp("fd00::1", 7072)] {
            capture.add_unproxied(&unproxied);
        }
        capture.confirm_unproxied();
        capture.tick(Instant::now());
        for (lease, length) in [("lease", "timeout 1m"), ("unproxied_lease", "timeout 3s")] {
            let shown = run("nft", &format!("list set inet envoy-docker-shim {lease}"));
            let is_right = shown.contains("type inet_proto") && shown.contains(length) && shown.contains("tcp expires");
            assert!(is_right, "{shown}");
        }
        let comment = "comment \"Envoy Docker Shim, layout 4\"";
        let divert = [
            format!("ip daddr . tcp dport @service4 dnat ip to :15001 {comment}"),
            format!("ip6 daddr . tcp dport @service6 dnat ip6 to :15001 {comment}"),
            format!("meta nfproto ipv4 tcp dport @any4 dnat ip to :tcp dport {comment}"),
            format!("meta nfproto ipv6 tcp dport @any6 dnat ip6 to :tcp dport {comment}"),
            format!("ip daddr . tcp dport @one4 dnat ip to :tcp dport {comment}"),
            format!("ip6 daddr . tcp dport @one6 dnat ip6 to :tcp dport {comment}"),
            format!("meta l4proto @unproxied_lease jump unproxied {comment}"),
            format!("meta nfproto ipv4 tcp dport @unproxied_any4 dnat ip to :15002 {comment}"),
            format!("meta nfproto ipv6 tcp dport @unproxied_any6 dnat ip6 to :15002 {comment}"),
            format!("ip daddr . tcp dport @unproxied_one4 dnat ip to :15002 {comment}"),
            format!("ip6 daddr . tcp dport @unproxied_one6 dnat ip6 to :15002 {comment}"),
            format!("ip daddr 127.0.0.0/8 meta l4proto @lease meta l4proto tcp dnat ip to :tcp dport {comment}"),
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
        assert_eq!(elements("service4"), ["192.168.168.168 . 9500"]);
        assert_eq!(elements("service6"), ["fd00::a8 . 9500"]);
        assert_eq!(elements("unproxied_any4"), ["7070"]);
        assert_eq!(elements("unproxied_any6"), ["7070"]);
        assert_eq!(elements("unproxied_one4"), ["127.0.0.1 . 7071"]);
        assert_eq!(elements("unproxied_one6"), ["fd00::1 . 7072"]);
    });
}

#[test]
fn one_port_more_or_less_changes_one_element() {
    Namespace::new().within(|| {
        let mut capture = diverting(&[tcp("0.0.0.0", 8080), tcp("0.0.0.0", 8081)]);
        let before = run("nft", "-a list chains inet");
        capture.add(&tcp("0.0.0.0", 8082));
        capture.remove(&tcp("0.0.0.0", 8080));
        capture.add(&PublishedPort { protocol: Protocol::Udp, ..tcp("0.0.0.0", 53) });
        capture.tick(Instant::now());
        assert_eq!(elements("any4"), ["8081", "8082"]);
        assert_eq!(run("nft", "-a list chains inet"), before, "the chains are the same ones");
    });
}

#[test]
fn no_other_table_is_touched() {
    Namespace::new().within(|| {
        let others = "table ip nat {\n\tchain DOCKER {\n\t\ttcp dport 8080 dnat to 172.17.0.2:80\n\t}\n}\n\
                      table inet users {\n\tchain input {\n\t\ttype filter hook input priority 0; policy accept;\n\t}\n}\n";
        feed("nft", "-f -", others);
        let before = listed();
        let mut capture = diverting(&[tcp("0.0.0.0", 8080)]);
        capture.remove_for_good(Instant::now()).unwrap();
        assert_eq!(listed(), before);
    });
}

#[test]
fn without_ports_there_is_no_table() {
    Namespace::new().within(|| {
        let mut capture = diverting(&[tcp("0.0.0.0", 8080)]);
        capture.remove(&tcp("0.0.0.0", 8080));
        capture.tick(Instant::now());
        assert_eq!(listed(), "");
    });
}

#[test]
fn the_lease_is_renewed_in_time() {
    Namespace::new().within(|| {
        let expires = || {
            let shown = run("nft", "list set inet envoy-docker-shim lease");
            let (_, rest) = shown.split_once("expires ").expect("the lease is there");
            // A whole minute is "1m".
            rest.split_once('s').map_or(60, |(seconds, _)| seconds.parse::<u64>().unwrap())
        };
        let mut capture = diverting(&[tcp("0.0.0.0", 8080)]);
        std::thread::sleep(Duration::from_secs(3));
        assert!(expires() <= LEASE.as_secs() - 3);
        let due = capture.tick(Instant::now()).unwrap();
        assert!(expires() <= LEASE.as_secs() - 3, "it is not due yet");
        capture.tick(due);
        assert!(expires() >= LEASE.as_secs() - 1, "{} s", expires());
    });
}

#[test]
fn a_lease_that_ran_out_comes_back() {
    Namespace::new().within(|| {
        let mut capture = diverting(&[tcp("0.0.0.0", 8080)]);
        run("nft", "flush set inet envoy-docker-shim lease");
        assert_eq!(elements("lease").len(), 0);
        capture.tick(Instant::now() + LEASE);
        assert_eq!(elements("lease").len(), 1);
    });
}

#[test]
fn a_flushed_table_is_noticed_and_mended() {
    let harms = [
        "flush ruleset",
        "delete table inet envoy-docker-shim",
        "flush chain inet envoy-docker-shim divert",
        "delete chain inet envoy-docker-shim output",
        "delete element inet envoy-docker-shim any4 { 8080 }",
        "add element inet envoy-docker-shim one4 { 10.0.0.1 . 22 }",
        "flush set inet envoy-docker-shim any6",
        "add rule inet envoy-docker-shim divert accept",
    ];
    for harm in harms {
        Namespace::new().within(|| {
            let mut capture = diverting(&[tcp("0.0.0.0", 8080), tcp("::", 8080)]);
            let watch = capture.watch().unwrap();
            let whole = listed();
            feed("nft", "-f -", &format!("{}{harm}", flush_before(harm)));
            assert_ne!(without_lease(&listed()), without_lease(&whole), "{harm}");
            let notice = notices(&watch);
            assert!(notice.own_table, "{harm}");
            let now = Instant::now() + Duration::from_secs(1);
            capture.noticed(notice, now);
            capture.tick(now);
            assert_eq!(without_lease(&listed()), without_lease(&whole), "{harm}");
        });
    }
}

/// A chain can't be deleted with rules in it.
fn flush_before(harm: &str) -> String {
    harm.strip_prefix("delete chain").map_or_else(String::new, |chain| format!("flush chain{chain}; "))
}

fn without_lease(listed: &str) -> String {
    listed.lines().filter(|line| !line.contains("expires")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_flushed_table_is_mended_without_a_notice_when_the_lease_is_due() {
    Namespace::new().within(|| {
        let mut capture = diverting(&[tcp("0.0.0.0", 8080)]);
        let whole = listed();
        run("nft", "flush ruleset");
        capture.tick(Instant::now() + Duration::from_secs(15));
        assert_eq!(without_lease(&listed()), without_lease(&whole));
        assert_eq!(elements("lease").len(), 1);
        assert_eq!(capture.status().mode, Mode::Divert);
    });
}

#[test]
fn our_own_changes_bring_no_notice_and_others_changes_do() {
    Namespace::new().within(|| {
        let mut capture = Capture::new(Asked::Divert);
        let watch = capture.watch().unwrap();
        capture.set_ports([tcp("0.0.0.0", 8080)]);
        capture.tick(Instant::now());
        capture.add(&tcp("0.0.0.0", 8081));
        capture.tick(Instant::now() + Duration::from_secs(20));
        assert_eq!(elements("any4").len(), 2);
        assert_eq!(notices(&watch), Notice::default());
        feed("nft", "-f -", "table ip nat { chain DOCKER { tcp dport 8080 dnat to 172.17.0.2:80; }; }");
        assert_eq!(notices(&watch), Notice { own_table: false, other_tables: true });
    });
}

#[test]
fn notices_that_were_lost_are_a_notice() {
    Namespace::new().within(|| {
        let capture = Capture::new(Asked::Divert);
        let watch = capture.watch().unwrap();
        let many: String = (0..20_000).map(|i| format!("add table ip t{i}; delete table ip t{i}\n")).collect();
        feed("nft", "-f -", &many);
        assert_eq!(notices(&watch), Notice { own_table: true, other_tables: true });
    });
}

#[test]
fn a_registrar_that_starts_again_takes_the_table_over() {
    Namespace::new().within(|| {
        drop(diverting(&[tcp("0.0.0.0", 8080), tcp("0.0.0.0", 8081), tcp("127.0.0.1", 8082)]));
        let before = run("nft", "-a list ruleset");

        let mut next = Capture::new(Asked::Divert);
        let watch = next.watch().unwrap();
        next.tick(Instant::now());
        assert_eq!(without_lease(&run("nft", "-a list ruleset")), without_lease(&before), "nobody said what is wanted");

        let eyes = Capture::new(Asked::None).watch().unwrap();
        next.set_ports([tcp("0.0.0.0", 8080), tcp("0.0.0.0", 8083), tcp("127.0.0.1", 8082)]);
        next.tick(Instant::now());
        assert_eq!(elements("any4"), ["8080", "8083"]);
        let after = run("nft", "-a list ruleset");
        let chains = |listed: &str| listed[listed.find("chain").unwrap()..].to_owned();
        assert_eq!(chains(&after), chains(&before), "handles and all");
        assert!(notices(&eyes).own_table);
        assert_eq!(notices(&watch), Notice::default());
    });
}

#[test]
fn a_table_of_another_layout_is_replaced() {
    Namespace::new().within(|| {
        let other = "table inet envoy-docker-shim { set any4 { type inet_service; elements = { 1 }; }; chain x { tcp dport @any4 accept; }; }";
        feed("nft", "-f -", other);
        let _capture = diverting(&[tcp("0.0.0.0", 8080)]);
        assert_eq!(elements("any4"), ["8080"]);
        assert!(!listed().contains("chain x"));
    });
}

#[test]
fn capture_none_takes_an_earlier_table_away() {
    Namespace::new().within(|| {
        drop(diverting(&[tcp("0.0.0.0", 8080)]));
        let mut none = Capture::new(Asked::None);
        none.tick(Instant::now());
        assert_eq!(listed(), "");
        assert_eq!(none.status().mode, Mode::Off);
    });
}

#[test]
fn something_that_deletes_the_table_again_and_again_does_not_keep_us_busy() {
    Namespace::new().within(|| {
        let mut capture = diverting(&[tcp("0.0.0.0", 8080)]);
        let own = Notice { own_table: true, other_tables: false };
        let now = Instant::now() + Duration::from_secs(1);
        run("nft", "flush ruleset");
        capture.noticed(own, now);
        capture.tick(now);
        run("nft", "flush ruleset");
        capture.noticed(own, now);
        let due = capture.tick(now).unwrap();
        assert_eq!(listed(), "", "not at once a second time");
        assert!(due <= now + Duration::from_millis(100));
        capture.tick(due);
        assert_eq!(elements("any4"), ["8080"]);
    });
}

#[test]
fn ten_thousand_ports_fit() {
    Namespace::new().within(|| {
        let ports: Vec<_> = (1..=10_000).flat_map(|port| [tcp("0.0.0.0", port), tcp("fd00::1", port)]).collect();
        let mut capture = diverting(&ports);
        assert_eq!(elements("any4").len(), 10_000);
        assert_eq!(elements("one6").len(), 10_000);
        let mut next = Capture::new(Asked::Divert);
        next.set_ports(ports.iter().copied());
        next.tick(Instant::now());
        assert_eq!(elements("one6").len(), 10_000, "read back whole");
        capture.remove_for_good(Instant::now()).unwrap();
        assert_eq!(listed(), "");
    });
}
