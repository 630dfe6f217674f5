//! A shim is killed, or stands still.

use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::http::Request;
use lab::load::Load;
use lab::{Docker, Lab, eventually, on_both_dockers};
use nix::sys::signal::Signal;

use crate::rig::{ANYWHERE, Allowed, Rig};
use crate::{SECOND, shim_of, signal};

on_both_dockers!(
    envoy_serves_on_when_a_shim_is_killed_until_the_container_stops,
    a_container_whose_shims_were_killed_restarts_at_once,
    a_stopped_shim_holds_up_docker_rm_and_no_traffic,
);

fn envoy_serves_on_when_a_shim_is_killed_until_the_container_stops(version: Docker) {
    let rig = Rig::new(version, |host| host);
    rig.suffer("shims hang while the registrar restarts", Allowed::NOTHING, |host| {
        let shims = host.shims();
        shims.iter().for_each(|shim| signal(*shim, Signal::SIGSTOP));
        host.end_registrar(Signal::SIGKILL);
        host.start_registrar();
        let problems = |what: &str, problem: fn(Option<&str>) -> bool| {
            eventually(what, 6 * SECOND, || {
                let ports = host.ports(ANYWHERE);
                let so = ports.len() == 2 && ports.iter().all(|row| problem(row["problem"].as_str()));
                if so { Ok(()) } else { Err(format!("{ports:?}")) }
            });
        };
        problems("Envoy serves the ports alone", |problem| problem.is_some_and(|text| text.contains("or hangs")));
        shims.iter().for_each(|shim| signal(*shim, Signal::SIGCONT));
        problems("the shims are back", |problem| problem.is_none());
        sleep(SECOND);
    });
    rig.suffer("shims kill -9", Allowed::NOTHING, |host| {
        host.shims().into_iter().for_each(|shim| signal(shim, Signal::SIGKILL));
        eventually("the ports say that their shims are gone", 3 * SECOND, || {
            let ports = host.ports(ANYWHERE);
            let says =
                |row: &serde_json::Value| row["problem"].as_str().is_some_and(|text| text.contains("was killed"));
            if ports.len() == 2 && ports.iter().all(says) { Ok(()) } else { Err(format!("{ports:?}")) }
        });
        assert!(host.ports(ANYWHERE).iter().all(|row| row["served_by"] == "envoy" && row["shim_pid"].is_null()));
        sleep(SECOND);
    });
    rig.suffer("registrar restart after that", Allowed::NOTHING, |host| {
        host.end_registrar(Signal::SIGKILL);
        host.start_registrar();
        let says =
            |row: &serde_json::Value| row["problem"].as_str().is_some_and(|text| text.contains("was killed before"));
        eventually("the next registrar leaves the ports to Envoy", 6 * SECOND, || {
            let ports = host.ports(ANYWHERE);
            if ports.len() == 2 && ports.iter().all(says) { Ok(()) } else { Err(format!("{ports:?}")) }
        });
        assert!(host.ports(ANYWHERE).iter().all(|row| row["served_by"] == "envoy"), "{:?}", host.ports(ANYWHERE));
        sleep(SECOND);
    });
    let host = &rig.host;
    host.docker(&["stop", "-t", "1", "web"]);
    let begun = Instant::now();
    let url = format!("http://127.0.0.1:{ANYWHERE}/");
    eventually("the port is gone with its container", 3 * SECOND, || match host.get(&url) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        outcome => Err(format!("{outcome:?}")),
    });
    println!("a killed shim's port is gone {:.0?} after docker stop", begun.elapsed());
    host.docker(&["start", "web"]);
    host.await_served_by_envoy(ANYWHERE);
    assert!(host.ports(ANYWHERE).iter().all(|row| row["problem"].is_null()), "{:?}", host.ports(ANYWHERE));
}

/// Nobody but the registrar, by Docker's word alone, can have Envoy let go of the port in time for the next bind.
fn a_container_whose_shims_were_killed_restarts_at_once(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).start();
    host.run_web(&["--name", "web", "-p", &format!("{ANYWHERE}:80"), "-p", "127.0.0.1:8120:80"]);
    for _ in 0..20 {
        host.await_served_by_envoy(ANYWHERE);
        host.shims().into_iter().for_each(|shim| signal(shim, Signal::SIGKILL));
        eventually("the ports say that their shims are gone", 3 * SECOND, || {
            let ports = host.ports(ANYWHERE);
            let gone = ports.iter().all(|row| row["shim_pid"].is_null() && row["served_by"] == "envoy");
            if gone { Ok(()) } else { Err(format!("{ports:?}")) }
        });
        host.docker(&["restart", "-t", "1", "web"]);
    }
}

/// dockerd waits for a proxy's end without a limit, for docker-proxy's as well, and 20.10 starts no other meanwhile.
fn a_stopped_shim_holds_up_docker_rm_and_no_traffic(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).start();
    host.run_web(&["--name", "stuck", "-p", "8080:80"]);
    host.run_web(&["--name", "other", "-p", "8081:80"]);
    host.await_served_by_envoy(8080);
    host.await_served_by_envoy(8081);
    let shim = shim_of(&host, "0.0.0.0", 8080);
    signal(shim, Signal::SIGSTOP);
    let load = Load::start(host.namespace(), &Request::get("http://127.0.0.1:8081/"), 50);
    assert_eq!(host.get("http://127.0.0.1:8080/").expect("Envoy answers all the same").status, 200);
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| {
            let begun = Instant::now();
            host.docker(&["rm", "-f", "stuck"]);
            begun.elapsed()
        });
        sleep(3 * SECOND);
        assert!(!stop.is_finished(), "dockerd waits for the shim");
        assert_eq!(host.get("http://127.0.0.1:8081/").expect("the other container answers").status, 200);
        signal(shim, Signal::SIGCONT);
        let took = stop.join().expect("docker rm does not fail");
        println!("docker rm beside a shim stopped for 3 s: {took:.1?}");
        assert!(took < Duration::from_secs(8), "{took:?}");
    });
    let outcomes = load.stop();
    assert_eq!(outcomes.failed(), 0, "the other container's port: {outcomes:?}");
    host.run_web(&["--name", "stuck", "-p", "8080:80"]);
    host.await_served_by_envoy(8080);
}
