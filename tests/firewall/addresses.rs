//! One port, several addresses and protocols: only what was published is diverted.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use lab::http::passed_envoy;
use lab::process;
use lab::{Docker, Lab, eventually, on_both_dockers};
use nix::sys::signal::Signal;

use crate::{assert_refused, await_diverted, one_setting, our_table, peer};

on_both_dockers!(
    a_port_of_the_loopback_address_is_closed_to_others,
    one_port_of_two_addresses_leads_to_two_containers,
    another_programs_ipv6_port_is_its_own_beside_one_published_on_ipv4,
    udp_takes_dockers_own_path,
    a_port_of_mode_none_shows_the_client_to_the_container,
);

fn a_port_of_the_loopback_address_is_closed_to_others(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).start(), lab.client("client"));
    host.run_web(&["-p", "127.0.0.1:8081:80"]);
    // Another one makes the table, whatever the first needs.
    host.run_web(&["-p", "8080:80"]);
    await_diverted(&host, 8080);
    eventually("the port is diverted", Duration::from_secs(5), || {
        let table = our_table(&host);
        if table.contains("127.0.0.1 . 8081") { Ok(()) } else { Err(table) }
    });
    assert!(passed_envoy(&host.get("http://127.0.0.1:8081/").expect("it answers on this host")));
    let (own, own6) = (host.address(), host.address6());
    for url in [format!("http://{own}:8081/"), format!("http://[{own6}]:8081/")] {
        assert_refused(&client.get(&url), "from another host");
        assert_refused(&host.get(&url), "at another address of this host");
    }
    // A neighbour that sends to 127.0.0.1 by way of this host's address.
    client.namespace().run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet"]);
    // While the address is its own, its kernel drops the answers.
    client.namespace().run("ip", &["addr", "del", "127.0.0.1/8", "dev", "lo"]);
    client
        .namespace()
        .run("ip", &["route", "add", "127.0.0.1", "via", &own.to_string(), "src", &client.address().to_string()]);
    let request = lab::http::Request::get("http://127.0.0.1:8081/").limit(Duration::from_millis(500));
    let outcome = client.send(&request);
    assert!(outcome.is_err(), "a neighbour's packets to 127.0.0.1: {outcome:?}");
}

fn one_port_of_two_addresses_leads_to_two_containers(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).start(), lab.client("client"));
    host.namespace().run("ip", &["addr", "add", "10.77.0.101/24", "dev", "eth0"]);
    let addresses = [host.address().to_string(), "10.77.0.101".to_owned()];
    let ids = addresses.each_ref().map(|address| host.run_web(&["-p", &format!("{address}:8080:80")]));
    eventually("both are served by Envoy and diverted", Duration::from_secs(5), || {
        let (ports, table) = (host.ports(8080), our_table(&host));
        let served = ports.len() == 2 && ports.iter().all(|port| port["served_by"] == "envoy");
        let diverted = addresses.iter().all(|address| table.contains(&format!("{address} . 8080")));
        if served && diverted { Ok(()) } else { Err(format!("{ports:?} {table}")) }
    });
    for (address, id) in addresses.iter().zip(&ids) {
        for (who, outcome) in [
            ("another host", client.get(&format!("http://{address}:8080/"))),
            ("this host", host.get(&format!("http://{address}:8080/"))),
        ] {
            let answer = outcome.unwrap_or_else(|error| panic!("{who} asks {address}: {error}"));
            assert_eq!(answer.json()["hostname"], id[..12], "{who} asks {address}");
            assert!(passed_envoy(&answer), "{who} asks {address}: {}", answer.text());
        }
    }
    assert_refused(&host.get("http://127.0.0.1:8080/"), "at an address where it is not published");
}

fn another_programs_ipv6_port_is_its_own_beside_one_published_on_ipv4(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).start(), lab.client("client"));
    host.namespace().run("sh", &["-c", "echo 1 > /proc/sys/net/ipv6/bindv6only"]);
    let listener = host.namespace().in_network(|| TcpListener::bind("[::]:8080")).expect("the port is free");
    let server = std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut stream = stream.expect("somebody connects");
            let _ = stream.read(&mut [0; 1024]);
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nanother program").expect("the client hears");
        }
    });
    host.run_web(&["-p", "0.0.0.0:8080:80"]);
    eventually("the port is served by Envoy and diverted", Duration::from_secs(5), || {
        let (ports, table) = (host.ports(8080), our_table(&host));
        let done = ports.len() == 1 && ports[0]["served_by"] == "envoy" && table.contains("8080");
        if done { Ok(()) } else { Err(format!("{ports:?} {table}")) }
    });
    assert!(passed_envoy(&client.get(&format!("http://{}:8080/", host.address())).expect("IPv4 is answered")));
    for outcome in [client.get(&format!("http://[{}]:8080/", host.address6())), host.get("http://[::1]:8080/")] {
        assert_eq!(outcome.expect("IPv6 is answered").text(), "another program");
    }
    server.join().expect("the server does not panic");
}

fn udp_takes_dockers_own_path(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).start(), lab.client("client"));
    host.need_web_image();
    host.docker(&[
        "run",
        "-d",
        "-p",
        "8080:80",
        "-p",
        "8080:53/udp",
        "-l",
        "ProxyMode=http",
        "web",
        "http:80",
        "udp:53",
    ]);
    await_diverted(&host, 8080);
    let udp: Vec<_> = host.ports(8080).into_iter().filter(|port| port["protocol"] == "udp").collect();
    assert!(!udp.is_empty(), "UDP ports have their shims");
    // Whoever gets an answer now got it past the shims.
    for port in &udp {
        let inside = port["shim_pid"].as_u64().unwrap_or_else(|| panic!("{port} has no shim"));
        process::send(host.namespace().outside_id(inside), Signal::SIGSTOP).expect("the shim runs");
    }
    let socket = client.namespace().in_network(|| UdpSocket::bind("0.0.0.0:0")).expect("a new socket");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket has a time limit");
    let mut buffer = [0; 64];
    // The program may not listen yet when the port is published, and a datagram that finds nobody is gone.
    let (length, from) = eventually("an answer comes, past the shims", Duration::from_secs(10), || {
        socket.send_to(b"ping", (host.address(), 8080)).expect("a datagram leaves");
        socket.recv_from(&mut buffer)
    });
    assert_eq!((&buffer[..length], from.ip()), (&b"ping"[..], host.address()));
    for port in &udp {
        let inside = port["shim_pid"].as_u64().unwrap_or_default();
        process::send(host.namespace().outside_id(inside), Signal::SIGCONT).expect("the shim runs");
    }
}

fn a_port_of_mode_none_shows_the_client_to_the_container(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).start(), lab.client("client"));
    host.run_web(&["-p", "8080:80"]);
    host.run_web(&["-p", "8081:80", "-l", "ProxyMode=none"]);
    await_diverted(&host, 8080);
    host.await_served_by("shim", 8081);
    let ask = |port| client.get(&format!("http://{}:{port}/", host.address())).expect("the port answers");
    let (through_envoy, past_envoy) = (ask(8080), ask(8081));
    assert!(passed_envoy(&through_envoy) && !passed_envoy(&past_envoy), "{}", past_envoy.text());
    assert_eq!(peer(&past_envoy), client.address().to_string(), "Docker's own path shows the client");
    assert_eq!(peer(&through_envoy), "172.17.0.1", "with Envoy it is the bridge's gateway, as with docker-proxy");
    assert!(!our_table(&host).contains("8081"), "{}", our_table(&host));
}
