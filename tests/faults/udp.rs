//! UDP: sessions do not outlive the container that they belong to, and forwarding costs less than with docker-proxy.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use lab::datagrams::{KINDS, Kind, UdpProxy};
use lab::{Docker, Lab, eventually, on_both_dockers, parts};

on_both_dockers!(the_next_datagram_reaches_a_container_that_was_created_anew_on_the_same_port);

fn ask(socket: &UdpSocket, question: &str) -> Result<String, String> {
    socket.send(format!("{question}\n").as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&answer[..length]).trim().to_owned())
}

fn the_next_datagram_reaches_a_container_that_was_created_anew_on_the_same_port(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (lab.host("a").docker(version).start(), lab.client("client"));
    let target = SocketAddr::new(host.address(), 5300);
    let local = SocketAddr::new(client.address(), 40_000);
    // One socket all along: the client keeps its port.
    let socket = client.namespace().in_network(|| UdpSocket::bind(local)).expect("the port is free");
    socket.connect(target).expect("a UDP socket can be connected");
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout can be set");
    for turn in 0..5 {
        let id = host.run_program(&["--name", "dns", "-p", "5300:53/udp"], &["udp-named:53", "http:80"]);
        let answer = eventually(&format!("turn {turn}: an answer"), Duration::from_secs(5), || ask(&socket, "who"));
        assert_eq!(answer, format!("{} who", &id[..12]), "turn {turn}: the new container answers");
        host.docker(&["rm", "-f", "dns"]);
    }
}

/// How many times docker-proxy's datagrams for the same CPU time: less than any single turn had on a busy machine. The
/// medians are in docs/reliability.md.
fn least(kind: Kind) -> f64 {
    match kind {
        Kind::Dns | Kind::DnsBusy | Kind::Bulk => 1.3,
        Kind::NewClients | Kind::Upload | Kind::PlainUpload | Kind::Download => 2.0,
    }
}

#[test]
fn datagrams_cost_less_cpu_than_with_docker_proxy() {
    let lab = Lab::of_this_test();
    let programs = [parts::ours("envoy-docker-shim"), parts::docker_proxy(Docker::Current)];
    let proxies = programs.map(|program| UdpProxy::start(&program, &lab.logs().join("proxy.log")));
    for kind in KINDS {
        let [shim, proxy] = proxies.each_ref().map(|proxy| proxy.cost(kind));
        let ratio = shim.per_cpu_second / proxy.per_cpu_second;
        println!(
            "{kind:?}: {ratio:.1} times the datagrams per second of CPU: shim {shim:.0?}, docker-proxy {proxy:.0?}"
        );
        assert!(ratio > least(kind), "{kind:?}: {shim:?} against {proxy:?}");
        assert!(shim.lost * 100 <= shim.delivered, "{kind:?}: {shim:?}");
    }
}
