//! What can happen, and the wait until all is as it should be.

use std::thread::sleep;
use std::time::Duration;

use lab::process::send;
use lab::{Host, eventually};
use nix::sys::signal::Signal;

/// A container that faults may be meant for.
pub(crate) struct Victim {
    pub(crate) name: &'static str,
    published: [&'static str; 2],
    /// Of `published`, those that Envoy is to serve.
    tcp: &'static [u16],
}

/// The containers that faults may be meant for.
pub(crate) const VICTIMS: [Victim; 3] = [
    Victim { name: "one", published: ["8100:80", "8101:80"], tcp: &[8100, 8101] },
    Victim { name: "two", published: ["8110:80", "8111:53/udp"], tcp: &[8110] },
    Victim { name: "three", published: ["127.0.0.1:8120:80", "8121:81"], tcp: &[8121] },
];

/// Something that goes wrong.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// On this host, to this container, for about so long.
    pub(crate) happen: fn(&Host, &Victim, Duration),
    /// Whether the steady container's clients may be refused.
    pub(crate) may_refuse: bool,
    /// Whether their connections may be lost: those that are in the hands of what fails.
    pub(crate) may_lose: bool,
}

const fn harmless(name: &'static str, happen: fn(&Host, &Victim, Duration)) -> Fault {
    Fault { name, happen, may_refuse: false, may_lose: false }
}

const fn of_envoy(name: &'static str, happen: fn(&Host, &Victim, Duration)) -> Fault {
    Fault { name, happen, may_refuse: false, may_lose: true }
}

/// All that can happen.
pub(crate) const FAULTS: [Fault; 14] = [
    of_envoy("Envoy kill -9", |host, _, time| {
        host.end_envoy(Signal::SIGKILL);
        sleep(time);
        host.start_envoy();
    }),
    of_envoy("Envoy SIGTERM", |host, _, _| {
        host.end_envoy(Signal::SIGTERM);
        host.start_envoy();
    }),
    of_envoy("Envoy SIGSTOP", |host, _, time| {
        host.signal_envoy(Signal::SIGSTOP);
        sleep(time);
        host.signal_envoy(Signal::SIGCONT);
    }),
    harmless("registrar kill -9", |host, _, time| {
        host.end_registrar(Signal::SIGKILL);
        sleep(time);
        host.start_registrar();
    }),
    harmless("registrar SIGTERM", |host, _, _| {
        host.end_registrar(Signal::SIGTERM);
        host.start_registrar();
    }),
    harmless("registrar SIGSTOP", |host, _, time| {
        host.signal_registrar(Signal::SIGSTOP);
        sleep(time);
        host.signal_registrar(Signal::SIGCONT);
    }),
    of_envoy("Envoy and registrar kill -9", |host, _, time| {
        host.end_registrar(Signal::SIGKILL);
        host.end_envoy(Signal::SIGKILL);
        sleep(time);
        host.start_registrar();
        host.start_envoy();
    }),
    Fault {
        name: "dockerd restart",
        happen: |host, _, _| {
            host.end_dockerd(Signal::SIGTERM);
            host.start_dockerd();
        },
        may_refuse: true,
        may_lose: true,
    },
    harmless("shims kill -9", |host, victim, time| {
        for shim in shims_of(host, victim) {
            signal(shim, Signal::SIGKILL);
        }
        sleep(time);
        host.docker(&["restart", "-t", "1", victim.name]);
    }),
    harmless("shims SIGSTOP", |host, victim, time| {
        let shims = shims_of(host, victim);
        shims.iter().for_each(|shim| signal(*shim, Signal::SIGSTOP));
        sleep(time);
        shims.iter().for_each(|shim| signal(*shim, Signal::SIGCONT));
    }),
    harmless("container crash", |host, victim, _| {
        host.docker(&["kill", victim.name]);
        host.docker(&["start", victim.name]);
    }),
    harmless("container pause", |host, victim, time| {
        host.docker(&["pause", victim.name]);
        sleep(time);
        host.docker(&["unpause", victim.name]);
    }),
    harmless("container anew", |host, victim, _| {
        host.docker(&["rm", "-f", victim.name]);
        run(host, victim);
    }),
    harmless("container anew, registrar dead", |host, victim, time| {
        host.end_registrar(Signal::SIGKILL);
        host.docker(&["rm", "-f", victim.name]);
        run(host, victim);
        sleep(time);
        host.start_registrar();
    }),
];

/// Runs a victim.
pub(crate) fn run(host: &Host, victim: &Victim) {
    let [first, second] = victim.published;
    host.run_web(&["--name", victim.name, "--restart", "always", "-p", first, "-p", second]);
}

fn shims_of(host: &Host, victim: &Victim) -> Vec<u32> {
    let ports = host.api("ports");
    let rows = ports.as_array().into_iter().flatten().filter(|row| row["container_name"] == victim.name);
    rows.filter_map(|row| row["shim_pid"].as_u64()).map(|id| host.namespace().outside_id(id)).collect()
}

/// Waits until every port is served as it should be, without any problem.
pub(crate) fn settle(host: &Host) {
    let tcp = VICTIMS.iter().flat_map(|victim| victim.tcp).chain([&crate::STEADY]);
    let tcp: Vec<_> = tcp.copied().collect();
    eventually("every port is served by Envoy, without a problem", Duration::from_secs(60), || {
        let ports = host.get("http://127.0.0.1:7777/api/v1/ports").map_err(|error| error.to_string())?;
        let ports = if ports.status == 200 { ports.json() } else { return Err(ports.text()) };
        let rows: Vec<_> = ports.as_array().into_iter().flatten().collect();
        let served = |port: &u16| {
            let mine: Vec<_> = rows.iter().filter(|row| row["host_port"] == *port).collect();
            mine.len() == 2 && mine.iter().all(|row| row["served_by"] == "envoy")
        };
        let done = tcp.iter().all(served) && rows.iter().all(|row| row["problem"].is_null());
        if done { Ok(()) } else { Err(ports.to_string()) }
    });
}

/// One that has just ended needs no signal.
fn signal(process: u32, signal: Signal) {
    let _ = send(process, signal);
}
