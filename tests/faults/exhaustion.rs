//! Something runs out: file descriptors, disk, memory.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::thread::sleep;

use lab::cgroup::NoMemory;
use lab::http::{Request, passed_envoy};
use lab::load::Load;
use lab::process::{limit, open_files, send};
use lab::{Docker, Host, Lab, Proxy, eventually, parts};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::rig::{ANYWHERE, Allowed, Rig};
use crate::{SECOND, shim_of, write_program};

fn only(host: &Host, program: &str) -> u32 {
    let processes = host.processes_of(program);
    assert_eq!(processes.len(), 1, "{program}");
    processes[0]
}

#[test]
fn a_registrar_without_file_descriptors_keeps_what_it_has_and_takes_the_rest_when_it_can() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    let registrar = only(&host, "envoy-docker-registrar");
    let soft = open_files(registrar);
    limit(registrar, &format!("--nofile={soft}:"));
    host.run_web(&["--name", "late", "-p", "8081:80", "-p", "8082:80"]);
    for port in [8080, 8081, 8082] {
        assert_eq!(host.get(&format!("http://127.0.0.1:{port}/")).expect("each port answers").status, 200);
    }
    assert!(passed_envoy(&host.get("http://127.0.0.1:8080/").expect("it answers")));
    eventually("the log says what is missing", 5 * SECOND, || {
        let log = host.registrar_log();
        if log.contains("raise LimitNOFILE") { Ok(()) } else { Err(log) }
    });
    limit(registrar, "--nofile=4096:");
    host.await_served_by_envoy(8081);
    host.await_served_by_envoy(8082);
}

#[test]
fn a_shim_without_file_descriptors_makes_clients_wait_and_refuses_nobody() {
    let lab = Lab::of_this_test();
    // Room for three connections: each may need six descriptors, and 32 are for all else.
    let program = lab.logs().join("shim-with-few-descriptors");
    let shim = parts::ours("envoy-docker-shim");
    write_program(&program, &format!("#!/bin/sh\nulimit -n 50\nexec {} \"$@\"\n", shim.display()));
    let host = lab.host("a").proxy(Proxy::Program(program)).without_envoy().start();
    host.run_web(&["-p", "8080:80"]);
    let request = Request::get(&format!("http://{}:8080/sleep/100", host.address()));
    // Six at a time: those for whom there is no room wait.
    let load = Load::with_workers(host.namespace(), &request, 100, 6);
    sleep(3 * SECOND);
    let outcomes = load.stop();
    println!("a shim with room for three connections, six clients of 0.1 s each: {outcomes:?}");
    assert_eq!(outcomes.failed(), 0, "{outcomes:?}");
    assert!(outcomes.ok > 30, "{outcomes:?}");
}

/// It goes on accepting, with the descriptors of those that left, and has none for the container: nobody is refused, and
/// nobody is served. Its unit has room for half a million connections.
#[test]
fn an_envoy_without_file_descriptors_refuses_nobody_and_serves_again_when_it_has_some() {
    let rig = Rig::new(Docker::Current, |host| host);
    let seconds = 3;
    let meanwhile = Allowed { refused: 0, lost: u64::from(seconds) * Allowed::while_envoy_ends().lost * 4 };
    rig.suffer("Envoy without file descriptors for 3 s", meanwhile, |host| {
        let envoy = only(host, "envoy");
        limit(envoy, &format!("--nofile={}:", open_files(envoy)));
        sleep(seconds * SECOND);
        limit(envoy, "--nofile=4096:");
    });
    rig.suffer("and afterwards", Allowed::NOTHING, |_| sleep(SECOND));
}

#[test]
fn a_full_disk_stops_nothing_that_runs() {
    let rig = Rig::new(Docker::Current, |host| host);
    rig.suffer("/run and Docker's disk full", Allowed::while_envoy_ends(), |host| {
        // A limit of what is used already: from now on every write fails.
        for folder in ["/run", "/var/lib/docker"] {
            let script = format!("mount -o remount,size=$(df --output=used -B1 {folder} | tail -n 1) {folder}");
            host.namespace().run("sh", &["-c", &script]);
        }
        let full = host.namespace().output(Command::new("sh").args(["-c", "head -c 1000000 /dev/zero >/run/lab/full"]));
        assert!(!full.status.success(), "the disk is full");
        host.end_registrar(Signal::SIGKILL);
        host.start_registrar();
        host.await_served_by_envoy(ANYWHERE);
        host.end_envoy(Signal::SIGKILL);
        eventually("the shim answers", SECOND, || host.get(&format!("http://127.0.0.1:{ANYWHERE}/")));
        host.start_envoy();
    });
    let host = &rig.host;
    let failed = host.try_docker(&["run", "-d", "-p", "9000:80", "web"]);
    println!("docker run on a full disk: {}", String::from_utf8_lossy(&failed.stderr).trim());
    for folder in ["/run", "/var/lib/docker"] {
        host.namespace().run("mount", &["-o", "remount,size=1g", folder]);
    }
    host.run_web(&["--name", "after", "-p", "9001:80"]);
    host.await_served_by_envoy(9001);
}

/// Who gets no more memory ends, and is started again by its supervisor, which the test plays.
#[test]
fn nobody_is_refused_when_one_of_us_runs_out_of_memory() {
    let rig = Rig::new(Docker::Current, |host| host);
    rig.suffer("registrar out of memory", Allowed::NOTHING, |host| {
        limit(only(host, "envoy-docker-registrar"), "--as=1000000");
        // Something that needs memory: everything is asked for, until it ends.
        let ended = (0..200).any(|_| {
            let _ = host.try_shimctl(&["ports"]);
            host.processes_of("envoy-docker-registrar").is_empty()
        });
        println!("a registrar that gets no memory has ended: {ended}");
        if !ended {
            host.end_registrar(Signal::SIGKILL);
        }
        host.start_registrar();
    });
    rig.suffer("shims get no memory, Envoy kill -9", Allowed::in_flight(1), |host| {
        for shim in host.shims() {
            limit(shim, "--as=1000");
        }
        host.end_envoy(Signal::SIGKILL);
        sleep(SECOND);
        println!("{} of 3 shims run on without memory", host.shims().len());
        host.start_envoy();
    });
}

fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::SIGKILL as i32)
}

/// As when the host has no memory left, or the unit's `MemoryMax` is reached. The test plays the supervisor.
#[test]
fn nobody_is_refused_when_the_kernel_kills_one_of_us_for_want_of_memory() {
    let rig = Rig::new(Docker::Current, |host| host);
    // A group for each: what one leaves behind of its memory another may use.
    let groups = ["registrar", "envoy", "shim"].map(|name| NoMemory::new(&format!("out-of-memory-{name}")));
    rig.suffer("registrar: OOM kill", Allowed::NOTHING, |host| {
        groups[0].add(only(host, "envoy-docker-registrar"));
        let _ = host.try_shimctl(&["ports"]);
        assert!(was_killed(host.registrar_end()));
        host.start_registrar();
    });
    // Until the kernel ends it, what it has accepted may fail for want of memory.
    rig.suffer("Envoy: OOM kill", Allowed::in_flight(1), |host| {
        groups[1].add(only(host, "envoy"));
        assert!(was_killed(host.envoy_end()));
        host.start_envoy();
    });
    rig.suffer("a shim: OOM kill", Allowed::NOTHING, |host| {
        let shim = shim_of(host, "0.0.0.0", ANYWHERE);
        groups[2].add(shim);
        let says = |row: &Value| row["problem"].as_str().is_some_and(|text| text.contains("was killed"));
        eventually("the port says that its shim was killed", 5 * SECOND, || {
            // It is to say its port again, for which it needs a buffer.
            let _ = send(shim, Signal::SIGHUP);
            let ports = host.ports(ANYWHERE);
            if ports.iter().any(says) { Ok(()) } else { Err(format!("{ports:?}")) }
        });
        sleep(SECOND);
    });
    assert_eq!(groups.each_ref().map(NoMemory::kills), [1, 1, 1], "by the kernel, for want of memory");
}
