//! Steady load from another host, while one part after the other fails and comes back.
//!
//! With `E2E_FAULTS=long` (`scripts/test --faults`) Envoy and the registrar are stopped for longer than a minute.

use std::thread::sleep;
use std::time::Duration;

use lab::http::{Request, passed_envoy};
use lab::load::{Load, Outcomes};
use lab::{Client, Docker, Host, Lab, eventually, on_both_dockers};
use nix::sys::signal::Signal;

use crate::{TABLE, await_diverted, one_setting};

on_both_dockers!(nobody_is_refused_whatever_fails);

const PORT: u16 = 8080;
/// New connections per second in each address family.
const PER_SECOND: u32 = 100;
/// A connection that took longer counts as lost.
const TIME_LIMIT: Duration = Duration::from_secs(1);

struct Fault {
    name: &'static str,
    happen: fn(&Host),
    /// How long it lasts: what is normal, and with long faults. Some are over at once.
    lasts: [Duration; 2],
    mend: fn(&Host),
    /// Whether connections may be refused.
    may_refuse: bool,
    /// Whether connections may be lost: those that are in the hands of what fails.
    may_lose: bool,
}

const SECOND: Duration = Duration::from_secs(1);
const NOTHING: fn(&Host) = |_| {};

const FAULTS: [Fault; 9] = [
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
    Fault {
        name: "nft flush ruleset",
        happen: |host| drop(host.namespace().run("nft", &["flush", "ruleset"])),
        lasts: [SECOND; 2],
        mend: NOTHING,
        may_refuse: false,
        may_lose: false,
    },
    // Last, for it brings back Docker's own rules, which the one before took away.
    Fault {
        name: "dockerd restart",
        happen: |host| host.end_dockerd(Signal::SIGTERM),
        lasts: [Duration::ZERO; 2],
        mend: Host::start_dockerd,
        may_refuse: true,
        may_lose: true,
    },
];

fn nobody_is_refused_whatever_fails(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).live_restore().start(), lab.client("client"));
    host.run_web(&["-p", &format!("{PORT}:80")]);
    await_diverted(&host, PORT);
    let outcomes = FAULTS.map(|fault| {
        let outcomes = under_load(&host, &client, &fault);
        (fault, outcomes)
    });
    println!("{:<18} {:>9} {:>8} {:>6} {:>12}", version_name(version), "answered", "refused", "lost", "longest gap");
    for (fault, all) in &outcomes {
        let (refused, failed) = (sum(all, |one| one.refused), sum(all, Outcomes::failed));
        let gap = all.iter().map(|one| one.longest_gap).max().unwrap_or_default();
        let ok = sum(all, |one| one.ok);
        println!("{:<18} {ok:>9} {refused:>8} {:>6} {:>9} ms", fault.name, failed - refused, gap.as_millis());
    }
    for (fault, all) in &outcomes {
        let (refused, failed) = (sum(all, |one| one.refused), sum(all, Outcomes::failed));
        assert!(fault.may_refuse || refused == 0, "{}: {all:?}", fault.name);
        assert!(fault.may_lose || failed == refused, "{}: {all:?}", fault.name);
        assert!(sum(all, |one| one.ok) > u64::from(PER_SECOND), "{}: {all:?}", fault.name);
    }
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
fn under_load(host: &Host, client: &Client, fault: &Fault) -> Vec<Outcomes> {
    let urls = [format!("http://{}:{PORT}/", host.address()), format!("http://[{}]:{PORT}/", host.address6())];
    let load = |url: &String| Load::start(client.namespace(), &Request::get(url).limit(TIME_LIMIT), PER_SECOND);
    let loads: Vec<_> = urls.iter().map(load).collect();
    sleep(SECOND / 2);
    (fault.happen)(host);
    let is_long = std::env::var_os("E2E_FAULTS").is_some_and(|kind| kind == "long");
    sleep(fault.lasts[usize::from(is_long)]);
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
