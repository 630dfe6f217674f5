//! Steady load from another host, while one part after the other fails and comes back.
//!
//! Those that are ignored last longer than our table's lease: `scripts/test --faults` runs them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::http::{Request, passed_envoy};
use lab::load::{Load, Outcomes};
use lab::{Client, Docker, Host, Lab, eventually, on_both_dockers};
use nix::sys::signal::Signal;

use crate::{TABLE, assert_refused, await_diverted, one_setting, peer};

on_both_dockers!(
    nobody_is_refused_whatever_fails,
    #[ignore = "takes five minutes"]
    nobody_is_refused_whatever_fails_for_longer_than_a_minute,
);

fn nobody_is_refused_whatever_fails(version: Docker) {
    fail_one_after_the_other(version, Length::Short);
}

fn nobody_is_refused_whatever_fails_for_longer_than_a_minute(version: Docker) {
    fail_one_after_the_other(version, Length::Long);
}

#[test]
#[ignore = "takes a minute"]
fn where_nothing_of_ours_is_left_docker_serves_when_the_lease_has_ended() {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", Docker::Current).live_restore().start(), lab.client("client"));
    host.run_web(&["-p", &format!("{PORT}:80")]);
    await_diverted(&host, PORT);
    host.end_registrar(Signal::SIGKILL);
    host.end_envoy(Signal::SIGKILL);
    host.end_dockerd(Signal::SIGKILL);
    let start = Instant::now();
    let request = Request::get(&format!("http://{}:{PORT}/", host.address()));
    eventually("the shims end with dockerd", SECOND, || if host.shims().is_empty() { Ok(()) } else { Err("no") });
    assert_refused(&client.send(&request), "nobody listens, and the table is still there");
    let answer = eventually("Docker's own path serves", Duration::from_secs(61), || client.send(&request));
    println!("served by Docker's own path {:.1?} after all else was killed", start.elapsed());
    assert_eq!(peer(&answer), client.address().to_string());
}

const PORT: u16 = 8080;
/// New connections per second in each address family.
const PER_SECOND: u32 = 100;
/// A connection or an answer that took longer counts as lost.
const TIME_LIMIT: Duration = Duration::from_secs(2);
/// So many that the load goes on at its pace while none is answered.
const WORKERS: u32 = PER_SECOND * 2;

#[derive(Clone, Copy)]
enum Length {
    Short,
    Long,
}

struct Fault {
    name: &'static str,
    happen: fn(&Host),
    /// How long it lasts, by [`Length`]. Some are over at once.
    lasts: [Duration; 2],
    mend: fn(&Host),
    /// Whether connections may be refused.
    may_refuse: bool,
    /// Whether connections may be lost: those that are in the hands of what fails.
    may_lose: bool,
}

const SECOND: Duration = Duration::from_secs(1);
const NOTHING: fn(&Host) = |_| {};

const FAULTS: [Fault; 10] = [
    Fault {
        name: "Envoy kill -9",
        happen: |host| host.end_envoy(Signal::SIGKILL),
        lasts: [SECOND; 2],
        mend: Host::start_envoy,
        may_refuse: false,
        may_lose: true,
    },
    Fault {
        name: "Envoy stopped",
        happen: |host| host.signal_envoy(Signal::SIGSTOP),
        lasts: [Duration::from_secs(4), Duration::from_secs(60)],
        mend: |host| host.signal_envoy(Signal::SIGCONT),
        may_refuse: false,
        may_lose: true,
    },
    Fault {
        name: "registrar kill -9",
        happen: |host| host.end_registrar(Signal::SIGKILL),
        lasts: [SECOND, Duration::from_secs(70)],
        mend: Host::start_registrar,
        may_refuse: false,
        may_lose: false,
    },
    Fault {
        name: "registrar SIGTERM",
        happen: |host| host.end_registrar(Signal::SIGTERM),
        lasts: [SECOND; 2],
        mend: Host::start_registrar,
        may_refuse: false,
        may_lose: false,
    },
    Fault {
        name: "both kill -9",
        happen: |host| {
            host.end_registrar(Signal::SIGKILL);
            host.end_envoy(Signal::SIGKILL);
        },
        lasts: [SECOND; 2],
        mend: |host| {
            host.start_registrar();
            host.start_envoy();
        },
        may_refuse: false,
        may_lose: true,
    },
    Fault {
        name: "registrar stopped",
        happen: |host| host.signal_registrar(Signal::SIGSTOP),
        // The second is longer than the table's lease.
        lasts: [Duration::from_secs(3), Duration::from_secs(70)],
        mend: |host| host.signal_registrar(Signal::SIGCONT),
        may_refuse: false,
        may_lose: false,
    },
    Fault {
        name: "our table deleted",
        happen: |host| drop(host.namespace().run("nft", &[&["delete"], &TABLE[..]].concat())),
        lasts: [Duration::ZERO; 2],
        mend: NOTHING,
        may_refuse: false,
        may_lose: false,
    },
    DOCKERD_RESTART,
    Fault {
        name: "nft flush ruleset",
        happen: |host| drop(host.namespace().run("nft", &["flush", "ruleset"])),
        lasts: [SECOND; 2],
        mend: NOTHING,
        may_refuse: false,
        may_lose: false,
    },
    // The same again: it brings back Docker's own rules, which the flush took away.
    DOCKERD_RESTART,
];

const DOCKERD_RESTART: Fault = Fault {
    name: "dockerd restart",
    happen: |host| host.end_dockerd(Signal::SIGTERM),
    lasts: [Duration::ZERO; 2],
    mend: Host::start_dockerd,
    may_refuse: true,
    may_lose: true,
};

fn fail_one_after_the_other(version: Docker, length: Length) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).live_restore().start(), lab.client("client"));
    host.run_web(&["-p", &format!("{PORT}:80")]);
    await_diverted(&host, PORT);
    let outcomes = FAULTS.map(|fault| {
        let outcomes = under_load(&host, &client, &fault, length);
        (fault, outcomes)
    });
    println!("{:<26} {:>9} {:>8} {:>6} {:>12}", version_name(version), "answered", "refused", "lost", "longest gap");
    for (fault, all) in &outcomes {
        for (family, one) in ["IPv4", "IPv6"].into_iter().zip(all) {
            let (name, lost, gap) = (fault.name, one.failed() - one.refused, one.longest_gap.as_millis());
            println!(
                "{name:<20} {family:>5} {:>9} {:>8} {lost:>6} {gap:>9} ms {}",
                one.ok,
                one.refused,
                ways_lost(one)
            );
        }
    }
    for (fault, all) in &outcomes {
        let (refused, failed) = (sum(all, |one| one.refused), sum(all, Outcomes::failed));
        assert!(fault.may_refuse || refused == 0, "{}: {all:?}", fault.name);
        assert!(fault.may_lose || failed == refused, "{}: {all:?}", fault.name);
        assert!(sum(all, |one| one.ok) > u64::from(PER_SECOND), "{}: {all:?}", fault.name);
    }
}

fn ways_lost(outcomes: &Outcomes) -> String {
    let Outcomes { reset, empty, timed_out, other, .. } = outcomes;
    let ways = [(*reset, "reset"), (*empty, "without an answer"), (*timed_out, "timed out")];
    let others = other.iter().map(|(what, count)| (*count, what.as_str()));
    let some = ways.into_iter().chain(others).filter(|(count, _)| *count > 0);
    some.map(|(count, way)| format!("{count} {way}")).collect::<Vec<_>>().join(", ")
}

const fn version_name(version: Docker) -> &'static str {
    match version {
        Docker::V20 => "dockerd 20.10",
        Docker::Current => "dockerd current",
    }
}

fn sum(outcomes: &[Outcomes], what: impl Fn(&Outcomes) -> u64) -> u64 {
    outcomes.iter().map(what).sum()
}

/// Over IPv4, which Docker's rules translate, and over IPv6, which they leave alone by default.
fn under_load(host: &Host, client: &Client, fault: &Fault, length: Length) -> Vec<Outcomes> {
    let urls = [format!("http://{}:{PORT}/", host.address()), format!("http://[{}]:{PORT}/", host.address6())];
    let request = |url: &String| Request::get(url).limit(TIME_LIMIT);
    let load = |url: &String| Load::with_workers(client.namespace(), &request(url), PER_SECOND, WORKERS);
    let loads: Vec<_> = urls.iter().map(load).collect();
    sleep(SECOND / 2);
    (fault.happen)(host);
    sleep(fault.lasts[length as usize]);
    (fault.mend)(host);
    await_diverted(host, PORT);
    for url in &urls {
        eventually(&format!("{url} is answered by Envoy after: {}", fault.name), Duration::from_secs(10), || {
            let answer = client.get(url).map_err(|error| error.to_string())?;
            if passed_envoy(&answer) { Ok(()) } else { Err(answer.text()) }
        });
    }
    sleep(SECOND / 2);
    loads.into_iter().map(Load::stop).collect()
}
