//! What the documentation of the projects that this one follows has its users type, done here.

use std::fs;
use std::io;
use std::process::Command;
use std::time::Duration;

use lab::host::registrar::key_file;
use lab::http::Request;
use lab::process::Process;
use lab::{Host, Lab, eventually, parts};

use crate::rig::{await_agreement, await_answers, await_instances, cluster, member, plain, url};

/// More connections than a request may cost, with all that is tried again; a loop makes thousands.
const CONNECTIONS_MAX: u64 = 40;

#[test]
fn sidecars_documented_container_answers_a_container_on_another_host() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b"]);
    let [a, b] = &hosts[..] else { unreachable!("two hosts were started") };
    a.need_web_image();
    let documented = [
        "-l",
        "HealthCheck=HttpGet",
        "-l",
        "ServiceName=awesome-svc",
        "-l",
        "ServicePort_80=9500",
        "-l",
        "HealthCheckArgs=http://{{ host }}:{{ tcp 9500 }}/",
        "-P",
        "--expose",
        "80",
    ];
    let id = a.run_web(&documented);
    await_instances(&hosts, 9500, 1, "alive");
    let client = b.run_web(&[]);
    let answer = b.get_from(&client, &url(9500)).expect("the service answers a container on the other host");
    assert_eq!(answer.json()["hostname"], id[..12]);
    let row = &b.shimctl_json(&["services"])[0];
    assert_eq!((&row["service_name"], &row["service_port"]), (&"awesome-svc".into(), &9500.into()), "{row}");
    await_agreement(&hosts);
}

/// Three hosts at their own addresses, as docker-register and docker-discover have it.
fn at_their_own_addresses(lab: &Lab, names: &[&str]) -> Vec<Host> {
    let key = key_file(lab, "gossip.key").display().to_string();
    let start = |(number, name): (usize, &&str)| {
        let own = format!("10.77.0.{}", number + 1);
        let host = member(lab, name, &key);
        let host = host.registrar_arguments(&["--implicit-service-ports", "--service-address", &own]).start();
        assert_eq!(host.address().to_string(), own, "the lab counts its machines");
        host
    };
    let hosts: Vec<_> = names.iter().enumerate().map(start).collect();
    await_agreement(&hosts);
    hosts
}

/// A container without any label: its service has the name of its image.
fn run_8000(host: &Host, publish: &str) -> String {
    host.need_web_image();
    let id = host.docker(&["run", "-d", "-p", publish, "web", "http:8000"]);
    let url = format!("http://{}:8000/", host.docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", &id]));
    eventually("the container's program listens", Duration::from_secs(5), || host.get(&url));
    id
}

#[test]
fn docker_discovers_walk_needs_no_label() {
    let lab = Lab::of_this_test();
    let hosts = at_their_own_addresses(&lab, &["backend-1", "backend-2", "client"]);
    let [one, two, client] = &hosts[..] else { unreachable!("three hosts were started") };
    let service = format!("http://{}:8000/", client.address());
    let first = run_8000(one, ":8000");
    await_answers(client, &service, &[&first]);
    let second = run_8000(two, ":8000");
    await_answers(client, &service, &[&first, &second]);
    let third = run_8000(two, ":8000");
    await_answers(client, &service, &[&first, &second, &third]);
    two.docker(&["kill", &second]);
    await_answers(client, &service, &[&first, &third]);
    one.docker(&["kill", &first]);
    await_answers(client, &service, &[&third]);
    // Backends are clients, too.
    await_answers(one, &format!("http://{}:8000/", one.address()), &[&third]);
    await_agreement(&hosts);
}

#[test]
fn two_hosts_that_publish_and_serve_one_port_make_no_loop() {
    let lab = Lab::of_this_test();
    let hosts = at_their_own_addresses(&lab, &["a", "b"]);
    let [a, b] = &hosts[..] else { unreachable!("two hosts were started") };
    let connections = || hosts.iter().map(|host| host.envoy_stat(r"^listener\..*downstream_cx_total$")).sum::<u64>();
    let client = lab.client("client");
    // One request to each host, whatever becomes of it, and what it cost.
    let ask = |when: &str| {
        let before = connections();
        let request =
            |host: &Host| Request::get(&format!("http://{}:8000/", host.address())).limit(Duration::from_secs(3));
        let outcomes = [a, b].map(|host| client.send(&request(host)).map(|answer| answer.status));
        let made = connections() - before;
        assert!(made <= CONNECTIONS_MAX, "{when}: {made} connections for two requests ({outcomes:?})");
        // An answer, Envoy's own word that there is none, or a connection that is refused or ended: nobody waits.
        let is_clear = |outcome: &io::Result<u16>| match outcome {
            Ok(status) => [200, 503].contains(status),
            Err(error) => error.kind() != io::ErrorKind::TimedOut,
        };
        assert!(outcomes.iter().all(is_clear), "{when}: {outcomes:?}");
        outcomes
    };
    let (on_a, on_b) = (run_8000(a, "8000:8000"), run_8000(b, "8000:8000"));
    for (host, id) in [(a, &on_a), (b, &on_b)] {
        // A published port beats a service port of its number.
        await_answers(host, &format!("http://{}:8000/", host.address()), &[id]);
    }
    a.docker(&["kill", &on_a]);
    (0..10).for_each(|_| drop(ask("one was killed")));
    for host in &hosts {
        await_answers(host, &format!("http://{}:8000/", host.address()), &[&on_b]);
    }
    b.docker(&["kill", &on_b]);
    (0..10).for_each(|_| drop(ask("both were killed")));
    await_instances(&hosts, 8000, 0, "");
    for outcome in ask("nothing is left") {
        let error = outcome.expect_err("nobody serves the port any longer");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    }
}

#[test]
fn a_static_database_service_is_called_from_containers_on_every_host() {
    let lab = Lab::of_this_test();
    let database = lab.client("database");
    let mut program = Command::new(parts::own_binary("echo-app"));
    let _running =
        Process::start("database", database.namespace(), program.arg("banner:5432"), &lab.logs().join("db.log"));
    let file = lab.logs().join("static.json");
    let address = database.address();
    let entry = format!(
        r#"[{{"Service": {{"Name": "db", "Image": "postgres:16", "ProxyMode": "tcp", "Ports": [
            {{"Type": "tcp", "Port": 5432, "ServicePort": 15432, "IP": "{address}"}}]}}, "Check": {{}}}}]"#
    );
    fs::write(&file, entry).expect("the folder of logs can be written");
    let file = file.display().to_string();
    let hosts = cluster(&lab, &["a", "b"], |host, name| match name {
        "a" => host.registrar_arguments(&["--static-services", &file]),
        _ => host,
    });
    await_instances(&hosts, 15432, 1, "alive");
    for host in &hosts {
        let client = host.run_web(&[]);
        let said = eventually("the database speaks", Duration::from_secs(10), || {
            let printed = host.try_docker(&["exec", &client, "sh", "-c", "sleep 1 | nc 192.168.168.168 15432"]);
            let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
            if printed.is_empty() { Err(format!("nothing, on {}", host.name())) } else { Ok(printed) }
        });
        assert!(said.starts_with("hello, I speak first"), "{said}");
    }
    await_agreement(&hosts);
    fs::write(&file, "[]").expect("the folder of logs can be written");
    await_instances(&hosts, 15432, 0, "");
}
