//! Envoy as an ordinary user. As root it runs in all other tests.

use lab::host::ORDINARY_USER;
use lab::{Docker, Lab};

use crate::{on_both_dockers, passed_envoy};

on_both_dockers!(an_envoy_without_privileges_serves_ports_and_leaves_low_ones_to_the_shim);

fn an_envoy_without_privileges_serves_ports_and_leaves_low_ones_to_the_shim(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).envoy_user(ORDINARY_USER).start();
    host.run_web(&["-p", "8080:80", "-p", "80:80"]);
    host.await_served_by_envoy(8080);
    for address in ["127.0.0.1", "[::1]"] {
        let answer = host.get(&format!("http://{address}:8080/")).expect("the port answers");
        assert!(passed_envoy(&answer), "{}", answer.text());
        let answer =
            host.get(&format!("http://{address}/").replace("/]", "]").replacen(address, &format!("{address}:80"), 1));
        assert!(!passed_envoy(&answer.expect("the low port answers")), "an ordinary user can't listen on port 80");
    }
    // Envoy refuses what it can't bind; the port says so and names the mend.
    let ports = lab::eventually("the low port shows its problem", std::time::Duration::from_secs(5), || {
        let ports = host.ports(80);
        if ports.iter().all(|port| !port["problem"].is_null()) { Ok(ports) } else { Err(format!("{ports:?}")) }
    });
    for port in ports {
        assert_eq!(port["served_by"], "shim", "{port}");
        let problem = port["problem"].as_str().unwrap_or_default();
        assert!(problem.contains("CAP_NET_BIND_SERVICE") || problem.contains("Permission denied"), "{problem}");
    }
    let nack = &host.api("envoy")["last_nack"];
    let resource = nack["resource"].as_str().unwrap_or_default();
    assert!(["port/0.0.0.0/80", "port/::/80"].contains(&resource), "the rejected listener is named: {nack}");
    // All else goes on.
    host.run_web(&["-p", "8081:80"]);
    host.await_served_by_envoy(8081);
}
