//! A published port is served by Envoy, whatever it speaks and wherever it is published.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use lab::{Docker, Host, Lab, parts};

use crate::{on_both_dockers, passed_envoy};

on_both_dockers!(
    http_is_answered_through_envoy_over_both_families,
    a_server_that_speaks_first_passes_in_tcp_mode_and_without_a_label,
    ports_do_not_overwrite_each_other,
    a_port_can_be_published_for_tcp_and_udp,
);

/// Requests for each way to reach a port.
const EACH: u64 = 5;

fn http_is_answered_through_envoy_over_both_families(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (lab.host("a").docker(version).start(), lab.client("client"));
    let id = host.run_web(&["-p", "8080:80", "-l", "ServiceName=web", "-l", "EnvironmentName=test"]);
    for port in host.await_served_by_envoy(8080) {
        assert_eq!(port["container_id"], id.as_str());
        assert_eq!((&port["service_name"], &port["environment_name"]), (&"web".into(), &"test".into()));
        assert_eq!((&port["container_port"], &port["proxy_mode"]), (&80.into(), &"http".into()));
        assert!(port["problem"].is_null(), "{port}");
    }
    let (v4, v6) = (host.address().to_string(), format!("[{}]", host.address6()));
    for _ in 0..EACH {
        for address in ["127.0.0.1", "[::1]", &v4, &v6] {
            let answer = host.get(&format!("http://{address}:8080/")).expect("the host itself is answered");
            assert!(passed_envoy(&answer), "{}", answer.text());
        }
        for address in [&v4, &v6] {
            let answer = client.get(&format!("http://{address}:8080/")).expect("another machine is answered");
            assert!(passed_envoy(&answer), "{}", answer.text());
            assert_eq!(answer.json()["hostname"], id[..12]);
        }
    }
    // Envoy writes a colon in a statistic's name as `_`.
    for address in ["0.0.0.0", "__"] {
        let counted = host.envoy_stat(&format!(r"^http\.local/web/test/{address}/8080\.downstream_rq_total$"));
        assert_eq!(counted, 3 * EACH, "Envoy counts the requests to {address}");
        let metric = "envoy_http_downstream_rq_total";
        let prefix = format!("local/web/test/{address}/8080");
        let labels = [
            ("service", "web"),
            ("environment", "test"),
            ("port", "8080"),
            ("envoy_http_conn_manager_prefix", prefix.as_str()),
        ];
        let found = host.envoy_metrics().lines().any(|line| {
            let has = |(label, value): &(&str, &str)| line.contains(&format!(r#"{label}="{value}""#));
            line.starts_with(metric) && labels.iter().all(has) && line.ends_with(&format!(" {}", 3 * EACH))
        });
        assert!(found, "{metric} with {labels:?} is not among Prometheus' metrics");
    }
}

#[test]
fn envoys_own_port_tells_no_configuration() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    for (path, status) in [("stats", 200), ("config_dump", 403), ("quitquitquit", 403)] {
        let answer = host.get(&format!("http://127.0.0.1:9901/{path}")).expect("Envoy answers");
        assert_eq!(answer.status, status, "{path}");
    }
}

fn a_server_that_speaks_first_passes_in_tcp_mode_and_without_a_label(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).start();
    host.run_program(&["-p", "8081:81", "-l", "ProxyMode=tcp", "-l", "ServiceName=says"], &["banner:81"]);
    host.run_program(&["-p", "8082:81", "-l", "ServiceName=says"], &["banner:81"]);
    // Without a label the shim is the first to see that the server speaks first.
    assert_eq!(host.await_served_by("shim", 8082)[0]["treatment"], "learning");
    let said = conversation(&host, SocketAddr::from(([127, 0, 0, 1], 8082)));
    assert_eq!(said, "hello, I speak first\r\nis it you?\r\ngoodbye\r\n");
    for (port, mode) in [(8081, "tcp"), (8082, "auto")] {
        let listed = &host.await_served_by_envoy(port)[0];
        assert_eq!((&listed["proxy_mode"], &listed["treatment"]), (&mode.into(), &"tcp".into()));
        for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
            let said = conversation(&host, address.parse().expect("an address"));
            assert_eq!(said, "hello, I speak first\r\nis it you?\r\ngoodbye\r\n", "at {address}");
        }
        let pattern = format!(r"^tcp\.local/says//[^/]*/{port}\.downstream_cx_total$");
        assert_eq!(host.envoy_stat(&pattern), 2, "Envoy counts the connections of {port}");
    }
}

/// What a client reads that waits for the greeting, says one thing, and then has no more to say.
fn conversation(host: &Host, address: SocketAddr) -> String {
    let mut stream = host.namespace().in_network(|| TcpStream::connect(address)).expect("the port answers");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket has a time limit");
    let mut greeting = [0; 22];
    stream.read_exact(&mut greeting).expect("the server speaks first");
    stream.write_all(b"is it you?\r\n").expect("the server hears");
    stream.shutdown(Shutdown::Write).expect("half of a connection can be closed");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("the other half goes on");
    String::from_utf8_lossy(&greeting).into_owned() + &rest
}

fn ports_do_not_overwrite_each_other(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).start();
    let address = host.address().to_string();
    let first = host.run_web(&["-p", "127.0.0.1:8080:80", "-l", "ServiceName=first"]);
    let second = host.run_web(&["-p", &format!("{address}:8080:80"), "-l", "ServiceName=second"]);
    lab::eventually("both addresses of 8080 are served by Envoy", Duration::from_secs(5), || {
        let ports = host.ports(8080);
        let served = ports.len() == 2 && ports.iter().all(|port| port["served_by"] == "envoy");
        if served { Ok(()) } else { Err(format!("{ports:?}")) }
    });
    for (address, id) in [("127.0.0.1", first), (address.as_str(), second)] {
        let answer = host.get(&format!("http://{address}:8080/")).expect("each address is answered");
        assert_eq!(answer.json()["hostname"], id[..12], "at {address}");
        assert!(passed_envoy(&answer));
    }
}

fn a_port_can_be_published_for_tcp_and_udp(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).start();
    host.run_program(&["-p", "8053:80", "-p", "8053:53/udp"], &["udp:53", "http:80"]);
    host.await_served_by_envoy(8053);
    assert!(passed_envoy(&host.get("http://127.0.0.1:8053/").expect("TCP is answered")));
    assert_eq!(udp_echo(&host, "127.0.0.1:8053"), "ping", "UDP on the same port is answered too");
    let mut protocols: Vec<_> = host.ports(8053).iter().map(|port| port["protocol"].to_string()).collect();
    protocols.sort();
    assert_eq!(protocols, [r#""tcp""#, r#""tcp""#, r#""udp""#, r#""udp""#]);
}

fn udp_echo(host: &Host, address: &str) -> String {
    let socket = host.namespace().in_network(|| UdpSocket::bind("127.0.0.1:0")).expect("a new socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket has a time limit");
    socket.send_to(b"ping", address).expect("a datagram leaves");
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).expect("an answer comes");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn a_port_of_mode_none_stays_with_its_shim() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.need_web_image();
    let labels = ["-l", "ProxyMode_80=none", "-l", "ProxyMode=http"];
    host.run_web(&[&["-p", "8080:80", "-p", "8081:81"], &labels[..]].concat());
    host.await_served_by("shim", 8080);
    host.await_served_by_envoy(8081);
    let answer = host.get("http://127.0.0.1:8080/").expect("the port answers");
    assert!(!passed_envoy(&answer), "{}", answer.text());
}

#[test]
fn a_default_mode_can_be_given_to_the_registrar() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").registrar_arguments(&["--default-proxy-mode", "tcp"]).start();
    host.run_web_unlabelled(&["-p", "8080:80"]);
    assert_eq!(host.await_served_by_envoy(8080)[0]["proxy_mode"], "tcp");
    let answer = host.get("http://127.0.0.1:8080/").expect("the port answers");
    assert!(!passed_envoy(&answer), "HTTP passes a tcp port as bytes: {}", answer.text());
    assert_eq!(host.envoy_stat(r"^tcp\.local/web//0\.0\.0\.0/8080\.downstream_cx_total$"), 1);
}

#[test]
fn a_container_on_two_networks_with_ipv6_is_served() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").ipv6_network().start();
    host.docker(&["network", "create", "--subnet", "10.99.1.0/24", "one"]);
    host.docker(&["network", "create", "--subnet", "10.99.2.0/24", "two"]);
    host.need_web_image();
    host.docker(&["create", "--name", "web", "-l", "ProxyMode=http", "-p", "8080:80", "--network", "one", "web"]);
    host.docker(&["network", "connect", "two", "web"]);
    host.docker(&["start", "web"]);
    host.await_program("web");
    host.run_web(&["-p", "8081:80"]);
    for port in [8080, 8081] {
        host.await_served_by_envoy(port);
        for address in ["127.0.0.1", "[::1]"] {
            let answer = host.get(&format!("http://{address}:{port}/")).expect("the port answers");
            assert!(passed_envoy(&answer), "{address}:{port}: {}", answer.text());
        }
    }
}

#[test]
fn a_stopped_containers_port_is_refused_and_a_started_ones_answers_again() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["--name", "web", "-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    host.docker(&["stop", "-t", "1", "web"]);
    let error = host.get("http://127.0.0.1:8080/").expect_err("nobody serves the port");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(host.ports(8080).is_empty(), "a port that is gone is not listed");
    host.docker(&["start", "web"]);
    host.await_program("web");
    host.get("http://127.0.0.1:8080/").expect("the port answers again");
    host.await_served_by_envoy(8080);
}

/// `examples/envoy.yaml` with all replacements made, each of which must find its place.
fn changed_bootstrap(lab: &Lab, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = std::fs::read_to_string(parts::envoy_bootstrap()).expect("the bootstrap is there");
    for (old, new) in changes {
        assert!(text.contains(old), "the bootstrap has no {old:?}");
        text = text.replace(old, new);
    }
    let path = lab.logs().join("envoy.yaml");
    std::fs::write(&path, text).expect("the log folder can be written");
    path
}

fn served_with(lab: &Lab, changes: &[(&str, &str)], registrar_arguments: &[&str]) {
    let bootstrap = changed_bootstrap(lab, changes);
    let host = lab.host("a").envoy_bootstrap(bootstrap).registrar_arguments(registrar_arguments).start();
    for turn in 0..3 {
        host.run_web(&["--name", "web", "-p", "8080:80", "-l", &format!("ServiceName=web{turn}")]);
        host.await_served_by_envoy(8080);
        assert!(passed_envoy(&host.get("http://127.0.0.1:8080/").expect("the port answers")));
        host.docker(&["rm", "-f", "web"]);
    }
    host.await_envoy_in_sync();
    assert!(host.api("envoy")["last_nack"].is_null(), "{}", host.api("envoy"));
}

#[test]
fn an_envoy_that_asks_for_the_state_of_the_world_is_served() {
    let lab = Lab::of_this_test();
    served_with(&lab, &[("api_type: DELTA_GRPC", "api_type: GRPC")], &[]);
}

#[test]
fn an_envoy_can_be_configured_over_tcp() {
    let lab = Lab::of_this_test();
    let pipe = "pipe: { path: /run/envoy-docker-shim/xds.sock }";
    let address = "socket_address: { address: 127.0.0.1, port_value: 15010 }";
    served_with(&lab, &[(pipe, address)], &["--xds-listen", "127.0.0.1:15010"]);
}
