//! What many ports cost. Prints figures (`--nocapture`); asserts only what holds on every machine.

use std::time::{Duration, Instant};

use capture::{Asked, Capture};
use model::{Protocol, PublishedPort};

use crate::namespace::{Namespace, feed};

/// As `docker run -p` publishes it: once for each family.
fn published(port: u16) -> [PublishedPort; 2] {
    ["0.0.0.0", "::"].map(|address| PublishedPort { address: address.parse().unwrap(), port, protocol: Protocol::Tcp })
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    drop(work());
    start.elapsed()
}

/// The median time of one port more and the same one less, with `ports` ports there.
fn one_more(ports: u16) -> Duration {
    Namespace::new().within(|| {
        let all = || (1..=ports).flat_map(published);
        let mut capture = Capture::new(Asked::Divert);
        capture.set_ports(all());
        let build = timed(|| capture.tick(Instant::now()));
        let mut times: Vec<_> = (0..101).map(|_| timed(|| {
            let [one, other] = published(60_000);
            capture.add(&one);
            capture.add(&other);
            capture.tick(Instant::now());
            capture.remove(&one);
            capture.remove(&other);
            capture.tick(Instant::now());
        }) / 2).collect();
        times.sort();
        let lease = timed(|| capture.tick(Instant::now() + Duration::from_secs(15)));
        let mut next = Capture::new(Asked::Divert);
        next.set_ports(all());
        let adopt = timed(|| next.tick(Instant::now()));
        let remove = timed(|| next.remove_for_good(Instant::now()).unwrap());
        println!("{ports} ports: build {build:?}, one more {:?} (at worst {:?}), lease {lease:?}, adopt {adopt:?}, remove {remove:?}", times[50], times[100]);
        times[50]
    })
}

#[test]
fn one_more_port_costs_the_same_whatever_their_number() {
    let [few, many] = [10, 10_000].map(one_more);
    one_more(1_000);
    assert!(many < 10 * few + Duration::from_millis(1), "{few:?} with 10 ports, {many:?} with 10,000");
}

#[test]
fn looking_at_dockers_rules_for_a_thousand_ports_takes_milliseconds() {
    Namespace::new().within(|| {
        let rules: String = (1..=1_000)
            .map(|port| format!("iifname != docker0 tcp dport {port} counter dnat to 172.17.0.2:80\n"))
            .collect();
        feed("nft", "-f -", &format!("table ip nat {{ chain DOCKER {{ {rules} }}; }}"));
        let mut capture = Capture::new(Asked::Auto);
        capture.set_ports((1..=1_000).flat_map(published));
        let first = timed(|| capture.tick(Instant::now()));
        let again = timed(|| capture.tick(Instant::now() + Duration::from_secs(16)));
        println!("1,000 ports of Docker's: look and build {first:?}, look and renew {again:?}");
        assert!(again < Duration::from_millis(500), "{again:?}");
    });
}

#[test]
fn one_more_service_port_costs_the_same_whatever_their_number() {
    let address = [192, 168, 168, 168].into();
    let [few, many] = [10, 10_000].map(|number: u16| {
        Namespace::new().within(|| {
            let mut capture = Capture::new(Asked::Auto);
            capture.set_services((1..=number).map(|port| (address, port)));
            let build = timed(|| capture.tick(Instant::now()));
            let mut times: Vec<_> = (0..101)
                .map(|_| {
                    timed(|| {
                        capture.add_service(address, 60_000);
                        capture.tick(Instant::now());
                        capture.remove_service(address, 60_000);
                        capture.tick(Instant::now());
                    }) / 2
                })
                .collect();
            times.sort();
            let same = timed(|| {
                capture.set_services((1..=number).map(|port| (address, port)));
                capture.tick(Instant::now())
            });
            println!("{number} service ports: build {build:?}, one more {:?}, set the same again {same:?}", times[50]);
            times[50]
        })
    });
    assert!(many < 10 * few + Duration::from_millis(1), "{few:?} with 10 service ports, {many:?} with 10,000");
}
