//! Service ports are answered while Envoy is not: what becomes of a steady load from a host and from a container.

use std::io::ErrorKind;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::http::{Request, passed_envoy};
use lab::load::{Load, Outcomes};
use lab::{Host, HostBuilder, Lab, eventually};
use nix::sys::signal::Signal;

use crate::rig::{SERVICE_ADDRESS, SPREAD, await_answers, await_instances, cluster, run_web_9500, url};

const SECOND: Duration = Duration::from_secs(1);
/// New connections per second from each client.
const PER_SECOND: u32 = 200;
const CLIENTS: [&str; 2] = ["host", "container"];
/// Connections of one client that wait at the same time.
const WORKERS: u32 = 40;
/// For how long an Envoy that ends, killed or told to, no longer serves the connections that the kernel still gives it.
const ENVOYS_END: Duration = Duration::from_millis(300);

/// How many connections of both clients may be lost; none may be refused.
const NONE: u64 = 0;
const WHILE_ENVOY_ENDS: u64 = PER_SECOND as u64 * ENVOYS_END.as_millis() as u64 / 1000 * CLIENTS.len() as u64;

/// Two hosts with an instance each. The clients are the first host and its container.
struct Rig {
    hosts: Vec<Host>,
    container: String,
    workers: u32,
    limit: Duration,
    _lab: Lab,
}

impl Rig {
    fn new(adapt: impl for<'a> Fn(HostBuilder<'a>) -> HostBuilder<'a> + Sync) -> Self {
        let lab = Lab::of_this_test();
        let hosts = cluster(&lab, &["a", "b"], |host, _| adapt(host));
        let ids: Vec<_> = hosts.iter().map(run_web_9500).collect();
        await_answers(&hosts[0], &url(9500), &[&ids[0], &ids[1]]);
        println!(
            "{:<64} {:>8} {:>7} {:>5} {:>8} {:>9} {:>8}",
            lab.name(),
            "answered",
            "refused",
            "lost",
            "gap",
            "slow",
            "took"
        );
        Self { hosts, container: ids[0].clone(), workers: WORKERS, limit: Duration::from_secs(5), _lab: lab }
    }

    fn host(&self) -> &Host {
        &self.hosts[0]
    }

    /// Lets `fault` happen under load, waits until Envoy serves again, and prints what became of the load.
    fn suffer(&self, name: &str, most_lost: u64, fault: impl FnOnce(&Host)) -> [Outcomes; 2] {
        let request = Request::get(&url(9500)).limit(self.limit);
        let networks = [self.host().namespace().network(), self.host().network_of(&self.container)];
        let loads = networks.map(|network| Load::from_network(&network, &request, PER_SECOND, self.workers));
        sleep(SECOND / 2);
        let begun = Instant::now();
        fault(self.host());
        await_served_by(self.host(), "envoy");
        let took = begun.elapsed();
        sleep(SECOND / 2);
        let outcomes = loads.map(Load::stop);
        for (client, one) in CLIENTS.into_iter().zip(&outcomes) {
            print_row(&format!("{name}, from the {client}"), one, took);
        }
        let lost: u64 = outcomes.iter().map(|one| one.failed() - one.refused).sum();
        assert!(outcomes.iter().all(|one| one.refused == 0), "{name}: {outcomes:?}");
        assert!(lost <= most_lost, "{name}: lost {lost}: {outcomes:?}");
        assert!(outcomes.iter().all(|one| one.ok > u64::from(PER_SECOND) / 2), "{name}: {outcomes:?}");
        outcomes
    }
}

fn print_row(name: &str, one: &Outcomes, took: Duration) {
    let lost = one.failed() - one.refused;
    let gap = one.longest_gap.as_millis();
    let took = took.as_secs_f64();
    println!("{name:<64} {:>8} {:>7} {lost:>5} {gap:>5} ms {:>9} {took:>6.1} s", one.ok, one.refused, one.slow);
}

/// What `shimctl envoy` says of the service address.
fn service_address(host: &Host) -> serde_json::Value {
    host.api("envoy")["service_addresses"][0].clone()
}

/// Waits until this one answers service ports: both by the registrar's word and by the answers.
#[track_caller]
fn await_served_by(host: &Host, who: &str) {
    eventually(&format!("service ports are served by {who}"), Duration::from_secs(20), || {
        let said = service_address(host);
        let answer = host.send(&Request::get(&url(9500))).map_err(|error| error.to_string())?;
        let is_so = said["served_by"] == who && passed_envoy(&answer) == (who == "envoy");
        if is_so { Ok(()) } else { Err(format!("{said}, {}", answer.text())) }
    });
}

/// The kernel gives all connections to one of Envoy's workers, which hands some on: those that are busier get fewer. So
/// some have to be busy at the same time.
#[track_caller]
fn assert_workers_share(host: &Host) {
    let slow = format!("{}sleep/300", url(9500));
    std::thread::scope(|scope| {
        (0..40).for_each(|_| drop(scope.spawn(|| host.get(&slow).expect("the service answers"))));
    });
    let shares = host.envoy_stats(r"^listener\..*9500\.worker_\d+\.downstream_cx_total$");
    let counts: Vec<_> = shares.iter().map(|(_, count)| *count).collect();
    let (least, most) = (counts.iter().min(), counts.iter().max());
    assert!(counts.len() == 2 && least.zip(most).is_some_and(|(least, most)| least * 10 >= *most), "{shares:?}");
}

#[test]
fn nobody_is_refused_at_a_service_port_when_envoy_or_the_registrar_fails() {
    let rig = Rig::new(|host| host.firewall().envoy_user(lab::host::ORDINARY_USER));
    let killed = |host: &Host| {
        host.end_envoy(Signal::SIGKILL);
        await_served_by(host, "registrar");
        sleep(SECOND);
        host.start_envoy();
    };
    rig.suffer("Envoy kill -9", WHILE_ENVOY_ENDS, killed);
    assert_workers_share(rig.host());
    rig.suffer("Envoy SIGTERM", WHILE_ENVOY_ENDS, |host| {
        host.end_envoy(Signal::SIGTERM);
        sleep(SECOND / 2);
        host.start_envoy();
    });
    rig.suffer("Envoy restart, 1 worker", WHILE_ENVOY_ENDS, |host| {
        host.end_envoy(Signal::SIGTERM);
        host.start_envoy_with_workers(1);
    });
    rig.suffer("registrar kill -9", NONE, |host| {
        host.end_registrar(Signal::SIGKILL);
        sleep(2 * SECOND);
        host.start_registrar();
        sleep(SECOND);
    });
    // The standby is the younger one now.
    rig.suffer("Envoy kill -9, the registrar being younger", WHILE_ENVOY_ENDS, killed);
    rig.suffer("registrar SIGTERM", NONE, |host| {
        host.end_registrar(Signal::SIGTERM);
        host.start_registrar();
        sleep(SECOND);
    });
    rig.suffer("Envoy hot restart, 1 to 4 workers", NONE, |host| host.hot_restart_envoy(1, 4));
    rig.suffer("Envoy kill -9 after these", WHILE_ENVOY_ENDS, killed);
    assert_eq!(service_address(rig.host())["problem"], serde_json::Value::Null);
}

#[test]
fn clients_of_service_ports_wait_for_a_stopped_envoy_until_the_registrar_takes_over_and_none_is_refused() {
    let rig = Rig::new(|host| host);
    let rig = Rig { workers: 300, limit: Duration::from_secs(20), ..rig };
    for name in ["Envoy SIGSTOP for 5 s", "Envoy SIGSTOP for 5 s, the registrar being younger"] {
        let outcomes = rig.suffer(name, NONE, |host| {
            host.signal_envoy(Signal::SIGSTOP);
            eventually("the registrar takes over", Duration::from_secs(5), || {
                let said = service_address(host);
                if said["served_by"] == "registrar" { Ok(()) } else { Err(said.to_string()) }
            });
            let problem = service_address(host)["problem"].to_string();
            assert!(problem.contains("Envoy takes no connections"), "{problem}");
            sleep(5 * SECOND);
            host.signal_envoy(Signal::SIGCONT);
        });
        for one in &outcomes {
            assert!(one.slow * 2 < one.ok, "those of the first second wait, the rest is the registrar's: {one:?}");
            assert!(one.longest_gap < 2 * SECOND, "{one:?}");
        }
        rig.host().end_registrar(Signal::SIGTERM);
        rig.host().start_registrar();
    }
}

#[test]
fn nobody_is_refused_at_a_service_port_that_envoy_binds() {
    let rig = Rig::new(|host| host.registrar_arguments(&["--capture", "none"]));
    rig.suffer("Envoy kill -9, bound", WHILE_ENVOY_ENDS, |host| {
        host.end_envoy(Signal::SIGKILL);
        await_served_by(host, "registrar");
        host.start_envoy();
    });
    rig.suffer("registrar kill -9, bound", NONE, |host| {
        host.end_registrar(Signal::SIGKILL);
        host.start_registrar();
        sleep(SECOND);
    });
    rig.suffer("Envoy kill -9, the registrar being younger, bound", WHILE_ENVOY_ENDS, |host| {
        host.end_envoy(Signal::SIGKILL);
        await_served_by(host, "registrar");
        host.start_envoy();
    });
}

#[test]
fn without_any_envoy_only_instances_that_are_alive_answer_and_what_is_no_service_port_is_reset() {
    let lab = Lab::of_this_test();
    let hosts = cluster(&lab, &["a", "b"], |host, _| host.without_envoy());
    let ids: Vec<_> = hosts.iter().map(run_web_9500).collect();
    for host in &hosts {
        await_answers(host, &url(9500), &[&ids[0], &ids[1]]);
    }
    hosts[0].shimctl(&["drain", &format!("a/{}", &ids[0][..12])]);
    for host in &hosts {
        await_answers(host, &url(9500), &[&ids[1]]);
    }
    hosts[1].docker(&["kill", &ids[1]]);
    await_instances(&hosts, 9500, 1, "draining");
    for host in &hosts {
        eventually("nobody is there to answer", SPREAD, || is_reset(host, 9500));
        is_reset(host, 15001).expect("what is for no service port is reset");
    }
}

fn is_reset(host: &Host, port: u16) -> Result<(), String> {
    match host.get(&format!("http://{SERVICE_ADDRESS}:{port}/")) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn a_standby_port_that_another_program_has_is_named() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").without_registrar().without_envoy().start();
    let taken = format!("{SERVICE_ADDRESS}:15001");
    host.namespace().run("ip", &["address", "add", SERVICE_ADDRESS, "dev", "lo"]);
    let holder = host.namespace().network();
    let holder = std::thread::spawn(move || {
        holder.enter();
        std::net::TcpListener::bind(taken).expect("nobody has the port")
    });
    let holder = holder.join().expect("binding does not panic");
    host.start_registrar();
    let problem = service_address(&host)["problem"].to_string();
    assert!(problem.contains("another program listens at 192.168.168.168:15001"), "{problem}");
    drop(holder);
    eventually("the port is taken once it is free", SPREAD, || {
        let said = service_address(&host);
        if said["problem"].is_null() { Ok(()) } else { Err(said.to_string()) }
    });
}
