//! Clients in every position are answered through Envoy, which knows their address.

use std::fmt::Display;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use lab::http::{Request, request_header};
use lab::{Client, Docker, Host, Lab, on_both_dockers};
use nix::sys::signal::Signal;

use crate::{await_diverted, one_setting};

on_both_dockers!(
    every_client_is_answered_through_envoy_which_sees_its_address,
    clients_over_ipv6_are_answered_through_envoy_from_containers_too,
    a_client_on_an_interface_without_an_address_is_answered_through_envoy,
    containers_still_reach_other_hosts,
);

/// Where a client stands, whom it asks, and as whom Envoy must see it.
struct Position {
    name: &'static str,
    from: From,
    target: String,
    client: String,
}

enum From {
    Client,
    Host,
    Container(&'static str),
}

fn position(name: &'static str, from: From, target: &dyn Display, client: &dyn Display) -> Position {
    Position { name, from, target: target.to_string(), client: client.to_string() }
}

/// Asks from each position, and asserts that Envoy answered and logged who asked.
fn check(host: &Host, client: &Client, positions: &[Position]) {
    for (number, Position { name, from, target, client: expected }) in positions.iter().enumerate() {
        let url = format!("http://{}:8080{}", bracketed(target), path_of(number));
        let answer = match from {
            From::Client => client.get(&url),
            From::Host => host.get(&url),
            From::Container(container) => host.get_from(container, &url),
        };
        let answer = answer.unwrap_or_else(|error| panic!("{name} asks {url}: {error}"));
        let seen = request_header(&answer, "x-forwarded-for");
        println!("{name} asks {target}: Envoy sees {seen:?}");
        assert_eq!(seen.as_ref(), Some(expected), "{name} asks {url}: {}", answer.text());
    }
    // Envoy writes its log every ten seconds, and when it ends.
    host.end_envoy(Signal::SIGTERM);
    let log = host.envoy_log();
    for (number, position) in positions.iter().enumerate() {
        let path = format!("\"path\":\"{}\"", path_of(number));
        let line = log.lines().find(|line| line.contains(&path)).unwrap_or("no such line");
        let logged = line.contains(&format!("\"client\":\"{}:", bracketed(&position.client)));
        assert!(logged, "{} in Envoy's access log: {line}", position.name);
    }
}

fn path_of(number: usize) -> String {
    format!("/position-{number}")
}

fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

fn address_of(host: &Host, container: &str, field: &str) -> String {
    host.docker(&[
        "inspect",
        "--format",
        &format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}"),
        container,
    ])
}

fn every_client_is_answered_through_envoy_which_sees_its_address(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).start(), lab.client("client"));
    assert_every_position_is_answered_through_envoy(&host, &client, await_diverted);
}

/// Publishes port 8080 on any address, waits until `await_envoy` finds it served by Envoy, and asks from everywhere. Over
/// IPv6 only where Docker publishes the port there, too.
pub(crate) fn assert_every_position_is_answered_through_envoy(
    host: &Host,
    client: &Client,
    await_envoy: fn(&Host, u16),
) {
    host.docker(&["network", "create", "--subnet", "10.99.1.0/24", "other"]);
    host.run_web(&["--name", "web", "-p", "8080:80"]);
    host.run_web(&["--name", "neighbour"]);
    host.run_web(&["--name", "stranger", "--network", "other"]);
    await_envoy(host, 8080);
    let has_ipv6 = host.ports(8080).iter().any(|port| port["host_address"] == "::");
    let (own, own6) = (host.address(), host.address6());
    let address = |container| address_of(host, container, "IPAddress");
    let mut positions = vec![
        position("another host", From::Client, &own, &client.address()),
        position("another host, IPv6", From::Client, &own6, &client.address6()),
        position("the host, loopback", From::Host, &"127.0.0.1", &"127.0.0.1"),
        position("the host, loopback, IPv6", From::Host, &"::1", &"::1"),
        position("the host, its own address", From::Host, &own, &own),
        position("the host, its own address, IPv6", From::Host, &own6, &own6),
        // Docker masquerades whatever leaves with an address of its network by another interface, `lo` too.
        position("the host, docker0's address", From::Host, &"172.17.0.1", &own),
        position("a container of the same network", From::Container("neighbour"), &own, &address("neighbour")),
        position("the same, docker0's address", From::Container("neighbour"), &"172.17.0.1", &address("neighbour")),
        position("a container of another network", From::Container("stranger"), &own, &address("stranger")),
        position("the same, its own bridge's address", From::Container("stranger"), &"10.99.1.1", &address("stranger")),
        position("the container itself", From::Container("web"), &own, &address("web")),
        position("the same, docker0's address", From::Container("web"), &"172.17.0.1", &address("web")),
    ];
    positions.retain(|position| has_ipv6 || !position.target.contains(':'));
    check(host, client, &positions);
}

fn clients_over_ipv6_are_answered_through_envoy_from_containers_too(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).ipv6_network().start(), lab.client("client"));
    assert_every_position_over_ipv6_is_answered_through_envoy(&host, &client);
}

/// As [`assert_every_position_is_answered_through_envoy`], on a host whose containers have IPv6 addresses.
pub(crate) fn assert_every_position_over_ipv6_is_answered_through_envoy(host: &Host, client: &Client) {
    host.docker(&["network", "create", "--ipv6", "--subnet", "fd00:d0d::/64", "other"]);
    host.run_web(&["--name", "web", "-p", "8080:80"]);
    host.run_web(&["--name", "neighbour"]);
    host.run_web(&["--name", "stranger", "--network", "other"]);
    await_diverted(host, 8080);
    let own6 = host.address6();
    let address = |container| address_of(host, container, "GlobalIPv6Address");
    check(
        host,
        client,
        &[
            position("another host", From::Client, &own6, &client.address6()),
            position("another host, IPv4", From::Client, &host.address(), &client.address()),
            position("the host, loopback", From::Host, &"::1", &"::1"),
            position("the host, its own address", From::Host, &own6, &own6),
            position("a container of the same network", From::Container("neighbour"), &own6, &address("neighbour")),
            position(
                "the same, docker0's address",
                From::Container("neighbour"),
                &"fd00:d0c::1",
                &address("neighbour"),
            ),
            position("a container of another network", From::Container("stranger"), &own6, &address("stranger")),
            position("the container itself", From::Container("web"), &own6, &address("web")),
        ],
    );
}

fn a_client_on_an_interface_without_an_address_is_answered_through_envoy(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).start(), lab.client("client"));
    let remote: IpAddr = [10, 99, 9, 2].into();
    join_without_address(&host, &client, remote);
    host.run_web(&["-p", "8080:80"]);
    await_diverted(&host, 8080);
    let answered = position("a client on an interface without an address", From::Client, &host.address(), &remote);
    check(&host, &client, &[answered]);
}

/// A second link, whose end on the host has no IPv4 address; the client's way to the host leads over it.
fn join_without_address(host: &Host, client: &Client, remote: IpAddr) {
    let id = host.namespace().first_process().to_string();
    let link = ["link", "add", "extra", "type", "veth", "peer", "name", "extra", "netns", &id];
    // The process id is one of outside, so only the network may be the client's.
    let output = client.namespace().in_network(|| Command::new("ip").args(link).output()).expect("ip is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (own, remote) = (host.address().to_string(), remote.to_string());
    for namespace in [host.namespace(), client.namespace()] {
        namespace.run("ip", &["link", "set", "extra", "up"]);
    }
    host.namespace().run("ip", &["route", "add", &remote, "dev", "extra"]);
    client.namespace().run("ip", &["addr", "add", &format!("{remote}/32"), "dev", "extra"]);
    client.namespace().run("ip", &["route", "add", &own, "dev", "extra", "src", &remote]);
}

fn containers_still_reach_other_hosts(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).start(), lab.client("client"));
    host.run_web(&["--name", "web", "-p", "8080:80"]);
    await_diverted(&host, 8080);
    // At the very port that is published here.
    let listener = client.namespace().in_network(|| TcpListener::bind("0.0.0.0:8080")).expect("the port is free");
    let server = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().expect("somebody connects");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket has a time limit");
        let _ = stream.read(&mut [0; 1024]);
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nelsewhere").expect("the client hears");
        peer.ip()
    });
    let answer = host.get_from("web", &format!("http://{}:8080/", client.address())).expect("the other host answers");
    assert_eq!(answer.text(), "elsewhere");
    assert_eq!(server.join().expect("the server does not panic"), host.address(), "masqueraded by Docker");
    let request = Request::get(&format!("http://{}:8080/", host.address()));
    client.send(&request).expect("the published port is answered as before");
}
