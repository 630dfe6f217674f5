//! Unproxied ports: where their connections arrive, and for how long.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::machines::{Machines, ip, tcp};
use crate::namespace::{Namespace, feed, run};
use capture::{Asked, Capture, UNPROXIED_CATCH_PORT, UNPROXIED_LEASE};
use model::PublishedPort;

const OWN4: &str = "10.77.0.1";
const OWN6: &str = "fd77::1";

/// A host whose Docker publishes port 8080 of a container, and a client beside it.
struct Lab {
    client: Namespace,
    host: Namespace,
    _container: Namespace,
}

impl Lab {
    fn new() -> Self {
        let Machines { client, host, container } = Machines::new();
        host.within(|| {
            let rules =
                "type nat hook prerouting priority -100; fib daddr type local tcp dport 8080 dnat to 172.17.0.2:80";
            feed("nft", "-f -", &format!("table ip nat {{ chain DOCKER {{ {rules}; }}; }}"));
        });
        container.serve("0.0.0.0:80".parse().unwrap(), "container");
        for any in ["0.0.0.0", "::"] {
            let bind: SocketAddr = (ip(any), UNPROXIED_CATCH_PORT).into();
            host.within(|| std::fs::write("/proc/sys/net/ipv6/bindv6only", "1").unwrap());
            host.serve(bind, "caught");
        }
        Self { client, host, _container: container }
    }

    /// As the registrar does as long as it sees Envoy.
    fn catch(&self, ports: &[PublishedPort]) -> Capture {
        self.host.within(|| {
            let mut capture = Capture::new(Asked::Divert);
            capture.set_ports([]);
            ports.iter().for_each(|port| capture.add_unproxied(port));
            capture.confirm_unproxied();
            capture.tick(Instant::now());
            assert!(capture.has_unproxied(), "{:?}", capture.status());
            capture
        })
    }
}

#[test]
fn connections_to_an_unproxied_port_arrive_at_one_port_whatever_address_they_meant() {
    let lab = Lab::new();
    assert_eq!(lab.client.ask(ip(OWN4), 8080), "container 10.77.0.2");
    let _capture = lab.catch(&[tcp("0.0.0.0", 8080), tcp("::", 8080)]);
    assert_eq!(lab.client.ask(ip(OWN4), 8080), "caught 10.77.0.2");
    assert_eq!(lab.client.ask(ip(OWN6), 8080), "caught fd77::2");
    assert_eq!(lab.host.ask(ip("127.0.0.1"), 8080), "caught 127.0.0.1");
    assert_eq!(lab.host.ask(ip("::1"), 8080), "caught ::1");
    assert_eq!(lab.host.ask(ip(OWN4), 8080), format!("caught {OWN4}"));
    assert_eq!(lab.client.ask(ip(OWN4), 8081), "ConnectionRefused");
}

#[test]
fn a_port_that_is_no_longer_unproxied_is_dockers_at_once() {
    let lab = Lab::new();
    let mut capture = lab.catch(&[tcp("0.0.0.0", 8080)]);
    lab.host.within(|| {
        capture.remove_unproxied(&tcp("0.0.0.0", 8080));
        capture.tick(Instant::now());
    });
    assert_eq!(lab.client.ask(ip(OWN4), 8080), "container 10.77.0.2");
}

#[test]
fn unproxied_ports_are_dockers_when_nobody_has_said_for_seconds_that_envoy_takes_them() {
    let lab = Lab::new();
    let mut capture = lab.catch(&[tcp("0.0.0.0", 8080)]);
    let since = Instant::now();
    // Ticks alone are no reason to believe in Envoy.
    while since.elapsed() < UNPROXIED_LEASE + Duration::from_millis(100) {
        lab.host.within(|| capture.tick(Instant::now()));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(lab.client.ask(ip(OWN4), 8080), "container 10.77.0.2");
    lab.host.within(|| {
        capture.confirm_unproxied();
        capture.tick(Instant::now());
    });
    assert_eq!(lab.client.ask(ip(OWN4), 8080), "caught 10.77.0.2");
}

#[test]
fn confirmed_again_and_again_they_stay_envoys() {
    let lab = Lab::new();
    let mut capture = lab.catch(&[tcp("0.0.0.0", 8080)]);
    let since = Instant::now();
    while since.elapsed() < UNPROXIED_LEASE + Duration::from_secs(1) {
        lab.host.within(|| {
            capture.confirm_unproxied();
            capture.tick(Instant::now());
        });
        assert_eq!(lab.client.ask(ip(OWN4), 8080), "caught 10.77.0.2");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_registered_port_beats_an_unproxied_one() {
    let lab = Lab::new();
    lab.host.serve("0.0.0.0:8080".parse().unwrap(), "shim");
    let mut capture = lab.catch(&[tcp("0.0.0.0", 8080)]);
    lab.host.within(|| {
        capture.add(&tcp("0.0.0.0", 8080));
        capture.tick(Instant::now());
    });
    assert_eq!(lab.client.ask(ip(OWN4), 8080), "shim 10.77.0.2");
}

#[test]
fn an_unproxied_port_of_the_loopback_address_is_closed_to_neighbours_that_send_there() {
    let lab = Lab::new();
    let _capture = lab.catch(&[tcp("127.0.0.1", 8081)]);
    assert_eq!(lab.host.ask(ip("127.0.0.1"), 8081), "caught 127.0.0.1");
    for address in [OWN4, OWN6] {
        assert_eq!(lab.client.ask(ip(address), 8081), "ConnectionRefused");
        assert_eq!(lab.host.ask(ip(address), 8081), "ConnectionRefused");
    }
    // As dockerd leaves its bridges without its userland proxy.
    lab.host.within(|| std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap());
    lab.client.within(|| {
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        run("ip", "addr del 127.0.0.1/8 dev lo");
        run("ip", "route add 127.0.0.1 via 10.77.0.1 src 10.77.0.2");
    });
    lab.host.serve("127.0.0.1:8082".parse().unwrap(), "another program");
    assert_eq!(lab.client.ask(ip("127.0.0.1"), 8082), "another program 10.77.0.2", "packets do come in");
    let answer = lab.client.ask(ip("127.0.0.1"), 8081);
    assert!(!answer.starts_with("caught"), "{answer}");
}
