//! A registrar starts while Docker says nothing: Envoy goes on with all that it has.

use std::thread::sleep;

use lab::http::Request;
use lab::load::Load;
use lab::{Docker, Host, Lab, eventually, on_both_dockers};
use nix::sys::signal::Signal;

use crate::{SECOND, signal};

on_both_dockers!(
    ports_whose_shims_were_killed_stay_while_dockerd_hangs_and_the_registrar_restarts,
    a_service_port_stays_while_dockerd_is_away_and_the_registrar_restarts,
);

const PUBLISHED: &str = "http://127.0.0.1:8080/";
const SERVICE: &str = "http://192.168.168.168:9500/";
/// Longer than the registrar waits for anything.
const AWAY: std::time::Duration = SECOND.saturating_mul(6);

/// A host with one published port, which is a service port, too.
fn host(lab: &Lab, version: Docker) -> Host {
    let host = lab.host("a").docker(version).live_restore().registrar_arguments(&["--assign-service-address"]);
    let host = host.start();
    host.run_web(&["--name", "web", "-p", "8080:80", "-l", "ServicePort_80=9500"]);
    host.await_served_by_envoy(8080);
    eventually("the service port answers", 5 * SECOND, || host.get(SERVICE));
    host
}

fn load(host: &Host, url: &str) -> Load {
    Load::start(host.namespace(), &Request::get(url), 50)
}

fn restart_registrar(host: &Host) {
    host.end_registrar(Signal::SIGKILL);
    host.spawn_registrar();
    sleep(AWAY);
}

fn ports_whose_shims_were_killed_stay_while_dockerd_hangs_and_the_registrar_restarts(version: Docker) {
    let lab = Lab::of_this_test();
    let host = host(&lab, version);
    let loads = [PUBLISHED, SERVICE].map(|url| load(&host, url));
    host.shims().into_iter().for_each(|shim| signal(shim, Signal::SIGKILL));
    let dockerd = host.processes_of("dockerd");
    dockerd.iter().for_each(|id| signal(*id, Signal::SIGSTOP));
    restart_registrar(&host);
    dockerd.iter().for_each(|id| signal(*id, Signal::SIGCONT));
    host.await_registrar();
    sleep(SECOND);
    let outcomes = loads.map(Load::stop);
    assert!(outcomes.iter().all(|one| one.failed() == 0 && one.ok > 100), "{outcomes:?}");
    host.docker(&["rm", "-f", "web"]);
    eventually("the port is gone with its container", 3 * SECOND, || match host.get(PUBLISHED) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        outcome => Err(format!("{outcome:?}")),
    });
}

fn a_service_port_stays_while_dockerd_is_away_and_the_registrar_restarts(version: Docker) {
    let lab = Lab::of_this_test();
    let host = host(&lab, version);
    let load = load(&host, SERVICE);
    // Its shims end with it, and Envoy with them: the published port is nobody's until it is back.
    host.end_dockerd(Signal::SIGTERM);
    restart_registrar(&host);
    host.start_dockerd();
    host.await_registrar();
    host.await_served_by_envoy(8080);
    let outcomes = load.stop();
    assert!(outcomes.failed() == 0 && outcomes.ok > 100, "{outcomes:?}");
}
